//! Compares a lab with its plan, by the kernel tables of each namespace.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result};
use ipnet::{IpNet, Ipv4Net};

use super::listen;
use super::plan::{
    CNI0, ETH0, FABRIC_BRIDGE, FLANNEL, LabNode, LabPod, POD_MTU, Plan, UNDERLAY_MTU, VNI, VXLAN_PORT, WORLD,
    World,
};
use super::services::is_endpoint;
use crate::netns::{Netns, named_path};
use crate::node::topology::dump::Dump;
use crate::node::topology::parse::{Link, Neighbour};
use podtrace_protocol::topology::state::{NeighbourState, Port, PortState};
use podtrace_protocol::topology::{DeviceKind, Vxlan};

/// The observed state of one namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Its tables.
    dump: Dump,
    /// Whether it forwards IPv4.
    forwards: bool,
    /// Whether the server of a pod listens in it.
    listens: bool,
}

/// Namespaces by name, without those that do not exist.
pub(super) type Observed = BTreeMap<String, Found>;

/// Reads every namespace of the plan.
///
/// # Errors
///
/// If one that exists cannot be read.
pub(super) fn observe(plan: &Plan) -> Result<Observed> {
    let mut observed = Observed::new();
    for name in plan.namespaces() {
        let Ok(netns) = Netns::open(named_path(name)) else { continue };
        let found = netns.netlink(async |netlink| {
            let path = "/proc/sys/net/ipv4/ip_forward";
            let forward = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
            let sockets = |of: &str| {
                let path = format!("/proc/thread-self/net/{of}");
                fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
            };
            Ok(Found {
                dump: Dump::all(&netlink).await?,
                forwards: forward.trim() == "1",
                listens: listen::listens(&sockets("tcp")?, &sockets("udp")?),
            })
        });
        observed.insert(name.to_owned(), found.with_context(|| format!("cannot read {name}"))?);
    }
    Ok(observed)
}

/// The differences from the plan, one phrase each; empty if there are none. With `services`, pods behind one must have a
/// running server.
pub(super) fn problems(plan: &Plan, services: bool, observed: &Observed) -> Vec<String> {
    let mut problems = Vec::new();
    let absent: Vec<_> = plan.namespaces().filter(|name| !observed.contains_key(*name)).collect();
    if !absent.is_empty() {
        problems.push(format!("network namespaces missing: {}", absent.join(", ")));
    }
    if let Some(found) = observed.get(&plan.fabric) {
        fabric(plan, &mut Check { place: "fabric", found, problems: &mut problems });
    }
    if let Some(found) = observed.get(&plan.world.netns) {
        let World { mac, address, .. } = plan.world;
        let mut check = Check { place: WORLD, found, problems: &mut problems };
        check.device(&Wanted { mac: Some(mac), address: Some(address), ..veth(ETH0, UNDERLAY_MTU) });
    }
    for planned in &plan.nodes {
        if let Some(found) = observed.get(&planned.netns) {
            node(plan, planned, &mut Check { place: &planned.name, found, problems: &mut problems });
        }
        for planned_pod in &planned.pods {
            if let Some(found) = observed.get(&planned_pod.netns) {
                let mut check = Check { place: &planned_pod.name, found, problems: &mut problems };
                pod(planned, planned_pod, &mut check);
                if services && is_endpoint(&planned_pod.name) {
                    check.expect(check.found.listens, "its server is not running");
                }
            }
        }
    }
    problems
}

/// The check of one namespace.
struct Check<'a> {
    place: &'a str,
    found: &'a Found,
    problems: &'a mut Vec<String>,
}

/// The plan of a device.
struct Wanted<'a> {
    name: &'a str,
    kind: &'a DeviceKind,
    mtu: u32,
    mac: Option<[u8; 6]>,
    address: Option<Ipv4Net>,
    master: Option<&'a str>,
    hairpin: bool,
}

impl Check<'_> {
    fn expect(&mut self, holds: bool, otherwise: &str) {
        if !holds {
            self.problems.push(format!("{}: {otherwise}", self.place));
        }
    }

    fn link(&self, name: &str) -> Option<&Link> {
        self.found.dump.links.iter().find(|link| link.device.name == name)
    }

    fn index(&self, name: &str) -> Option<u32> {
        self.link(name).map(|link| link.device.index)
    }

    fn device(&mut self, wanted: &Wanted<'_>) {
        let Wanted { name, kind, mtu, mac, address, master, hairpin } = *wanted;
        let Some(link) = self.link(name).cloned() else {
            return self.expect(false, &format!("{name} is missing"));
        };
        let device = &link.device;
        self.expect(device.kind == *kind, &format!("{name} has the wrong type or settings"));
        self.expect(device.up, &format!("{name} is down"));
        self.expect(device.mtu == mtu, &format!("{name} has MTU {} instead of {mtu}", device.mtu));
        self.expect(mac.is_none() || device.mac == mac, &format!("{name} has the wrong MAC address"));
        if let Some(address) = address {
            let holds = self.found.dump.addresses.contains(&(device.index, IpNet::V4(address)));
            self.expect(holds, &format!("{name} does not have address {address}"));
        }
        if let Some(master) = master {
            let is_port = device.master.is_some() && device.master == self.index(master);
            self.expect(is_port, &format!("{name} is not a port of {master}"));
            self.expect(
                device.port == Some(Port { state: PortState::Forwarding, hairpin, isolated: false }),
                &format!("{name} has the wrong bridge port state"),
            );
        }
    }

    fn route(&mut self, destination: Ipv4Net, gateway: Ipv4Addr, device: &str) {
        let index = self.index(device);
        let holds = self.found.dump.routes.iter().any(|route| {
            route.destination == IpNet::V4(destination)
                && route.gateway == Some(IpAddr::V4(gateway))
                && Some(route.device) == index
        });
        self.expect(holds, &format!("no route to {destination} via {gateway}"));
    }
}

fn veth<'a>(name: &'a str, mtu: u32) -> Wanted<'a> {
    let kind = &DeviceKind::Veth;
    Wanted { name, kind, mtu, mac: None, address: None, master: None, hairpin: false }
}

fn fabric(plan: &Plan, check: &mut Check<'_>) {
    check.device(&Wanted { kind: &DeviceKind::Bridge, ..veth(FABRIC_BRIDGE, UNDERLAY_MTU) });
    for port in plan.nodes.iter().map(|node| node.name.as_str()).chain([WORLD]) {
        check.device(&Wanted { master: Some(FABRIC_BRIDGE), ..veth(port, UNDERLAY_MTU) });
    }
}

fn node(plan: &Plan, node: &LabNode, check: &mut Check<'_>) {
    check.expect(check.found.forwards, "does not forward IPv4");
    let uplink = Wanted { mac: Some(node.mac), address: Some(node.address), ..veth(ETH0, UNDERLAY_MTU) };
    check.device(&uplink);
    check.device(&Wanted {
        kind: &DeviceKind::Bridge,
        mac: Some(node.bridge_mac),
        address: Some(node.bridge),
        ..veth(CNI0, POD_MTU)
    });
    let tunnel = DeviceKind::Vxlan(Vxlan {
        vni: VNI,
        port: VXLAN_PORT,
        local: Some(node.address.addr().into()),
        underlay: check.index(ETH0),
        // These are not settings of the device; they are checked below.
        remotes: Vec::new(),
    });
    check.device(&Wanted {
        kind: &tunnel,
        mac: Some(node.tunnel_mac),
        address: Some(node.tunnel.into()),
        ..veth(FLANNEL, POD_MTU)
    });
    for pod in &node.pods {
        check.device(&Wanted { master: Some(CNI0), hairpin: true, ..veth(&pod.host_veth, POD_MTU) });
    }
    for other in plan.peers_of(node) {
        check.route(other.pod_subnet(), other.tunnel, FLANNEL);
        let Some(device) = check.index(FLANNEL) else { continue };
        let entry = |address: Ipv4Addr| Neighbour {
            device,
            address: Some(address.into()),
            mac: Some(other.tunnel_mac),
            state: NeighbourState::Permanent,
        };
        let dump = &check.found.dump;
        let (neighbour, forwarding) = (
            dump.neighbours.contains(&entry(other.tunnel)),
            dump.forwarding.contains(&entry(other.address.addr())),
        );
        check.expect(neighbour, &format!("{FLANNEL} has no neighbour entry for {}", other.name));
        check.expect(forwarding, &format!("{FLANNEL} has no forwarding entry for {}", other.name));
    }
}

fn pod(node: &LabNode, pod: &LabPod, check: &mut Check<'_>) {
    check.device(&Wanted { mac: Some(pod.mac), address: Some(pod.address), ..veth(ETH0, POD_MTU) });
    check.route(Ipv4Net::default(), node.bridge.addr(), ETH0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use podtrace_protocol::topology::{Device, Route};

    /// One namespace as planned, written by hand.
    #[derive(Default)]
    struct Namespace(Found);

    impl Namespace {
        fn device(mut self, name: &str, kind: DeviceKind, mtu: u32, mac: Option<[u8; 6]>) -> Self {
            let index = u32::try_from(self.0.dump.links.len()).unwrap() + 2;
            let device = Device {
                index,
                name: name.into(),
                kind,
                ethernet: true,
                up: true,
                mtu,
                mac,
                master: None,
                port: None,
                carrier: None,
                xdp: None,
                peer: None,
                addresses: vec![],
            };
            self.0.dump.links.push(Link { device, link: None, link_netns_id: None });
            self
        }

        fn address(mut self, address: Ipv4Net) -> Self {
            let index = self.last().device.index;
            self.0.dump.addresses.push((index, address.into()));
            self
        }

        fn port_of(mut self, master: &str, hairpin: bool) -> Self {
            let master =
                self.0.dump.links.iter().find(|link| link.device.name == master).unwrap().device.index;
            self.last().device.master = Some(master);
            self.last().device.port = Some(Port { state: PortState::Forwarding, hairpin, isolated: false });
            self
        }

        fn route(mut self, destination: Ipv4Net, gateway: Ipv4Addr) -> Self {
            let device = self.last().device.index;
            let gateway = Some(gateway.into());
            self.0.dump.routes.push(Route { destination: destination.into(), gateway, device, metric: 0 });
            self
        }

        fn last(&mut self) -> &mut Link {
            self.0.dump.links.last_mut().unwrap()
        }
    }

    fn healthy(plan: &Plan) -> Observed {
        let mut fabric = Namespace::default().device(FABRIC_BRIDGE, DeviceKind::Bridge, UNDERLAY_MTU, None);
        let mut observed = Observed::new();
        for node in &plan.nodes {
            fabric =
                fabric.device(&node.name, DeviceKind::Veth, UNDERLAY_MTU, None).port_of(FABRIC_BRIDGE, false);
            let tunnel = DeviceKind::Vxlan(Vxlan {
                vni: 1,
                port: 8472,
                local: Some(node.address.addr().into()),
                underlay: Some(2),
                remotes: vec![],
            });
            let mut space = Namespace::default()
                .device(ETH0, DeviceKind::Veth, UNDERLAY_MTU, Some(node.mac))
                .address(node.address)
                .device(CNI0, DeviceKind::Bridge, POD_MTU, Some(node.bridge_mac))
                .address(node.bridge)
                .device(FLANNEL, tunnel, POD_MTU, Some(node.tunnel_mac))
                .address(node.tunnel.into());
            for other in plan.peers_of(node) {
                space = space.route(other.pod_subnet(), other.tunnel);
                let entry = |address: Ipv4Addr| Neighbour {
                    device: 4,
                    address: Some(address.into()),
                    mac: Some(other.tunnel_mac),
                    state: NeighbourState::Permanent,
                };
                space.0.dump.neighbours.push(entry(other.tunnel));
                space.0.dump.forwarding.push(entry(other.address.addr()));
            }
            space.0.forwards = true;
            for pod in &node.pods {
                space = space.device(&pod.host_veth, DeviceKind::Veth, POD_MTU, None).port_of(CNI0, true);
                let mut inside = Namespace::default()
                    .device(ETH0, DeviceKind::Veth, POD_MTU, Some(pod.mac))
                    .address(pod.address)
                    .route(Ipv4Net::default(), node.bridge.addr());
                inside.0.listens = is_endpoint(&pod.name);
                observed.insert(pod.netns.clone(), inside.0);
            }
            observed.insert(node.netns.clone(), space.0);
        }
        fabric = fabric.device(WORLD, DeviceKind::Veth, UNDERLAY_MTU, None).port_of(FABRIC_BRIDGE, false);
        observed.insert(plan.fabric.clone(), fabric.0);
        let World { netns, address, mac } = &plan.world;
        let world =
            Namespace::default().device(ETH0, DeviceKind::Veth, UNDERLAY_MTU, Some(*mac)).address(*address);
        observed.insert(netns.clone(), world.0);
        observed
    }

    /// The problems found after a damage to one namespace.
    fn damaged(netns: &str, damage: impl FnOnce(&mut Found)) -> Vec<String> {
        let plan = Plan::of("lab");
        let mut observed = healthy(&plan);
        damage(observed.get_mut(&format!("podtrace-lab-{netns}")).unwrap());
        problems(&plan, true, &observed)
    }

    #[test]
    fn a_whole_lab_has_no_problems() {
        assert_eq!(damaged("fabric", |_| ()), [""; 0]);
    }

    #[test]
    fn nothing_at_all_is_one_problem() {
        let found = problems(&Plan::of("lab"), false, &Observed::new());
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("network namespaces missing: podtrace-lab-fabric, "), "{found:?}");
    }

    #[test]
    fn each_kind_of_damage_is_found() {
        assert_eq!(damaged("pod3", |pod| pod.listens = false), ["pod3: its server is not running"]);
        let found = damaged("node1", |node| node.forwards = false);
        assert_eq!(found, ["node1: does not forward IPv4"]);
        let found = damaged("node1", |node| node.dump.routes.clear());
        assert_eq!(found, ["node1: no route to 10.42.1.0/24 via 10.42.1.0"]);
        let found = damaged("node2", |node| node.dump.neighbours[0].state = NeighbourState::Learned);
        assert_eq!(found, ["node2: flannel.1 has no neighbour entry for node1"]);
        let found = damaged("node2", |node| node.dump.forwarding.clear());
        assert_eq!(found, ["node2: flannel.1 has no forwarding entry for node1"]);
        let found =
            damaged("node1", |node| node.dump.links[2].device.kind = DeviceKind::Vxlan(Vxlan::default()));
        assert_eq!(found, ["node1: flannel.1 has the wrong type or settings"]);
        let found = damaged("pod1", |pod| pod.dump.links[0].device.up = false);
        assert_eq!(found, ["pod1: eth0 is down"]);
        let found = damaged("pod1", |pod| pod.dump.links[0].device.mtu = 1500);
        assert_eq!(found, ["pod1: eth0 has MTU 1500 instead of 1450"]);
        let found = damaged("pod1", |pod| pod.dump.links[0].device.mac = None);
        assert_eq!(found, ["pod1: eth0 has the wrong MAC address"]);
        let found = damaged("pod3", |pod| pod.dump.addresses.clear());
        assert_eq!(found, ["pod3: eth0 does not have address 10.42.1.10/24"]);
        let found = damaged("fabric", |fabric| fabric.dump.links[2].device.master = None);
        assert_eq!(found, ["fabric: node2 is not a port of br0"]);
        let found = damaged("fabric", |fabric| fabric.dump.links[1].device.port = None);
        assert_eq!(found, ["fabric: node1 has the wrong bridge port state"]);
        let found = damaged("pod4", |pod| pod.dump = Dump::default());
        assert_eq!(found, ["pod4: eth0 is missing", "pod4: no route to 0.0.0.0/0 via 10.42.1.1"]);
    }
}
