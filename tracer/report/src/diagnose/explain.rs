//! Picks the finding that explains the end of a path.
//!
//! A finding is the *known* cause if the kernel's drop reason is what such a misconfiguration causes, and the finding
//! concerns this packet: a node, device or namespace on its path, its addresses. One exception: a missing route is only
//! *possibly* due to a tunnel that is down. For a packet that vanished there is no drop reason: a finding that fits the
//! place is a *possible* cause, and a known one only if the packet itself shows it, see [`is_conclusive`]. A
//! misconfiguration elsewhere on the node is no evidence.

use std::fmt;
use std::net::IpAddr;

use podtrace_path::{Action, End, Evidence, Hop, Path, Verdict};
use podtrace_protocol::topology::{Device, DeviceKind, Vxlan};

use super::facts::{Facts, Node, Place};
use super::finding::{Finding, Kind, Subject};
use super::fitting;

/// A cause and its certainty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explanation<'a> {
    /// The kernel's drop reason, or the packet's own way, shows that it is this.
    Known(&'a Finding),
    /// It fits the drop or the place where the packet was seen last; other causes would, too.
    Possible(&'a Finding),
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(finding) => write!(f, "{finding}"),
            Self::Possible(finding) => write!(f, "possibly: {finding}"),
        }
    }
}

/// The finding that explains how a path ended, if one does.
#[must_use]
pub fn explain<'a>(path: &Path, facts: &Facts, findings: &'a [Finding]) -> Option<Explanation<'a>> {
    match path.verdict {
        Verdict::Dropped | Verdict::Rejected => {
            let hop = path.hops.iter().rev().find(|hop| hop.drop.is_some())?;
            let kinds = kinds_for_drop(hop)?;
            let fits = |kind: &Kind| {
                let of_kind = findings.iter().filter(|finding| finding.kind == *kind);
                of_kind.into_iter().find(|finding| concerns_packet(finding, hop, path, facts))
            };
            kinds.iter().find_map(fits).map(|finding| {
                // The missing route probably, but not certainly, went through this tunnel.
                let is_tunnel = finding.kind == Kind::LinkDown && has_no_route(hop) && {
                    let device = finding.device.as_deref().unwrap_or_default();
                    device_of(facts, &finding.node, device).is_some_and(|device| vxlan(device).is_some())
                };
                if is_tunnel { Explanation::Possible(finding) } else { Explanation::Known(finding) }
            })
        }
        Verdict::Vanished => {
            let hop = path.hops.iter().rev().find(|hop| hop.evidence == Evidence::Observed)?;
            let kinds = kinds_for_last_hop(hop);
            let fits = |finding: &&Finding| {
                kinds.contains(&finding.kind) && concerns_packet(finding, hop, path, facts)
            };
            let fitting = || findings.iter().filter(fits);
            let known = fitting().find(|finding| is_conclusive(finding, hop, path, facts));
            known.map(Explanation::Known).or_else(|| fitting().next().map(Explanation::Possible))
        }
        Verdict::Delivered => {
            let is_ignored = |finding: &&Finding| {
                finding.kind == Kind::EchoIgnored && is_ignored_echo_request(finding, path)
            };
            findings.iter().find(is_ignored).map(Explanation::Known)
        }
        Verdict::Open => None,
    }
}

/// Whether a finding is that the pod answers no pings, and the path is one to it.
fn is_ignored_echo_request(finding: &Finding, path: &Path) -> bool {
    let receiver = receiver(path);
    let is_ipv6 = finding.subject == Subject::Family { ipv6: true };
    path.label.starts_with("echo request")
        && receiver.pod.is_some()
        && receiver.pod.as_deref() == finding.pod.as_deref()
        && receiver.ip.is_ipv6() == is_ipv6
}

/// The end that the packet was on its way to: behind a Service, the endpoint that DNAT chose.
pub(super) fn receiver(path: &Path) -> &End {
    path.translated.as_deref().map_or(&path.to, |translated| &translated.to)
}

/// Kinds of finding that can cause a drop with this reason or at this kernel function, the likeliest first.
fn kinds_for_drop(hop: &Hop) -> Option<&'static [Kind]> {
    let drop = hop.drop.as_ref()?;
    let reason = drop.reason.as_deref().map(|name| name.strip_prefix("SKB_DROP_REASON_").unwrap_or(name));
    let location = drop.location.as_deref().unwrap_or_default();
    // Without the offset and suffixes such as `.isra.0`.
    let location = location.split(['+', '.']).next().unwrap_or_default();
    match reason {
        Some("OTHERHOST") => return Some(&[Kind::WrongNeighbour]),
        Some("NEIGH_FAILED") => {
            return Some(&[Kind::WrongTunnelEnd, Kind::NoTunnelEnd, Kind::WrongGateway, Kind::Unanswered]);
        }
        Some("NO_TX_TARGET") => return Some(&[Kind::NoTunnelEnd]),
        Some("IP_RPFILTER") => return Some(&[Kind::ReversePath]),
        Some("IP_INADDRERRORS") => return Some(&[Kind::ForwardingOff]),
        Some("IP_INNOROUTES" | "IP_OUTNOROUTES") => {
            return Some(&[Kind::LinkDown, Kind::TunnelAddress, Kind::Refused]);
        }
        Some("XDP") => return Some(&[Kind::Xdp]),
        Some("NO_SOCKET") => return Some(&[Kind::AddressTwice, Kind::LinkDown]),
        // A device that is down has the qdisc `noop`, and a rule may have sent the packet to such a device.
        Some("QDISC_DROP") => return Some(&[Kind::Diverted, Kind::LinkDown]),
        Some("DEV_READY" | "QUEUE_PURGE") => return Some(&[Kind::LinkDown]),
        Some("BRIDGE_INGRESS_STP_STATE") => return Some(&[Kind::BridgePort]),
        _ => {}
    }
    match location {
        // A blackhole route of IPv6 leads to these.
        "dst_discard" | "dst_discard_out" => Some(&[Kind::Refused]),
        "ip_error" | "ip6_pkt_discard" | "ip6_pkt_prohibit" | "ip6_pkt_drop" => {
            Some(&[Kind::Refused, Kind::ForwardingOff])
        }
        "veth_xdp_rcv_skb" | "do_xdp_generic" | "netif_receive_generic_xdp" => Some(&[Kind::Xdp]),
        "br_handle_frame" | "br_forward" | "__br_forward" | "br_handle_frame_finish" | "br_dev_xmit" => {
            Some(&[Kind::BridgePort, Kind::PortsIsolated])
        }
        "dev_queue_xmit" | "__dev_queue_xmit" | "dev_hard_start_xmit" | "noop_enqueue" => {
            Some(&[Kind::Diverted, Kind::LinkDown])
        }
        "icmp_rcv" | "icmpv6_rcv" => Some(&[Kind::EchoIgnored]),
        "ip6_forward" => Some(&[Kind::ForwardingOff]),
        "__dev_forward_skb2" | "__dev_forward_skb" | "____dev_forward_skb" => Some(&[Kind::Mtu]),
        _ => None,
    }
}

/// Whether the kernel had no route for it.
fn has_no_route(hop: &Hop) -> bool {
    let reason = hop.drop.as_ref().and_then(|drop| drop.reason.as_deref()).unwrap_or_default();
    reason.ends_with("IP_INNOROUTES") || reason.ends_with("IP_OUTNOROUTES")
}

/// Whether it was dropped because no socket listened.
fn has_no_socket(hop: &Hop) -> bool {
    hop.drop.as_ref().and_then(|drop| drop.reason.as_deref()).is_some_and(|name| name.ends_with("NO_SOCKET"))
}

/// A device of a node's own namespace.
fn device_of<'a>(facts: &'a Facts, node: &str, device: &str) -> Option<&'a Device> {
    facts.node(node)?.topology.node()?.devices.iter().find(|known| known.name == device)
}

fn vxlan(device: &Device) -> Option<&Vxlan> {
    match &device.kind {
        DeviceKind::Vxlan(vxlan) => Some(vxlan),
        _ => None,
    }
}

/// Whether the route to a destination disappeared because a device is down: the device has an address in that network, or is
/// the tunnel with an entry for the destination's node.
fn route_went_with(device: &Device, hop: &Hop, path: &Path, facts: &Facts) -> bool {
    let dst = hop.tuple.dst;
    let has_network = device.addresses.iter().any(|network| network.contains(&dst) && network.addr() != dst);
    let home =
        receiver(path).node.as_deref().filter(|node| **node != *hop.node).and_then(|node| facts.node(node));
    let entries =
        facts.node(&hop.node).and_then(|node| node.topology.node()).map(|own| &own.state.forwarding);
    let leads_there = vxlan(device).is_some()
        && home.is_some_and(|home| {
            entries.into_iter().flatten().any(|entry| {
                entry.device == device.index && entry.remote.is_some_and(|remote| home.has(remote))
            })
        });
    !device.up && (has_network || leads_there)
}

/// Kinds of finding that fit the last hop at which a packet was seen. Their order says nothing: the first finding that fits is
/// taken, a known one before a possible one.
fn kinds_for_last_hop(hop: &Hop) -> &'static [Kind] {
    match hop.action {
        Action::NodeEgress if hop.outer.is_some() => {
            &[Kind::LinkDown, Kind::WrongTunnelEnd, Kind::TunnelMismatch, Kind::AddressTwice]
        }
        Action::NodeEgress => &[Kind::LinkDown, Kind::AddressTwice],
        Action::NodeIngress if hop.outer.is_some() => {
            &[Kind::TunnelMismatch, Kind::ForwardingOff, Kind::ReversePath]
        }
        Action::NodeIngress => &[Kind::ForwardingOff, Kind::ReversePath],
        Action::Encapsulate => {
            &[Kind::TunnelMtu, Kind::TunnelAddress, Kind::TunnelMismatch, Kind::NoTunnelEnd, Kind::LinkDown]
        }
        Action::PodEgress | Action::Bridge => &[
            Kind::BridgePort,
            Kind::PortsIsolated,
            Kind::LinkDown,
            Kind::WrongNeighbour,
            Kind::AddressTwice,
            Kind::Xdp,
        ],
        Action::Route | Action::Decapsulate | Action::Nat => {
            &[Kind::Refused, Kind::ForwardingOff, Kind::ReversePath, Kind::LinkDown, Kind::WrongNeighbour]
        }
        Action::PodIngress => &[Kind::AddressTwice],
        Action::LocalIn | Action::LocalOut | Action::Queue | Action::Drop => &[],
    }
}

/// Whether a finding alone explains a packet that vanished: the packet was seen to go to the wrong tunnel end or to another
/// holder of its address, its tunnel port is not the next node's, or the device with its destination address is down.
fn is_conclusive(finding: &Finding, hop: &Hop, path: &Path, facts: &Facts) -> bool {
    if finding.kind == Kind::AddressTwice {
        return reached_other_holder(finding, hop, path);
    }
    if finding.kind == Kind::TunnelMismatch {
        // Its port is not the one that the destination node's tunnel listens on.
        let port = hop.outer.as_ref().and_then(|outer| outer.dport);
        return receiver(path).node.as_deref().and_then(|node| facts.node(node)).is_some_and(|node| {
            hop.action == Action::NodeEgress && port.is_some_and(|port| !listens(node, port))
        });
    }
    if finding.kind == Kind::LinkDown {
        let to = hop.outer.as_ref().map_or(hop.tuple.dst, |outer| outer.dst);
        return facts.holders(to).any(|(place, device)| {
            place.node.name == finding.node && Some(&device.name) == finding.device.as_ref()
        });
    }
    let went_there = |outer: &podtrace_path::Outer| finding.diverts_to == Some(outer.dst);
    finding.kind == Kind::WrongTunnelEnd && hop.outer.as_ref().is_some_and(went_there)
}

/// Whether the packet was seen to reach the other holder of its destination address that a finding names.
fn reached_other_holder(finding: &Finding, hop: &Hop, path: &Path) -> bool {
    let at_node = finding.node == *hop.node && finding.subject == Subject::Address(hop.tuple.dst);
    at_node
        && match &finding.pod {
            Some(pod) => hop.pod.as_deref() == Some(pod),
            None => path
                .hops
                .iter()
                .rev()
                .find(|hop| hop.action != Action::Drop)
                .is_some_and(|last| last.action == Action::LocalIn && *last.node == *finding.node),
        }
}

/// Whether a tunnel of a node listens on this UDP port. True where no tunnel of the node is known.
fn listens(node: &Node, port: u16) -> bool {
    let devices = node.topology.node().into_iter().flat_map(|own| &own.devices);
    let mut ports = devices.filter_map(vxlan).map(|vxlan| vxlan.port).peekable();
    ports.peek().is_none() || ports.any(|own| own == port)
}

/// Whether the finding's node, device and addresses match this packet: one rule for each kind.
fn concerns_packet(finding: &Finding, hop: &Hop, path: &Path, facts: &Facts) -> bool {
    let at_node = finding.node == *hop.node;
    let at_destination_node = receiver(path).node.as_deref() == Some(finding.node.as_str());
    let (src, dst) = (hop.tuple.src, hop.tuple.dst);
    let on_way = |device: &str| {
        hop.device.as_deref() == Some(device)
            || path.hops.iter().any(|hop| *hop.node == *finding.node && hop.device.as_deref() == Some(device))
    };
    match (finding.kind, finding.subject) {
        // The wrong entry is on the node that sent the frame.
        (Kind::WrongNeighbour, Subject::To(address)) => {
            at_node && (address == dst || is_gateway(address, &finding.node, facts))
        }
        (Kind::WrongTunnelEnd | Kind::NoTunnelEnd, Subject::To(gateway)) => {
            at_node && leads_through(facts, &finding.node, dst, gateway)
        }
        (Kind::Refused, Subject::Between(from, to)) => {
            at_node
                && is_in_routing_namespace(finding, path)
                && from.is_none_or(|network| network.contains(&src))
                && to.is_none_or(|network| {
                    network.contains(&dst) && is_longest_match(facts, finding, dst, network.prefix_len())
                })
                && finding.device.as_deref().is_none_or(on_way)
        }
        (Kind::ForwardingOff, Subject::Family { ipv6 }) => at_node && dst.is_ipv6() == ipv6,
        (Kind::ForwardingOff | Kind::ReversePath, _) if dst.is_ipv4() => {
            at_node && finding.device.as_deref().is_none_or(on_way)
        }
        (Kind::TunnelMismatch, _) => at_node || at_destination_node,
        (Kind::AddressTwice, Subject::Address(address)) => match hop.action {
            Action::PodIngress | Action::Drop | Action::Bridge => reached_other_holder(finding, hop, path),
            _ => address == src || address == dst,
        },
        (Kind::TunnelAddress, _) => at_node && finding.device == hop.device.as_deref().map(ToOwned::to_owned),
        (Kind::Diverted, Subject::Between(from, to)) => {
            at_node
                && finding.pod.is_none()
                && from.is_none_or(|network| network.contains(&src))
                && to.is_none_or(|network| network.contains(&dst))
                && leaves_by_another(facts, hop)
        }
        (Kind::Mtu, _) => {
            let of_pod = receiver(path).pod.as_deref() == finding.pod.as_deref() && finding.pod.is_some();
            let place = finding.pod.as_deref().and_then(|pod| facts.pod(pod));
            let device = place.and_then(|place| {
                place.namespace.devices.iter().find(|known| Some(&known.name) == finding.device.as_ref())
            });
            at_node && of_pod && device.is_some_and(|device| hop.bytes > device.mtu)
        }
        (Kind::LinkDown, _) if has_no_route(hop) => {
            let device = finding.device.as_deref().and_then(|device| device_of(facts, &finding.node, device));
            at_node
                && finding.pod.is_none()
                && device.is_some_and(|device| route_went_with(device, hop, path, facts))
        }
        (Kind::LinkDown, _) if has_no_socket(hop) => {
            let device = finding.device.as_deref().and_then(|device| device_of(facts, &finding.node, device));
            let port =
                path.hops.iter().rev().find_map(|hop| hop.outer.as_ref()).and_then(|outer| outer.dport);
            at_node
                && finding.pod.is_none()
                && fitting::is_in_tunnel(hop, path)
                && device.and_then(vxlan).is_some_and(|vxlan| Some(vxlan.port) == port)
        }
        (Kind::LinkDown | Kind::BridgePort | Kind::Xdp, _) => {
            let Some(device) = finding.device.as_deref() else { return false };
            match &finding.pod {
                Some(pod) => [&path.from, receiver(path)].iter().any(|end| end.pod.as_deref() == Some(pod)),
                None => (at_node && on_way(device)) || leads_to(facts, &finding.node, device, path),
            }
        }
        (Kind::PortsIsolated, _) => at_node && are_isolated(facts, finding, path),
        (Kind::TunnelMtu, _) => at_node && exceeds_tunnel(finding, hop, facts),
        (Kind::EchoIgnored, _) => is_ignored_echo_request(finding, path),
        (Kind::WrongGateway, Subject::Family { ipv6 }) => {
            path.from.pod.as_deref() == finding.pod.as_deref() && dst.is_ipv6() == ipv6
        }
        (Kind::Unanswered, Subject::To(address)) => {
            let outer = hop.outer.as_ref().map(|outer| outer.dst);
            let routed_by =
                |place: Place<'_>| place.namespace.routes.iter().any(|route| route.gateway == Some(address));
            let by_gateway = finding.pod.as_deref().and_then(|pod| facts.pod(pod)).is_some_and(routed_by);
            at_node
                && finding.pod.as_deref() == hop.pod.as_deref()
                && (address == dst || outer == Some(address) || by_gateway)
        }
        _ => false,
    }
}

/// Findings that may be why no packet of a pod was seen: those in its network namespace, and at its veth on the node.
#[must_use]
pub fn for_no_traffic<'a>(
    pod: &str,
    to: &[IpAddr],
    facts: &Facts,
    findings: &'a [Finding],
) -> Vec<&'a Finding> {
    let Some(place) = facts.pod(pod) else { return Vec::new() };
    let veth = place.node.topology.host_veth_of(pod).map(|device| device.name.as_str());
    let is_relevant = |finding: &&Finding| match (finding.kind, finding.subject) {
        (Kind::ForwardingOff | Kind::ReversePath | Kind::TunnelMismatch | Kind::EchoIgnored, _) => false,
        (Kind::Refused, Subject::Between(_, Some(network))) if finding.pod.as_deref() == Some(pod) => {
            to.is_empty() || to.iter().any(|address| network.contains(address))
        }
        (_, Subject::To(address) | Subject::Address(address)) if finding.pod.as_deref() == Some(pod) => {
            to.contains(&address) || place.namespace.routes.iter().any(|route| route.gateway == Some(address))
        }
        (_, Subject::Family { ipv6 }) if finding.pod.as_deref() == Some(pod) => {
            to.is_empty() || to.iter().any(|address| address.is_ipv6() == ipv6)
        }
        _ if finding.pod.as_deref() == Some(pod) => true,
        _ => {
            finding.pod.is_none()
                && finding.node == place.node.name
                && veth.is_some()
                && finding.device.as_deref() == veth
        }
    };
    findings.iter().filter(is_relevant).collect()
}

/// Whether both ends of a path are pods of the finding's node whose bridge ports are isolated, one of them its own.
fn are_isolated(facts: &Facts, finding: &Finding, path: &Path) -> bool {
    let Some(node) = facts.node(&finding.node) else { return false };
    let port = |end: &End| node.topology.host_veth_of(end.pod.as_deref()?);
    let Some((one, other)) = port(&path.from).zip(port(receiver(path))) else { return false };
    let isolated = |device: &Device| device.port.is_some_and(|port| port.isolated);
    isolated(one) && isolated(other) && finding.device.as_deref() == Some(&one.name)
}

/// Whether a packet is at the finding's tunnel, and as large as only the tunnel takes it.
fn exceeds_tunnel(finding: &Finding, hop: &Hop, facts: &Facts) -> bool {
    let device = finding.device.as_deref().and_then(|device| device_of(facts, &finding.node, device));
    let room = device.and_then(|device| super::check::tunnels::room(facts.node(&finding.node)?, device));
    hop.device.as_deref() == finding.device.as_deref() && room.is_some_and(|room| hop.bytes > room)
}

/// Whether the finding is in the node's namespace or in the sender's: both route the packet before it leaves the node.
fn is_in_routing_namespace(finding: &Finding, path: &Path) -> bool {
    finding.pod.is_none() || path.from.pod.as_deref() == finding.pod.as_deref()
}

/// Whether no route of the finding's namespace matches the destination with a longer prefix than the refusing one.
fn is_longest_match(facts: &Facts, finding: &Finding, dst: IpAddr, length: u8) -> bool {
    let routes = match &finding.pod {
        Some(pod) => facts.pod(pod).map(|place| &place.namespace.routes),
        None => facts.node(&finding.node).and_then(|node| node.topology.node()).map(|own| &own.routes),
    };
    routes.is_some_and(|routes| {
        routes
            .iter()
            .all(|route| !route.destination.contains(&dst) || route.destination.prefix_len() <= length)
    })
}

/// Whether a packet to `dst` leaves this node by way of this gateway.
fn leads_through(facts: &Facts, node: &str, dst: IpAddr, gateway: IpAddr) -> bool {
    let Some(node) = facts.node(node) else { return false };
    node.topology.route_to(dst).is_some_and(|route| route.gateway.unwrap_or(dst) == gateway)
}

/// Whether a packet was at a device that the main table does not lead to.
fn leaves_by_another(facts: &Facts, hop: &Hop) -> bool {
    let Some(node) = facts.node(&hop.node) else { return false };
    let main = node.topology.route_to(hop.tuple.dst).map(|route| route.device);
    let here = hop.device.as_deref().and_then(|device| device_of(facts, &hop.node, device));
    main.zip(here).is_some_and(|(main, here)| main != here.index)
}

/// Whether an address is one of the node's own, such as its pods' default gateway.
fn is_gateway(address: IpAddr, node: &str, facts: &Facts) -> bool {
    facts.node(node).is_some_and(|node| node.has(address))
}

/// Whether a device of a node is the one before an end of the path: the veth of its pod, or its node's uplink.
fn leads_to(facts: &Facts, node: &str, device: &str, path: &Path) -> bool {
    let Some(node) = facts.node(node) else { return false };
    let (from, to) = (&path.from, receiver(path));
    let mut ends = [from, to].into_iter().filter(|end| end.node.as_deref() == Some(node.name.as_str()));
    ends.any(|end| {
        let veth = end.pod.as_deref().and_then(|pod| node.topology.host_veth_of(pod));
        let uplinks = node.topology.uplinks(&node.addresses);
        veth.is_some_and(|veth| veth.name == device)
            || (from.node != to.node && uplinks.iter().any(|uplink| uplink.name == device))
    })
}

#[cfg(test)]
mod tests;
