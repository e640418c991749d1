//! How a path ended, and in words why.

use std::sync::Arc;

use crate::join::track::{Arrival, DropSeen, Sighting, Track};
use crate::model::{Action, Point, Verdict};
use crate::node::NodeId;
use crate::world::World;

/// The verdict, and why. `timed_out` tells whether a path that did not end has been unseen for long enough to have
/// vanished.
pub(crate) fn verdict(track: &Track, timed_out: bool, world: &World) -> (Verdict, Option<String>) {
    if let Some(rejection) = &track.rejection {
        return (Verdict::Rejected, Some(rejection.reason.clone()));
    }
    if let Some(DropSeen { drop, .. }) = track.sightings.iter().rev().find_map(|seen| lost_by(track, seen)) {
        return (Verdict::Dropped, drop.reason.clone().or_else(|| drop.location.clone()));
    }
    let start_unseen = (!track.start_seen).then(|| "first hops not seen".to_owned());
    match &track.arrival {
        Some(Arrival::Pod(_) | Arrival::Local(_)) => {
            (Verdict::Delivered, start_unseen.or_else(|| track.no_use.map(str::to_owned)))
        }
        Some(Arrival::Outside(device)) => {
            (Verdict::Delivered, start_unseen.or_else(|| Some(format!("left the cluster at {device}"))))
        }
        Some(Arrival::Untraced { device, node }) => {
            (Verdict::Open, Some(format!("left at {device} for {node}, which is not traced")))
        }
        None => unended(track, timed_out, start_unseen, world),
    }
}

/// The drop made here, if the packet was lost by it: a copy that nobody needed is no loss once another one arrived.
pub(crate) fn lost_by<'a>(track: &Track, seen: &'a Sighting) -> Option<&'a DropSeen> {
    seen.drop.as_deref().filter(|drop| drop.of_arrived || track.arrival.is_none())
}

/// The verdict of a path that nothing ended.
fn unended(
    track: &Track,
    timed_out: bool,
    start_unseen: Option<String>,
    world: &World,
) -> (Verdict, Option<String>) {
    let Some(last) = track.sightings.last() else { return (Verdict::Open, start_unseen) };
    // Where it should have been seen next: on the node that it went to, or still on its own.
    let next = match last.action() {
        Action::NodeEgress => expected(track, last, world),
        _ => Some(last.node()),
    };
    if let Some(next) = next.filter(|next| world.nodes[*next].agent_lost) {
        let name = world.name(next);
        return (
            Verdict::Open,
            Some(format!("{}, and the agent on {name} was lost", last_point(last, world))),
        );
    }
    if !timed_out {
        return (Verdict::Open, start_unseen);
    }
    let mut reason = format!("{}, {}", last_point(last, world), unseen_since(track, last, world));
    if let Some(pod) = &track.flooded_to {
        reason = format!("{reason}; it went to {pod}, which does not have this address");
    }
    // What had arrived of it shows at the last point that did not see all.
    if track.segments > 1 && last.covered < track.size() {
        reason = format!("only {} of {} B got further: {reason}", last.covered, track.size());
    }
    if start_unseen.is_some() {
        reason = format!("first hops not seen; {reason}");
    }
    (Verdict::Vanished, Some(reason))
}

fn device<'a>(seen: &Sighting, world: &'a World) -> &'a str {
    seen.device().map_or("no device", |id| &world.devices.info(id).name)
}

/// The node that the packet should have come to next, where it had left one.
fn expected(track: &Track, last: &Sighting, world: &World) -> Option<NodeId> {
    if last.action() != Action::NodeEgress {
        return None;
    }
    next_node(track, last, world).and_then(|name| world.node(name))
}

fn next_node<'a>(track: &Track, last: &Sighting, world: &'a World) -> Option<&'a Arc<str>> {
    match last.outer {
        Some(outer) => world.directory.home(outer.dst),
        None => world.directory.home(track.tuple_at(last).dst),
    }
}

/// `left node1 at eth0`.
fn last_point(last: &Sighting, world: &World) -> String {
    let (node, device) = (world.name(last.node()), device(last, world));
    match last.action() {
        Action::PodEgress => format!("left its pod at {device} on {node}"),
        Action::PodIngress => format!("entered its pod at {device} on {node}"),
        Action::Encapsulate => format!("entered the tunnel at {device} on {node}"),
        Action::Decapsulate => format!("left the tunnel at {device} on {node}"),
        Action::NodeEgress => format!("left {node} at {device}"),
        Action::NodeIngress => format!("arrived on {node} at {device}"),
        _ => format!("was routed at {device} on {node}"),
    }
}

/// `never seen on node2`.
fn unseen_since(track: &Track, last: &Sighting, world: &World) -> String {
    let port = || {
        let bridge = last.device()?;
        let bridge = world.devices.info(bridge).bridge.unwrap_or(bridge);
        let port = world.devices.port_to(last.node(), bridge, track.packet.dst)?;
        Some(format!("never seen at {}, where {} is", port.name, port.pod.as_deref().unwrap_or("its pod")))
    };
    let onward = match last.action() {
        Action::NodeEgress => next_node(track, last, world).map(|node| format!("never seen on {node}")),
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
