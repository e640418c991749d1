//! The plan of a lab: nodes, pods, names and addresses, and what its network makes of each namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::network::{Description, Device, Family, Kind, Masquerade, Network, Space, Variables};
use super::rules::RuleSet;
use super::services::SERVICES;
use crate::netns::named_path;
use podtrace_protocol::inventory::{Inventory, Node, Pod, Run};

/// Kubernetes namespace of the lab's pods.
const NAMESPACE: &str = "default";
/// Name of the host outside of the cluster, and of the fabric's port to it.
pub(super) const WORLD: &str = "world";
/// Name of a node's uplink, and of a pod's only device.
const ETH0: &str = "eth0";
/// Name of the fabric's bridge.
const FABRIC_BRIDGE: &str = "br0";
/// MTU of the underlay.
const UNDERLAY_MTU: u32 = 1500;
/// The subnet of all pods.
const PODS: &str = "10.42.0.0/16";
/// See [`PODS`].
const PODS_V6: &str = "fd00:42::/32";

/// A lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// How it is wired.
    pub(super) network: Network,
    /// Versions of IP; Services have addresses of the first one.
    pub(super) families: Vec<Family>,
    /// The rules that translate what pods send to the world outside.
    pub(super) masquerade: Masquerade,
    /// The network between the nodes: a bridge with a port for each node and the world.
    pub(super) fabric: Host,
    /// The host outside of the cluster, on the same fabric and without routes to pods.
    pub(super) world: Host,
    /// Its nodes.
    pub(super) nodes: Vec<LabNode>,
}

/// A network namespace. Unless it is the fabric, its first device is the end of a pair that another namespace makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// Name of its network namespace.
    pub(super) netns: String,
    /// What it has.
    pub(super) space: Space,
}

/// One node of the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabNode {
    /// Name, also of the fabric's port to it.
    pub(super) name: String,
    /// Its namespace, without the veths of pods.
    pub(super) host: Host,
    /// Its addresses on the fabric.
    pub(super) addresses: Vec<IpAddr>,
    /// The subnet of its pods, for the family of Services.
    pub(super) pod_subnet: IpNet,
    /// The pods on it.
    pub(super) pods: Vec<LabPod>,
}

/// One pod of the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabPod {
    /// Name.
    pub(super) name: String,
    /// Its namespace.
    pub(super) host: Host,
    /// Its addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// The node's end of its veth pair.
    pub(super) veth: Device,
}

impl Plan {
    /// The lab with a name: two nodes with two pods each.
    ///
    /// # Errors
    ///
    /// None in practice: every network is planned by a test.
    pub(super) fn of(lab: &str, network: Network) -> Result<Self> {
        let description = network.description()?;
        let planner = Planner { lab, description: &description };
        let nodes = [planner.node(1, ["pod1", "pod2"]), planner.node(2, ["pod3", "pod4"])];
        let nodes = nodes.into_iter().collect::<Result<Vec<_>>>();
        let nodes = nodes.with_context(|| format!("the description of the network {network}"))?;
        let Description { families, masquerade, .. } = description.clone();
        Ok(Self {
            network,
            families,
            masquerade,
            fabric: planner.fabric(&nodes),
            world: planner.world(),
            nodes,
        })
    }

    /// The version of IP that Services have addresses of.
    pub(super) fn family(&self) -> Family {
        self.families.first().copied().unwrap_or(Family::Ipv4)
    }

    /// The subnet of all pods, for the family of Services.
    pub(super) fn pods_subnet(&self) -> &'static str {
        match self.family() {
            Family::Ipv4 => PODS,
            Family::Ipv6 => PODS_V6,
        }
    }

    /// All pods.
    pub(super) fn pods(&self) -> impl Iterator<Item = &LabPod> {
        self.nodes.iter().flat_map(|node| &node.pods)
    }

    /// All network namespaces.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &Host> {
        let nodes = self.nodes.iter().map(|node| &node.host);
        [&self.fabric, &self.world].into_iter().chain(nodes).chain(self.pods().map(|pod| &pod.host))
    }

    /// Names of all network namespaces.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.hosts().map(|host| host.netns.as_str())
    }

    /// Network namespace of a pod or node: `pod1`, `default/pod1`, `node1`, `node/node1`; or of the `world`.
    pub(super) fn find(&self, target: &str) -> Option<&str> {
        let pod = target.strip_prefix(NAMESPACE).and_then(|rest| rest.strip_prefix('/')).unwrap_or(target);
        let node = target.strip_prefix("node/").unwrap_or(target);
        let pods = self.pods().filter(|known| known.name == pod).map(|known| &known.host);
        let nodes = self.nodes.iter().filter(|known| known.name == node).map(|known| &known.host);
        let world = (target == WORLD).then_some(&self.world);
        pods.chain(nodes).chain(world).next().map(|host| host.netns.as_str())
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
            addresses: node.addresses.clone(),
            run: Run::Netns(named_path(&node.host.netns)),
        });
        let pods = self.nodes.iter().flat_map(|node| {
            node.pods.iter().map(|pod| Pod {
                namespace: NAMESPACE.to_owned(),
                name: pod.name.clone(),
                ips: pod.addresses.clone(),
                node: node.name.clone(),
                host_network: false,
                owner: None,
                labels: [("app".to_owned(), pod.name.clone())].into(),
            })
        });
        let services = match rules {
            RuleSet::None => Vec::new(),
            RuleSet::Nft | RuleSet::Iptables => {
                SERVICES.iter().map(|service| service.entry(NAMESPACE, self.family())).collect()
            }
        };
        Inventory { nodes: nodes.collect(), pods: pods.collect(), services, ..Inventory::default() }
    }
}

/// Plans the parts of a lab.
struct Planner<'a> {
    lab: &'a str,
    description: &'a Description,
}

impl Planner<'_> {
    fn host(&self, name: &str, settings: &[(&str, i64)], space: Space) -> Host {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let mut all = Space { settings, ..Space::default() };
        all.extend(space);
        Host { netns: format!("podtrace-{}-{name}", self.lab), space: all }
    }

    fn has(&self, family: Family) -> bool {
        self.description.families.contains(&family)
    }

    /// Of two addresses those of the network's families.
    fn addresses(&self, v4: Ipv4Addr, v6: Ipv6Addr) -> Vec<IpAddr> {
        let both = [(Family::Ipv4, IpAddr::V4(v4)), (Family::Ipv6, IpAddr::V6(v6))];
        both.into_iter().filter(|(family, _)| self.has(*family)).map(|(_, address)| address).collect()
    }

    /// What a namespace's settings are before it has devices: an address of IPv6 is valid at once, and without IPv6 a trace
    /// shows none of its unrelated packets.
    fn quiet(&self) -> &'static [(&'static str, i64)] {
        if self.has(Family::Ipv6) {
            &[
                ("ipv6/conf/all/accept_dad", 0),
                ("ipv6/conf/default/accept_dad", 0),
                ("ipv6/conf/default/router_solicitations", 0),
            ]
        } else {
            &QUIET
        }
    }

    fn fabric(&self, nodes: &[LabNode]) -> Host {
        let bridge = Device { kind: Kind::Bridge, ..Device::veth(FABRIC_BRIDGE, UNDERLAY_MTU) };
        let names = [WORLD].into_iter().chain(nodes.iter().map(|node| node.name.as_str()));
        let port =
            |name| Device { master: Some(FABRIC_BRIDGE.to_owned()), ..Device::veth(name, UNDERLAY_MTU) };
        let devices = [bridge].into_iter().chain(names.map(port)).collect();
        self.host("fabric", &QUIET, Space { devices, ..Space::default() })
    }

    fn world(&self) -> Host {
        let devices = vec![self.uplink(1)];
        self.host(WORLD, self.quiet(), Space { devices, ..Space::default() })
    }

    /// The device by which a node or the world is on the fabric.
    fn uplink(&self, number: u8) -> Device {
        let (v4, v6) = underlay(number);
        let nets = self.addresses(v4, v6).into_iter().map(|address| match address {
            IpAddr::V4(address) => Ipv4Net::new_assert(address, 24).into(),
            IpAddr::V6(address) => Ipv6Net::new_assert(address, 64).into(),
        });
        Device { mac: Some(mac(v4)), addresses: nets.collect(), ..Device::veth(ETH0, UNDERLAY_MTU) }
    }

    fn node(&self, number: u8, pods: [&str; 2]) -> Result<LabNode> {
        let name = format!("node{number}");
        let (world, world6) = underlay(1);
        let own = Variables::default().with("$node.", values(number)).with(
            "$",
            [
                ("world", world.to_string()),
                ("world6", world6.to_string()),
                ("pods", PODS.to_owned()),
                ("pods6", PODS_V6.to_owned()),
            ],
        );
        let mut space = Space { devices: vec![self.uplink(10 + number)], ..Space::default() };
        space.settings.insert("ipv4/ip_forward".to_owned(), 1);
        if self.has(Family::Ipv6) {
            space.settings.insert("ipv6/conf/all/forwarding".to_owned(), 1);
        }
        space.extend(own.read(&self.description.node)?);
        for peer in [1, 2].into_iter().filter(|peer| *peer != number) {
            space.extend(own.clone().with("$peer.", values(peer)).read(&self.description.peer)?);
        }
        let mut planned = Vec::new();
        for (pod, host) in pods.into_iter().zip(10..) {
            planned.push(self.pod(number, pod, host, &own, &mut space)?);
        }
        let (v4, v6) = underlay(10 + number);
        let pod_subnet: IpNet = match self.description.families.first() {
            Some(Family::Ipv6) => Ipv6Net::new_assert(pod_address(number, 0).1, 64).into(),
            _ => Ipv4Net::new_assert(pod_address(number, 0).0, 24).into(),
        };
        Ok(LabNode {
            host: self.host(&name, self.quiet(), space),
            name,
            addresses: self.addresses(v4, v6),
            pod_subnet,
            pods: planned,
        })
    }

    /// A pod; adds the routes to it to its node.
    fn pod(&self, node: u8, name: &str, host: u8, own: &Variables, on_node: &mut Space) -> Result<LabPod> {
        let (v4, v6) = pod_address(node, host);
        let full = format!("{NAMESPACE}/{name}");
        let values = [
            ("ip", v4.to_string()),
            ("ip6", v6.to_string()),
            ("mac", written(mac(v4))),
            ("hash", hash(&full)),
            ("long-hash", long_hash(&full)),
        ];
        let own = own.clone().with("$pod.", values);
        let wiring = &self.description.pod;
        on_node.routes.extend(own.read::<Vec<_>>(&wiring.routes)?);
        Ok(LabPod {
            name: name.to_owned(),
            host: self.host(name, self.quiet(), own.read(&wiring.inside)?),
            addresses: self.addresses(v4, v6),
            veth: own.read(&wiring.veth)?,
        })
    }
}

/// Turns IPv6 off for devices that are made later.
const QUIET: [(&str, i64); 1] = [("ipv6/conf/default/disable_ipv6", 1)];

/// Addresses on the fabric.
fn underlay(number: u8) -> (Ipv4Addr, Ipv6Addr) {
    (Ipv4Addr::new(192, 168, 56, number), fabric_v6(number))
}

/// The digits of the number as they are: `fd00:56::11`.
fn fabric_v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x56, 0, 0, 0, 0, 0, digits(number))
}

/// Addresses of a pod, or of what else is in the subnet of a node's pods.
fn pod_address(node: u8, host: u8) -> (Ipv4Addr, Ipv6Addr) {
    let net = node - 1;
    let v6 = Ipv6Addr::new(0xfd00, 0x42, u16::from(net), 0, 0, 0, 0, digits(host));
    (Ipv4Addr::new(10, 42, net, host), v6)
}

/// The number whose hexadecimal digits are the decimal ones of `number`.
fn digits(number: u8) -> u16 {
    let (tens, ones) = (u16::from(number / 10), u16::from(number % 10));
    tens << 4 | ones
}

/// The variables of a node.
fn values(number: u8) -> [(&'static str, String); 13] {
    let (ip, ip6) = underlay(10 + number);
    let (tunnel, tunnel6) = pod_address(number, 0);
    let (gateway, gateway6) = pod_address(number, 1);
    [
        ("ip", ip.to_string()),
        ("ip6", ip6.to_string()),
        ("mac", written(mac(ip))),
        ("net", format!("{tunnel}/24")),
        ("net6", format!("{tunnel6}/64")),
        ("block", format!("{tunnel}/26")),
        ("gateway", gateway.to_string()),
        ("gateway6", gateway6.to_string()),
        ("gateway-mac", written(mac(gateway))),
        ("tunnel", tunnel.to_string()),
        ("tunnel6", tunnel6.to_string()),
        ("tunnel-mac", written(mac(tunnel))),
        ("tunnel6-mac", written([0x0a, 0x58, 0xfd, 0, 0, number])),
    ]
}

/// A locally administered address that shows the IPv4 address it belongs to, as the CNI plugins used to make them.
fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

fn written(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The hash in a veth's name, as the CNI plugins make names, but the same at every start: 32 bits of FNV-1a.
fn hash(pod: &str) -> String {
    let hash =
        pod.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}")
}

/// A hash of 11 digits, as in the names of Calico's devices: of 64 bits of FNV-1a.
fn long_hash(pod: &str) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = pod.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    format!("{:011x}", hash >> 20)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn plan() -> Plan {
        Plan::of("lab", Network::default()).unwrap()
    }

    #[test]
    fn nothing_is_given_twice() {
        for network in Network::all() {
            let plan = Plan::of("lab", network).unwrap();
            assert_eq!(plan.namespaces().collect::<BTreeSet<_>>().len(), 8);
            assert!(plan.namespaces().all(|name| name.starts_with("podtrace-lab-")));
            let pods: BTreeSet<_> = plan.pods().map(|pod| (&pod.veth.name, &pod.addresses)).collect();
            assert_eq!(pods.len(), 4);
            let nodes = plan.nodes.iter().map(|node| &node.host);
            let devices = nodes.chain(plan.pods().map(|pod| &pod.host)).flat_map(|host| &host.space.devices);
            let macs: Vec<_> = devices.map(|device| device.mac.unwrap()).collect();
            assert_eq!(macs.iter().collect::<BTreeSet<_>>().len(), macs.len(), "{network}");
        }
    }

    #[test]
    fn veths_are_named_as_the_cni_plugins_do() {
        for network in Network::all() {
            for pod in Plan::of("lab", network).unwrap().pods() {
                let name = &pod.veth.name;
                let (digits, length) = match name.strip_prefix("cali") {
                    Some(digits) => (digits, 11),
                    None => (name.strip_prefix("veth").unwrap(), 8),
                };
                let are_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                assert!(digits.len() == length && are_digits, "{name}");
            }
        }
    }

    #[test]
    fn every_part_of_a_network_names_devices_that_there_are() {
        for network in Network::all() {
            let plan = Plan::of("lab", network).unwrap();
            for node in &plan.nodes {
                let space = &node.host.space;
                let veths = node.pods.iter().map(|pod| &pod.veth);
                let names: BTreeSet<&str> =
                    space.devices.iter().chain(veths).map(|device| device.name.as_str()).collect();
                let named = space.routes.iter().filter_map(|route| route.dev.as_ref());
                let named = named.chain(space.neighbours.iter().map(|entry| &entry.dev));
                for name in named.chain(space.forwarding.iter().map(|entry| &entry.dev)) {
                    assert!(names.contains(name.as_str()), "{network}: {name}");
                }
            }
            let inside = plan.pods().map(|pod| &pod.host.space.devices);
            assert!(inside.into_iter().all(|devices| devices.len() == 1), "{network}");
        }
    }

    #[test]
    fn the_default_network_is_flannels() {
        let plan = plan();
        let [node, _] = plan.nodes.as_slice() else { panic!("{plan:?}") };
        let names: Vec<_> = node.host.space.devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["eth0", "cni0", "flannel.1"]);
        assert_eq!(node.addresses, ["192.168.56.11".parse::<IpAddr>().unwrap()]);
        assert_eq!(node.pods[0].veth.name, "veth63febee9");
        assert_eq!(node.pods[0].host.space.devices[0].mac, Some([0x0a, 0x58, 10, 42, 0, 10]));
    }

    #[test]
    fn pods_and_nodes_are_found_by_what_users_call_them() {
        let plan = plan();
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
        let inventory = plan().inventory(RuleSet::Nft);
        let yaml = serde_saphyr::to_string(&inventory).unwrap();
        assert!(yaml.contains("netns: /run/netns/podtrace-lab-node1"), "{yaml}");
        assert_eq!(serde_saphyr::from_str::<Inventory>(&yaml).unwrap(), inventory);
    }
}
