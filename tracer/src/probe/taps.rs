//! Decides which devices get tc programs: a function of the topology, before anything is attached.

use std::net::IpAddr;

use ipnet::IpNet;

use podtrace_protocol::topology::{Namespace, Role, Topology};

/// One tc program on one side of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Name of the device.
    pub device: String,
    /// Its index.
    pub ifindex: u32,
    /// Which side.
    pub side: TapSide,
    /// Which program.
    pub program: TcProgram,
}

impl Tap {
    /// Whether its device still exists.
    pub(super) fn device_exists(&self) -> bool {
        nix::net::if_::if_nametoindex(self.device.as_str()).is_ok_and(|index| index == self.ifindex)
    }
}

/// The two sides of a device that tc programs attach to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TapSide {
    /// Packets that the device received.
    Ingress,
    /// Packets that it is about to send.
    Egress,
}

impl TapSide {
    /// Name of the point in frames, recordings and reports.
    #[must_use]
    pub fn point(self) -> &'static str {
        match self {
            Self::Ingress => "tc:ingress",
            Self::Egress => "tc:egress",
        }
    }
}

/// The tc programs. They differ in what they assume about an `sk_buff` that they have seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcProgram {
    /// Ingress where packets enter the node: each one is a new packet.
    Entry,
    /// Ingress elsewhere: a known `sk_buff` is still the same packet.
    Ingress,
    /// Egress within the node.
    Egress,
    /// Egress where packets leave the node.
    Exit,
}

impl TcProgram {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Entry, Self::Ingress, Self::Egress, Self::Exit];

    /// Name of the program in the kernel object. The ledger recognises filters by it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Entry => "podtrace_entry",
            Self::Ingress => "podtrace_ingress",
            Self::Egress => "podtrace_egress",
            Self::Exit => "podtrace_exit",
        }
    }
}

/// The taps of a node: its bridges, tunnels and uplinks, and the veths of the pods in `tapped`.
#[must_use]
pub fn taps(topology: &Topology, tapped: &[String], node_addresses: &[IpAddr]) -> Vec<Tap> {
    let Some(node) = topology.namespaces.first() else { return Vec::new() };
    let mut taps = Vec::new();
    for device in &node.devices {
        let (ingress, egress) =
            match topology.role_with_node_addresses(node.inode, device.index, node_addresses) {
                Role::PodVeth if is_tapped(topology, node, device.index, tapped) => {
                    (TcProgram::Entry, TcProgram::Egress)
                }
                Role::Uplink => (TcProgram::Entry, TcProgram::Exit),
                Role::Bridge | Role::Tunnel => (TcProgram::Ingress, TcProgram::Egress),
                Role::PodVeth | Role::Other => continue,
            };
        let tap = |side, program| Tap { device: device.name.clone(), ifindex: device.index, side, program };
        taps.push(tap(TapSide::Ingress, ingress));
        taps.push(tap(TapSide::Egress, egress));
    }
    taps
}

/// Whether a veth leads to one of these pods, or to one that has an address of theirs too: that one may take their packets.
fn is_tapped(topology: &Topology, node: &Namespace, ifindex: u32, tapped: &[String]) -> bool {
    let Some(pod) = topology.pod_behind(node.inode, ifindex) else { return false };
    let is_asked_for = |pod: &str| tapped.iter().any(|tapped| tapped == pod);
    let addresses = |namespace: &Namespace| -> Vec<IpAddr> {
        let all = namespace.devices.iter().flat_map(|device| &device.addresses).map(IpNet::addr);
        all.filter(|address| !address.is_loopback()).collect()
    };
    let of = |name: &str| topology.namespaces.iter().find(|known| known.pod.as_deref() == Some(name));
    let shares_an_address = || {
        let own = of(pod).map(addresses).unwrap_or_default();
        let others =
            topology.namespaces.iter().filter(|other| other.pod.as_deref().is_some_and(is_asked_for));
        // Those of the link are the same on many.
        let is_unique = |address: &IpAddr| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        others.flat_map(addresses).filter(is_unique).any(|address| own.contains(&address))
    };
    is_asked_for(pod) || shares_an_address()
}
