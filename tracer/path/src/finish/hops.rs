//! A path's sightings as the hops that a user reads, with those that follow from the ones around them.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use podtrace_protocol::topology::Role;

use crate::finish::steps::{self, Draft};
use crate::finish::translate::{self, Change, Changes, Place};
use crate::finish::verdict::counting_drop;
use crate::join::track::{Arrival, Sighting, Track};
use crate::model::{Action, Evidence, Hop, HopEvent, Outer, Point, RouteTaken, Source, Tuple};
use crate::wire::packet::{Encapsulation, PacketExt as _};
use crate::world::World;
use crate::world::clock::signed;
use crate::world::devices::{DeviceId, action};
use crate::world::rule;

static VXLAN: LazyLock<Arc<str>> = LazyLock::new(|| "vxlan".into());

/// The hops of a path, and the time between first and last of them with the bound of its error.
pub(crate) struct Hops {
    pub(crate) hops: Vec<Hop>,
    pub(crate) duration_ns: i64,
    pub(crate) error_ns: u64,
}

/// Makes the hops of a path whose sightings are in order.
///
/// `forward_is_request` tells which way of its flow opened it.
pub(crate) fn hops(track: &Track, forward_is_request: bool, world: &World) -> Hops {
    let tuple = track.packet.tuple();
    let base = track.sightings.first().map_or((0, 0), |first| (first.node, first.at));
    // Times a clock apart are asked for once a node, not once a hop.
    let differences: Vec<_> =
        (0..world.names.len()).map(|node| world.clocks.difference(base.0, node)).collect();
    let since = |node: usize, at: u64| {
        let (difference, error) = differences[node];
        (signed(at) - signed(base.1) - difference, error)
    };
    let mut drafts: Vec<Draft> = Vec::with_capacity(track.sightings.len() + 1);
    let kept = |seen: &&Sighting| seen.point != Point::KfreeSkb || counting_drop(track, seen).is_some();
    let mut sightings = track.sightings.iter().filter(kept).peekable();
    let mut before: Option<&Sighting> = None;
    let mut waiting: Option<Hop> = None;
    while let Some(seen) = sightings.next() {
        let (at, error) = since(seen.node, seen.at);
        let mut hop = observed(track, seen, at, error, tuple, world);
        let next = sightings.peek().copied().filter(|next| (next.node, next.leg) == (seen.node, seen.leg));
        let changes = next.map_or_else(Changes::default, |next| {
            Changes::between(translate::tuple(track, seen), translate::tuple(track, next))
        });
        let translated = |beside: &Hop, change: Change, device: Option<DeviceId>| {
            let answers = answers(track, seen, next, forward_is_request);
            let device = device.map(|id| world.devices.info(id).name.clone());
            let came_in = seen.device.filter(|_| seen.point == Point::TcIngress);
            let goes_out = next.filter(|next| next.point == Point::TcEgress).and_then(|next| next.device);
            let first = track.sightings.iter().find(|other| other.leg == seen.leg);
            let entered = first.map(|first| (translate::tuple(track, first), first.mark));
            let place = Place { node: seen.node, came_in, goes_out, entered };
            let nat = Some(translate::nat(change, answers, place, world));
            Hop { nat, tuple: change.after, ..inferred(beside, Action::Nat, device) }
        };
        let to_elsewhere = changes.destination.map(|change| translated(&hop, change, seen.device));
        // The destination is translated before a route is looked up, and a route is told of where the packet came in.
        let routed_here = hop.action == Action::Route && seen.point == Point::TcIngress;
        if let Some(change) = changes.destination.filter(|_| routed_here) {
            hop.tuple = change.after;
        }
        complete(&mut hop, track, seen, world);
        if hop.action == Action::Route && seen.role == Role::Bridge && ends_locally(track, seen) {
            // Handed up to the node itself: no route was looked up for going on.
            hop.action = Action::Bridge;
            hop.route = None;
        }
        let between = match before {
            None => local_out(track, &hop, seen, world),
            Some(before) => bridged(before, &hop, seen, world),
        };
        let output = between.as_ref().filter(|hop| hop.action == Action::LocalOut);
        let output =
            output.map_or_else(Vec::new, |_| output_nat(track, seen, &hop, forward_is_request, world));
        // The source is translated after bridging and routing.
        let between = between.map(|hop| match waiting.as_ref().and_then(|waiting| waiting.nat.as_ref()) {
            Some(nat) => Hop { tuple: nat.before, ..hop },
            None => hop,
        });
        let local =
            sightings.peek().is_none_or(|next| next.point == Point::KfreeSkb) && ends_locally(track, seen);
        let inner = local.then(|| inferred(&hop, Action::LocalIn, hop.device.clone()));
        let onward = next.and_then(|next| forwarded(&hop, seen, next, changes, world));
        let (first, second) = if routed_here { (to_elsewhere, None) } else { (None, to_elsewhere) };
        let from_elsewhere = changes
            .source
            .map(|change| translated(&hop, change, next.and_then(|next| next.device).or(seen.device)));
        let draft = |hop, at| Draft { hop, node: seen.node, leg: seen.leg, device: seen.device, at };
        drafts.extend(between.map(|hop| draft(hop, None)));
        drafts.extend(output.into_iter().map(|hop| draft(hop, None)));
        drafts.extend(waiting.take().map(|hop| draft(hop, None)));
        drafts.extend(first.map(|hop| draft(hop, None)));
        drafts.push(draft(hop, Some(seen.at)));
        drafts.extend(inner.map(|hop| draft(hop, None)));
        drafts.extend(second.map(|hop| draft(hop, None)));
        drafts.extend(onward.map(|hop| draft(hop, None)));
        waiting = from_elsewhere;
        before = Some(seen);
    }
    steps::place(&track.steps, &mut drafts, since, world);
    rule::name_droppers(&mut drafts, world);
    let mut made = Hops { hops: Vec::with_capacity(drafts.len()), duration_ns: 0, error_ns: 0 };
    for (index, draft) in drafts.into_iter().enumerate() {
        let mut hop = draft.hop;
        hop.index = u32::try_from(index).unwrap_or(u32::MAX);
        if let Some(at) = hop.at_ns {
            made.duration_ns = at;
            made.error_ns = hop.clock_error_ns;
        }
        made.hops.push(hop);
    }
    made
}

/// Tells the clocks what this path says of them: it left each node before it came to the next.
pub(crate) fn crossings(track: &Track) -> impl Iterator<Item = ((usize, u64), (usize, u64))> {
    // A drop is no passage: it may come late, and of a copy.
    let taps = || track.sightings.iter().filter(|seen| seen.point != Point::KfreeSkb);
    taps()
        .zip(taps().skip(1))
        .filter(|(left, arrived)| track.ambiguity == 1 && left.node != arrived.node)
        .map(|(left, arrived)| ((left.node, left.at), (arrived.node, arrived.at)))
}

fn observed(track: &Track, seen: &Sighting, at: i64, error: u64, tuple: Tuple, world: &World) -> Hop {
    let device = seen.device.map(|id| world.devices.info(id));
    Hop {
        index: 0,
        node: world.names[seen.node].clone(),
        device: device.map(|device| device.name.clone()),
        point: Some(seen.point),
        action: action(seen.role, seen.point),
        at_ns: Some(at),
        clock_error_ns: error,
        evidence: Evidence::Observed,
        tuple: seen.tuple.unwrap_or(tuple),
        bytes: seen.bytes,
        packets: seen.packets,
        merged: seen.merged,
        outer: None,
        nat: None,
        conntrack: seen.connection.as_ref().map(|connection| Box::new(connection.seen())),
        route: None,
        // The pod behind a veth, or the one inside which a drop happened.
        pod: device.and_then(|device| device.pod.clone()),
        drop: counting_drop(track, seen).map(|drop| drop.drop.clone()),
        neighbour: None,
        queued_ns: None,
        flooded: false,
        events: vec![HopEvent {
            point: seen.point,
            device: device.map(|device| device.name.clone()),
            at_ns: at,
            detail: None,
        }],
        sources: seen.numbers.iter().map(|number| Source { node: seen.node, number: *number }).collect(),
    }
}

/// Adds what the hop's neighbours know of it: the tunnel header, the route.
fn complete(hop: &mut Hop, track: &Track, seen: &Sighting, world: &World) {
    let leg = || track.sightings.iter().filter(|other| other.leg == seen.leg);
    match hop.action {
        Action::NodeEgress | Action::NodeIngress => hop.outer = seen.outer.map(outer),
        Action::Encapsulate => {
            let after = leg()
                .find(|other| other.at >= seen.at && other.point == Point::TcEgress && other.outer.is_some());
            hop.outer = after.and_then(|other| other.outer).map(outer);
        }
        Action::Decapsulate => {
            let before = leg().rfind(|other| {
                other.at <= seen.at && other.point == Point::TcIngress && other.outer.is_some()
            });
            hop.outer = before.and_then(|other| other.outer).map(outer);
        }
        Action::Route => {
            let onward = match seen.point {
                Point::TcEgress => Some(seen),
                _ => leg().find(|other| other.at >= seen.at && other.point == Point::TcEgress),
            };
            // What the kernel says of the route that the packet had when it went on, or when it was dropped.
            let told = onward.and_then(|onward| onward.next_hop).or_else(|| {
                let steps = track.steps.iter().rfind(|step| step.leg == seen.leg && step.at >= seen.at);
                let dropped =
                    leg().find(|other| other.point == Point::KfreeSkb).and_then(|drop| drop.next_hop);
                steps.and_then(|step| step.next_hop).or(dropped)
            });
            let device = onward.and_then(|onward| onward.device).or_else(|| told.map(|told| told.device));
            hop.route = device.map(|device| {
                let mut route = route(seen.node, hop.tuple.dst, device, world);
                if let Some(told) = told.filter(|told| told.device == device) {
                    route.gateway = told.gateway;
                    route.evidence = Evidence::Observed;
                }
                route
            });
        }
        _ => {}
    }
}

fn outer(header: Encapsulation) -> Outer {
    let Encapsulation { vni, src, dst, sport, dport, overhead } = header;
    Outer { kind: VXLAN.clone(), vni: Some(vni), src, dst, sport: Some(sport), dport: Some(dport), overhead }
}

fn route(node: usize, destination: IpAddr, device: DeviceId, world: &World) -> RouteTaken {
    let entry = world.devices.route(node, destination, device);
    RouteTaken {
        destination: entry.map(|entry| match entry.destination.prefix_len() {
            0 => "default".to_owned(),
            _ => entry.destination.to_string(),
        }),
        device: world.devices.info(device).name.clone(),
        gateway: entry.and_then(|entry| entry.gateway),
        evidence: Evidence::Inferred,
    }
}

/// A hop that nothing observed, beside one that was.
fn inferred(beside: &Hop, action: Action, device: Option<Arc<str>>) -> Hop {
    Hop {
        device,
        point: None,
        action,
        at_ns: None,
        evidence: Evidence::Inferred,
        outer: None,
        nat: None,
        conntrack: None,
        route: None,
        pod: None,
        drop: None,
        events: Vec::new(),
        sources: Vec::new(),
        ..beside.clone()
    }
}

/// Whether the packet goes the way of its connection's answers: connection tracking says so where it has been asked.
fn answers(track: &Track, seen: &Sighting, next: Option<&Sighting>, forward_is_request: bool) -> bool {
    let connection = next.and_then(|next| next.connection.as_ref()).or(seen.connection.as_ref());
    connection.map_or(track.forward != forward_is_request, |connection| connection.is_reply())
}

/// Between two devices of which neither is a bridge, a route leads from one to the other.
fn forwarded(hop: &Hop, seen: &Sighting, next: &Sighting, changes: Changes, world: &World) -> Option<Hop> {
    let device = next.device?;
    let is_bridge = |seen: &Sighting| seen.role == Role::Bridge;
    let port = |id: Option<DeviceId>| world.devices.info(id?).bridge;
    let bridged = port(seen.device).is_some() && port(seen.device) == port(Some(device));
    let passes =
        seen.point == Point::TcIngress && next.point == Point::TcEgress && seen.device != Some(device);
    if !passes || is_bridge(seen) || is_bridge(next) || bridged {
        return None;
    }
    let tuple = changes.destination.map_or(hop.tuple, |change| change.after);
    let route = route(seen.node, tuple.dst, device, world);
    Some(Hop { tuple, route: Some(route), ..inferred(hop, Action::Route, hop.device.clone()) })
}

/// Between two ports of one bridge there is that bridge, though bridged packets pass no tap of it.
fn bridged(before: &Sighting, hop: &Hop, seen: &Sighting, world: &World) -> Option<Hop> {
    let port = |seen: &Sighting| world.devices.info(seen.device?).bridge;
    let bridge = port(before)?;
    (before.node == seen.node
        && before.point == Point::TcIngress
        && seen.point == Point::TcEgress
        && port(seen) == Some(bridge))
    .then(|| inferred(hop, Action::Bridge, Some(world.devices.info(bridge).name.clone())))
}

/// A packet of the node's own comes from its stack, where no tap is.
fn local_out(track: &Track, hop: &Hop, seen: &Sighting, world: &World) -> Option<Hop> {
    (track.whole
        && matches!(seen.point, Point::TcEgress | Point::KfreeSkb)
        && world.devices.is_own(seen.node, track.packet.src))
    .then(|| Hop { tuple: track.packet.tuple(), ..inferred(hop, Action::LocalOut, hop.device.clone()) })
}

/// The translations of a packet of the node's own before it is first seen: the destination when it was sent, the source
/// where it leaves.
fn output_nat(
    track: &Track,
    seen: &Sighting,
    hop: &Hop,
    forward_is_request: bool,
    world: &World,
) -> Vec<Hop> {
    let sent = track.packet.tuple();
    let Changes { destination, source } = Changes::between(sent, translate::tuple(track, seen));
    let answers = answers(track, seen, None, forward_is_request);
    let place =
        Place { node: seen.node, came_in: None, goes_out: seen.device, entered: Some((sent, seen.mark)) };
    let translated = |change: Change| {
        let nat = Some(translate::nat(change, answers, place, world));
        Hop { nat, tuple: change.after, ..inferred(hop, Action::Nat, hop.device.clone()) }
    };
    [destination, source].into_iter().flatten().map(translated).collect()
}

fn ends_locally(track: &Track, seen: &Sighting) -> bool {
    let last = track.sightings.iter().rfind(|seen| seen.point != Point::KfreeSkb);
    matches!(track.arrival, Some(Arrival::Local(_))) && last.is_some_and(|last| std::ptr::eq(last, seen))
}
