//! Which of the paths under way a packet is, by its content alone.
//!
//! Needed where the identity within a node says nothing: on another node, for segments that GSO made, for packets that
//! GRO merged. A packet without stream bytes is compared with the equal ones of its flow. One with stream bytes is
//! looked up byte range by byte range, so that splitting and merging do not matter.

use std::hash::{Hash as _, Hasher as _};

use rustc_hash::FxHasher;

use podtrace_protocol::wire::Packet;

use crate::join::equals::{EqualTracks, MOST_COMPARED};
use crate::join::flow::{DirectedFlow, Flows};
use crate::join::shares::{Share, Shares};
use crate::join::stream::Stream;
use crate::join::track::{Track, TrackId, Tracks};
use crate::model::Point;
use crate::observation::Observation;
use crate::time::Moment;

/// Paths that a packet was found to be.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) shares: Shares,
    /// How many paths fitted equally where one was chosen; 1 if the choice was sure.
    pub(crate) candidates: u32,
}

/// How much of a packet was found.
#[derive(Debug)]
pub(crate) enum Match {
    /// All of it.
    Whole(Found),
    /// Some of its stream bytes.
    Part(Found),
    None,
}

/// What a search looks at.
pub(crate) struct Search<'a> {
    pub(crate) flows: &'a mut Flows,
    pub(crate) equals: &'a mut EqualTracks,
    pub(crate) tracks: &'a Tracks,
    /// Paths that begin after this cannot have been seen yet.
    pub(crate) latest: Moment,
}

impl Search<'_> {
    /// Finds the paths that an observed packet is.
    pub(crate) fn find(&mut self, observation: &Observation) -> Match {
        let Some(packet) = &observation.packet else { return Match::None };
        let Some(flow) = self.flows.known(packet, self.latest) else { return Match::None };
        match packet.stream() {
            Some(carried) => self.stream(observation, packet, flow, carried),
            None => self.equal(observation, packet, flow),
        }
    }

    /// A packet without stream bytes: the oldest path of equal content that this spot has not seen.
    fn equal(&mut self, observation: &Observation, packet: &Packet, flow: DirectedFlow) -> Match {
        let content = content_hash(packet, flow);
        let equals = self.equals.candidates(content, observation.spot, self.tracks).take(MOST_COMPARED);
        let (mut chosen, mut candidates) = (None, 0);
        for id in equals {
            let track = &self.tracks[id];
            if track.flow != flow || !track.packet.same_as(packet) {
                continue;
            }
            if is_open(track, observation, self.latest) {
                chosen.get_or_insert(id);
                candidates += 1;
            } else if track.candidates > 1 {
                // It was one of several to choose from when it was seen here, so this packet may be it.
                candidates += 1;
            }
        }
        let Some(track) = chosen else { return Match::None };
        Match::Whole(Found { shares: Shares::One(Share { track, bytes: 1 }), candidates })
    }

    /// A packet with stream bytes: for each range of them the path that agrees best, else the oldest one that has it
    /// and was not seen here.
    fn stream(
        &mut self,
        observation: &Observation,
        packet: &Packet,
        flow: DirectedFlow,
        carried: (u32, u32),
    ) -> Match {
        let bytes = self.flows.stream_mut(flow).bytes(carried);
        let stream = self.flows.stream(flow);
        let (mut cursor, mut gaps) = (bytes.start, false);
        let mut found = Found { shares: Shares::None, candidates: 1 };
        while cursor < bytes.end {
            let Some(best) = self.best_holding(cursor, stream, observation, packet) else {
                gaps = true;
                cursor = stream.next_start(cursor).unwrap_or(bytes.end);
                continue;
            };
            let until = best.end.min(bytes.end);
            let count = u32::try_from(until - cursor).unwrap_or(u32::MAX);
            found.shares.push(Share { track: best.track, bytes: count });
            found.candidates = found.candidates.max(best.candidates);
            cursor = until;
        }
        match (found.shares.is_empty(), gaps) {
            (true, _) => Match::None,
            (false, true) => Match::Part(found),
            (false, false) => Match::Whole(found),
        }
    }

    /// The path that has this stream byte and agrees best; the oldest of those that agree alike.
    fn best_holding(
        &self,
        byte: u64,
        stream: &Stream,
        observation: &Observation,
        packet: &Packet,
    ) -> Option<Best> {
        let mut best: Option<Best> = None;
        // Paths seen here already by a choice that was not sure.
        let mut doubtful = 0;
        for span in stream.holding(byte) {
            let track = &self.tracks[span.track];
            if !is_open(track, observation, self.latest) {
                doubtful += u32::from(track.candidates > 1);
                continue;
            }
            let agreement = Agreement::of(observation, packet, track);
            match &mut best {
                Some(best) if best.agreement > agreement => {}
                Some(best) if best.agreement == agreement => best.candidates += 1,
                _ => best = Some(Best { agreement, end: span.bytes.end, track: span.track, candidates: 1 }),
            }
        }
        let mut best = best?;
        if best.agreement == Agreement::Bytes {
            best.candidates += doubtful;
        }
        Some(best)
    }
}

/// The path chosen for a byte.
struct Best {
    agreement: Agreement,
    /// Where its stream bytes end.
    end: u64,
    track: TrackId,
    candidates: u32,
}

/// What speaks for a path that has the stream bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Agreement {
    /// The bytes alone.
    Bytes,
    /// The IP identification: GSO numbers segments from their whole's identification on. IPv6 has none.
    Identification,
    /// The identity within the node.
    Identity,
}

impl Agreement {
    fn of(observation: &Observation, packet: &Packet, track: &Track) -> Self {
        if track.locals.contains(&observation.local) {
            return Self::Identity;
        }
        let distance = |from: u32, to: u32| u32::from((to as u16).wrapping_sub(from as u16));
        let is_segment = distance(track.packet.id, packet.id) < track.segments.max(1);
        let holds_it = distance(packet.id, track.packet.id) < observation.segments.max(1);
        if packet.src.is_ipv4() && (is_segment || holds_it) { Self::Identification } else { Self::Bytes }
    }
}

/// Whether the path may still be where the observation was made. A spot that has seen all of a path sees another path's
/// packet.
fn is_open(track: &Track, observation: &Observation, latest: Moment) -> bool {
    track.first <= latest
        && (observation.point() == Point::KfreeSkb || !track.is_covered_at(observation.spot))
}

/// Equal for packets of one direction of a flow that are [`Packet::same_as`] one another.
pub(crate) fn content_hash(packet: &Packet, flow: DirectedFlow) -> u64 {
    let mut hasher = FxHasher::default();
    (flow, packet.content()).hash(&mut hasher);
    hasher.finish()
}
