//! What a finding of the shared checks means where nobody traces: what was expected, what follows, and where a change lasts.

use super::issue::Kind;
use crate::diagnose::facts::Node;
use crate::diagnose::finding::Kind as Shared;

/// What to say besides the finding's own sentence.
pub(super) struct Meaning {
    pub(super) kind: Kind,
    pub(super) expected: &'static str,
    pub(super) effect: &'static str,
    pub(super) lasting: Option<String>,
}

/// Settings of the kernel are gone after a restart.
const SYSCTL: &str = "a file in /etc/sysctl.d: settings are lost when the node restarts";

/// The meaning of a kind, at a node.
pub(super) fn meaning(kind: Shared, node: &Node) -> Meaning {
    let (kind, expected, effect) = texts(kind);
    let lasting = match kind {
        Kind::ForwardingOff | Kind::ReversePath | Kind::EchoIgnored => Some(SYSCTL.to_owned()),
        Kind::NoTunnelEnd
        | Kind::WrongTunnelEnd
        | Kind::TunnelAddress
        | Kind::TunnelMismatch
        | Kind::TunnelMtu => Some(renewed_by(node)),
        _ => None,
    };
    Meaning { kind, expected, effect, lasting }
}

/// Who writes a tunnel's settings and entries.
fn renewed_by(node: &Node) -> String {
    let plugin = node.topology.cni.as_ref().map(|cni| cni.plugin.to_ascii_lowercase()).unwrap_or_default();
    if plugin.contains("k3s") {
        "flannel runs inside of K3s and writes this when it starts: `systemctl restart k3s`, or `k3s-agent` on agents".to_owned()
    } else if plugin.contains("flannel") {
        "flannel writes this when it starts: delete its pod on the node; its settings are in the ConfigMap kube-flannel-cfg".to_owned()
    } else {
        "the CNI plugin's agent on the node writes this when it starts: restart it".to_owned()
    }
}

fn texts(kind: Shared) -> (Kind, &'static str, &'static str) {
    match kind {
        Shared::LinkDown => (
            Kind::LinkDown,
            "up, as devices on pods' ways have to be",
            "Nothing passes the device: the pods behind it are cut off",
        ),
        Shared::WrongNeighbour => (
            Kind::WrongNeighbour,
            "the link-layer address of the device that has the IP address, as read from it",
            "Packets to this address reach nobody, or another pod",
        ),
        Shared::WrongTunnelEnd => (
            Kind::WrongTunnelEnd,
            "the address of the node whose tunnel has this link-layer address",
            "Packets to the other node's pods are sent to the wrong machine and lost",
        ),
        Shared::NoTunnelEnd => (
            Kind::NoTunnelEnd,
            "a forwarding entry for each node whose tunnel has a neighbour entry",
            "Packets to the other node's pods are dropped at the tunnel",
        ),
        Shared::TunnelAddress => (
            Kind::TunnelAddress,
            "one of the node's own addresses, the one that the other nodes' entries name",
            "Nothing leaves by the tunnel: pods do not reach those of other nodes",
        ),
        Shared::TunnelMismatch => (
            Kind::TunnelMismatch,
            "the same on all nodes: both ends of a tunnel have to agree",
            "The two nodes drop each other's pod packets",
        ),
        Shared::NoRoute => (
            Kind::NoDefaultRoute,
            "a default route by the node's bridge or veth, as the CNI plugin sets it up",
            "The pod reaches its own network only: no Services, no DNS, no other node",
        ),
        Shared::WrongGateway => (
            Kind::WrongGateway,
            "the address of the node's bridge",
            "The pod reaches its own network only: no Services, no DNS, no other node",
        ),
        Shared::Unanswered => (
            Kind::Unanswered,
            "an answer: the address is in use, or a route needs it",
            "Packets to this address are not sent at all, and time out",
        ),
        Shared::Refused => (
            Kind::Refused,
            "no such entry for addresses of pods: the API says that pods have them",
            "Packets to or from these addresses are refused",
        ),
        Shared::Diverted => (
            Kind::Diverted,
            "the main table, where the routes to other nodes' pods are",
            "Pods' packets to other nodes may leave by another device than the tunnel",
        ),
        Shared::ForwardingOff => (
            Kind::ForwardingOff,
            "1: a node routes its pods' packets",
            "Pods on this node reach nobody outside of their bridge, and nobody reaches them",
        ),
        Shared::ReversePath => (
            Kind::ReversePath,
            "2 (loose) or 0, or a route back by the same device",
            "The kernel silently drops what comes in by the device from these pods",
        ),
        Shared::BridgePort => (Kind::BridgePort, "forwarding", "The pod behind the port is cut off"),
        Shared::PortsIsolated => (
            Kind::PortsIsolated,
            "ports that are not isolated, unless the CNI configuration asks for it (portIsolation)",
            "Pods behind these ports do not reach one another; all else works",
        ),
        Shared::TunnelMtu => (
            Kind::TunnelMtu,
            "room for the tunnel's headers below the MTU of the device that it sends by",
            "Large packets leave as fragments: slow, and lost where fragments are filtered, so that connections open and then hang",
        ),
        Shared::EchoIgnored => (
            Kind::EchoIgnored,
            "0, the kernel's default",
            "Pings and probes by ICMP fail although the pod is well",
        ),
        Shared::Mtu => (
            Kind::Mtu,
            "one MTU at both ends of the veth pair",
            "Large packets to this pod are dropped without an error: connections open and then hang",
        ),
        Shared::Xdp => (
            Kind::Xdp,
            "known to whoever runs the node: some CNI plugins and load balancers use XDP",
            "The program may pass, drop or redirect packets before anything else sees them",
        ),
        Shared::AddressTwice => (
            Kind::AddressTwice,
            "one holder: the pod that the API gives the address to",
            "Packets to this address reach one or the other",
        ),
    }
}
