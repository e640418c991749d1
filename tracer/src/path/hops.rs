//! A path's sightings as the hops that a user reads, with those that follow from the ones around them.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use crate::topology::Role;

use super::clock::signed;
use super::devices::{DeviceId, action};
use super::model::{Action, Evidence, Hop, HopEvent, Outer, Point, RouteTaken, Source, Tuple};
use super::packet::Encapsulation;
use super::steps::{self, Draft};
use super::track::{Arrival, Sighting, Track};
use super::verdict::counting_drop;
use super::world::World;

static VXLAN: LazyLock<Arc<str>> = LazyLock::new(|| "vxlan".into());

/// The hops of a path, and the time between first and last of them with the bound of its error.
pub(super) struct Hops {
    pub(super) hops: Vec<Hop>,
    pub(super) duration_ns: i64,
    pub(super) error_ns: u64,
}

/// Makes the hops of a path whose sightings are in order.
pub(super) fn hops(track: &Track, world: &World) -> Hops {
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
    while let Some(seen) = sightings.next() {
        let (at, error) = since(seen.node, seen.at);
        let mut hop = observed(track, seen, at, error, tuple, world);
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
        let local =
            sightings.peek().is_none_or(|next| next.point == Point::KfreeSkb) && ends_locally(track, seen);
        let inner = local.then(|| inferred(&hop, Action::LocalIn, hop.device.clone()));
        let draft = |hop, at| Draft { hop, node: seen.node, leg: seen.leg, device: seen.device, at };
        drafts.extend(between.map(|hop| draft(hop, None)));
        drafts.push(draft(hop, Some(seen.at)));
        drafts.extend(inner.map(|hop| draft(hop, None)));
        before = Some(seen);
    }
    steps::place(&track.steps, &mut drafts, since, world);
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
pub(super) fn crossings(track: &Track) -> impl Iterator<Item = ((usize, u64), (usize, u64))> {
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
        route: None,
        pod: None,
        drop: None,
        events: Vec::new(),
        sources: Vec::new(),
        ..beside.clone()
    }
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
    .then(|| inferred(hop, Action::LocalOut, hop.device.clone()))
}

fn ends_locally(track: &Track, seen: &Sighting) -> bool {
    let last = track.sightings.iter().rfind(|seen| seen.point != Point::KfreeSkb);
    track.arrival == Some(Arrival::Local) && last.is_some_and(|last| std::ptr::eq(last, seen))
}
