//! Two nodes of the lab with nothing wrong, what can be changed on them, and packets that were lost there.

use podtrace_path::{Action, Context, Drop, Path, Verdict};
use podtrace_protocol::frame::FromAgent;
use podtrace_protocol::topology::state::{ForwardingEntry, Neighbour, NeighbourState};
use podtrace_protocol::topology::{Device, DeviceKind, Peer, Route, Topology, samples as topologies};

use crate::diagnose::check::findings;
use crate::diagnose::explain::explain;
use crate::diagnose::facts::Facts;
use crate::output::samples;

pub(super) const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

/// node1 and node2 of the lab, with pod1 and pod3, and nothing wrong.
pub(super) fn nodes() -> [Topology; 2] {
    let mut nodes = [topologies::lab(), topologies::lab()];
    for (node, second) in nodes.iter_mut().zip([false, true]) {
        let tunnel_mac = MACS[usize::from(second)];
        for namespace in &mut node.namespaces {
            for (index, device) in namespace.devices.iter_mut().enumerate() {
                device.mac.get_or_insert([0x0a, 0x58, 10, 42, u8::from(second), index as u8]);
                device.carrier = Some(true);
                if device.kind == DeviceKind::Loopback {
                    device.mac = None;
                }
            }
        }
        node.namespaces[1].routes.push(Route {
            destination: "0.0.0.0/0".parse().unwrap(),
            gateway: Some([10, 42, u8::from(second), 1].into()),
            device: 2,
            metric: 0,
        });
        let own = &mut node.namespaces[0];
        own.devices.iter_mut().filter(|device| device.name == "eth0").for_each(|device| device.mtu = 1500);
        let tunnel = own.devices.iter_mut().find(|device| device.name == "flannel.1").unwrap();
        tunnel.mac = Some(tunnel_mac);
    }
    let [first, second] = &mut nodes;
    second.namespaces[1].pod = Some("default/pod3".to_owned());
    for namespace in &mut second.namespaces {
        namespace.inode += 1000;
        for device in &mut namespace.devices {
            for address in &mut device.addresses {
                let moved = address.to_string().replace("10.42.0.", "10.42.1.").replace("56.11", "56.12");
                *address = moved.parse().unwrap();
            }
            if let DeviceKind::Vxlan(vxlan) = &mut device.kind {
                vxlan.local = Some("192.168.56.12".parse().unwrap());
            }
            if let Some(Peer { netns: Some(netns), .. }) = &mut device.peer {
                *netns += 1000;
            }
        }
    }
    let tunnel = first.namespaces[0].devices.iter().find(|device| device.name == "flannel.1").unwrap().index;
    first.namespaces[0].state.neighbours.push(Neighbour {
        device: tunnel,
        address: "10.42.1.0".parse().unwrap(),
        mac: Some(MACS[1]),
        state: NeighbourState::Permanent,
    });
    first.namespaces[0].state.forwarding.push(ForwardingEntry {
        device: tunnel,
        mac: MACS[1],
        remote: Some("192.168.56.12".parse().unwrap()),
    });
    nodes
}

pub(super) fn facts(nodes: [Topology; 2]) -> Facts {
    let names = ["node1".to_owned(), "node2".to_owned()];
    let mut facts = Facts::new(&Context { nodes: names.to_vec(), ..Context::default() });
    for (number, topology) in nodes.into_iter().enumerate() {
        facts.learn(number, &FromAgent::Topology(topology));
    }
    facts
}

/// What explains the path on these nodes.
pub(super) fn explained(nodes: [Topology; 2], path: &Path) -> Option<String> {
    let facts = facts(nodes);
    let findings = findings(&facts);
    explain(path, &facts, &findings).map(|explanation| explanation.to_string())
}

/// A request from pod1 to pod3 that was dropped on a node, at its last hop there.
pub(super) fn dropped(node: &str, reason: &str, location: &str) -> Path {
    let mut path = samples::cross_node_request();
    path.verdict = Verdict::Dropped;
    let at = path.hops.iter().rposition(|hop| &*hop.node == node).unwrap();
    path.hops.truncate(at + 1);
    let mut drop = path.hops[at].clone();
    drop.index += 1;
    drop.action = Action::Drop;
    drop.drop = Some(Drop {
        reason: Some(reason.to_owned()),
        location: Some(location.to_owned()),
        ..Drop::default()
    });
    path.hops.push(drop);
    path
}

/// Gives a device of a namespace one more address.
pub(super) fn give(topology: &mut Topology, namespace: usize, device: &str, address: &str) {
    let devices = &mut topology.namespaces[namespace].devices;
    let device = devices.iter_mut().find(|known| known.name == device).unwrap();
    device.addresses.push(address.parse().unwrap());
}

pub(super) fn change(topology: &mut Topology, namespace: usize, device: &str, change: impl Fn(&mut Device)) {
    let devices = &mut topology.namespaces[namespace].devices;
    change(devices.iter_mut().find(|known| known.name == device).unwrap());
}
