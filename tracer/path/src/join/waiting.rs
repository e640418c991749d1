//! Packets that wait for the beginning of their path.
//!
//! Two nodes' events are read in the order of a timeline that is a little wrong: a packet's arrival may be read before
//! its departure. And the answer to a translated packet belongs to a flow only once that packet was read. So what no
//! path fits waits here for as long as the clocks may be wrong. It waits for a *key*: the stream or the content of a path
//! that begins, or the flow that has to become known first.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use podtrace_protocol::wire::Packet;

use super::{Joiner, TOLERANCE};
use crate::join::begin::starts_here;
use crate::join::content::ContentHash;
use crate::join::equals::MOST_COMPARED;
use crate::join::flow::DirectedFlow;
use crate::join::matching::{Found, Match};
use crate::join::skb::{LastPlace, SkbOwner};
use crate::join::table::{Key, Table};
use crate::join::timers::Look;
use crate::join::track::{TrackId, is_unlike};
use crate::memory::{self, cost};
use crate::model::Action;
use crate::node::NodeId;
use crate::observation::Observation;
use crate::observation::key::{DirectedKey, FlowKey};
use crate::world::World;

/// Number of a packet that waits; never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaitingId(Key);

impl WaitingId {
    pub(crate) fn serial(self) -> u64 {
        self.0.serial()
    }
}

/// What a packet waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum WaitKey {
    /// A path with stream bytes in this direction of a flow.
    Stream(DirectedFlow),
    /// A path whose packet has this hash, see [`ContentHash`].
    Content(u64),
    /// That packets with this key are known to belong to a flow.
    Flow(FlowKey),
}

/// A packet within a node whose path is not known, and all that was observed of it since.
#[derive(Debug)]
pub(crate) struct Waiting {
    first: Observation,
    later: Vec<Observation>,
    key: WaitKey,
    /// Whether its path begins with it, if no other one fits.
    begins: bool,
}

/// All packets that wait.
#[derive(Debug, Default)]
pub(crate) struct WaitingRoom {
    table: Table<Waiting>,
    /// Oldest first.
    by_key: FxHashMap<WaitKey, BTreeSet<WaitingId>>,
    /// Observations of all packets that wait.
    observations: usize,
}

impl WaitingRoom {
    fn insert(&mut self, serial: u64, waiting: Waiting) -> WaitingId {
        let key = waiting.key;
        self.observations += 1 + waiting.later.len();
        let id = WaitingId(self.table.insert(serial, waiting));
        self.by_key.entry(key).or_default().insert(id);
        id
    }

    /// Adds a later observation of a packet that waits.
    pub(crate) fn push(&mut self, id: WaitingId, observation: &Observation) {
        if let Some(waiting) = self.table.get_mut(id.0) {
            waiting.later.push(observation.clone());
            self.observations += 1;
        }
    }

    /// Whether an observation of the same identity is of another packet: identities pass to the next packet in the same
    /// memory.
    pub(crate) fn excludes(&self, id: WaitingId, observation: &Observation) -> bool {
        let Some(Waiting { first, later, .. }) = self.get(id) else { return true };
        let (Some(one), Some(other)) = (&first.packet, &observation.packet) else { return false };
        let mut seen = std::iter::once(first).chain(later);
        one.stream().is_none()
            && (is_unlike(one, other, first.segments.max(observation.segments))
                || observation.action() == Action::PodEgress
                || seen.any(|earlier| earlier.spot == observation.spot))
    }

    fn get(&self, id: WaitingId) -> Option<&Waiting> {
        self.table.get(id.0)
    }

    fn remove(&mut self, id: WaitingId) -> Option<Waiting> {
        let waiting = self.table.remove(id.0)?;
        self.unlist(id, waiting.key);
        self.observations -= 1 + waiting.later.len();
        Some(waiting)
    }

    fn set_key(&mut self, id: WaitingId, key: WaitKey) {
        let Some(waiting) = self.table.get_mut(id.0) else { return };
        let old = std::mem::replace(&mut waiting.key, key);
        self.unlist(id, old);
        self.by_key.entry(key).or_default().insert(id);
    }

    fn unlist(&mut self, id: WaitingId, key: WaitKey) {
        if let Some(others) = self.by_key.get_mut(&key) {
            others.remove(&id);
            if others.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }

    fn of_key(&self, key: WaitKey) -> impl Iterator<Item = WaitingId> {
        self.by_key.get(&key).into_iter().flatten().copied()
    }

    /// The oldest packet that begins a path and waits for the same flow as this one.
    fn beginning_beside(&self, id: WaitingId) -> Option<WaitingId> {
        let key = self.get(id)?.key;
        let is_flow = matches!(key, WaitKey::Flow(_));
        self.of_key(key).filter(|_| is_flow).find(|other| self.get(*other).is_some_and(|other| other.begins))
    }

    /// How many packets equal to this one wait that were seen on another node; about [`MOST_COMPARED`] are compared.
    pub(crate) fn equal_elsewhere(&self, content: ContentHash, packet: &Packet, node: NodeId) -> u32 {
        let compared =
            content.each().flat_map(|hash| self.of_key(WaitKey::Content(hash)).take(MOST_COMPARED));
        let equal = |first: &Observation| first.packet.as_ref().is_some_and(|other| other.same_as(packet));
        let elsewhere = compared
            .filter_map(|id| self.get(id))
            .filter(|waiting| waiting.first.node() != node && equal(&waiting.first));
        u32::try_from(elsewhere.count()).unwrap_or(u32::MAX)
    }

    /// All that wait, oldest first.
    pub(crate) fn all(&self) -> Vec<WaitingId> {
        let mut all: Vec<_> = self.table.iter().map(|(key, _)| WaitingId(key)).collect();
        all.sort_unstable();
        all
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn is_waiting(&self, id: WaitingId) -> bool {
        self.table.get(id.0).is_some()
    }

    /// Estimated memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        cost(memory::OBSERVATION, self.observations) + cost(memory::WAITING, self.table.len())
    }
}

impl Joiner {
    /// Has a packet wait: the beginning of its path has not been read yet. If `begins`, it is the beginning, of a flow
    /// that is not known yet.
    pub(super) fn wait(&mut self, observation: &Observation, begins: bool, world: &World) {
        let Some(packet) = &observation.packet else { return };
        if !self.skbs.has_room() {
            self.unattributed.unmatched += 1;
            self.fates.unexplained(u64::from(observation.is_drop()));
            return;
        }
        let key = self.wait_key(packet, observation, world);
        let waiting = Waiting { first: observation.clone(), later: Vec::new(), key, begins };
        let serial = self.next_serial();
        let id = self.waiting.insert(serial, waiting);
        self.skbs.insert(observation.skb, SkbOwner::Unmatched(id), packet);
        let mut patience = self.slack() + TOLERANCE;
        if matches!(key, WaitKey::Flow(_)) && !begins {
            // What its flow begins with may wait as well.
            patience = patience + patience;
        }
        self.timers.set(observation.moment(world) + patience, Look::Waiting(id));
    }

    fn wait_key(&mut self, packet: &Packet, observation: &Observation, world: &World) -> WaitKey {
        match self.flows.known(packet, observation.moment(world)) {
            Some(flow) if packet.stream().is_some() => WaitKey::Stream(flow),
            Some(flow) => WaitKey::Content(ContentHash::of(packet, flow).whole),
            None => WaitKey::Flow(DirectedKey::of(packet).key),
        }
    }

    /// Resumes what waited for flows that are known now. All that is known of a packet by its identity comes before, so that
    /// what looks like it is not taken for it.
    pub(super) fn resume_all(&mut self, world: &World) {
        while let Some(key) = self.awaited.pop_front() {
            self.resume_for_flow(key, world);
        }
    }

    /// A path has begun: what waited for it goes on.
    pub(super) fn resume_for_track(&mut self, track: TrackId, world: &World) {
        if self.waiting.is_empty() {
            return;
        }
        let begun = &self.tracks[track];
        let flow_key = DirectedKey::of(&begun.packet).key;
        // The path is one packet: of many equal ones that wait for it, only the oldest can be it.
        let resumable: Vec<WaitingId> = match begun.packet.stream() {
            Some(bytes) => self
                .waiting
                .of_key(WaitKey::Stream(begun.flow))
                .filter(|id| self.waiting.get(*id).is_some_and(|waiting| waiting.overlaps(bytes)))
                .collect(),
            None => begun
                .content
                .each()
                .flat_map(|hash| self.waiting.of_key(WaitKey::Content(hash)).take(MOST_COMPARED))
                .collect(),
        };
        for id in resumable {
            self.resume_if_found(id, world);
        }
        // Before its translated packets and what answers them.
        self.awaited.push_front(flow_key);
    }

    fn resume_if_found(&mut self, id: WaitingId, world: &World) {
        let Some(Waiting { first, .. }) = self.waiting.get(id) else { return };
        let first = first.clone();
        if let Match::Whole(found) = self.find(&first, world) {
            self.resume(id, found, world);
        }
    }

    /// Packets with this key are known to belong to a flow now: what waited for that begins a path, goes on, or waits
    /// for a path of the flow.
    fn resume_for_flow(&mut self, key: FlowKey, world: &World) {
        let candidates: Vec<WaitingId> = self.waiting.of_key(WaitKey::Flow(key)).collect();
        for id in candidates {
            let Some(Waiting { first, begins, .. }) = self.waiting.get(id) else { continue };
            let (first, begins) = (first.clone(), *begins);
            let Some(packet) = &first.packet else { continue };
            let begins = begins
                || first.only_if_translated
                    && (first.action() == Action::PodEgress || starts_here(&first, packet, world));
            match self.find(&first, world) {
                Match::Whole(found) => self.resume(id, found, world),
                _ if begins => self.begin_waiting(id, true, world),
                _ => {
                    let key = self.wait_key(packet, &first, world);
                    self.waiting.set_key(id, key);
                }
            }
        }
    }

    /// The identity of a packet that waits has passed to another one.
    pub(super) fn retire(&mut self, id: WaitingId) {
        let serial = self.next_serial();
        let Some(waiting) = self.waiting.table.get_mut(id.0) else { return };
        self.skbs.remove(waiting.first.skb);
        waiting.first.retire(serial);
        waiting.later.iter_mut().for_each(|observation| observation.retire(serial));
        if let Some(packet) = &waiting.first.packet {
            self.skbs.insert(waiting.first.skb, SkbOwner::Unmatched(id), packet);
        }
    }

    /// The path of a packet that waited begins with it.
    fn begin_waiting(&mut self, id: WaitingId, start_seen: bool, world: &World) {
        let Some(waiting) = self.end_wait(id) else { return };
        let begun = self.begin(&waiting.first, start_seen, world);
        self.take_in_all(&waiting.later, world);
        if let Some(begun) = begun {
            self.resume_for_track(begun, world);
        }
    }

    /// The paths of a packet that waited are found.
    fn resume(&mut self, id: WaitingId, found: Found, world: &World) {
        let Some(waiting) = self.end_wait(id) else { return };
        if waiting.first.is_drop() {
            self.mark_ambiguous(&found);
            self.attribute_drop(&waiting.first, &found.shares, LastPlace::InTransit, world);
        } else {
            self.attach(&waiting.first, found, world);
        }
        self.take_in_all(&waiting.later, world);
    }

    fn take_in_all(&mut self, observations: &[Observation], world: &World) {
        for observation in observations {
            self.take_in(observation, world);
        }
    }

    /// Gives up a packet that waits, as memory is short. If a path begins with it, it begins now. Returns the number of events
    /// that belong to no track.
    pub(super) fn forget_waiting(&mut self, id: WaitingId, world: &World) -> u64 {
        if self.waiting.get(id).is_some_and(|waiting| waiting.begins) {
            self.begin_waiting(id, true, world);
            self.resume_all(world);
            return 0;
        }
        let waiting = self.end_wait(id);
        let events = waiting.as_ref().map_or(0, Waiting::events);
        self.unattributed.unmatched += events;
        self.fates.unexplained(waiting.map_or(0, |waiting| waiting.drops()));
        events
    }

    fn end_wait(&mut self, id: WaitingId) -> Option<Waiting> {
        let waiting = self.waiting.remove(id)?;
        self.skbs.remove(waiting.first.skb);
        Some(waiting)
    }

    /// A packet has waited for long enough: what fits in part is taken, else a path begins with it.
    pub(super) fn give_up(&mut self, id: WaitingId, world: &World) {
        let Some(Waiting { first, begins, .. }) = self.waiting.get(id) else { return };
        let (first, begins) = (first.clone(), *begins);
        match self.find(&first, world) {
            Match::Whole(found) | Match::Part(found) => self.resume(id, found, world),
            // It matched by a node's address, which stood for no traced packet.
            Match::None if first.only_if_translated => {
                if let Some(waiting) = self.end_wait(id) {
                    self.unattributed.ignored += waiting.events();
                }
            }
            Match::None => match self.waiting.beginning_beside(id).filter(|_| !begins) {
                // Of its own path, most likely.
                Some(beginning) => {
                    self.begin_waiting(beginning, true, world);
                    self.resume_all(world);
                    return self.give_up(id, world);
                }
                None => self.begin_waiting(id, begins, world),
            },
        }
        self.resume_all(world);
    }
}

impl Waiting {
    /// How many events it has.
    fn events(&self) -> u64 {
        u64::try_from(self.later.len() + 1).unwrap_or(u64::MAX)
    }

    /// How many of its events are drops.
    pub(super) fn drops(&self) -> u64 {
        let all = std::iter::once(&self.first).chain(&self.later);
        u64::try_from(all.filter(|observation| observation.is_drop()).count()).unwrap_or(u64::MAX)
    }

    /// Whether it has any of these stream bytes: sequence number and count.
    fn overlaps(&self, (seq, count): (u32, u32)) -> bool {
        let own = self.first.packet.as_ref().and_then(Packet::stream);
        own.is_some_and(|(own_seq, own_count)| {
            own_seq.wrapping_sub(seq) < count || seq.wrapping_sub(own_seq) < own_count
        })
    }
}
