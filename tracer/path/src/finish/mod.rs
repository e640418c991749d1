//! From a path that is over to the finished path that reports show.
//!
//! Input: a track with its sightings at taps and its steps at hooks of the network stack, and the world. Output: a
//! [`Path`] with hops, ends, verdict and label.
//!
//! 1. The sightings, in the order in which the packet passed them, become hops; what must have happened between two of
//!    them is inferred: bridging, routing, translation, delivery to the node ([`hops`]).
//! 2. The steps are given to the hops they belong to: what was inferred is now observed, and hops get details that taps
//!    cannot see ([`steps`]).
//! 3. Translations are named, with the Service and the rule they are by ([`translation`]).
//! 4. Drops by the packet filter get the rule that did it ([`droppers`]).
//! 5. The verdict follows from what ended the path ([`verdict`]).

mod draft;
mod droppers;
mod hops;
mod inference;
mod steps;
mod translation;
mod verdict;

use podtrace_protocol::wire::Packet;

use crate::finish::hops::Hops;
pub(crate) use crate::finish::verdict::{Ending, excluded_start};
use crate::join::sighting::Sighting;
use crate::join::track::Track;
use crate::label::label;
use crate::model::{FlowRef, Path, Protocol, Reading, Segment, Translated, Tuple};
use crate::world::World;

/// What a finished path has of the trace as a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// Of the path within the trace.
    pub(crate) path: u64,
    /// Of its flow within the trace.
    pub(crate) flow: u64,
    /// Sequence number of its first stream byte, counted from the first one seen of its stream.
    pub(crate) relative_sequence: u64,
}

/// Makes the finished path of a track whose sightings are in order.
pub(crate) fn path(track: &Track, numbers: Numbers, ending: Ending<'_>, world: &World) -> Path {
    let is_excluded = excluded_start(track, ending.filter, world).is_some();
    let (verdict, reason) = verdict::verdict(track, ending, world);
    let Hops { hops, duration_ns, error_ns } = hops::hops(track, world);
    let ends = |tuple: &Tuple| world.directory.ends(tuple, track.first);
    let (mut from, to) = ends(&track.tuple());
    let reason = match &track.forged {
        Some(forged) => {
            // By the veth, not by the address.
            (from.pod, from.node) = (forged.pod.clone(), Some(forged.node.clone()));
            Some(reason.map_or_else(|| forged.to_string(), |reason| format!("{forged}; {reason}")))
        }
        None => reason,
    };
    let packet: &Packet = &track.packet;
    Path {
        id: numbers.path,
        verdict,
        reason,
        advice: None,
        confidence: confidence(track, is_excluded),
        flow: FlowRef { id: numbers.flow, direction: track.flow.direction },
        from,
        to,
        translated: last_tuple(track).filter(|last| *last != track.tuple()).map(|last| {
            let (from, to) = ends(&last);
            Box::new(Translated { from, to })
        }),
        proto: Protocol::of_number(packet.protocol),
        label: label(packet, numbers.relative_sequence),
        bytes: packet.length,
        payload: packet.payload,
        started_at: track.sightings.first().map_or(0, |first| world.clocks.wall(first.node(), first.time)),
        duration_ns,
        duration_error_ns: error_ns,
        hops,
        forged: track.forged.clone(),
        segment: Segment::of(packet),
        seen: track.sightings.first().zip(track.sightings.last()).map(|(a, b)| (reading(a), reading(b))),
        wire_packets: track.segments,
    }
}

fn reading(seen: &Sighting) -> Reading {
    Reading { node: seen.node().index(), at_ns: seen.time.reading().get() }
}

/// Addresses and ports that the packet had where it was last seen.
pub(crate) fn last_tuple(track: &Track) -> Option<Tuple> {
    track.sightings.last().map(|last| track.tuple_at(last))
}

fn confidence(track: &Track, is_excluded: bool) -> f64 {
    let of_joins = 1.0 / f64::from(track.candidates.max(1));
    // Without its start, it may as well be the continuation of a path that was lost; unless nobody looked for the start.
    if track.start_seen || is_excluded { of_joins } else { of_joins / 2.0 }
}
