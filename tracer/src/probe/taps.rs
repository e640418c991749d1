//! Where tc programs go: decided from the topology, before anything is attached.

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
    /// Name of the program.
    pub program: &'static str,
}

/// The two sides of a device that tc programs sit on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapSide {
    /// Packets that the device received.
    Ingress,
    /// Packets that it is about to send.
    Egress,
}

impl TapSide {
    /// Name as the contract has it.
    #[must_use]
    pub fn point(self) -> &'static str {
        match self {
            Self::Ingress => "tc:ingress",
            Self::Egress => "tc:egress",
        }
    }
}

/// The taps of a node: bridges, tunnels and uplinks, and the veths of the pods in `tapped`.
#[must_use]
pub fn taps(topology: &Topology, tapped: &[String], node_addresses: &[IpAddr]) -> Vec<Tap> {
    let Some(node) = topology.namespaces.first() else { return Vec::new() };
    let mut taps = Vec::new();
    for device in &node.devices {
        // At the devices where packets come in from outside, each one is a new packet; elsewhere it may be one
        // that came in before.
        let (ingress, egress) = match topology.role_given(node.inode, device.index, node_addresses) {
            Role::PodVeth if is_tapped(topology, node, device.index, tapped) => {
                ("podtrace_entry", "podtrace_egress")
            }
            Role::Uplink => ("podtrace_entry", "podtrace_exit"),
            Role::Bridge | Role::Tunnel => ("podtrace_ingress", "podtrace_egress"),
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
