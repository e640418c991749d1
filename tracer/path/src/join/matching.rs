//! Which of the paths under way a packet is, by its content alone.
//!
//! Needed where the identity within a node says nothing: on another node, for segments that GSO made, for packets that
//! GRO merged. A packet without stream bytes is compared with the equal ones of its flow. One with stream bytes is
//! looked up byte range by byte range, so that splitting and merging do not matter.

use podtrace_protocol::wire::Packet;

use crate::join::content::ContentHash;
use crate::join::equals::{EqualTracks, MOST_COMPARED};
use crate::join::flow::{DirectedFlow, Flows};
use crate::join::shares::{Share, Shares};
use crate::join::stream::{Span, Stream};
use crate::join::track::{Track, TrackId, Tracks, is_entry};
use crate::join::waiting::WaitingRoom;
use crate::model::Action;
use crate::observation::Observation;
use crate::time::Moment;

/// Paths that a packet was found to be.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) shares: Shares,
    /// How many paths fitted equally where one was chosen; 1 if the choice was sure.
    pub(crate) candidates: u32,
    /// Paths that fitted as well and were not chosen.
    pub(crate) others: Vec<TrackId>,
}

impl Found {
    pub(crate) fn sure(shares: Shares) -> Self {
        Self { shares, candidates: 1, others: Vec::new() }
    }
}

/// How much of a packet was found.
#[derive(Debug)]
pub(crate) enum Match {
    /// All of it.
    Whole(Found),
    /// Some of its stream bytes, or all of them in packets that are most likely others.
    Part(Found),
    None,
}

/// When the observation was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Before it, whatever the clocks' error.
    pub(crate) earliest: Moment,
    /// After it, whatever the clocks' error: a path that begins later cannot have been seen yet.
    pub(crate) latest: Moment,
}

/// What a search looks at.
pub(crate) struct Search<'a> {
    pub(crate) flows: &'a mut Flows,
    pub(crate) equals: &'a mut EqualTracks,
    pub(crate) tracks: &'a Tracks,
    pub(crate) waiting: &'a WaitingRoom,
    pub(crate) window: Window,
    /// Whether events were lost, so that a packet's start may be missing.
    pub(crate) events_lost: bool,
}

impl Search<'_> {
    /// Finds the paths that an observed packet is.
    pub(crate) fn find(&mut self, observation: &Observation) -> Match {
        let Some(packet) = &observation.packet else { return Match::None };
        let Some(flow) = self.flows.known(packet, self.window.latest) else { return Match::None };
        match packet.stream() {
            Some(carried) => self.stream(observation, packet, flow, carried),
            None => self.equal(observation, packet, flow),
        }
    }

    /// A packet without stream bytes: the oldest path of equal content that this spot has not seen.
    fn equal(&mut self, observation: &Observation, packet: &Packet, flow: DirectedFlow) -> Match {
        let content = ContentHash::of(packet, flow);
        // By the headers only what has not been captured as far as this packet, or farther, is found.
        let found = content.each().find_map(|hash| self.oldest_equal(hash, observation, packet, flow));
        let Some(mut found) = found else { return Match::None };
        // One of these may have been sent before it, though its start was not seen.
        found.candidates += self.waiting.equal_elsewhere(content, packet, observation.node());
        Match::Whole(found)
    }

    /// The oldest path of this hash, of content equal to the packet's.
    fn oldest_equal(
        &mut self,
        hash: u64,
        observation: &Observation,
        packet: &Packet,
        flow: DirectedFlow,
    ) -> Option<Found> {
        let equals = self.equals.candidates(hash, observation.spot, self.tracks).take(MOST_COMPARED);
        let (mut chosen, mut dropped, mut candidates, mut others) = (None, None, 0, Vec::new());
        for id in equals {
            let track = &self.tracks[id];
            if track.flow != flow || !track.packet.same_as(packet) {
                continue;
            }
            if !track.was_beyond(observation) && is_open(track, observation, self.window) {
                if track.dropped {
                    // A copy of it may go on, but one that was not dropped is more likely.
                    dropped.get_or_insert(id);
                    continue;
                }
                candidates += 1;
                if chosen.is_none() {
                    chosen = Some(id);
                } else {
                    others.push(id);
                }
            } else if track.candidates > 1 {
                // It was one of several to choose from when it was seen here, so this packet may be it.
                candidates += 1;
            }
        }
        let track = chosen.or(dropped)?;
        candidates = candidates.max(1);
        // Where events were lost, it may be an equal packet whose start is missing, unless something in it tells.
        let may_be_other = self.tracks[track].has_other_identity(observation) || !packet.is_numbered();
        if self.events_lost && may_be_other {
            candidates += 1;
        }
        Some(Found { shares: Shares::One(Share { track, bytes: 1 }), candidates, others })
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
        let (mut cursor, mut is_whole) = (bytes.start, true);
        let mut found = Found::sure(Shares::None);
        while cursor < bytes.end {
            let Some(best) = self.best_holding(cursor, stream, observation, packet) else {
                is_whole = false;
                cursor = stream.next_start(cursor).unwrap_or(bytes.end);
                continue;
            };
            // The same bytes under another number are sent again, most likely: that path may begin later.
            is_whole &= best.agreement > Agreement::Bytes || !packet.is_numbered();
            let until = best.end.min(bytes.end);
            let count = u32::try_from(until - cursor).unwrap_or(u32::MAX);
            found.shares.push(Share { track: best.track, bytes: count });
            found.candidates = found.candidates.max(best.candidates);
            found.others.extend(best.others);
            cursor = until;
        }
        match (found.shares.is_empty(), is_whole) {
            (true, _) => Match::None,
            (false, false) => Match::Part(found),
            (false, true) => Match::Whole(found),
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
            let is_whole = packet.stream() == track.packet.stream();
            let is_known = track.skb_ids.contains(&observation.skb);
            let is_beyond = is_whole && !is_known && track.was_beyond(observation);
            if is_beyond || !is_open(track, observation, self.window) {
                doubtful += u32::from(track.candidates > 1);
                continue;
            }
            let agreement = Agreement::of(observation, packet, track);
            match &mut best {
                Some(best) if best.agreement > agreement => {}
                Some(best) if best.agreement == agreement => {
                    best.candidates += 1;
                    best.others.push(span.track);
                }
                _ => best = Some(Best::sure(agreement, span)),
            }
        }
        let mut best = best?;
        if best.agreement == Agreement::Bytes {
            // Where events were lost, it may have been sent again, by a packet whose start is missing.
            best.candidates += doubtful + u32::from(self.events_lost);
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
    /// Paths that agree as well.
    others: Vec<TrackId>,
}

impl Best {
    fn sure(agreement: Agreement, span: Span) -> Self {
        let Span { bytes, track } = span;
        Self { agreement, end: bytes.end, track, candidates: 1, others: Vec::new() }
    }
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
        if track.skb_ids.contains(&observation.skb) {
            return Self::Identity;
        }
        let distance = |from: u32, to: u32| u32::from((to as u16).wrapping_sub(from as u16));
        let is_segment = distance(track.packet.id, packet.id) < track.segments.max(1);
        let holds_it = distance(packet.id, track.packet.id) < observation.segments.max(1);
        if packet.src.is_ipv4() && (is_segment || holds_it) { Self::Identification } else { Self::Bytes }
    }
}

/// Whether the path may be where the observation was made, at that time. It may not
///
/// - if it began later; on one node times compare exactly, so no error is allowed for there,
/// - if it was seen before it comes out of its pod now,
/// - if this spot has seen all of it: then it sees another path's packet,
/// - if it had arrived at a pod of this node, or left for another node, under another identity: a packet does not go back,
///   unless it enters the node again.
fn is_open(track: &Track, observation: &Observation, window: Window) -> bool {
    let Window { earliest, latest } = window;
    if track.first > latest || track.starts_on_node_after(observation) {
        return false;
    }
    if observation.is_drop() {
        return true;
    }
    if observation.action() == Action::PodEgress && track.was_seen_before(observation, earliest) {
        return false;
    }
    let is_over_here = track.has_other_identity(observation)
        && (track.has_reached_pod_before(observation)
            || !is_entry(observation) && track.has_left_before(observation.node(), earliest));
    !is_over_here && !track.is_covered_at(observation.spot)
}
