//! The cluster: nodes with two pods each, addresses of both families, and one Service.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use podtrace_path::Context;
use podtrace_protocol::frame::{Attached, FilterSpec, FromAgent, Hello};
use podtrace_protocol::inventory::{Inventory, Node, Pod, Run, Service, ServicePort};
use podtrace_protocol::topology::{DeviceKind, Namespace, Peer, Topology, Vxlan};

use crate::testkit::{CNI0, ETH0, FLANNEL, attached_hooks, device, root, route};

/// Pods on each node.
pub(super) const PODS: usize = 2;

/// Where drops are reported, and their kernel reasons.
pub(super) const DROPPERS: [(u32, &str, &str); 5] = [
    (1, "NETFILTER_DROP", "nf_hook_slow"),
    (2, "QDISC_DROP", "__dev_queue_xmit"),
    (3, "NO_SOCKET", "__udp4_lib_rcv"),
    (4, "OTHERHOST", "ip_rcv_core"),
    (5, "TCP_OLD_DATA", "tcp_data_queue"),
];

/// A pod, by its number in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodId(pub(super) usize);

impl PodId {
    pub(super) fn node(self) -> usize {
        self.0 / PODS
    }

    /// Index of the node's end of its veth.
    pub(super) fn port(self) -> u32 {
        10 + (self.0 % PODS) as u32
    }

    pub(super) fn address(self, v6: bool) -> IpAddr {
        pod_address(self.node(), self.port() as u8, v6)
    }

    pub(super) fn namespace(self) -> u32 {
        root(self.node()) + self.port()
    }

    /// The other pods of its node.
    pub(super) fn neighbours(self) -> impl Iterator<Item = Self> {
        (0..PODS).map(move |number| Self(self.node() * PODS + number)).filter(move |other| *other != self)
    }

    fn name(self) -> String {
        format!("pod{}", self.0 + 1)
    }
}

fn pod_address(node: usize, last: u8, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0xfd42, 0, 0, node as u16, 0, 0, 0, last.into()).into()
    } else {
        Ipv4Addr::new(10, 42, node as u8, last).into()
    }
}

/// The address of a node's bridge.
pub(super) fn bridge_address(node: usize, v6: bool) -> IpAddr {
    pod_address(node, 1, v6)
}

/// The cluster address of the Service.
pub(super) fn service(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::new(0xfd43, 0, 0, 0, 0, 0, 0, 10).into() } else { Ipv4Addr::new(10, 43, 0, 10).into() }
}

pub(super) fn node_address(node: usize) -> [u8; 4] {
    [192, 168, 56, 11 + node as u8]
}

fn node_name(node: usize) -> String {
    format!("node{}", node + 1)
}

pub(super) fn context(nodes: usize) -> Context {
    let pods = (0..nodes * PODS).map(PodId).map(|pod| Pod {
        namespace: "default".into(),
        name: pod.name(),
        ips: vec![pod.address(false), pod.address(true)],
        node: node_name(pod.node()),
        host_network: false,
        owner: None,
        labels: BTreeMap::new(),
    });
    let port = |protocol: &str, port| ServicePort {
        name: None,
        protocol: protocol.into(),
        port,
        target_port: port,
        node_port: None,
    };
    let service = Service {
        namespace: "default".into(),
        name: "web".into(),
        cluster_ips: vec![service(false), service(true)],
        ports: vec![port("udp", 5000), port("tcp", 80)],
        endpoints: (0..nodes * PODS).map(|pod| format!("default/{}", PodId(pod).name())).collect(),
    };
    let node =
        |node| Node { name: node_name(node), addresses: vec![node_address(node).into()], run: Run::Here };
    Context {
        inventory: Inventory {
            nodes: (0..nodes).map(node).collect(),
            pods: pods.collect(),
            services: vec![service],
            ..Inventory::default()
        },
        nodes: (0..nodes).map(node_name).collect(),
        filter: FilterSpec::default(),
        memory: None,
    }
}

/// What a node's agent says before all events.
pub(super) fn heads(node: usize, nodes: usize, monotonic_ns: u64) -> Vec<FromAgent> {
    let reasons = DROPPERS.iter().map(|(number, name, _)| (*number, (*name).to_owned()));
    let symbols = DROPPERS.iter().map(|(number, _, function)| (location(*number), (*function).to_owned()));
    vec![
        FromAgent::Hello(Hello { monotonic_ns, realtime_ns: 1_800_000_000_000_000_000, ..Hello::default() }),
        FromAgent::Topology(topology(node, nodes)),
        FromAgent::Attached(Attached {
            notes: Vec::new(),
            hooks: attached_hooks(),
            drop_reasons: reasons.collect(),
        }),
        FromAgent::Symbols(symbols.collect()),
    ]
}

/// Address of the function that drops packets for this reason.
pub(super) fn location(reason: u32) -> u64 {
    0xffff_ffff_8100_0000 + u64::from(reason)
}

fn topology(node: usize, nodes: usize) -> Topology {
    let vxlan = Vxlan { vni: 1, port: 8472, local: None, underlay: Some(ETH0), remotes: Vec::new() };
    let [a, b, c, d] = node_address(node);
    let mut bridge = device(CNI0, "cni0", DeviceKind::Bridge, Some(&format!("10.42.{node}.1/24")));
    bridge.addresses.push(format!("fd42:0:0:{node:x}::1/64").parse().unwrap());
    let mut own = Namespace {
        inode: root(node),
        devices: vec![
            device(ETH0, "eth0", DeviceKind::Physical, Some(&format!("{a}.{b}.{c}.{d}/24"))),
            device(FLANNEL, "flannel.1", DeviceKind::Vxlan(vxlan), Some(&format!("10.42.{node}.0/32"))),
            bridge,
        ],
        routes: vec![route("0.0.0.0/0", Some("192.168.56.1"), ETH0)],
        ..Namespace::default()
    };
    for other in 0..nodes {
        let (v4, v6) = (format!("10.42.{other}.0/24"), format!("fd42:0:0:{other:x}::/64"));
        let (device, gateway) =
            if other == node { (CNI0, None) } else { (FLANNEL, Some(format!("10.42.{other}.0"))) };
        own.routes.push(route(&v4, gateway.as_deref(), device));
        own.routes.push(route(&v6, None, device));
    }
    let mut namespaces = Vec::new();
    for pod in (0..PODS).map(|number| PodId(node * PODS + number)) {
        own.devices.push(podtrace_protocol::topology::Device {
            master: Some(CNI0),
            peer: Some(Peer { netns: Some(pod.namespace()), index: 2 }),
            ..device(pod.port(), &format!("veth{}", pod.port()), DeviceKind::Veth, None)
        });
        let mut inside = device(2, "eth0", DeviceKind::Veth, Some(&format!("{}/24", pod.address(false))));
        inside.addresses.push(format!("{}/64", pod.address(true)).parse().unwrap());
        inside.peer = Some(Peer { netns: Some(root(node)), index: pod.port() });
        namespaces.push(Namespace {
            inode: pod.namespace(),
            pod: Some(format!("default/{}", pod.name())),
            devices: vec![inside],
            ..Namespace::default()
        });
    }
    namespaces.insert(0, own);
    Topology { namespaces, cni: None }
}
