//! A path's sightings as the hops that a user reads, with those that follow from the ones around them.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use crate::topology::Role;

use super::devices::{DeviceId, action};
use super::model::{Action, Evidence, Hop, Outer, Point, RouteTaken, Source, Tuple};
use super::packet::Encapsulation;
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
    // Times a clock apart are asked for once a node, not once a hop.
    let (mut clock, mut difference) = (usize::MAX, (0, 0));
    let base = track.sightings.first().map_or((0, 0), |first| (first.node, first.at));
    let mut made = Hops { hops: Vec::with_capacity(track.sightings.len() + 1), duration_ns: 0, error_ns: 0 };
    let kept = |seen: &&Sighting| seen.point != Point::KfreeSkb || counting_drop(track, seen).is_some();
    let mut sightings = track.sightings.iter().filter(kept).peekable();
    let mut before: Option<&Sighting> = None;
    while let Some(seen) = sightings.next() {
        if seen.node != clock {
            clock = seen.node;
            difference = world.clocks.difference(base.0, clock);
        }
        let at = super::clock::signed(seen.at) - super::clock::signed(base.1) - difference.0;
        let mut hop = observed(track, seen, at, difference.1, tuple, world);
        complete(&mut hop, track, seen, world);
        if hop.action == Action::Route && seen.role == Role::Bridge && ends_locally(track, seen) {
            // Handed up to the node itself: no route was looked up for going on.
            hop.action = Action::Bridge;
            hop.route = None;
        }
        match before {
            None => made.hops.extend(local_out(track, &hop, seen, world)),
            Some(before) => made.hops.extend(bridged(before, &hop, seen, world)),
        }
        made.duration_ns = at;
        made.error_ns = difference.1;
        let local =
            sightings.peek().is_none_or(|next| next.point == Point::KfreeSkb) && ends_locally(track, seen);
        let inner = local.then(|| inferred(&hop, Action::LocalIn, hop.device.clone()));
        made.hops.push(hop);
        made.hops.extend(inner);
        before = Some(seen);
    }
    for (index, hop) in made.hops.iter_mut().enumerate() {
        hop.index = u32::try_from(index).unwrap_or(u32::MAX);
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
            let device = match seen.point {
                Point::TcEgress => seen.device,
                _ => leg()
                    .find(|other| other.at >= seen.at && other.point == Point::TcEgress)
                    .and_then(|other| other.device),
            };
            hop.route = device.map(|device| route(seen.node, hop.tuple.dst, device, world));
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
    (track.whole && seen.point == Point::TcEgress && world.devices.is_own(seen.node, track.packet.src))
        .then(|| inferred(hop, Action::LocalOut, hop.device.clone()))
}

fn ends_locally(track: &Track, seen: &Sighting) -> bool {
    let last = track.sightings.iter().rfind(|seen| seen.point != Point::KfreeSkb);
    track.arrival == Some(Arrival::Local) && last.is_some_and(|last| std::ptr::eq(last, seen))
}
