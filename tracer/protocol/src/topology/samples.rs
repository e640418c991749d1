//! Sample topologies for tests.

#![expect(clippy::unwrap_used, reason = "these values are written down here, and only tests build them")]

use super::{Device, DeviceKind, Namespace, Peer, Route, State, Topology, Vxlan};

/// Inode of the lab node's namespace.
pub const LAB: u32 = 100;
/// Inode of the host-gw node's namespace.
pub const HOST_GW: u32 = 100;
/// Inode of the namespace of the only pod of each node.
pub const POD1: u32 = 101;

fn device(index: u32, name: &str, kind: DeviceKind, addresses: &[&str]) -> Device {
    Device {
        index,
        name: name.into(),
        kind,
        ethernet: true,
        up: true,
        mtu: 1450,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..Device::default()
    }
}

fn loopback() -> Device {
    device(1, "lo", DeviceKind::Loopback, &["127.0.0.1/8"])
}

fn vxlan(index: u32, underlay: u32, local: &str, address: &str) -> Device {
    let settings = Vxlan {
        vni: 1,
        port: 8472,
        local: Some(local.parse().unwrap()),
        underlay: Some(underlay),
        remotes: vec![],
    };
    device(index, "flannel.1", DeviceKind::Vxlan(settings), &[address])
}

fn pod_veth(index: u32, master: u32) -> Device {
    Device {
        master: Some(master),
        peer: Some(Peer { netns: Some(POD1), index: 2 }),
        ..device(index, "veth1", DeviceKind::Veth, &[])
    }
}

fn route(destination: &str, gateway: Option<&str>, device: u32, metric: u32) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        device,
        metric,
    }
}

fn topology(devices: Vec<Device>, routes: Vec<Route>, pod_address: &str) -> Topology {
    let host = devices.last().map(|veth| veth.index).unwrap();
    let peer = Some(Peer { netns: Some(LAB), index: host });
    let eth0 = Device { peer, ..device(2, "eth0", DeviceKind::Veth, &[pod_address]) };
    let path = "/proc/self/ns/net".to_owned();
    Topology {
        namespaces: vec![
            Namespace { inode: LAB, path, pod: None, devices, routes, state: State::default() },
            Namespace {
                inode: POD1,
                path: "/run/netns/pod1".into(),
                pod: Some("default/pod1".into()),
                devices: vec![loopback(), eth0],
                routes: vec![],
                state: State::default(),
            },
        ],
        cni: None,
    }
}

/// node1 of the lab. Its uplink is a veth into an unknown namespace, and there is no default route.
pub fn lab() -> Topology {
    let uplink = Device {
        peer: Some(Peer { netns: None, index: 3 }),
        ..device(2, "eth0", DeviceKind::Veth, &["192.168.56.11/24"])
    };
    let devices = vec![
        loopback(),
        uplink,
        device(3, "cni0", DeviceKind::Bridge, &["10.42.0.1/24"]),
        vxlan(4, 2, "192.168.56.11", "10.42.0.0/32"),
        pod_veth(5, 3),
    ];
    let routes = vec![
        route("192.168.56.0/24", None, 2, 0),
        route("10.42.0.0/24", None, 3, 0),
        route("10.42.1.0/24", Some("10.42.1.0"), 4, 0),
    ];
    topology(devices, routes, "10.42.0.10/24")
}

/// A K3s node on hardware with two default routes through eth0.
pub fn k3s() -> Topology {
    let mut topology = lab();
    let node = &mut topology.namespaces[0];
    node.devices[1] = device(2, "eth0", DeviceKind::Physical, &["192.168.56.11/24"]);
    node.routes.push(route("0.0.0.0/0", Some("192.168.56.1"), 2, 200));
    node.routes.push(route("0.0.0.0/0", Some("192.168.56.1"), 2, 100));
    topology
}

/// A node with flannel's host-gw back end: no tunnel, the gateways are the other nodes.
pub fn host_gw() -> Topology {
    let devices = vec![
        loopback(),
        device(2, "eth0", DeviceKind::Physical, &["192.168.56.11/24"]),
        device(3, "cni0", DeviceKind::Bridge, &["10.42.0.1/24"]),
        pod_veth(4, 3),
    ];
    let routes = vec![
        route("192.168.56.0/24", None, 2, 0),
        route("10.42.0.0/24", None, 3, 0),
        route("10.42.1.0/24", Some("192.168.56.12"), 2, 0),
    ];
    topology(devices, routes, "10.42.0.10/24")
}

/// A node of an IPv6 cluster.
pub fn ipv6() -> Topology {
    let devices = vec![
        loopback(),
        device(2, "eth0", DeviceKind::Physical, &["fd00::11/64", "fe80::11/64"]),
        device(3, "cni0", DeviceKind::Bridge, &["fd42::1/64"]),
        vxlan(4, 2, "fd00::11", "fd42::/128"),
        pod_veth(5, 3),
    ];
    let routes = vec![
        route("::/0", Some("fe80::1"), 2, 1024),
        route("fd42::/64", None, 3, 256),
        route("fd42:0:0:1::/64", Some("fd42:0:0:1::"), 4, 1024),
    ];
    topology(devices, routes, "fd42::10/64")
}

/// A virtualization host whose address is on a bridge, with the network card and virtual machines as ports.
pub fn bridged_uplink() -> Topology {
    let port = |device: Device| Device { master: Some(3), ..device };
    let devices = vec![
        loopback(),
        port(device(2, "eno1", DeviceKind::Physical, &[])),
        device(3, "vmbr0", DeviceKind::Bridge, &["192.168.56.11/24"]),
        port(device(4, "veth100i0", DeviceKind::Veth, &[])),
        device(5, "cni0", DeviceKind::Bridge, &["10.42.0.1/24"]),
        vxlan(6, 3, "192.168.56.11", "10.42.0.0/32"),
        pod_veth(7, 5),
    ];
    let routes = vec![
        route("0.0.0.0/0", Some("192.168.56.1"), 3, 0),
        route("10.42.0.0/24", None, 5, 0),
        route("10.42.1.0/24", Some("10.42.1.0"), 6, 0),
    ];
    topology(devices, routes, "10.42.0.10/24")
}
