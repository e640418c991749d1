//! Decides which devices get tc programs: a function of the topology, before anything is attached.

use std::net::IpAddr;

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
    pub(super) fn exists(&self) -> bool {
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
        let (ingress, egress) = match topology.role_given(node.inode, device.index, node_addresses) {
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

fn is_tapped(topology: &Topology, node: &Namespace, ifindex: u32, tapped: &[String]) -> bool {
    topology.pod_behind(node.inode, ifindex).is_some_and(|pod| tapped.iter().any(|tapped| tapped == pod))
}
