//! The two nodes' networking, as their agents would tell it.

use podtrace_protocol::topology::{Device, DeviceKind, Namespace, Peer, Route, Topology, Vxlan};

use super::{CNI0, ETH0, FLANNEL};

pub(in super::super) fn root(node: usize) -> u32 {
    1000 + 100 * node as u32
}

pub(super) fn pod_inode(node: usize, pod: [u8; 4]) -> u32 {
    root(node) + u32::from(pod[3])
}

pub(in super::super) fn device(index: u32, name: &str, kind: DeviceKind, address: Option<&str>) -> Device {
    Device {
        index,
        name: name.to_owned(),
        kind,
        ethernet: true,
        up: true,
        mtu: 1500,
        addresses: address.map(|address| address.parse().unwrap()).into_iter().collect(),
        ..Device::default()
    }
}

pub(in super::super) fn route(destination: &str, gateway: Option<&str>, device: u32) -> Route {
    let gateway = gateway.map(|text| text.parse().unwrap());
    Route { destination: destination.parse().unwrap(), gateway, device, metric: 0 }
}

pub(super) fn topology(node: usize) -> Topology {
    let other = 1 - node;
    let vxlan = Vxlan { vni: 1, port: 8472, local: None, underlay: Some(ETH0), remotes: Vec::new() };
    let mut own = Namespace {
        inode: root(node),
        devices: vec![
            device(ETH0, "eth0", DeviceKind::Physical, Some(&format!("192.168.56.{}/24", 11 + node))),
            device(FLANNEL, "flannel.1", DeviceKind::Vxlan(vxlan), Some(&format!("10.42.{node}.0/32"))),
            device(CNI0, "cni0", DeviceKind::Bridge, Some(&format!("10.42.{node}.1/24"))),
        ],
        routes: vec![
            route(&format!("10.42.{node}.0/24"), None, CNI0),
            route(&format!("10.42.{other}.0/24"), Some(&format!("10.42.{other}.0")), FLANNEL),
            route("0.0.0.0/0", Some("192.168.56.1"), ETH0),
        ],
        ..Namespace::default()
    };
    let mut namespaces = Vec::new();
    for last in [10, 11] {
        let pod = [10, 42, node as u8, last];
        let inode = pod_inode(node, pod);
        own.devices.push(Device {
            master: Some(CNI0),
            peer: Some(Peer { netns: Some(inode), index: 2 }),
            ..device(u32::from(last), &format!("veth{last}"), DeviceKind::Veth, None)
        });
        namespaces.push(Namespace {
            inode,
            pod: Some(format!("default/pod{}", 2 * node as u8 + last - 9)),
            devices: vec![Device {
                peer: Some(Peer { netns: Some(root(node)), index: u32::from(last) }),
                ..device(2, "eth0", DeviceKind::Veth, Some(&format!("10.42.{node}.{last}/24")))
            }],
            ..Namespace::default()
        });
    }
    namespaces.insert(0, own);
    Topology { namespaces, cni: None }
}
