//! Groups observations into tracks, one for each packet.
//!
//! Input: observations of all nodes, in the order of a common timeline with bounded error. Output: tracks, returned when
//! they have ended. The words used here:
//!
//! | word | what it is |
//! | --- | --- |
//! | observation | one event of an eBPF program, decoded: a packet, a place and a time |
//! | tap | a tc program on a device |
//! | hook | a function or tracepoint of the network stack that an eBPF program is attached to |
//! | identity | the number that the eBPF programs give an sk_buff. It follows the packet through one node |
//! | sk_buff | what is known of one identity: its tracks, and where it was seen last |
//! | track | an in-flight packet: everything that was seen of it on all nodes |
//! | sighting | the observations of a track at one tap, or its drop |
//! | step | the observations of a track at one hook |
//! | share | the bytes of one track within an sk_buff; after GRO, an sk_buff has shares of several tracks |
//! | piece | a GSO segment or IP fragment of a track's packet |
//! | path | a finished track, as it is reported |
//!
//! 1. **A track begins** where its packet is seen first and could not have been seen before: it leaves a pod, is sent by
//!    the node itself, or arrives from outside the traced nodes ([`mod@begin`]).
//! 2. **Within a node** observations are matched by identity, through NAT, encapsulation, clones and copies.
//! 3. **Across nodes**, and for segments that GSO made, there is no common identity. Packets without TCP payload are matched
//!    by the fields that forwarding does not change, the oldest track first ([`equals`]); packets with payload by their
//!    range of sequence numbers, so that splitting and merging do not matter ([`matching`]). If several tracks fit
//!    equally, the oldest is taken, and the track keeps how many there were.
//! 4. **An unmatched packet** waits as long as the clock error allows ([`waiting`]). Then it begins a track whose start was
//!    not seen.
//! 5. **NAT**: when a packet's addresses change, its flow learns the translated tuple of both directions ([`translation`]).
//! 6. **Hooks of the network stack** add steps to the track of a known identity. They never begin a track.
//! 7. **A track ends** by arrival ([`mod@arrival`]), a final drop ([`drops`]), a reset or an ICMP error ([`rejection`]), or a
//!    timeout ([`ending`]). It is kept for a while after that, because late observations may change its verdict.
//!
//! Limits: at most 2²⁰ identities are followed at once; events beyond that count as unmatched. 64 sightings are kept of a packet,
//! and the drop that ends it. Equal packets are matched by order, so a lost one may be taken for its successor; the path's confidence is
//! then below 1. If the eBPF programs miss that an sk_buff was freed, the next packet at its address inherits the
//! identity. This is detected if the track would become impossible (start twice, pass a device twice, turn back, go on after it
//! has arrived in a pod, change its content); otherwise the two packets are reported as one path.

mod arrival;
mod begin;
mod content;
mod drops;
mod ending;
mod equals;
mod fates;
mod flow;
mod forgery;
mod matching;
mod rejection;
mod shares;
mod shed;
pub(crate) mod sighting;
mod skb;
mod stream;
mod table;
mod timers;
pub(crate) mod track;
mod translation;
mod visits;
mod waiting;

use std::collections::VecDeque;

use podtrace_protocol::frame::FilterSpec;
use podtrace_protocol::wire::{Packet, Transport};

use crate::join::arrival::{arrival, is_flooded_copy};
use crate::join::begin::starts_here;
use crate::join::equals::EqualTracks;
use crate::join::fates::Fates;
use crate::join::flow::Flows;
use crate::join::matching::{Found, Match, Search, Window};
use crate::join::shares::Shares;
use crate::join::skb::{Extent, LastPlace, SkbOwner, SkbTable};
use crate::join::timers::Timers;
use crate::join::track::{Arrival, Track, TrackId, Tracks};
use crate::join::waiting::WaitingRoom;
use crate::model::Action;
use crate::observation::key::{DirectedKey, FlowKey};
use crate::observation::{Observation, SkbId};
use crate::time::Nanos;
use crate::world::World;

/// How long after its last event the verdict of a track normally stays open: for a drop in the receiver's stack, or a
/// rejection on its way back. [`DROP_AFTER_REJECT_TIMEOUT`] is longer.
const VERDICT_GRACE: Nanos = Nanos::from_millis(20);
/// How long a packet may stay unseen before it counts as vanished: the kernel gives up on a neighbour after 3 s, and the
/// drop event takes its time to get here.
pub(crate) const VANISH_TIMEOUT: Nanos = Nanos::from_secs(4);
/// How long the drop of a rejected packet may come after the rejection: the kernel transmits the ICMP error before it frees
/// the packet, and a virtual CPU may be preempted in between.
const DROP_AFTER_REJECT_TIMEOUT: Nanos = Nanos::from_secs(1);
/// How long a packet to the node's own address may still be forwarded: DNAT of a node port changes its destination.
const LOCAL_FORWARD_TIMEOUT: Nanos = Nanos::from_millis(500);
/// Added to the clock error: how far before its departure an arrival may be timestamped.
const TOLERANCE: Nanos = Nanos::from_millis(1);

/// Events that belong to no track, by reason.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unattributed {
    /// No track was found for them.
    pub(crate) unmatched: u64,
    /// They need none: flooded copies, harmless drops, and events of packets whose path was already reported.
    pub(crate) ignored: u64,
}

/// Groups observations into tracks.
#[derive(Debug)]
pub(crate) struct Joiner {
    tracks: Tracks,
    flows: Flows,
    skbs: SkbTable,
    equals: EqualTracks,
    waiting: WaitingRoom,
    timers: Timers,
    /// Flows that are known now, and that packets may have waited for.
    awaited: VecDeque<FlowKey>,
    /// Events of the tracks under way.
    events_held: u64,
    /// Tracks that arrived since [`Joiner::take_arrived`] was last called.
    arrived: Vec<TrackId>,
    pub(crate) unattributed: Unattributed,
    pub(crate) fates: Fates,
    /// The last number given to a track or a packet that waits.
    serial: u64,
    /// Maximum error between timestamps of two nodes.
    clock_error: Nanos,
    /// Whether events were lost.
    events_lost: bool,
}

impl Joiner {
    pub(crate) fn new(filter: FilterSpec) -> Self {
        Self {
            tracks: Tracks::default(),
            flows: Flows::new(filter),
            skbs: SkbTable::default(),
            equals: EqualTracks::default(),
            waiting: WaitingRoom::default(),
            timers: Timers::default(),
            awaited: VecDeque::new(),
            events_held: 0,
            arrived: Vec::new(),
            unattributed: Unattributed::default(),
            fates: Fates::default(),
            serial: 0,
            clock_error: Nanos::ZERO,
            events_lost: false,
        }
    }

    pub(crate) fn set_filter(&mut self, filter: FilterSpec) {
        self.flows.set_filter(filter);
    }

    pub(crate) fn filter(&self) -> &FilterSpec {
        self.flows.filter()
    }

    /// Sets the largest error of a node's clock.
    pub(crate) fn set_clock_error(&mut self, error: Nanos) {
        // Two nodes, each wrong by as much.
        self.clock_error = error * 2;
    }

    /// Events were lost: the start of a packet may be missing.
    pub(crate) fn note_lost_events(&mut self) {
        self.events_lost = true;
    }

    /// How far before its departure an arrival may be timestamped.
    fn slack(&self) -> Nanos {
        self.clock_error + TOLERANCE
    }

    /// Number of tracks that are not reported yet, ended ones included.
    pub(crate) fn under_way(&self) -> usize {
        self.tracks.len()
    }

    pub(crate) fn track(&self, id: TrackId) -> Option<&Track> {
        self.tracks.get(id)
    }

    pub(crate) fn track_mut(&mut self, id: TrackId) -> Option<&mut Track> {
        self.tracks.get_mut(id)
    }

    /// The tracks that arrived since this was last called.
    pub(crate) fn take_arrived(&mut self) -> Vec<TrackId> {
        std::mem::take(&mut self.arrived)
    }

    /// Notes that a track is reported. Returns its flow's number, and the relative sequence number of its payload.
    pub(crate) fn report(&mut self, track: &Track) -> (u64, u64) {
        let number = self.flows.path_reported(track.flow.id, track.forged.is_some());
        let relative = match (track.stream, &track.packet.transport) {
            (Some(bytes), Transport::Tcp { .. }) => self.flows.stream(track.flow).relative(bytes.start),
            _ => 0,
        };
        (number, relative)
    }

    /// Reuses the memory of a reported track.
    pub(crate) fn recycle(&mut self, track: Track) {
        self.tracks.recycle(track);
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Processes the next observation, and what waited for what it shows.
    pub(crate) fn observe(&mut self, observation: &Observation, world: &World) {
        self.take_in(observation, world);
        self.resume_all(world);
    }

    /// Processes an observation.
    fn take_in(&mut self, observation: &Observation, world: &World) {
        if observation.not_a_tunnel && self.is_not_wanted(observation) {
            self.unattributed.ignored += 1;
            return;
        }
        if observation.is_drop() {
            return self.observe_drop(observation, world);
        }
        if observation.point().is_step() {
            return self.observe_step(observation, world);
        }
        if let Some(packet) = &observation.packet
            && is_flooded_copy(observation, packet, world)
        {
            return self.observe_flooded_copy(observation, world);
        }
        let Some(state) = self.skbs.get(observation.skb) else {
            return self.observe_new(observation, world);
        };
        match &state.owner {
            SkbOwner::Unmatched(waiting) if self.waiting.excludes(*waiting, observation) => {
                self.retire(*waiting);
                self.observe_new(observation, world);
            }
            SkbOwner::Unmatched(waiting) => self.waiting.push(*waiting, observation),
            SkbOwner::Matched(shares) => {
                if let Some(packet) = &observation.packet
                    && self.reuses_identity(observation, packet, shares)
                {
                    self.end_skb(observation.skb);
                    return self.observe_new(observation, world);
                }
                // Another range of payload: the packet was split or merged, and is matched by its bytes again.
                let extent = observation.packet.as_ref().map(Extent::of);
                let same = extent.is_none_or(|extent| extent == state.extent);
                if same || !self.has_stream_of(observation, shares) {
                    let shares = shares.clone();
                    self.add_sightings(observation, &shares, world);
                } else {
                    self.match_again(observation, world);
                }
            }
        }
    }

    /// Whether it only matched by what looked like a tunnel's inner packet, and is followed for no other reason.
    fn is_not_wanted(&self, observation: &Observation) -> bool {
        self.skbs.get(observation.skb).is_none()
            && observation.packet.as_ref().is_some_and(|packet| !self.flows.is_traced(packet))
    }

    /// Whether the kernel has reused the sk_buff for another packet without the eBPF programs noticing. Assumed if the track
    /// would otherwise be impossible.
    fn reuses_identity(&self, observation: &Observation, packet: &Packet, shares: &Shares) -> bool {
        // Several tracks: GRO merged them, and the bytes decide.
        let Some(share) = shares.only() else { return false };
        let track = &self.tracks[share.track];
        track.has_passed(observation)
            || track.has_reached_pod_before(observation)
            || track.is_unlike(packet, observation.segments)
            || self.goes_back(track, packet)
    }

    /// Whether a packet has the opposite direction of its track's flow: a request does not turn into its reply.
    fn goes_back(&self, track: &Track, packet: &Packet) -> bool {
        !track.has_ends_of(packet)
            && self.flows.direction_of(DirectedKey::of(packet), track.flow.id)
                == Some(track.flow.direction.opposite())
    }

    /// Forgets an identity: its packet is gone.
    fn end_skb(&mut self, skb: SkbId) {
        let shares = self.skbs.shares(skb).cloned().unwrap_or_default();
        for share in shares.as_slice() {
            self.tracks[share.track].skb_ids.retain(|other| *other != skb);
        }
        self.skbs.remove(skb);
    }

    /// Adds the observation of a hook of the network stack to the tracks of its identity.
    fn observe_step(&mut self, observation: &Observation, world: &World) {
        let original = || self.skbs.get(observation.original?);
        let Some(state) = self.skbs.get(observation.skb).or_else(original) else {
            // Its path was already reported, or no tap saw it.
            self.unattributed.ignored += 1;
            return;
        };
        let at = observation.moment(world);
        match &state.owner {
            SkbOwner::Unmatched(waiting) => self.waiting.push(*waiting, observation),
            SkbOwner::Matched(shares) => {
                for share in shares.as_slice() {
                    let track = &mut self.tracks[share.track];
                    let events = track.events;
                    if !track.add_step(observation, at) {
                        self.unattributed.ignored += 1;
                    }
                    self.events_held += track.events - events;
                }
            }
        }
    }

    /// Notes the port to which a bridge flooded a copy: no hop of the packet, but it may explain why it never arrived.
    fn observe_flooded_copy(&mut self, observation: &Observation, world: &World) {
        self.unattributed.ignored += 1;
        let pod = observation.spot.device.and_then(|device| world.devices.info(device).pod.clone());
        let state = match self.skbs.get_mut(observation.skb) {
            Some(state) => {
                state.last_place = LastPlace::FloodedPort;
                Some(&*state)
            }
            None => observation.original.and_then(|original| self.skbs.get(original)),
        };
        let Some(SkbOwner::Matched(shares)) = state.map(|state| &state.owner) else { return };
        if let (Some(share), Some(pod)) = (shares.only(), pod) {
            self.tracks[share.track].flooded_to.get_or_insert(pod);
        }
    }

    /// The first observation of an identity.
    fn observe_new(&mut self, observation: &Observation, world: &World) {
        let Some(packet) = &observation.packet else {
            self.unattributed.unmatched += 1;
            return;
        };
        if self.is_untraced(observation) {
            self.unattributed.ignored += 1;
            return;
        }
        let is_new = observation.action() == Action::PodEgress
            || forgery::stranger_in_tunnel(observation, world).is_some();
        if is_new {
            return self.begin_or_wait(observation, packet, world);
        }
        // A copy belongs to the paths of its original, also where its headers cannot be recognised any more; unless the original
        // was taken for another packet that has been here.
        let original = observation.original.and_then(|original| self.skbs.shares(original));
        let has_passed = |shares: &&Shares| {
            shares.only().is_some_and(|share| self.tracks[share.track].has_passed(observation))
        };
        if let Some(shares) = original.filter(|shares| !has_passed(shares)) {
            let found = Found::sure(shares.clone());
            return self.attach(observation, found, world);
        }
        match self.find(observation, world) {
            Match::Whole(found) => self.attach(observation, found, world),
            Match::None if starts_here(observation, packet, world) => {
                self.begin_or_wait(observation, packet, world);
            }
            Match::Part(_) | Match::None => self.wait(observation, false, world),
        }
    }

    /// Whether the packet has the stream that its paths have, under addresses that are known to be their flow's: then its
    /// paths can be found by its bytes. Addresses that it was just translated to are not known yet.
    fn has_stream_of(&self, observation: &Observation, shares: &Shares) -> bool {
        let Some(packet) = &observation.packet else { return false };
        let Some(share) = shares.as_slice().first() else { return false };
        let track = &self.tracks[share.track];
        let direction = || self.flows.direction_of(DirectedKey::of(packet), track.flow.id);
        packet.stream().is_some() && track.stream.is_some() && direction() == Some(track.flow.direction)
    }

    /// A known packet has other stream bytes than before: GRO merged others into it.
    fn match_again(&mut self, observation: &Observation, world: &World) {
        match self.find(observation, world) {
            Match::Whole(found) => self.attach(observation, found, world),
            Match::Part(_) | Match::None => self.wait(observation, false, world),
        }
    }

    /// Finds the paths that a packet is, by its content.
    fn find(&mut self, observation: &Observation, world: &World) -> Match {
        let at = observation.moment(world);
        let window = Window { earliest: at - self.clock_error, latest: at + self.slack() };
        let Self { tracks, flows, equals, waiting, events_lost, .. } = self;
        Search { flows, equals, tracks, waiting, window, events_lost: *events_lost }.find(observation)
    }

    /// Whether it is of a connection that is not traced, and only looks like a traced one since it was translated.
    fn is_untraced(&self, observation: &Observation) -> bool {
        observation.translation().is_some_and(|connection| !self.flows.matches(connection))
    }

    /// This packet belongs to these paths from now on.
    fn attach(&mut self, observation: &Observation, found: Found, world: &World) {
        let skb = observation.skb;
        let Some(packet) = &observation.packet else { return };
        self.mark_ambiguous(&found);
        let Found { shares, .. } = found;
        if self.skbs.get(skb).is_some() || self.skbs.has_room() {
            self.skbs.insert(skb, SkbOwner::Matched(shares.clone()), packet);
        } else {
            self.unattributed.unmatched += 1;
        }
        for share in shares.as_slice() {
            let track = &mut self.tracks[share.track];
            if !track.skb_ids.contains(&skb) {
                track.skb_ids.push(skb);
            }
        }
        self.add_sightings(observation, &shares, world);
    }

    /// Where one of several paths was chosen, none of them is sure: not the chosen one, nor those that go without.
    fn mark_ambiguous(&mut self, found: &Found) {
        let Found { shares, candidates, others } = found;
        let chosen = shares.as_slice().iter().map(|share| share.track);
        for id in chosen.chain(others.iter().copied()) {
            let track = &mut self.tracks[id];
            track.candidates = track.candidates.max(*candidates);
        }
    }

    /// Adds an observation at a tap to its paths.
    fn add_sightings(&mut self, observation: &Observation, shares: &Shares, world: &World) {
        let at = observation.moment(world);
        let mut last_place = LastPlace::InTransit;
        for share in shares.as_slice() {
            self.learn_translation(observation, share.track);
            let track = &mut self.tracks[share.track];
            let seen_whole = track.add_sighting(observation, share.bytes, at);
            self.events_held += 1;
            let packet = observation.packet.as_ref().unwrap_or(&track.packet);
            let Some(arrival) = arrival(observation, packet, world) else {
                if track.is_in_stack_of(observation.node()) {
                    // It had the node's address only until it was translated there. Only this node can say so: with
                    // clocks that are a little wrong, what another node saw before may be read after.
                    track.arrival = None;
                }
                continue;
            };
            last_place = LastPlace::Destination;
            if let Arrival::DuplicateAddress { node: None, .. } = arrival {
                track.other_holder = observation.spot.device;
                if matches!(track.arrival, Some(Arrival::Pod(_))) {
                    // The receiver got a copy as well. Which of the two took it shows where one refuses it.
                    continue;
                }
            }
            // Of what GSO has split, the segments outside the sample are not seen.
            if seen_whole || self.flows.filter().sample.is_some() {
                if track.arrival.is_none() {
                    self.arrived.push(share.track);
                    self.timers.reschedule(track, share.track, at);
                }
                track.arrival = Some(arrival);
            }
        }
        if let Some(state) = self.skbs.get_mut(observation.skb) {
            state.last_place = last_place;
        }
    }
}
