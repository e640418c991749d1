//! The devices of all nodes, and what it means that a packet is seen at one: [`action`] is the table.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use rustc_hash::{FxHashMap, FxHashSet};

use podtrace_protocol::topology::{Device, DeviceKind, Namespace, Role, Topology};

use crate::model::{Action, Point};
use crate::node::{NodeId, PerNode};
use crate::world::directory::Directory;

/// What an observation at a device of this role means.
pub(crate) fn action(role: Role, point: Point) -> Action {
    match (role, point) {
        (_, Point::KfreeSkb) => Action::Drop,
        // The only hook of the stack that makes a hop of its own: the others add to hops that taps see.
        (_, Point::Stack(..)) => Action::LocalOut,
        (Role::PodVeth, Point::TcIngress) => Action::PodEgress,
        (Role::PodVeth, Point::TcEgress) => Action::PodIngress,
        (Role::Bridge, _) => Action::Route,
        (Role::Tunnel, Point::TcEgress) => Action::Encapsulate,
        (Role::Tunnel, Point::TcIngress) => Action::Decapsulate,
        // Tunnels other than VXLAN, whose outer packets are not decoded, and bridge ports that are no pod's.
        (Role::Uplink | Role::Other, Point::TcIngress) => Action::NodeIngress,
        (Role::Uplink | Role::Other, Point::TcEgress) => Action::NodeEgress,
    }
}

/// Number of a device, unique among all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DeviceId(u32);

/// What is known of a device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DeviceInfo {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    pub(crate) ethernet: bool,
    /// Link-layer address.
    pub(crate) mac: Option<[u8; 6]>,
    /// Index within its namespace.
    pub(crate) index: u32,
    /// UDP port that it sends to, if it is a VXLAN tunnel.
    pub(crate) vxlan_port: Option<u16>,
    /// The pod behind a pod's veth, or whose namespace this device is in.
    pub(crate) pod: Option<Arc<str>>,
    /// Addresses of that pod.
    pub(crate) pod_addresses: Vec<IpAddr>,
    /// The bridge it is a port of.
    pub(crate) bridge: Option<DeviceId>,
}

/// One route of a node's own namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeRoute {
    pub(crate) destination: IpNet,
    pub(crate) gateway: Option<IpAddr>,
    device: u32,
    metric: u32,
}

/// One node's namespaces and routes.
#[derive(Debug, Default)]
struct Node {
    devices: FxHashMap<(u32, u32), DeviceId>,
    /// Pod by namespace; `None` for the node's own.
    namespaces: FxHashMap<u32, Option<Arc<str>>>,
    routes: Vec<NodeRoute>,
    addresses: FxHashSet<IpAddr>,
    vxlan_ports: Vec<u16>,
    /// Where the node's tunnels lead.
    remotes: FxHashSet<IpAddr>,
    /// Look-ups of earlier topologies, for events that were sent before the change and are read after it.
    former_devices: FxHashMap<(u32, u32), DeviceId>,
    former_namespaces: FxHashMap<u32, Option<Arc<str>>>,
}

/// The devices of all nodes.
#[derive(Debug)]
pub(crate) struct Devices {
    all: Vec<DeviceInfo>,
    nodes: PerNode<Node>,
}

impl Devices {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { all: Vec::new(), nodes: (0..nodes).map(|_| Node::default()).collect() }
    }

    /// Takes a node's topology, in place of an earlier one. Device numbers stay valid, and a device that has not changed keeps its
    /// number: packets in flight were seen there.
    pub(crate) fn learn(&mut self, node: NodeId, topology: &Topology, directory: &Directory, name: &str) {
        let mut known = Node::default();
        for namespace in &topology.namespaces {
            let pod = namespace.pod.as_deref().map(Arc::from);
            known.namespaces.insert(namespace.inode, pod);
            for device in &namespace.devices {
                let key = (namespace.inode, device.index);
                let before = self.nodes[node].devices.get(&key).copied();
                let id = self.number(before, describe(topology, namespace, device, directory, name));
                known.devices.insert(key, id);
            }
            for device in &namespace.devices {
                let bridge = device.master.and_then(|master| known.devices.get(&(namespace.inode, master)));
                if let Some(id) = known.devices.get(&(namespace.inode, device.index)) {
                    self.all[id.0 as usize].bridge = bridge.copied();
                }
            }
            if namespace.pod.is_some() {
                continue;
            }
            for device in &namespace.devices {
                known.addresses.extend(device.addresses.iter().map(IpNet::addr));
                if let DeviceKind::Vxlan(vxlan) = &device.kind {
                    known.vxlan_ports.push(vxlan.port);
                    known.remotes.extend(&vxlan.remotes);
                }
            }
            known.routes.extend(namespace.routes.iter().map(|route| NodeRoute {
                destination: route.destination,
                gateway: route.gateway,
                device: route.device,
                metric: route.metric,
            }));
        }
        let before = std::mem::replace(&mut self.nodes[node], known);
        let known = &mut self.nodes[node];
        known.former_devices = before.former_devices;
        known.former_devices.extend(before.devices);
        known.former_namespaces = before.former_namespaces;
        known.former_namespaces.extend(before.namespaces);
    }

    /// The number of a device: the one it had before if it is still the same, else a new one.
    fn number(&mut self, before: Option<DeviceId>, info: DeviceInfo) -> DeviceId {
        if let Some(id) = before {
            // The bridge is found again once all devices have their numbers.
            let known = &mut self.all[id.0 as usize];
            let bridge = known.bridge.take();
            if *known == info {
                return id;
            }
            known.bridge = bridge;
        }
        let id = DeviceId(u32::try_from(self.all.len()).unwrap_or(u32::MAX));
        self.all.push(info);
        id
    }

    /// Adds a node.
    pub(crate) fn add(&mut self) {
        self.nodes.push(Node::default());
    }

    pub(crate) fn info(&self, id: DeviceId) -> &DeviceInfo {
        &self.all[id.0 as usize]
    }

    pub(crate) fn find(&self, node: NodeId, netns: u32, index: u32) -> Option<DeviceId> {
        let Node { devices, former_devices, .. } = &self.nodes[node];
        devices.get(&(netns, index)).or_else(|| former_devices.get(&(netns, index))).copied()
    }

    /// Name of the pod whose namespace this is.
    pub(crate) fn pod_of(&self, node: NodeId, netns: u32) -> Option<&Arc<str>> {
        let Node { namespaces, former_namespaces, .. } = &self.nodes[node];
        namespaces.get(&netns).or_else(|| former_namespaces.get(&netns))?.as_ref()
    }

    /// Whether the address is one of the node itself.
    pub(crate) fn is_own(&self, node: NodeId, address: IpAddr) -> bool {
        self.nodes[node].addresses.contains(&address)
    }

    /// Whether a pod has this address on one of its devices.
    pub(crate) fn pod_holds(&self, pod: &str, address: IpAddr) -> bool {
        self.nodes
            .values()
            .flat_map(|node| node.devices.values())
            .map(|id| self.info(*id))
            .any(|device| device.pod.as_deref() == Some(pod) && device.pod_addresses.contains(&address))
    }

    /// Whether a node, or another pod than this, has this address on one of its devices.
    pub(crate) fn is_held_elsewhere(&self, pod: &Arc<str>, address: IpAddr) -> bool {
        self.nodes.values().any(|node| {
            let others = node.devices.values().map(|id| self.info(*id));
            let mut others = others.filter(|device| device.pod.as_ref().is_some_and(|other| other != pod));
            node.addresses.contains(&address) || others.any(|other| other.pod_addresses.contains(&address))
        })
    }

    /// The veths on this node that lead to a pod.
    pub(crate) fn veths_of(&self, node: NodeId, pod: &str) -> impl Iterator<Item = &DeviceInfo> {
        let devices = self.nodes[node].devices.values().map(|id| self.info(*id));
        devices.filter(move |device| device.role == Role::PodVeth && device.pod.as_deref() == Some(pod))
    }

    /// The pod of this node that has a device with this link-layer address.
    pub(crate) fn pod_with_mac(&self, node: NodeId, mac: [u8; 6]) -> Option<&Arc<str>> {
        let devices = self.nodes[node].devices.values().map(|id| self.info(*id));
        let mut inside = devices.filter(|device| device.role != Role::PodVeth && device.mac == Some(mac));
        inside.find_map(|device| device.pod.as_ref())
    }

    /// Whether a tunnel of the node leads to this address.
    pub(crate) fn is_remote(&self, node: NodeId, address: IpAddr) -> bool {
        self.nodes[node].remotes.contains(&address)
    }

    pub(crate) fn vxlan_ports(&self, node: NodeId) -> &[u16] {
        &self.nodes[node].vxlan_ports
    }

    /// The pod veth of this bridge that leads to this address.
    pub(crate) fn port_to(&self, node: NodeId, bridge: DeviceId, address: IpAddr) -> Option<&DeviceInfo> {
        self.nodes[node]
            .devices
            .values()
            .map(|id| self.info(*id))
            .find(|port| port.bridge == Some(bridge) && port.pod_addresses.contains(&address))
    }

    /// The entry of the node's routing table that leads to `address` by `device`.
    pub(crate) fn route(&self, node: NodeId, address: IpAddr, device: DeviceId) -> Option<NodeRoute> {
        let index = self.info(device).index;
        self.nodes[node]
            .routes
            .iter()
            .filter(|route| route.device == index && route.destination.contains(&address))
            .min_by_key(|route| (std::cmp::Reverse(route.destination.prefix_len()), route.metric))
            .copied()
    }
}

fn describe(
    topology: &Topology,
    namespace: &Namespace,
    device: &Device,
    directory: &Directory,
    node: &str,
) -> DeviceInfo {
    let behind = device
        .peer
        .and_then(|peer| topology.namespaces.iter().find(|other| Some(other.inode) == peer.netns))
        .filter(|other| other.pod.is_some());
    let home = if namespace.pod.is_some() { Some(namespace) } else { behind };
    let pod_addresses = home
        .map(|home| home.devices.iter().flat_map(|device| &device.addresses).map(IpNet::addr).collect())
        .unwrap_or_default();
    let role = if namespace.pod.is_some() {
        Role::Other
    } else if behind.is_some() {
        Role::PodVeth
    } else {
        role_on_node(namespace, device, directory, node)
    };
    DeviceInfo {
        name: device.name.as_str().into(),
        role,
        ethernet: device.ethernet,
        mac: device.mac,
        index: device.index,
        vxlan_port: match &device.kind {
            DeviceKind::Vxlan(vxlan) => Some(vxlan.port),
            _ => None,
        },
        pod: home.and_then(|home| home.pod.as_deref()).map(Arc::from),
        pod_addresses,
        bridge: None,
    }
}

/// The role of a device in the node's own namespace. Differs on purpose from `Topology::role_of`, by which the agent chooses
/// taps: only tunnels that can be decoded are [`Role::Tunnel`] here.
fn role_on_node(namespace: &Namespace, device: &Device, directory: &Directory, node: &str) -> Role {
    let underlay = |other: &Device| match &other.kind {
        DeviceKind::Vxlan(vxlan) => vxlan.underlay == Some(device.index),
        _ => false,
    };
    let is_default = |route: &podtrace_protocol::topology::Route| {
        route.device == device.index && route.destination.prefix_len() == 0
    };
    let has_node_address = || {
        device
            .addresses
            .iter()
            .any(|address| directory.listed_node(address.addr()).is_some_and(|n| n == node))
    };
    match device.kind {
        DeviceKind::Vxlan(_) => Role::Tunnel,
        _ if namespace.devices.iter().any(underlay) => Role::Uplink,
        _ if has_node_address() || namespace.routes.iter().any(is_default) => Role::Uplink,
        DeviceKind::Bridge => Role::Bridge,
        _ => Role::Other,
    }
}
