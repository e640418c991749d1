//! How a path ended, and in words why.

use std::sync::Arc;

use crate::join::track::{Arrival, Sighting, Track};
use crate::model::{Action, Point, Verdict};
use crate::world::World;
use crate::world::devices::action;

/// The verdict, and why. `had_its_time` tells whether a path out of sight has been so for long enough.
pub(crate) fn verdict(track: &Track, had_its_time: bool, world: &World) -> (Verdict, Option<String>) {
    if let Some(reason) = &track.rejected {
        return (Verdict::Rejected, Some(reason.clone()));
    }
    if let Some(drop) = track.sightings.iter().rev().find_map(|seen| counting_drop(track, seen)) {
        let what = drop.drop.reason.clone().or_else(|| drop.drop.location.clone());
        return (Verdict::Dropped, what);
    }
    let unseen = (!track.whole).then(|| "beginning not seen".to_owned());
    match &track.arrival {
        Some(Arrival::Pod | Arrival::Local(_)) => {
            (Verdict::Delivered, unseen.or_else(|| track.superfluous.map(str::to_owned)))
        }
        Some(Arrival::Outside(device)) => {
            (Verdict::Delivered, unseen.or_else(|| Some(format!("left the cluster at {device}"))))
        }
        Some(Arrival::OutOfSight(device, home)) => {
            (Verdict::Open, Some(format!("left at {device} for {home}, which is not traced")))
        }
        None => lost(track, had_its_time, unseen, world),
    }
}

/// The drop made here, if the path fell victim to it: a copy nobody needed is no loss once another arrived.
pub(crate) fn counting_drop<'a>(
    track: &Track,
    seen: &'a Sighting,
) -> Option<&'a crate::join::track::DropSeen> {
    seen.drop.as_deref().filter(|drop| drop.of_arrived || track.arrival.is_none())
}

fn lost(
    track: &Track,
    had_its_time: bool,
    unseen: Option<String>,
    world: &World,
) -> (Verdict, Option<String>) {
    let Some(last) = track.sightings.last() else { return (Verdict::Open, unseen) };
    let next = expected(track, last, world);
    if let Some(next) = next.filter(|next| world.lost[*next]) {
        let name = &world.names[next];
        return (Verdict::Open, Some(format!("{}, and {name} told no more", last_point(last, world))));
    }
    if !had_its_time {
        return (Verdict::Open, unseen);
    }
    let mut reason = format!("{}, {}", last_point(last, world), missing(track, last, world));
    if let Some(stray) = &track.stray {
        reason = format!("{reason}; it went to {stray}, which has not this address");
    }
    // What had arrived of it shows at the last point that did not see all.
    if track.segments > 1 && last.covered < track.size() {
        reason = format!("{} of {} B got further: {reason}", last.covered, track.size());
    }
    if unseen.is_some() {
        reason = format!("beginning not seen; {reason}");
    }
    (Verdict::Vanished, Some(reason))
}

fn device<'a>(seen: &Sighting, world: &'a World) -> &'a str {
    seen.device.map_or("no device", |id| &world.devices.info(id).name)
}

/// The node that the packet should have come to next, where it had left one.
fn expected(track: &Track, last: &Sighting, world: &World) -> Option<usize> {
    if action(last.role, last.point) != Action::NodeEgress {
        return None;
    }
    next_node(track, last, world).and_then(|name| world.node(name))
}

fn next_node<'a>(track: &Track, last: &Sighting, world: &'a World) -> Option<&'a Arc<str>> {
    match last.outer {
        Some(outer) => world.directory.home(outer.dst),
        None => world.directory.home(last.tuple.map_or(track.packet.dst, |tuple| tuple.dst)),
    }
}

/// `left node1 at eth0`.
fn last_point(last: &Sighting, world: &World) -> String {
    let (node, device) = (&world.names[last.node], device(last, world));
    match action(last.role, last.point) {
        Action::PodEgress => format!("came out of its pod at {device} on {node}"),
        Action::PodIngress => format!("went into its pod at {device} on {node}"),
        Action::Encapsulate => format!("entered the tunnel at {device} on {node}"),
        Action::Decapsulate => format!("came out of the tunnel at {device} on {node}"),
        Action::NodeEgress => format!("left {node} at {device}"),
        Action::NodeIngress => format!("arrived on {node} at {device}"),
        _ => format!("was routed at {device} on {node}"),
    }
}

/// `never seen on node2`.
fn missing(track: &Track, last: &Sighting, world: &World) -> String {
    let port = || {
        let bridge = last.device?;
        let bridge = world.devices.info(bridge).bridge.unwrap_or(bridge);
        let port = world.devices.port_to(last.node, bridge, track.packet.dst)?;
        Some(format!("never seen at {}, where {} is", port.name, port.pod.as_deref().unwrap_or("its pod")))
    };
    let onward = match action(last.role, last.point) {
        Action::NodeEgress => next_node(track, last, world).map(|node| format!("never seen on {node}")),
        Action::PodEgress => port().or_else(|| {
            let bridge = world.devices.info(last.device?).bridge?;
            Some(format!("never seen at {}", world.devices.info(bridge).name))
        }),
        Action::Route if last.point == Point::TcEgress => port(),
        Action::Encapsulate => Some("never seen leaving the node".to_owned()),
        Action::NodeIngress if last.outer.is_some() => Some("never taken out of the tunnel".to_owned()),
        _ => None,
    };
    onward.unwrap_or_else(|| "never seen after that".to_owned())
}
