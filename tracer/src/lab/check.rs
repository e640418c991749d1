//! Compares a lab with its plan, by the kernel tables of each namespace.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

use super::build::setting_path;
use super::listen;
use super::network::{Device, Kind, Route, Space, Tunnel};
use super::plan::{Plan, WORLD};
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
    /// Values of the planned settings.
    settings: BTreeMap<String, i64>,
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
    for host in plan.hosts() {
        let Ok(netns) = Netns::open(named_path(&host.netns)) else { continue };
        let found = netns.netlink(async |netlink| {
            let settings = host.space.settings.keys().filter_map(|name| {
                // One that cannot be read is not as planned.
                let value = fs::read_to_string(setting_path(name)).ok()?.trim().parse().ok()?;
                Some((name.clone(), value))
            });
            let sockets = |of: &str| match fs::read_to_string(format!("/proc/thread-self/net/{of}")) {
                // The kernel has no IPv6.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
                other => other.with_context(|| format!("cannot read /proc/thread-self/net/{of}")),
            };
            let listens = listen::listens(&sockets("tcp")?, &sockets("udp")?)
                || listen::listens(&sockets("tcp6")?, &sockets("udp6")?);
            Ok(Found { settings: settings.collect(), dump: Dump::all(&netlink).await?, listens })
        });
        observed.insert(host.netns.clone(), found.with_context(|| format!("cannot read {}", host.netns))?);
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
    for (place, host) in [("fabric", &plan.fabric), (WORLD, &plan.world)] {
        if let Some(found) = observed.get(&host.netns) {
            Check { place, found, problems: &mut problems }.space(&host.space);
        }
    }
    for node in &plan.nodes {
        if let Some(found) = observed.get(&node.host.netns) {
            let mut check = Check { place: &node.name, found, problems: &mut problems };
            check.space(&node.host.space);
            node.pods.iter().for_each(|pod| check.device(&pod.veth));
        }
        for pod in &node.pods {
            if let Some(found) = observed.get(&pod.host.netns) {
                let mut check = Check { place: &pod.name, found, problems: &mut problems };
                check.space(&pod.host.space);
                if services && is_endpoint(&pod.name) {
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

    fn space(&mut self, space: &Space) {
        for (name, value) in &space.settings {
            let holds = self.found.settings.get(name).is_none_or(|found| found == value);
            self.expect(holds, &format!("{name} is not {value}"));
        }
        space.devices.iter().for_each(|device| self.device(device));
        for route in &space.routes {
            self.route(route);
        }
        for entry in &space.neighbours {
            let wanted = self.entry(&entry.dev, entry.address, entry.mac);
            let holds = wanted.is_none_or(|wanted| self.found.dump.neighbours.contains(&wanted));
            self.expect(holds, &format!("{} has no neighbour entry for {}", entry.dev, entry.address));
        }
        for entry in &space.forwarding {
            let wanted = self.entry(&entry.dev, entry.to, entry.mac);
            let holds = wanted.is_none_or(|wanted| self.found.dump.forwarding.contains(&wanted));
            self.expect(holds, &format!("{} has no forwarding entry for {}", entry.dev, entry.to));
        }
    }

    /// An entry of the neighbour table or a forwarding table; `None` without its device, which is a problem of its own.
    fn entry(&self, device: &str, address: std::net::IpAddr, mac: [u8; 6]) -> Option<Neighbour> {
        let device = self.index(device)?;
        Some(Neighbour { device, address: Some(address), mac: Some(mac), state: NeighbourState::Permanent })
    }

    fn device(&mut self, planned: &Device) {
        let Device { name, mtu, mac, addresses, master, hairpin, .. } = planned;
        let Some(link) = self.link(name).cloned() else {
            return self.expect(false, &format!("{name} is missing"));
        };
        let device = &link.device;
        let has_kind = device.kind == kind(&planned.kind, |name| self.index(name));
        self.expect(has_kind, &format!("{name} has the wrong type or settings"));
        self.expect(device.up, &format!("{name} is down"));
        self.expect(device.mtu == *mtu, &format!("{name} has MTU {} instead of {mtu}", device.mtu));
        self.expect(mac.is_none() || device.mac == *mac, &format!("{name} has the wrong MAC address"));
        for address in addresses {
            let holds = self.found.dump.addresses.contains(&(device.index, *address));
            self.expect(holds, &format!("{name} does not have address {address}"));
        }
        if let Some(master) = master {
            let is_port = device.master.is_some() && device.master == self.index(master);
            self.expect(is_port, &format!("{name} is not a port of {master}"));
            let port = Port { state: PortState::Forwarding, hairpin: *hairpin, isolated: false };
            self.expect(device.port == Some(port), &format!("{name} has the wrong bridge port state"));
        }
    }

    fn route(&mut self, planned: &Route) {
        let Route { to, via, dev, blackhole, .. } = planned;
        if *blackhole {
            let holds = self.found.dump.refusing.iter().any(|route| route.destination == *to);
            return self.expect(holds, &format!("no blackhole for {to}"));
        }
        let index = dev.as_ref().map(|dev| self.index(dev));
        let holds = self.found.dump.routes.iter().any(|route| {
            let by_device = index.is_none_or(|index| index == Some(route.device));
            route.destination == *to && route.gateway == *via && by_device
        });
        let by = via.map(|via| format!(" via {via}")).unwrap_or_default();
        self.expect(holds, &format!("no route to {to}{by}"));
    }
}

/// The kind as it is read from the kernel. A tunnel's remotes are no settings of the device; they are checked as entries.
fn kind(kind: &Kind, index: impl Fn(&str) -> Option<u32>) -> DeviceKind {
    match kind {
        Kind::Veth => DeviceKind::Veth,
        Kind::Bridge => DeviceKind::Bridge,
        Kind::Vxlan(Tunnel { vni, port, local, over }) => DeviceKind::Vxlan(Vxlan {
            vni: *vni,
            port: *port,
            local: Some(*local),
            underlay: index(over),
            remotes: Vec::new(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::network::Network;
    use super::*;
    use podtrace_protocol::topology::state::{Refusal, RefusingRoute};

    fn plan() -> Plan {
        Plan::of("lab", Network::default()).unwrap()
    }

    /// A namespace as planned.
    fn as_planned(space: &Space, veths: &[&Device], listens: bool) -> Found {
        let mut found = Found { settings: space.settings.clone(), listens, ..Found::default() };
        let devices: Vec<_> = space.devices.iter().chain(veths.iter().copied()).collect();
        let index = |name: &str| {
            let place = devices.iter().position(|device| device.name == name).unwrap();
            u32::try_from(place).unwrap() + 2
        };
        for device in &devices {
            let kind = kind(&device.kind, |name| Some(index(name)));
            let port = Port { state: PortState::Forwarding, hairpin: device.hairpin, isolated: false };
            let seen = podtrace_protocol::topology::Device {
                index: index(&device.name),
                name: device.name.clone(),
                kind,
                ethernet: true,
                up: true,
                mtu: device.mtu,
                mac: device.mac,
                master: device.master.as_deref().map(index),
                port: device.master.as_ref().map(|_| port),
                ..podtrace_protocol::topology::Device::default()
            };
            found.dump.links.push(Link { device: seen, link: None, link_netns_id: None });
            let addresses = device.addresses.iter().map(|address| (index(&device.name), *address));
            found.dump.addresses.extend(addresses);
        }
        for route in &space.routes {
            if route.blackhole {
                let refusal = Refusal::Blackhole;
                found.dump.refusing.push(RefusingRoute { destination: route.to, table: 254, refusal });
                continue;
            }
            found.dump.routes.push(podtrace_protocol::topology::Route {
                destination: route.to,
                gateway: route.via,
                device: route.dev.as_deref().map_or(2, index),
                metric: 0,
            });
        }
        let entry = |device: &str, address, mac| Neighbour {
            device: index(device),
            address: Some(address),
            mac: Some(mac),
            state: NeighbourState::Permanent,
        };
        let neighbours = space.neighbours.iter().map(|known| entry(&known.dev, known.address, known.mac));
        found.dump.neighbours.extend(neighbours);
        let forwarding = space.forwarding.iter().map(|known| entry(&known.dev, known.to, known.mac));
        found.dump.forwarding.extend(forwarding);
        found
    }

    fn healthy(plan: &Plan) -> Observed {
        let mut observed = Observed::new();
        for host in [&plan.fabric, &plan.world] {
            observed.insert(host.netns.clone(), as_planned(&host.space, &[], false));
        }
        for node in &plan.nodes {
            let veths: Vec<_> = node.pods.iter().map(|pod| &pod.veth).collect();
            observed.insert(node.host.netns.clone(), as_planned(&node.host.space, &veths, false));
            for pod in &node.pods {
                let found = as_planned(&pod.host.space, &[], is_endpoint(&pod.name));
                observed.insert(pod.host.netns.clone(), found);
            }
        }
        observed
    }

    /// The problems found after a damage to one namespace.
    fn damaged(netns: &str, damage: impl FnOnce(&mut Found)) -> Vec<String> {
        let plan = plan();
        let mut observed = healthy(&plan);
        damage(observed.get_mut(&format!("podtrace-lab-{netns}")).unwrap());
        problems(&plan, true, &observed)
    }

    #[test]
    fn a_whole_lab_has_no_problems() {
        for network in Network::all() {
            let plan = Plan::of("lab", network).unwrap();
            assert_eq!(problems(&plan, true, &healthy(&plan)), [""; 0], "{network}");
        }
    }

    #[test]
    fn nothing_at_all_is_one_problem() {
        let found = problems(&plan(), false, &Observed::new());
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("network namespaces missing: podtrace-lab-fabric, "), "{found:?}");
    }

    #[test]
    fn each_kind_of_damage_is_found() {
        assert_eq!(damaged("pod3", |pod| pod.listens = false), ["pod3: its server is not running"]);
        let found = damaged("node1", |node| {
            node.settings.insert("ipv4/ip_forward".to_owned(), 0);
        });
        assert_eq!(found, ["node1: ipv4/ip_forward is not 1"]);
        let found = damaged("node1", |node| node.dump.routes.clear());
        assert_eq!(found, ["node1: no route to 10.42.1.0/24 via 10.42.1.0"]);
        let found = damaged("node2", |node| node.dump.neighbours[0].state = NeighbourState::Learned);
        assert_eq!(found, ["node2: flannel.1 has no neighbour entry for 10.42.0.0"]);
        let found = damaged("node2", |node| node.dump.forwarding.clear());
        assert_eq!(found, ["node2: flannel.1 has no forwarding entry for 192.168.56.11"]);
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
        let found = damaged("fabric", |fabric| fabric.dump.links[3].device.master = None);
        assert_eq!(found, ["fabric: node2 is not a port of br0"]);
        let found = damaged("fabric", |fabric| fabric.dump.links[2].device.port = None);
        assert_eq!(found, ["fabric: node1 has the wrong bridge port state"]);
        let found = damaged("pod4", |pod| pod.dump = Dump::default());
        assert_eq!(found, ["pod4: eth0 is missing", "pod4: no route to 0.0.0.0/0 via 10.42.1.1"]);
    }
}
