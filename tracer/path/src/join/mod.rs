//! Which observations belong to which path.
//!
//! On a node the kernel's identity tells. Where there is none to follow (another node, or segments that GSO
//! made) content does: packets without stream bytes by all that forwarding leaves alone, packets with them by
//! the range they cover, so that splitting and merging do not matter.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;
use slab::Slab;

use podtrace_protocol::frame::FilterSpec;

mod arrival;
mod drops;
mod ending;
mod fit;
pub(crate) mod flow;
pub(crate) mod journey;
mod refusal;
pub(crate) mod track;
mod translation;
mod waiting;

use crate::join::arrival::{arrival, is_stray};
use crate::join::fit::{Fit, resolve};
use crate::join::flow::{Flows, Span};
use crate::join::journey::{Holder, JourneyKey, Journeys, Share, Stamp, Whereabouts};
use crate::join::track::{Arrival, Track};
use crate::model::{Action, Point};
use crate::observation::Observation;
use crate::observation::connection::Connection;
use crate::wire::packet::{Packet, PacketExt as _};
use crate::world::World;
use crate::world::devices::action;

/// How long after its last event a path that has ended may still be contradicted: a drop in the destination's
/// stack, a refusal on its way back.
pub(crate) const GRACE_NS: i64 = 20_000_000;
/// How long a path may stay out of sight before it has vanished: the resolution of a neighbour gives up after
/// 3 s, and the drop it ends in has to be able to arrive.
pub(crate) const PATIENCE_NS: i64 = 4_000_000_000;
/// How long after a refusal the drop of what it refuses is waited for: the kernel sends the refusal all its way out of
/// the node before it frees the packet, and a virtual CPU may be held up between the two.
pub(crate) const REFUSED_NS: i64 = 1_000_000_000;
/// How long after it came to the node that it was sent to a packet may still be on its way: a node port is the node's
/// own address, and leads elsewhere once it is translated.
pub(crate) const LOCAL_NS: i64 = 500_000_000;
/// A path is first looked at this long after its beginning, when most are over.
const FIRST_LOOK_NS: i64 = GRACE_NS + 2_000_000;
/// Beyond the clocks' error, how much earlier a packet's arrival may be read than its departure.
const TOLERANCE_NS: i64 = 1_000_000;

/// Events that are part of no path, by why.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Apart {
    /// No path begins where their packet did.
    pub(crate) unmatched: u64,
    /// Known to mean nothing: flooded copies, and drops of packets already told or taken.
    pub(crate) aside: u64,
}

/// When to look at a path that ends only after it was first looked at: the next look is at the end of its patience,
/// long after others that began later.
fn look_again(track: &Track, at: usize, now: i64) -> Option<Reverse<Timer>> {
    let late = now > track.first.saturating_add(FIRST_LOOK_NS);
    let due = now.saturating_add(GRACE_NS);
    late.then_some(Reverse(Timer { due, serial: track.serial, what: Look::Track(at) }))
}

/// An observation that waits for the beginning of its path, and what its journey saw since.
#[derive(Debug)]
struct Waiting {
    observations: Vec<Observation>,
    key: u64,
    serial: u64,
    /// Whether its path begins with it, if it is no other's.
    begins: bool,
}

/// When to look at what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    due: i64,
    serial: u64,
    what: Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    Waiting(usize),
    Track(usize),
}

/// All paths under way.
#[derive(Debug)]
pub(crate) struct Joiner {
    pub(crate) tracks: Slab<Track>,
    pub(crate) flows: Flows,
    journeys: Journeys,
    /// First and last of the tracks of equal content hash; packets without stream bytes only.
    same: FxHashMap<u64, (usize, usize)>,
    /// Tracks that arrived since the engine last asked.
    pub(crate) arrived: Vec<usize>,
    waiting: Slab<Waiting>,
    waiting_by_key: FxHashMap<u64, Vec<usize>>,
    timers: BinaryHeap<Reverse<Timer>>,
    serial: u64,
    pub(crate) apart: Apart,
    /// How far the clocks may be wrong about two nodes.
    slack: i64,
    /// Emptied, for new tracks to take over.
    spare: Vec<Track>,
    shares: Vec<Share>,
}

impl Joiner {
    pub(crate) fn new(filter: FilterSpec) -> Self {
        Self {
            tracks: Slab::new(),
            flows: Flows::new(filter),
            journeys: Journeys::default(),
            same: FxHashMap::default(),
            arrived: Vec::new(),
            waiting: Slab::new(),
            waiting_by_key: FxHashMap::default(),
            timers: BinaryHeap::new(),
            serial: 0,
            apart: Apart::default(),
            slack: TOLERANCE_NS,
            spare: Vec::new(),
            shares: Vec::new(),
        }
    }

    /// Sets how far the clocks may be wrong about two nodes.
    pub(crate) fn set_clock_error(&mut self, error: i64) {
        self.slack = TOLERANCE_NS.saturating_add(error.saturating_mul(2));
    }

    /// Takes the next observation.
    pub(crate) fn observe(&mut self, observation: &Observation, world: &World) {
        let key = (observation.node, observation.identity);
        if observation.point == Point::KfreeSkb {
            return self.observe_drop(observation, world);
        }
        if observation.point.is_step() {
            return self.observe_step(observation, world);
        }
        if let Some(packet) = &observation.packet
            && is_stray(observation, packet, world)
        {
            return self.observe_stray(observation, world);
        }
        let Some(journey) = self.journeys.get_mut(key) else {
            return self.observe_new(observation, world);
        };
        if let Holder::Waiting(at) = journey.holder {
            self.waiting[at].observations.push(observation.clone());
            return;
        }
        let stamp = observation.packet.as_ref().map(Stamp::of);
        if stamp.is_none_or(|stamp| stamp == journey.stamp) || !self.same_stream(observation) {
            self.follow(observation, world);
        } else {
            self.regrow(observation, world);
        }
    }

    /// A hook of the network stack saw a packet that taps have seen.
    fn observe_step(&mut self, observation: &Observation, world: &World) {
        let key = (observation.node, observation.identity);
        let original = || self.journeys.get(Self::origin(observation)?);
        let Some(journey) = self.journeys.get(key).or_else(original) else {
            // Its path was told already.
            self.apart.aside += 1;
            return;
        };
        let now = world.moment(observation);
        let (tracks, apart) = (&mut self.tracks, &mut self.apart);
        let mut take = |share: &Share| {
            if !tracks[share.track].step(observation, now) {
                apart.aside += 1;
            }
        };
        match &journey.holder {
            Holder::One(share) => take(share),
            Holder::Many(shares) => shares.iter().for_each(take),
            Holder::Waiting(at) => self.waiting[*at].observations.push(observation.clone()),
        }
    }

    /// The journey of the packet that this one was copied from.
    fn origin(observation: &Observation) -> Option<JourneyKey> {
        Some((observation.node, observation.parent?))
    }

    /// Whether the observation still has the stream that its journey's first path has: GRO changes the range,
    /// address translation the stream.
    fn same_stream(&self, observation: &Observation) -> bool {
        let Some(journey) = self.journeys.get((observation.node, observation.identity)) else { return false };
        let first = match &journey.holder {
            Holder::One(share) => Some(share.track),
            Holder::Many(shares) => shares.first().map(|share| share.track),
            Holder::Waiting(_) => None,
        };
        let (Some(track), Some(packet)) =
            (first.map(|track| &self.tracks[track].packet), &observation.packet)
        else {
            return false;
        };
        packet.stream().is_some()
            && track.stream().is_some()
            && (track.src, track.dst, track.ports()) == (packet.src, packet.dst, packet.ports())
    }

    /// A further observation of a journey whose paths are known.
    fn follow(&mut self, observation: &Observation, world: &World) {
        let Some(journey) = self.journeys.get((observation.node, observation.identity)) else { return };
        let mut shares = std::mem::take(&mut self.shares);
        shares.clear();
        match &journey.holder {
            Holder::One(share) => shares.push(*share),
            Holder::Many(many) => shares.extend_from_slice(many),
            Holder::Waiting(_) => {}
        }
        self.sight(observation, &shares, world);
        self.shares = shares;
    }

    fn sight(&mut self, observation: &Observation, shares: &[Share], world: &World) {
        let now = world.moment(observation);
        let mut whereabouts = Whereabouts::Way;
        for share in shares {
            self.link(observation, share.track, world);
            let track = &mut self.tracks[share.track];
            let all = track.sight(observation, share.bytes, now);
            let packet = observation.packet.as_ref().unwrap_or(&track.packet);
            let arrival = arrival(observation, packet, world);
            if arrival.is_none() && track.arrival == Some(Arrival::Local(observation.node)) {
                // It was for the node by its address only, and was translated there. By clocks that are a little wrong,
                // what another node saw before may also come after.
                track.arrival = None;
            }
            if let Some(arrival) = arrival {
                whereabouts = Whereabouts::Destination;
                if all {
                    if track.arrival.is_none() {
                        self.arrived.push(share.track);
                        self.timers.extend(look_again(track, share.track, now));
                    }
                    track.arrival = Some(arrival);
                }
            }
        }
        if let Some(journey) = self.journeys.get_mut((observation.node, observation.identity)) {
            journey.whereabouts = whereabouts;
        }
    }

    /// The packet of a known journey has other stream bytes than before: GRO added to it.
    fn regrow(&mut self, observation: &Observation, world: &World) {
        let mut shares = std::mem::take(&mut self.shares);
        match self.resolve(observation, &mut shares, world) {
            Fit::Whole(ambiguity) => self.attach(observation, &shares, ambiguity, world),
            Fit::Part(_) | Fit::None => self.wait(observation, false, world),
        }
        self.shares = shares;
    }

    fn observe_new(&mut self, observation: &Observation, world: &World) {
        let Some(packet) = &observation.packet else {
            self.apart.unmatched += 1;
            return;
        };
        if self.is_anothers(observation) {
            self.apart.aside += 1;
            return;
        }
        if action(observation.role, observation.point) == Action::PodEgress {
            return self.begin_or_wait(observation, packet, world);
        }
        let mut shares = std::mem::take(&mut self.shares);
        // A copy is whatever its original is, also where its headers tell nobody any more.
        let original = Self::origin(observation).and_then(|key| self.journeys.get(key));
        if let Some(journey) = original.filter(|journey| !matches!(journey.holder, Holder::Waiting(_))) {
            shares.clear();
            match &journey.holder {
                Holder::One(share) => shares.push(*share),
                Holder::Many(many) => shares.extend_from_slice(many),
                Holder::Waiting(_) => {}
            }
            self.attach(observation, &shares, 1, world);
            self.shares = shares;
            return;
        }
        match self.resolve(observation, &mut shares, world) {
            Fit::Whole(ambiguity) => self.attach(observation, &shares, ambiguity, world),
            Fit::None if begins_here(observation, packet, world) => {
                self.begin_or_wait(observation, packet, world);
            }
            Fit::Part(_) | Fit::None => self.wait(observation, false, world),
        }
        self.shares = shares;
    }

    /// Whether a packet only looks like one of interest since it was translated.
    fn is_anothers(&self, observation: &Observation) -> bool {
        let translated = observation.connection.as_deref().filter(|connection| connection.is_translated());
        translated.is_some_and(|connection| !self.flows.wants(connection))
    }

    /// A path begins here; if this may be another's packet only, it has to be known as a flow's of interest first.
    ///
    /// The answer to a packet may be read before it, where another node's clock is. If the packet was translated, only
    /// it can tell that both are of one flow: the answer waits for it.
    fn begin_or_wait(&mut self, observation: &Observation, packet: &Packet, world: &World) {
        let known = self.flows.known(packet, world.moment(observation)).is_some();
        // Translated as it is here, it is of interest by what it was before: another's was set aside.
        let wanted = observation.connection.as_deref().is_some_and(Connection::is_translated);
        let answers = world.names.len() > 1 && !self.flows.opens(packet);
        if !known && (observation.via && !wanted || answers) {
            self.wait(observation, true, world);
        } else {
            self.begin(observation, true, world);
        }
    }

    /// A flooded copy: it says nothing of the packet's way, but may explain why it never arrived.
    fn observe_stray(&mut self, observation: &Observation, world: &World) {
        self.apart.aside += 1;
        let key = (observation.node, observation.identity);
        let known = self.journeys.get(key).is_some();
        let key = if known { Some(key) } else { Self::origin(observation) };
        let Some(journey) = key.and_then(|key| self.journeys.get_mut(key)) else { return };
        if known {
            journey.whereabouts = Whereabouts::Astray;
        }
        let pod = observation.device.and_then(|id| world.devices.info(id).pod.clone());
        if let (Holder::One(share), Some(pod)) = (&journey.holder, pod) {
            self.tracks[share.track].stray.get_or_insert(pod);
        }
    }

    fn resolve(&mut self, observation: &Observation, shares: &mut Vec<Share>, world: &World) -> Fit {
        shares.clear();
        let Some(packet) = &observation.packet else { return Fit::None };
        let latest = world.moment(observation).saturating_add(self.slack);
        let Some((flow, forward)) = self.flows.known(packet, latest) else { return Fit::None };
        if packet.stream().is_some() {
            let way = self.flows.get_mut(flow).way_mut(forward);
            resolve::stream(observation, packet, way, &self.tracks, latest, shares)
        } else {
            let first = self.same.get(&packet.content_hash(flow, forward)).map(|(first, _)| *first);
            resolve::exact(observation, packet, (flow, forward), first, &self.tracks, latest, shares)
        }
    }

    /// The journey is these paths' from now on.
    fn attach(&mut self, observation: &Observation, shares: &[Share], ambiguity: u32, world: &World) {
        let key = (observation.node, observation.identity);
        let Some(packet) = &observation.packet else { return };
        if self.journeys.get(key).is_some() || self.journeys.has_room() {
            let holder = match shares {
                [share] => Holder::One(*share),
                many => Holder::Many(many.to_vec()),
            };
            self.journeys.insert(key, holder, Stamp::of(packet));
        } else {
            self.apart.unmatched += 1;
        }
        for share in shares {
            let track = &mut self.tracks[share.track];
            track.ambiguity = track.ambiguity.max(ambiguity);
            if !track.journeys.contains(&key) {
                track.journeys.push(key);
            }
        }
        self.sight(observation, shares, world);
    }

    /// A path begins with this observation.
    fn begin(&mut self, observation: &Observation, whole: bool, world: &World) {
        let Some(packet) = &observation.packet else { return };
        if !self.journeys.has_room() {
            self.apart.unmatched += 1;
            return;
        }
        let now = world.moment(observation);
        self.serial += 1;
        let serial = self.serial;
        let stamp = Stamp::of(packet);
        let sent = sent_by_node(observation, packet, world);
        let packet = sent.as_ref().unwrap_or(packet);
        let (flow, forward) = self.flows.of(packet, now);
        self.flows.path_begins(flow);
        let way = self.flows.get_mut(flow).way_mut(forward);
        let span = match packet.stream() {
            Some((seq, bytes)) => {
                let start = way.unwrap(seq);
                Some((start, start + u64::from(bytes)))
            }
            None => {
                if let crate::wire::packet::Transport::Tcp { seq, .. } = packet.transport {
                    way.unwrap(seq);
                }
                None
            }
        };
        let (mut sightings, mut steps, mut journeys) =
            self.spare.pop().map(|track| (track.sightings, track.steps, track.journeys)).unwrap_or_default();
        sightings.clear();
        steps.clear();
        journeys.clear();
        let key = (observation.node, observation.identity);
        journeys.push(key);
        let hash = if span.is_none() { packet.content_hash(flow, forward) } else { 0 };
        let track = self.tracks.insert(Track {
            serial,
            packet: packet.clone(),
            flow,
            forward,
            span,
            segments: observation.segments,
            sightings,
            steps,
            journeys,
            first: now,
            last: now,
            arrival: None,
            dropped: false,
            ambiguity: 1,
            whole,
            events: 0,
            stray: None,
            rejected: None,
            rejected_at: None,
            after: None,
            linked: false,
            superfluous: None,
            hash,
            next_same: None,
        });
        // What came to the node may wait for longer than its answer.
        let asked = self.flows.get(flow).way(!forward).recent().next();
        let asked = asked.filter(|asked| matches!(self.tracks[*asked].arrival, Some(Arrival::Local(_))));
        self.tracks[track].after = asked.map(|asked| (asked, self.tracks[asked].serial));
        let way = self.flows.get_mut(flow).way_mut(forward);
        way.remember(track);
        if let Some((start, end)) = span {
            way.add(Span { start, end, track });
        } else {
            let tracks = &mut self.tracks;
            self.same
                .entry(hash)
                .and_modify(|(_, last)| {
                    tracks[*last].next_same = Some(track);
                    *last = track;
                })
                .or_insert((track, track));
        }
        let share = Share { track, bytes: self.tracks[track].size() };
        self.journeys.insert(key, Holder::One(share), stamp);
        self.timers.push(Reverse(Timer {
            due: now.saturating_add(FIRST_LOOK_NS),
            serial,
            what: Look::Track(track),
        }));
        if observation.point == Point::KfreeSkb {
            self.drop_of(observation, &[share], Whereabouts::Way, world);
        } else {
            self.sight(observation, &[share], world);
        }
        if let Some(refused) = refusal::note(&mut self.flows, &mut self.tracks, track, world) {
            self.timers.push(Reverse(Timer {
                due: now.saturating_add(REFUSED_NS),
                serial: self.tracks[refused].serial,
                what: Look::Track(refused),
            }));
        }
        self.retry(track, world);
    }
}

/// Whether a packet that no path fits begins here: it is the node's own, or from where nobody is watching.
fn begins_here(observation: &Observation, packet: &Packet, world: &World) -> bool {
    if let Some(pod) = world.devices.pod_of(observation.node, observation.netns) {
        return world.directory.pod(packet.src) == Some(pod);
    }
    let own = world.devices.is_own(observation.node, packet.src);
    (own && observation.point != Point::TcIngress) || !(own || world.directory.begins_in_sight(packet.src))
}

/// What a packet of the node's own was when it was sent, where it is first seen after its translation.
fn sent_by_node(observation: &Observation, packet: &Packet, world: &World) -> Option<Packet> {
    let connection = observation.connection.as_deref().filter(|connection| connection.is_translated())?;
    let ends = connection.sent();
    let own = observation.point != Point::TcIngress && world.devices.is_own(observation.node, ends[0].0);
    own.then(|| packet.between(ends))
}
