//! Collects what is shown of a node: its devices by role, and the peers at their other ends.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use podtrace_protocol::inventory::{Inventory, Pod};
use podtrace_protocol::topology::{Cni, Device, DeviceKind, Namespace, Peer, Role, Route, Survey, Topology};

/// One node.
#[derive(Debug, Serialize)]
pub(super) struct NodeView<'a> {
    /// Its name.
    pub(super) node: &'a str,
    /// Its addresses, by the inventory.
    pub(super) addresses: &'a [IpAddr],
    /// Why it could not be looked at.
    pub(super) error: Option<&'a str>,
    /// What could not be read or found.
    pub(super) warnings: &'a [String],
    /// What makes the pods' networks, where that is known.
    pub(super) cni: Option<&'a Cni>,
    /// In the order in which a packet from a pod passes them.
    pub(super) devices: Vec<DeviceView<'a>>,
    /// Pods that hang on none of them.
    pub(super) other_pods: Vec<OtherPod>,
}

/// One device.
#[derive(Debug, Serialize)]
pub(super) struct DeviceView<'a> {
    pub(super) name: &'a str,
    pub(super) kind: &'a str,
    pub(super) role: RoleView,
    pub(super) up: bool,
    pub(super) mtu: u32,
    pub(super) addresses: &'a [IpNet],
    /// The bridge that it is a port of.
    pub(super) bridge: Option<&'a str>,
    /// The pod at its other end, with the device there.
    pub(super) pod: Option<PodView<'a>>,
    /// Whether it is one end of a pair whose other end was not found.
    pub(super) other_end_unknown: bool,
    pub(super) vxlan: Option<VxlanView<'a>>,
    /// Where it leads.
    pub(super) peers: Vec<PeerView<'a>>,
    /// Nodes that its forwarding entries lack.
    pub(super) missing_peers: Vec<&'a str>,
}

/// What a device is to pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RoleView {
    Bridge,
    PodVeth,
    Tunnel,
    Uplink,
    Other,
}

/// A pod at the end of a veth.
#[derive(Debug, Serialize)]
pub(super) struct PodView<'a> {
    pub(super) name: &'a str,
    pub(super) device: &'a str,
    pub(super) addresses: &'a [IpNet],
}

/// A VXLAN tunnel's settings.
#[derive(Debug, Serialize)]
pub(super) struct VxlanView<'a> {
    pub(super) vni: u32,
    pub(super) port: u16,
    pub(super) local: Option<IpAddr>,
    pub(super) through: Option<&'a str>,
}

/// Who is reached by a device.
#[derive(Debug, Serialize)]
pub(super) struct PeerView<'a> {
    /// The node, where one has the address.
    pub(super) node: Option<&'a str>,
    /// The tunnel's end or the node's address.
    pub(super) address: Option<IpAddr>,
    /// The router on the way.
    pub(super) gateway: Option<IpAddr>,
    /// What is routed there.
    pub(super) networks: Vec<IpNet>,
}

/// A pod that hangs on no device, and why.
#[derive(Debug, Serialize)]
pub(super) struct OtherPod {
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) why: &'static str,
}

/// All nodes.
pub(super) fn nodes<'a>(surveys: &'a [Survey], inventory: &Inventory) -> Vec<NodeView<'a>> {
    surveys.iter().map(|survey| node(survey, surveys, inventory)).collect()
}

fn node<'a>(survey: &'a Survey, surveys: &'a [Survey], inventory: &Inventory) -> NodeView<'a> {
    let Survey { node: name, addresses, found, rules: _, warnings } = survey;
    let pods = inventory.pods.iter().filter(|pod| pod.node == *name);
    let (devices, other_pods, error) = match found {
        Ok(topology) => (
            Cluster { survey, topology, surveys }.devices(),
            pods.filter_map(|pod| other_pod(pod, topology)).collect(),
            None,
        ),
        // Without its topology, nothing is known about the node's pods either.
        Err(error) => {
            (Vec::new(), pods.map(|pod| without(pod, "node unreachable")).collect(), Some(&**error))
        }
    };
    let cni = found.as_ref().ok().and_then(|topology| topology.cni.as_ref());
    NodeView { node: name, addresses, error, warnings, cni, devices, other_pods }
}

fn other_pod(pod: &Pod, topology: &Topology) -> Option<OtherPod> {
    let name = pod.full_name();
    let found = topology.namespaces.iter().any(|namespace| namespace.pod.as_ref() == Some(&name));
    match (pod.host_network, pod.ips.is_empty(), found) {
        (true, ..) => Some(without(pod, "on the host network")),
        (false, true, _) => Some(without(pod, "has no address yet")),
        (false, false, false) => {
            Some(without(pod, "not found: no network namespace behind a veth has its address"))
        }
        (false, false, true) => None,
    }
}

fn without(pod: &Pod, why: &'static str) -> OtherPod {
    OtherPod { name: pod.full_name(), addresses: pod.ips.clone(), why }
}

/// A node among the others.
#[derive(Clone, Copy)]
struct Cluster<'a> {
    survey: &'a Survey,
    topology: &'a Topology,
    surveys: &'a [Survey],
}

impl<'a> Cluster<'a> {
    fn devices(self) -> Vec<DeviceView<'a>> {
        let Some(own) = self.topology.node() else { return Vec::new() };
        let shown = own.devices.iter().filter(|device| device.kind != DeviceKind::Loopback);
        let mut devices: Vec<_> = shown.map(|device| self.device(own, device)).collect();
        devices.sort_by_key(|device| device.role);
        devices
    }

    fn device(self, own: &'a Namespace, device: &'a Device) -> DeviceView<'a> {
        let role =
            match self.topology.role_with_node_addresses(own.inode, device.index, &self.survey.addresses) {
                Role::Bridge => RoleView::Bridge,
                Role::PodVeth => RoleView::PodVeth,
                Role::Tunnel => RoleView::Tunnel,
                Role::Uplink => RoleView::Uplink,
                Role::Other => RoleView::Other,
            };
        let (peers, missing_peers) = match role {
            RoleView::Tunnel => self.beyond_tunnel(own, device),
            RoleView::Uplink => (self.beyond_uplink(own, device), Vec::new()),
            RoleView::Bridge | RoleView::PodVeth | RoleView::Other => (Vec::new(), Vec::new()),
        };
        let pod = device.peer.and_then(|peer| self.pod(peer));
        DeviceView {
            name: &device.name,
            kind: kind(&device.kind),
            role,
            up: device.up,
            mtu: device.mtu,
            addresses: &device.addresses,
            bridge: device.master.and_then(|master| own.device(master)).map(|master| &*master.name),
            other_end_unknown: device.kind == DeviceKind::Veth
                && device.peer.and_then(|peer| self.topology.device(peer.netns?, peer.index)).is_none(),
            pod,
            vxlan: match &device.kind {
                DeviceKind::Vxlan(vxlan) => Some(VxlanView {
                    vni: vxlan.vni,
                    port: vxlan.port,
                    local: vxlan.local,
                    through: vxlan.underlay.and_then(|index| own.device(index)).map(|device| &*device.name),
                }),
                _ => None,
            },
            peers,
            missing_peers,
        }
    }

    fn pod(self, peer: Peer) -> Option<PodView<'a>> {
        let namespace = self.topology.namespace(peer.netns?)?;
        let device = namespace.device(peer.index)?;
        Some(PodView { name: namespace.pod.as_deref()?, device: &device.name, addresses: &device.addresses })
    }

    /// The ends of a tunnel, with the networks that are routed there; and the nodes that it has no end for.
    fn beyond_tunnel(self, own: &'a Namespace, device: &'a Device) -> (Vec<PeerView<'a>>, Vec<&'a str>) {
        let remotes = match &device.kind {
            DeviceKind::Vxlan(vxlan) => &vxlan.remotes[..],
            _ => &[],
        };
        let mut peers: Vec<_> = remotes
            .iter()
            .map(|remote| PeerView {
                node: self.owner(*remote),
                address: Some(*remote),
                gateway: None,
                networks: Vec::new(),
            })
            .collect();
        for route in own.routes.iter().filter(|route| route.device == device.index && leads_on(route, own)) {
            self.add(route, &mut peers);
        }
        let others = self.surveys.iter().filter(|other| other.node != self.survey.node);
        let missing = others.filter(|other| {
            !peers.iter().any(|peer| peer.node == Some(&other.node) && peer.address.is_some())
        });
        // A tunnel that has no forwarding entries at all may know its ends otherwise.
        let missing =
            if remotes.is_empty() { Vec::new() } else { missing.map(|other| &*other.node).collect() };
        (peers, missing)
    }

    /// The other nodes that packets leave for by this device, and what else is routed there.
    fn beyond_uplink(self, own: &'a Namespace, device: &'a Device) -> Vec<PeerView<'a>> {
        let mut peers = Vec::new();
        for other in self.surveys.iter().filter(|other| other.node != self.survey.node) {
            for address in &other.addresses {
                if let Some(route) = self.topology.route_to(*address)
                    && route.device == device.index
                {
                    let node = Some(&*other.node);
                    let networks = Vec::new();
                    peers.push(PeerView { node, address: Some(*address), gateway: route.gateway, networks });
                }
            }
        }
        let routed = |route: &&Route| route.device == device.index && route.gateway.is_some();
        for route in own.routes.iter().filter(routed) {
            self.add(route, &mut peers);
        }
        peers
    }

    /// Adds a route to whom it leads to.
    fn add(self, route: &Route, peers: &mut Vec<PeerView<'a>>) {
        let node = route.gateway.and_then(|gateway| self.owner(gateway));
        let is_at = |peer: &PeerView<'_>| route.gateway.is_some() && peer.address == route.gateway;
        let is_known = |peer: &PeerView<'_>| {
            (node.is_some() && peer.node == node) || (peer.address.is_none() && peer.gateway == route.gateway)
        };
        // A node with addresses of both families is there twice.
        let place = peers.iter().position(is_at).or_else(|| peers.iter().position(is_known));
        match place.and_then(|place| peers.get_mut(place)) {
            // The same network by several metrics is one network.
            Some(peer) if peer.networks.contains(&route.destination) => {}
            Some(peer) => peer.networks.push(route.destination),
            None => peers.push(PeerView {
                node,
                address: None,
                gateway: route.gateway,
                networks: vec![route.destination],
            }),
        }
    }

    /// The node that has an address, by the inventory or as it was found there.
    fn owner(self, address: IpAddr) -> Option<&'a str> {
        let has = |survey: &&Survey| {
            let found = survey.found.as_ref().ok().and_then(Topology::node);
            survey.addresses.contains(&address)
                || found.is_some_and(|own| {
                    own.devices.iter().flat_map(|device| &device.addresses).any(|own| own.addr() == address)
                })
        };
        self.surveys.iter().find(has).map(|survey| &*survey.node)
    }
}

/// Whether a route leads to others: not one for the node's own address, or for addresses that are of no use beyond the link,
/// as every device with IPv6 has them.
fn leads_on(route: &Route, own: &Namespace) -> bool {
    let to = route.destination;
    let of_the_link = match to.addr() {
        IpAddr::V4(to) => to.is_link_local() || to.is_multicast(),
        IpAddr::V6(to) => to.is_unicast_link_local() || to.is_multicast(),
    };
    let is_own = |address: &IpNet| to.prefix_len() == to.max_prefix_len() && address.addr() == to.addr();
    !of_the_link && !own.devices.iter().flat_map(|device| &device.addresses).any(is_own)
}

fn kind(kind: &DeviceKind) -> &str {
    match kind {
        DeviceKind::Loopback => "loopback",
        DeviceKind::Veth => "veth",
        DeviceKind::Bridge => "bridge",
        DeviceKind::Vxlan(_) => "vxlan",
        DeviceKind::Physical => "device",
        DeviceKind::Other(kind) => kind,
    }
}
