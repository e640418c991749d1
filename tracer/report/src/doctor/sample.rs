//! Two nodes for tests, each with a pod, whose tunnel knows the other's end.

use podtrace_protocol::inventory::{self, Inventory};
use podtrace_protocol::topology::state::{ForwardingEntry, Neighbour, NeighbourState};
use podtrace_protocol::topology::{DeviceKind, Namespace, Route, Survey, Topology, samples};

use super::cluster::Cluster;
use super::issue::Issue;

pub(super) const INVENTORY: &str = "
nodes:
- {name: node1, addresses: [192.168.56.11]}
- {name: node2, addresses: [192.168.56.12]}
pods:
- {name: pod1, ips: [10.42.0.10], node: node1}
- {name: pod3, ips: [10.42.1.10], node: node2}
";

/// A healthy cluster.
pub(super) fn healthy() -> (Vec<Survey>, Inventory) {
    let surveys = vec![survey("node1", 0, 1), survey("node2", 1, 0)];
    (surveys, inventory::parse(&format!("{INVENTORY}services: []\n")).unwrap())
}

fn survey(name: &str, own: u8, other: u8) -> Survey {
    let mut topology = samples::lab();
    rename(&mut topology, own, other);
    let address = format!("192.168.56.1{}", own + 1).parse().unwrap();
    Survey {
        node: name.to_owned(),
        addresses: vec![address],
        found: Ok(topology),
        rules: None,
        warnings: Vec::new(),
    }
}

fn rename(topology: &mut Topology, own: u8, other: u8) {
    let mac = |node: u8, last: u8| Some([0x0a, 0x58, 0x0a, 0x2a, node, last]);
    let text = |text: &str| text.replace("OWN", &own.to_string()).replace("OTHER", &other.to_string());
    for namespace in &mut topology.namespaces {
        for device in &mut namespace.devices {
            let address = match (device.name.as_str(), namespace.pod.is_some()) {
                ("eth0", true) => text("10.42.OWN.10/24"),
                ("eth0", false) => format!("192.168.56.1{}/24", own + 1),
                ("cni0", _) => text("10.42.OWN.1/24"),
                ("flannel.1", _) => text("10.42.OWN.0/32"),
                _ => continue,
            };
            device.addresses = vec![address.parse().unwrap()];
            if let DeviceKind::Vxlan(settings) = &mut device.kind {
                settings.local = Some(format!("192.168.56.1{}", own + 1).parse().unwrap());
                device.mac = mac(own, 0);
            }
        }
    }
    // Namespaces of two nodes are not one.
    let (node, pod) = (100 + u32::from(own) * 10, 101 + u32::from(own) * 10);
    for namespace in &mut topology.namespaces {
        for peer in namespace.devices.iter_mut().filter_map(|device| device.peer.as_mut()) {
            peer.netns = peer.netns.map(|inode| if inode == samples::LAB { node } else { pod });
        }
        namespace.inode = if namespace.pod.is_some() { pod } else { node };
    }
    let [node, pod] = topology.namespaces.as_mut_slice() else { panic!("a node and a pod") };
    node.devices[1].mtu = 1500;
    node.routes[1].destination = text("10.42.OWN.0/24").parse().unwrap();
    node.routes[2].destination = text("10.42.OTHER.0/24").parse().unwrap();
    node.routes[2].gateway = Some(text("10.42.OTHER.0").parse().unwrap());
    let gateway = text("10.42.OTHER.0").parse().unwrap();
    node.state.neighbours.push(Neighbour {
        device: 4,
        address: gateway,
        mac: mac(other, 0),
        state: NeighbourState::Permanent,
    });
    let remote = Some(format!("192.168.56.1{}", other + 1).parse().unwrap());
    node.state.forwarding.push(ForwardingEntry { device: 4, mac: mac(other, 0).unwrap(), remote });
    node.state.sysctls.insert("ipv4/ip_forward".to_owned(), 1);
    pod.pod = Some(format!("default/pod{}", own * 2 + 1));
    let default = Route {
        destination: "0.0.0.0/0".parse().unwrap(),
        gateway: Some(text("10.42.OWN.1").parse().unwrap()),
        device: 2,
        metric: 0,
    };
    pod.routes = vec![default];
}

/// A node's own namespace.
pub(super) fn node(surveys: &mut [Survey], number: usize) -> &mut Namespace {
    &mut surveys[number].found.as_mut().unwrap().namespaces[0]
}

/// What a check finds after a change of the healthy cluster.
pub(super) fn found(
    change: impl Fn(&mut Vec<Survey>),
    check: impl Fn(&Cluster<'_>, &mut Vec<Issue>),
) -> Vec<Issue> {
    let (mut surveys, inventory) = healthy();
    change(&mut surveys);
    let mut issues = Vec::new();
    check(&Cluster::new(&surveys, &inventory), &mut issues);
    issues
}
