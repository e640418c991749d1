//! Decides the verdict of a path, and writes the reason that users read.
//!
//! The first that holds decides: the receiver had closed before, a rejection, the last drop that counts, the arrival. An
//! arrival means delivered, unless it was at another holder of the address, at a node that is not traced, or at a node
//! whose rules redirect the packet. If none holds, the path is open, or vanished once nothing was seen of it for
//! [`VANISH_TIMEOUT`](crate::join::VANISH_TIMEOUT).

use std::net::IpAddr;
use std::sync::Arc;

use podtrace_protocol::frame::{FilterSpec, Side};
use podtrace_protocol::hook::Meaning;

use crate::join::sighting::{DropSeen, Sighting};
use crate::join::track::{Arrival, CLOSED, Track};
use crate::model::{Action, Point, Tuple, Verdict};
use crate::node::NodeId;
use crate::world::World;

/// What the verdict depends on besides the track.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending<'a> {
    /// Whether nothing was seen of it for long enough to call it vanished.
    pub(crate) timed_out: bool,
    /// What the nodes look for.
    pub(crate) filter: &'a FilterSpec,
}

/// The verdict and its reason.
pub(crate) fn verdict(track: &Track, ending: Ending<'_>, world: &World) -> (Verdict, Option<String>) {
    if track.came_after_close() {
        return (Verdict::Delivered, Some(CLOSED.to_owned()));
    }
    if let Some(rejection) = &track.rejection {
        return (Verdict::Rejected, Some(rejection.reason.clone()));
    }
    if let Some(DropSeen { drop, .. }) = track.sightings.iter().rev().find_map(|seen| fatal_drop(track, seen))
    {
        return (Verdict::Dropped, drop.reason.clone().or_else(|| drop.location.clone()));
    }
    let missing_start = (!track.start_seen).then(|| match excluded_start(track, ending.filter, world) {
        Some((src, dst)) => format!("first hops not traced: this trace does not include {src} → {dst}"),
        None => "first hops not seen".to_owned(),
    });
    match &track.arrival {
        Some(Arrival::Local(node)) if is_redirected(track, *node, world) => {
            let place = track.sightings.last().map(|last| last_point(last, world)).unwrap_or_default();
            let reason =
                format!("{place}, where a rule translates its destination, and was not seen after that");
            (if ending.timed_out { Verdict::Vanished } else { Verdict::Open }, Some(reason))
        }
        Some(Arrival::DuplicateAddress { holder, node: _ }) => {
            let address = track.last_tuple().dst;
            let receiver = world.directory.pod(address).map_or("its receiver", |pod| pod);
            let reason = format!("reached {holder}, which also has {address}, instead of {receiver}");
            (Verdict::Vanished, Some(reason))
        }
        Some(Arrival::Link(device)) => (
            Verdict::Delivered,
            missing_start.or_else(|| Some(format!("multicast, sent to its link at {device}"))),
        ),
        Some(Arrival::Pod(_) | Arrival::Local(_)) => {
            (Verdict::Delivered, missing_start.or_else(|| track.discarded_because.map(str::to_owned)))
        }
        Some(Arrival::Outside(device)) => {
            (Verdict::Delivered, missing_start.or_else(|| Some(format!("left the cluster at {device}"))))
        }
        Some(Arrival::Untraced { device, node }) => {
            (Verdict::Open, Some(format!("left through {device} towards {node}, which is not traced")))
        }
        None => open_or_vanished(track, ending, missing_start, world),
    }
}

/// Whether a NAT rule redirects a packet that was addressed to the node. False if LOCAL_IN was seen.
fn is_redirected(track: &Track, node: NodeId, world: &World) -> bool {
    let taken = track.steps.iter().any(|step| step.spot.node == node && step.meaning == Meaning::LocalIn);
    !taken && world.nodes[node].rules.redirects(track.last_tuple())
}

/// The drop at this sighting, if it ended the packet. Once the packet has arrived, the drop of another copy, such as a
/// flooded one, does not count.
pub(crate) fn fatal_drop<'a>(track: &Track, seen: &'a Sighting) -> Option<&'a DropSeen> {
    let is_fatal = |drop: &&DropSeen| drop.in_receiver || track.arrival.is_none();
    seen.drop.as_deref().filter(is_fatal).filter(|_| !track.came_after_close())
}

/// The verdict without a drop, rejection or arrival.
fn open_or_vanished(
    track: &Track,
    ending: Ending<'_>,
    missing_start: Option<String>,
    world: &World,
) -> (Verdict, Option<String>) {
    let Some(last) = track.sightings.last() else { return (Verdict::Open, missing_start) };
    // Where it should be seen next: on the node that it was sent to, or else where it was seen last.
    let next = match last.action() {
        Action::NodeEgress => expected_next_node(track, last, world),
        _ => Some(last.node()),
    };
    if let Some(next) = next.filter(|next| world.nodes[*next].agent_lost) {
        let name = world.name(next);
        return (
            Verdict::Open,
            Some(format!("{}; the connection to the agent on {name} was lost", last_point(last, world))),
        );
    }
    if !ending.timed_out {
        return (Verdict::Open, missing_start);
    }
    if let Some(node) = next.filter(|_| last.action() == Action::NodeEgress)
        && !matches_filter(track, last, ending.filter, world)
    {
        let Tuple { src, dst, .. } = track.tuple_at(last);
        let (left, node) = (last_point(last, world), world.name(node));
        let reason = format!("{left} for {node}, where this trace does not include {src} → {dst}");
        return (Verdict::Open, Some(reason));
    }
    let mut reason = format!("{}, {}", last_point(last, world), unseen_since(track, last, world));
    if let Some(pod) = &track.flooded_to {
        reason = format!(
            "{reason}; the bridge flooded it, and {pod}, which got a copy, does not have this address"
        );
    }
    // The last point saw only some of the segments, and would have seen all of them.
    if ending.filter.sample.is_none() && track.segments > 1 && last.covered < track.size() {
        reason = format!("only {} of {} B got this far: {reason}", last.covered, track.size());
    }
    if missing_start.is_some() && track.candidates > 1 {
        reason = format!("may continue another path of equal packets; {reason}");
    } else if missing_start.is_some() {
        reason = format!("first hops not seen; {reason}");
    }
    (Verdict::Vanished, Some(reason))
}

/// Whether the trace filter matches the addresses that the packet had when it was seen last: NAT may have changed them.
fn matches_filter(track: &Track, last: &Sighting, filter: &FilterSpec, world: &World) -> bool {
    let Tuple { src, dst, .. } = track.tuple_at(last);
    let all = |side: &Side| side.addresses.is_empty();
    let known = |address: IpAddr| is_traced(address, filter, world);
    all(&filter.from) || all(&filter.to) || (known(src) && known(dst))
}

/// Addresses of a packet whose beginning was not seen, if the nodes did not look for it as it was there: its addresses, or
/// those of the packet that it is about, were translated since.
pub(crate) fn excluded_start(track: &Track, filter: &FilterSpec, world: &World) -> Option<(IpAddr, IpAddr)> {
    let first = track.sightings.first().filter(|_| !track.start_seen)?;
    let known = |address: IpAddr| is_traced(address, filter, world);
    let Tuple { src, dst, .. } = track.tuple_at(first);
    let about = track.packet.quoted().map(|quoted| (quoted.src, quoted.dst));
    let all = |side: &Side| side.addresses.is_empty();
    if all(&filter.from) || all(&filter.to) {
        return None;
    }
    about.into_iter().chain([(src, dst)]).find(|(src, dst)| !(known(*src) && known(*dst)))
}

/// Whether an address is one that the trace is about, or a node's: with SNAT or a node port, it stands in for a pod's.
fn is_traced(address: IpAddr, filter: &FilterSpec, world: &World) -> bool {
    filter.from.addresses.contains(&address)
        || filter.to.addresses.contains(&address)
        || world.directory.node(address).is_some()
}

fn device<'a>(seen: &Sighting, world: &'a World) -> &'a str {
    seen.device().map_or("no device", |id| &world.devices.info(id).name)
}

/// The node that the packet should reach next, if it was seen leaving one.
fn expected_next_node(track: &Track, last: &Sighting, world: &World) -> Option<NodeId> {
    if last.action() != Action::NodeEgress {
        return None;
    }
    next_node(track, last, world).and_then(|name| world.node(name))
}

fn next_node<'a>(track: &Track, last: &Sighting, world: &'a World) -> Option<&'a Arc<str>> {
    match last.outer {
        Some(outer) => world.directory.node_of(outer.dst),
        None => world.directory.node_of(track.tuple_at(last).dst),
    }
}

/// Describes the last sighting, such as `left node1 at eth0`.
fn last_point(last: &Sighting, world: &World) -> String {
    let (node, device) = (world.name(last.node()), device(last, world));
    match last.action() {
        Action::PodEgress => format!("left the source pod at {device} on {node}"),
        Action::PodIngress => format!("entered the destination pod at {device} on {node}"),
        Action::Encapsulate => format!("entered the tunnel at {device} on {node}"),
        Action::Decapsulate => format!("left the tunnel at {device} on {node}"),
        Action::NodeEgress => format!("left {node} at {device}"),
        Action::NodeIngress => format!("arrived on {node} at {device}"),
        Action::LocalOut => format!("was sent by {node} itself"),
        _ => format!("was routed at {device} on {node}"),
    }
}

/// Describes the next place where it was expected and not seen, such as `never seen on node2`.
fn unseen_since(track: &Track, last: &Sighting, world: &World) -> String {
    let port = || {
        let bridge = last.device()?;
        let bridge = world.devices.info(bridge).bridge.unwrap_or(bridge);
        let port = world.devices.port_to(last.node(), bridge, track.tuple_at(last).dst)?;
        Some(format!("never seen at {}, where {} is", port.name, port.pod.as_deref().unwrap_or("its pod")))
    };
    let onward = match last.action() {
        Action::NodeEgress => unseen_on_wire(track, last, world),
        Action::PodEgress => port().or_else(|| {
            let bridge = world.devices.info(last.device()?).bridge?;
            Some(format!("never seen at {}", world.devices.info(bridge).name))
        }),
        Action::Route if last.point() == Point::TcEgress => port(),
        Action::Encapsulate => Some("never seen leaving the node".to_owned()),
        Action::NodeIngress if last.outer.is_some() => Some("never decapsulated".to_owned()),
        _ => None,
    };
    onward.unwrap_or_else(|| "never seen after that".to_owned())
}

/// What is known of a packet after it left a node. That the next node never saw it can be said only where that node looked,
/// and where no equal packet was seen there.
fn unseen_on_wire(track: &Track, last: &Sighting, world: &World) -> Option<String> {
    let address = track.tuple_at(last).dst;
    let Some(node) = next_node(track, last, world) else {
        let service = world.directory.service_at(address)?;
        return Some(format!("with {address} of Service {service} untranslated"));
    };
    let decapsulates = |port: u16| {
        let ports = world.node(node).map(|node| world.devices.vxlan_ports(node)).unwrap_or_default();
        ports.is_empty() || ports.contains(&port)
    };
    Some(match last.outer {
        Some(outer) if !decapsulates(outer.dport) => {
            format!("for UDP port {} of {node}, where no tunnel of {node} listens", outer.dport)
        }
        _ if track.candidates > 1 => {
            format!("and equal packets were seen on {node}: this may be one of them")
        }
        _ => format!("never seen on {node}"),
    })
}
