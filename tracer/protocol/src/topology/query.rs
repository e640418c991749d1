//! Queries: the role of a device, the pod at its other end, and the route to an address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Device, DeviceKind, Namespace, Role, Route, Topology};

/// Kernel names of the tunnel kinds. VXLAN is a [`DeviceKind`] of its own.
const TUNNEL_KINDS: [&str; 9] =
    ["geneve", "gre", "gretap", "ip6gre", "ip6gretap", "ip6tnl", "ipip", "sit", "wireguard"];

impl Topology {
    /// Addresses that more than one pod has, one of them on its way to the node: for each the pods, with the device of
    /// each. Addresses that pods have on devices of their own, such as a bridge within, may be equal.
    #[must_use]
    pub fn held_twice(&self) -> BTreeMap<IpAddr, Vec<(&str, &Device)>> {
        let mut holders = BTreeMap::<IpAddr, Vec<(&str, &Device)>>::new();
        for namespace in &self.namespaces {
            let Some(pod) = namespace.pod.as_deref() else { continue };
            for device in &namespace.devices {
                let addresses = device.addresses.iter().map(IpNet::addr);
                addresses.for_each(|address| holders.entry(address).or_default().push((pod, device)));
            }
        }
        holders.retain(|address, holders| {
            let by_several = holders.iter().any(|(pod, _)| *pod != holders[0].0);
            let to_the_node = holders.iter().any(|(_, device)| device.peer.is_some());
            // The devices that lead to the node first.
            holders.sort_by_key(|(pod, device)| (device.peer.is_none(), *pod));
            by_several && to_the_node && !is_link_local(*address)
        });
        holders
    }

    /// The node's own namespace.
    #[must_use]
    pub fn node(&self) -> Option<&Namespace> {
        self.namespaces.first()
    }

    /// Addresses in the namespaces that belong to no pod, bridges and tunnels included; no loopback or link-local ones.
    pub fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let own = self.namespaces.iter().filter(|namespace| namespace.pod.is_none());
        let addresses = own.flat_map(|namespace| &namespace.devices).flat_map(|device| &device.addresses);
        addresses.map(IpNet::addr).filter(|address| !address.is_loopback() && !is_link_local(*address))
    }

    /// The namespace with this inode number.
    #[must_use]
    pub fn namespace(&self, netns: u32) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.inode == netns)
    }

    /// The device with this index in the namespace with this inode number.
    #[must_use]
    pub fn device(&self, netns: u32, ifindex: u32) -> Option<&Device> {
        self.namespace(netns)?.device(ifindex)
    }

    /// The role of a device, derived from the kernel's tables, without the cluster's. A device inside a pod is [`Role::Other`].
    #[must_use]
    pub fn role(&self, netns: u32, ifindex: u32) -> Role {
        self.role_with_node_addresses(netns, ifindex, &[])
    }

    /// Like [`Topology::role`], but the device that has one of `node_addresses` is an uplink even if no route or tunnel
    /// uses it.
    #[must_use]
    pub fn role_with_node_addresses(&self, netns: u32, ifindex: u32, node_addresses: &[IpAddr]) -> Role {
        match self.node() {
            Some(node) if node.inode == netns => match node.device(ifindex) {
                Some(device) => self.role_of(node, device, node_addresses),
                None => Role::Other,
            },
            _ => Role::Other,
        }
    }

    /// `NAMESPACE/NAME` of the pod at the other end of a veth.
    #[must_use]
    pub fn pod_behind(&self, netns: u32, ifindex: u32) -> Option<&str> {
        let peer = self.device(netns, ifindex)?.peer?;
        self.namespace(peer.netns?)?.pod.as_deref()
    }

    /// The node's end of a pod's veth pair. If there are several, the one whose other end is `eth0`.
    #[must_use]
    pub fn host_veth_of(&self, pod: &str) -> Option<&Device> {
        let pod_netns = self.namespaces.iter().find(|namespace| namespace.pod.as_deref() == Some(pod))?;
        let mut veths: Vec<_> = self
            .node()?
            .devices
            .iter()
            .filter_map(|device| {
                Some((device, device.peer.filter(|peer| peer.netns == Some(pod_netns.inode))?))
            })
            .collect();
        veths
            .sort_by_key(|(_, peer)| pod_netns.device(peer.index).is_none_or(|device| device.name != "eth0"));
        veths.first().map(|(device, _)| *device)
    }

    /// The route to an address in the node's main table.
    #[must_use]
    pub fn route_to(&self, ip: IpAddr) -> Option<&Route> {
        best(self.node()?.routes.iter(), ip)
    }

    /// The best route to an address among those through one device: the route of a packet that left by this device.
    #[must_use]
    pub fn route_via(&self, ip: IpAddr, ifindex: u32) -> Option<&Route> {
        best(self.node()?.routes.iter().filter(|route| route.device == ifindex), ip)
    }

    /// The bridge that a device of the node is a port of.
    #[must_use]
    pub fn bridge_of(&self, ifindex: u32) -> Option<&Device> {
        let node = self.node()?;
        let master = node.device(node.device(ifindex)?.master?)?;
        (master.kind == DeviceKind::Bridge).then_some(master)
    }

    /// The node's tunnels to other nodes.
    pub fn tunnels(&self) -> impl Iterator<Item = &Device> {
        self.node().into_iter().flat_map(|node| &node.devices).filter(|device| is_tunnel(device))
    }

    /// The uplinks: devices that have one of the node's addresses, carry a VXLAN tunnel, or have a route with a gateway or
    /// a default route.
    #[must_use]
    pub fn uplinks(&self, node_addresses: &[IpAddr]) -> Vec<&Device> {
        let Some(node) = self.node() else { return Vec::new() };
        let is_uplink = |device: &&Device| self.role_of(node, device, node_addresses) == Role::Uplink;
        node.devices.iter().filter(is_uplink).collect()
    }

    fn role_of(&self, node: &Namespace, device: &Device, node_addresses: &[IpAddr]) -> Role {
        if self.pod_behind(node.inode, device.index).is_some() {
            return Role::PodVeth;
        }
        if is_tunnel(device) {
            return Role::Tunnel;
        }
        if device.kind == DeviceKind::Loopback {
            return Role::Other;
        }
        let is_external = is_external(node, device, node_addresses);
        if device.kind == DeviceKind::Bridge && self.has_pods(node, device, is_external) {
            return Role::Bridge;
        }
        if is_external {
            return Role::Uplink;
        }
        let Some(bridge) = self.bridge_of(device.index) else { return Role::Other };
        let bridge_is_external = self::is_external(node, bridge, node_addresses);
        match device.kind {
            // A pod that the inventory does not have yet, or a container of somebody else (docker0): it may be a pod's, so it
            // is watched like one.
            DeviceKind::Veth if !bridge_is_external => Role::PodVeth,
            // If the bridge connects pods directly to the outside, its port without a pod is the uplink.
            DeviceKind::Physical | DeviceKind::Other(_)
                if bridge_is_external && self.has_pods(node, bridge, true) =>
            {
                Role::Uplink
            }
            _ => Role::Other,
        }
    }

    /// Whether a bridge has veths of pods as ports. On a bridge that leads out of the node only known pods count: virtual
    /// machines and containers are often attached to such a bridge.
    fn has_pods(&self, node: &Namespace, bridge: &Device, is_external: bool) -> bool {
        let mut ports = node.devices.iter().filter(|port| port.master == Some(bridge.index));
        ports.any(|port| {
            self.pod_behind(node.inode, port.index).is_some()
                || (!is_external && port.kind == DeviceKind::Veth)
        })
    }
}

impl Namespace {
    /// The device with this index.
    #[must_use]
    pub fn device(&self, ifindex: u32) -> Option<&Device> {
        self.devices.iter().find(|device| device.index == ifindex)
    }
}

fn is_tunnel(device: &Device) -> bool {
    match &device.kind {
        DeviceKind::Vxlan(_) => true,
        DeviceKind::Other(kind) => TUNNEL_KINDS.contains(&kind.as_str()),
        _ => false,
    }
}

/// Whether a device leads out of the node: it has one of the node's addresses, is under a VXLAN tunnel, or has a route with a
/// gateway or a default route.
fn is_external(node: &Namespace, device: &Device, node_addresses: &[IpAddr]) -> bool {
    let has_address = |ip: &IpAddr| device.addresses.iter().any(|address| address.addr() == *ip);
    let underlies = |tunnel: &Device| match &tunnel.kind {
        DeviceKind::Vxlan(vxlan) => match vxlan.underlay {
            Some(underlay) => underlay == device.index,
            None => vxlan.local.as_ref().is_some_and(has_address),
        },
        _ => false,
    };
    let is_external_route = |route: &Route| {
        route.device == device.index && (route.gateway.is_some() || route.destination.prefix_len() == 0)
    };
    node_addresses.iter().any(has_address)
        || node.devices.iter().any(underlies)
        || node.routes.iter().any(is_external_route)
}

fn best<'a>(routes: impl Iterator<Item = &'a Route>, ip: IpAddr) -> Option<&'a Route> {
    routes
        .filter(|route| route.destination.contains(&ip))
        // `min_by_key` keeps the first of equal routes, as the kernel does.
        .min_by_key(|route| (u8::MAX - route.destination.prefix_len(), route.metric))
}

/// Whether an address is valid on its link only.
#[must_use]
pub fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, HOST_GW, LAB, POD1};
    use super::*;

    fn roles(topology: &Topology, node_addresses: &[&str]) -> Vec<(String, Role)> {
        let addresses: Vec<IpAddr> = node_addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let node = topology.node().unwrap();
        let role = |index| topology.role_with_node_addresses(node.inode, index, &addresses);
        node.devices.iter().map(|device| (device.name.clone(), role(device.index))).collect()
    }

    fn expect(topology: &Topology, node_addresses: &[&str], expected: &[(&str, Role)]) {
        let expected: Vec<_> = expected.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect();
        assert_eq!(roles(topology, node_addresses), expected);
    }

    fn name(device: Option<&Device>) -> Option<&str> {
        device.map(|device| device.name.as_str())
    }

    const FLANNEL: [(&str, Role); 5] = [
        ("lo", Role::Other),
        ("eth0", Role::Uplink),
        ("cni0", Role::Bridge),
        ("flannel.1", Role::Tunnel),
        ("veth1", Role::PodVeth),
    ];

    #[test]
    fn roles_at_a_node_of_the_lab_whose_uplink_is_a_veth() {
        expect(&samples::lab(), &[], &FLANNEL);
    }

    #[test]
    fn roles_at_a_k3s_node() {
        expect(&samples::k3s(), &[], &FLANNEL);
    }

    #[test]
    fn roles_where_the_pods_namespace_is_unknown() {
        let mut topology = samples::k3s();
        topology.namespaces.truncate(1);
        topology.namespaces[0].devices[4].peer = None;
        expect(&topology, &[], &FLANNEL);
    }

    #[test]
    fn roles_without_a_tunnel() {
        let expected =
            [("lo", Role::Other), ("eth0", Role::Uplink), ("cni0", Role::Bridge), ("veth1", Role::PodVeth)];
        expect(&samples::host_gw(), &[], &expected);
        // A lone node: no route to any other, but its address is known.
        let mut alone = samples::host_gw();
        alone.namespaces[0].routes.retain(|route| route.gateway.is_none());
        expect(&alone, &["192.168.56.11"], &expected);
        assert_eq!(alone.role(HOST_GW, 2), Role::Other);
    }

    #[test]
    fn roles_on_ipv6() {
        expect(&samples::ipv6(), &[], &FLANNEL);
    }

    #[test]
    fn a_bridge_that_leads_out_is_an_uplink_and_its_ports_are_not_pods() {
        expect(
            &samples::bridged_uplink(),
            &[],
            &[
                ("lo", Role::Other),
                ("eno1", Role::Other),
                ("vmbr0", Role::Uplink),
                ("veth100i0", Role::Other),
                ("cni0", Role::Bridge),
                ("flannel.1", Role::Tunnel),
                ("veth1", Role::PodVeth),
            ],
        );
    }

    #[test]
    fn with_pods_bridged_to_the_outside_the_other_port_is_the_uplink() {
        let mut topology = samples::bridged_uplink();
        let veth = topology.namespaces[0].devices.iter_mut().find(|device| device.name == "veth1").unwrap();
        veth.master = Some(3);
        let found = roles(&topology, &[]);
        let role = |name: &str| found.iter().find(|(device, _)| device == name).unwrap().1;
        assert_eq!(
            (role("eno1"), role("vmbr0"), role("veth1"), role("veth100i0")),
            (Role::Uplink, Role::Bridge, Role::PodVeth, Role::Other)
        );
    }

    #[test]
    fn devices_in_pods_and_unknown_ones_have_no_role() {
        let topology = samples::lab();
        assert_eq!(topology.role(POD1, 2), Role::Other);
        assert_eq!(topology.role(LAB, 99), Role::Other);
        assert_eq!(topology.role(99, 2), Role::Other);
        assert_eq!(Topology::default().role(0, 0), Role::Other);
    }

    #[test]
    fn from_veth_to_pod_and_back() {
        let topology = samples::lab();
        assert_eq!(topology.pod_behind(LAB, 5), Some("default/pod1"));
        assert_eq!(topology.pod_behind(LAB, 2), None);
        // Behind the pod's own end is the node, which is no pod.
        assert_eq!(topology.pod_behind(POD1, 2), None);
        assert_eq!(name(topology.host_veth_of("default/pod1")), Some("veth1"));
        assert_eq!(name(topology.host_veth_of("default/pod9")), None);
    }

    #[test]
    fn with_several_veths_eth0_is_chosen() {
        let mut topology = samples::lab();
        let [node, pod] = topology.namespaces.as_mut_slice() else { panic!("a node and a pod") };
        let mut net1 = pod.devices[1].clone();
        (net1.name, net1.index) = ("net1".into(), 3);
        pod.devices.insert(1, net1);
        let mut second = node.devices[4].clone();
        (second.name, second.index) = ("veth0".into(), 6);
        second.peer.as_mut().unwrap().index = 3;
        node.devices.insert(1, second);
        assert_eq!(name(topology.host_veth_of("default/pod1")), Some("veth1"));
    }

    #[test]
    fn bridges_tunnels_and_uplinks() {
        let topology = samples::lab();
        assert_eq!(name(topology.bridge_of(5)), Some("cni0"));
        assert_eq!(name(topology.bridge_of(2)), None);
        let names = |devices: Vec<&Device>| devices.iter().map(|d| d.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(topology.tunnels().collect()), ["flannel.1"]);
        assert_eq!(names(topology.uplinks(&[])), ["eth0"]);
        assert_eq!(names(samples::host_gw().tunnels().collect()), [""; 0]);
        // A node's own address on cni0 does not make the pods' bridge a way out.
        assert_eq!(names(topology.uplinks(&["10.42.0.1".parse().unwrap()])), ["eth0"]);
    }

    #[test]
    fn the_underlay_of_a_tunnel_without_a_device_is_found_by_its_address() {
        let mut topology = samples::lab();
        let DeviceKind::Vxlan(vxlan) = &mut topology.namespaces[0].devices[3].kind else {
            panic!("a tunnel")
        };
        vxlan.underlay = None;
        expect(&topology, &[], &FLANNEL);
    }

    #[test]
    fn the_longest_prefix_wins_then_the_lowest_metric() {
        let destination = |topology: &Topology, ip: &str| {
            let route = topology.route_to(ip.parse().unwrap())?;
            Some((route.destination.to_string(), route.device, route.metric))
        };
        let lab = samples::lab();
        assert_eq!(destination(&lab, "10.42.1.10"), Some(("10.42.1.0/24".into(), 4, 0)));
        assert_eq!(destination(&lab, "10.42.0.11"), Some(("10.42.0.0/24".into(), 3, 0)));
        assert_eq!(destination(&lab, "1.1.1.1"), None);
        let k3s = samples::k3s();
        assert_eq!(destination(&k3s, "10.42.1.10"), Some(("10.42.1.0/24".into(), 4, 0)));
        assert_eq!(destination(&k3s, "1.1.1.1"), Some(("0.0.0.0/0".into(), 2, 100)));
        assert_eq!(destination(&k3s, "fd00::1"), None);
        assert_eq!(
            destination(&samples::ipv6(), "fd42:0:0:1::10"),
            Some(("fd42:0:0:1::/64".into(), 4, 1024))
        );
    }

    #[test]
    fn a_route_by_a_given_device() {
        let k3s = samples::k3s();
        let by = |device| k3s.route_via("10.42.1.10".parse().unwrap(), device);
        assert_eq!(by(4).unwrap().destination.to_string(), "10.42.1.0/24");
        assert_eq!(by(2).unwrap().metric, 100);
        assert_eq!(by(3), None);
    }
}
