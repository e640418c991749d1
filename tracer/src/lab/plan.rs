//! The plan of a lab: nodes, pods, names and addresses, as data.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::rules::RuleSet;
use super::services::SERVICES;
use crate::netns::named_path;
use podtrace_protocol::inventory::{Inventory, Node, Pod, Run};

/// Kubernetes namespace of the lab's pods.
const NAMESPACE: &str = "default";
/// Name of the host outside of the cluster, and of the fabric's port to it.
pub(super) const WORLD: &str = "world";
/// Name of a node's uplink, and of a pod's only device.
pub(super) const ETH0: &str = "eth0";
/// Name of a node's bridge, as in flannel's CNI configuration.
pub(super) const CNI0: &str = "cni0";
/// Name of a node's tunnel, as flannel names it.
pub(super) const FLANNEL: &str = "flannel.1";
/// Name of the fabric's bridge.
pub(super) const FABRIC_BRIDGE: &str = "br0";
/// VXLAN network identifier that flannel uses.
pub(super) const VNI: u32 = 1;
/// UDP port of VXLAN in flannel: the kernel's default.
pub(super) const VXLAN_PORT: u16 = 8472;
/// MTU of the underlay.
pub(super) const UNDERLAY_MTU: u32 = 1500;
/// MTU inside the tunnel: VXLAN over IPv4 adds 50 bytes.
pub(super) const POD_MTU: u32 = UNDERLAY_MTU - 50;

/// A host outside of the cluster, on the same fabric and without routes to pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct World {
    /// Name of its network namespace.
    pub(super) netns: String,
    /// Address on the fabric.
    pub(super) address: Ipv4Net,
    /// Link-layer address of its device.
    pub(super) mac: [u8; 6],
}

/// A lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Name of the network namespace between the nodes.
    pub(super) fabric: String,
    /// The host outside of the cluster.
    pub(super) world: World,
    /// Its nodes.
    pub(super) nodes: Vec<LabNode>,
}

/// One node of the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabNode {
    /// Name, also of the fabric's port to it.
    pub(super) name: String,
    /// Name of its network namespace.
    pub(super) netns: String,
    /// Address on the fabric.
    pub(super) address: Ipv4Net,
    /// Link-layer address of its uplink.
    pub(super) mac: [u8; 6],
    /// Address of its bridge within its pods' subnet.
    pub(super) bridge: Ipv4Net,
    /// Link-layer address of its bridge.
    pub(super) bridge_mac: [u8; 6],
    /// Address of its tunnel device: the first of its pods' subnet.
    pub(super) tunnel: Ipv4Addr,
    /// Link-layer address of its tunnel device.
    pub(super) tunnel_mac: [u8; 6],
    /// The pods on it.
    pub(super) pods: Vec<LabPod>,
}

/// One pod of the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabPod {
    /// Name.
    pub(super) name: String,
    /// Name of its network namespace.
    pub(super) netns: String,
    /// Address.
    pub(super) address: Ipv4Net,
    /// Link-layer address of its device.
    pub(super) mac: [u8; 6],
    /// Name of the node's end of its veth pair.
    pub(super) host_veth: String,
}

impl Plan {
    /// The lab with a name: two nodes with two pods each.
    pub(super) fn of(lab: &str) -> Self {
        let netns = |what: &str| format!("podtrace-{lab}-{what}");
        let node = |number: u8, pods: [&str; 2]| {
            let subnet = |host: u8| Ipv4Addr::new(10, 42, number - 1, host);
            let address = Ipv4Addr::new(192, 168, 56, 10 + number);
            let name = format!("node{number}");
            let pods = pods.iter().zip(10..).map(|(pod, host)| LabPod {
                name: (*pod).to_owned(),
                netns: netns(pod),
                address: net(subnet(host), 24),
                mac: mac(subnet(host)),
                host_veth: host_veth(&format!("{NAMESPACE}/{pod}")),
            });
            LabNode {
                netns: netns(&name),
                name,
                address: net(address, 24),
                mac: mac(address),
                bridge: net(subnet(1), 24),
                bridge_mac: mac(subnet(1)),
                tunnel: subnet(0),
                tunnel_mac: mac(subnet(0)),
                pods: pods.collect(),
            }
        };
        let outside = Ipv4Addr::new(192, 168, 56, 1);
        let world = World { netns: netns(WORLD), address: net(outside, 24), mac: mac(outside) };
        Self {
            fabric: netns("fabric"),
            world,
            nodes: vec![node(1, ["pod1", "pod2"]), node(2, ["pod3", "pod4"])],
        }
    }

    /// All pods.
    pub(super) fn pods(&self) -> impl Iterator<Item = &LabPod> {
        self.nodes.iter().flat_map(|node| &node.pods)
    }

    /// Names of all network namespaces.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        let nodes = self.nodes.iter().map(|node| node.netns.as_str());
        let pods = self.pods().map(|pod| pod.netns.as_str());
        [self.fabric.as_str(), self.world.netns.as_str()].into_iter().chain(nodes).chain(pods)
    }

    /// The nodes other than this one.
    pub(super) fn peers_of<'a>(&'a self, node: &'a LabNode) -> impl Iterator<Item = &'a LabNode> {
        self.nodes.iter().filter(move |other| other.name != node.name)
    }

    /// Network namespace of a pod or node: `pod1`, `default/pod1`, `node1`, `node/node1`; or of the `world`.
    pub(super) fn find(&self, target: &str) -> Option<&str> {
        let pod = target.strip_prefix(NAMESPACE).and_then(|rest| rest.strip_prefix('/')).unwrap_or(target);
        let node = target.strip_prefix("node/").unwrap_or(target);
        let pods = self.pods().filter(|known| known.name == pod).map(|known| known.netns.as_str());
        let nodes = self.nodes.iter().filter(|known| known.name == node).map(|known| known.netns.as_str());
        let world = (target == WORLD).then_some(self.world.netns.as_str());
        pods.chain(nodes).chain(world).next()
    }

    /// What [`Plan::find`] finds.
    pub(super) fn targets(&self) -> Vec<&str> {
        let pods = self.pods().map(|pod| pod.name.as_str());
        pods.chain(self.nodes.iter().map(|node| node.name.as_str())).chain([WORLD]).collect()
    }

    /// The lab as a cluster, whose nodes have these rules.
    pub(super) fn inventory(&self, rules: RuleSet) -> Inventory {
        let nodes = self.nodes.iter().map(|node| Node {
            name: node.name.clone(),
            addresses: vec![node.address.addr().into()],
            run: Run::Netns(named_path(&node.netns)),
        });
        let pods = self.nodes.iter().flat_map(|node| {
            node.pods.iter().map(|pod| Pod {
                namespace: NAMESPACE.to_owned(),
                name: pod.name.clone(),
                ips: vec![IpAddr::from(pod.address.addr())],
                node: node.name.clone(),
                host_network: false,
            })
        });
        let services = match rules {
            RuleSet::None => Vec::new(),
            RuleSet::Nft | RuleSet::Iptables => {
                SERVICES.iter().map(|service| service.entry(NAMESPACE)).collect()
            }
        };
        Inventory { nodes: nodes.collect(), pods: pods.collect(), services, ..Inventory::default() }
    }
}

impl LabNode {
    /// The subnet of its pods.
    pub(super) fn pod_subnet(&self) -> Ipv4Net {
        self.bridge.trunc()
    }
}

/// All prefix lengths here are constants.
fn net(address: Ipv4Addr, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(address, prefix)
}

/// A locally administered address that shows the IPv4 address it belongs to, as the CNI plugins used to make them.
fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// A name like the CNI plugins', but the same at every start: "veth" and a 32-bit FNV-1a hash.
fn host_veth(pod: &str) -> String {
    let hash =
        pod.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("veth{hash:08x}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nothing_is_given_twice() {
        let plan = Plan::of("lab");
        assert_eq!(plan.namespaces().count(), 8);
        assert_eq!(plan.namespaces().collect::<BTreeSet<_>>().len(), 8);
        assert!(plan.namespaces().all(|name| name.starts_with("podtrace-lab-")));
        let pods: BTreeSet<_> = plan.pods().map(|pod| (&pod.host_veth, pod.address)).collect();
        assert_eq!(pods.len(), 4);
        let macs = plan.nodes.iter().flat_map(|node| {
            let pods = node.pods.iter().map(|pod| pod.mac);
            pods.chain([node.mac, node.bridge_mac, node.tunnel_mac])
        });
        assert_eq!(macs.collect::<BTreeSet<_>>().len(), 10);
    }

    #[test]
    fn veths_are_named_as_the_cni_plugins_do() {
        for pod in Plan::of("lab").pods() {
            let digits = pod.host_veth.strip_prefix("veth").unwrap();
            assert!(digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()), "{digits}");
        }
    }

    #[test]
    fn pods_and_nodes_are_found_by_what_users_call_them() {
        let plan = Plan::of("lab");
        for (target, netns) in [
            ("pod1", Some("podtrace-lab-pod1")),
            ("default/pod4", Some("podtrace-lab-pod4")),
            ("node2", Some("podtrace-lab-node2")),
            ("node/node1", Some("podtrace-lab-node1")),
            ("other/pod1", None),
            ("world", Some("podtrace-lab-world")),
            ("pod5", None),
            ("", None),
        ] {
            assert_eq!(plan.find(target), netns, "{target}");
        }
        assert_eq!(plan.targets(), ["pod1", "pod2", "pod3", "pod4", "node1", "node2", "world"]);
    }

    #[test]
    fn the_inventory_survives_yaml() {
        let inventory = Plan::of("lab").inventory(RuleSet::Nft);
        let yaml = serde_saphyr::to_string(&inventory).unwrap();
        assert!(yaml.contains("netns: /run/netns/podtrace-lab-node1"), "{yaml}");
        assert_eq!(serde_saphyr::from_str::<Inventory>(&yaml).unwrap(), inventory);
    }
}
