//! Observations whose path has not begun yet: another node's events were read a little early.

use std::cmp::Reverse;
use std::hash::{Hash as _, Hasher as _};

use rustc_hash::FxHasher;

use super::{Joiner, Look, TOLERANCE_NS, Timer, Waiting, begins_here};
use crate::join::fit::Fit;
use crate::join::flow::Key;
use crate::join::journey::{Holder, Share, Stamp, Whereabouts};
use crate::model::{Action, Point};
use crate::observation::Observation;
use crate::wire::packet::{Packet, PacketExt as _};
use crate::world::World;
use crate::world::devices::action;

impl Joiner {
    /// The beginning of this observation's path has not been seen yet; or it is the beginning, of a flow that is not
    /// known yet.
    pub(super) fn wait(&mut self, observation: &Observation, begins: bool, world: &World) {
        let Some(packet) = &observation.packet else { return };
        if !self.journeys.has_room() {
            self.apart.unmatched += 1;
            return;
        }
        let now = world.moment(observation);
        let key = self.waiting_key(packet, now);
        self.serial += 1;
        let serial = self.serial;
        let (journey, stamp) = ((observation.node, observation.identity), Stamp::of(packet));
        let observations = vec![observation.clone()];
        let at = self.waiting.insert(Waiting { observations, key, serial, begins });
        self.waiting_by_key.entry(key).or_default().push(at);
        self.journeys.insert(journey, Holder::Waiting(at), stamp);
        let due = now.saturating_add(self.slack).saturating_add(TOLERANCE_NS);
        self.timers.push(Reverse(Timer { due, serial, what: Look::Waiting(at) }));
    }

    /// What a path has to have in common with an observation for that to be its own; where not even the flow is known,
    /// what would make it known.
    fn waiting_key(&mut self, packet: &Packet, now: i64) -> u64 {
        match self.flows.known(packet, now) {
            Some((flow, forward)) if packet.stream().is_some() => of_stream(flow, forward),
            Some((flow, forward)) => packet.content_hash(flow, forward),
            None => of_unknown(Key::of(packet).0),
        }
    }

    /// A path has begun: whatever waited for it goes on.
    pub(super) fn retry(&mut self, track: usize, world: &World) {
        if self.waiting_by_key.is_empty() {
            return;
        }
        let begun = &self.tracks[track];
        let key = match begun.span {
            Some(_) => of_stream(begun.flow, begun.forward),
            None => begun.hash,
        };
        let (unknown, _) = Key::of(&begun.packet);
        self.retry_waiting(key, world);
        self.retry_unknown(unknown, world);
    }

    fn retry_waiting(&mut self, key: u64, world: &World) {
        let Some(candidates) = self.waiting_by_key.get(&key).cloned() else { return };
        let mut shares = Vec::new();
        for at in candidates {
            let Some(waiting) = self.waiting.get(at).filter(|waiting| waiting.key == key) else { continue };
            let observation = waiting.observations[0].clone();
            if let Fit::Whole(ambiguity) = self.resolve(&observation, &mut shares, world) {
                self.go_on(at, &shares, ambiguity, world);
            }
        }
    }

    /// A flow has become known by this key: what waited for that is told apart from now on, or begins.
    pub(super) fn retry_unknown(&mut self, key: Key, world: &World) {
        let key = of_unknown(key);
        let Some(candidates) = self.waiting_by_key.get(&key).cloned() else { return };
        let mut shares = Vec::new();
        for at in candidates {
            let Some(waiting) = self.waiting.get(at).filter(|waiting| waiting.key == key) else { continue };
            let observation = waiting.observations[0].clone();
            let Some(packet) = &observation.packet else { continue };
            let begins = waiting.begins
                || observation.via
                    && (action(observation.role, observation.point) == Action::PodEgress
                        || begins_here(&observation, packet, world));
            match self.resolve(&observation, &mut shares, world) {
                Fit::Whole(ambiguity) => self.go_on(at, &shares, ambiguity, world),
                _ if begins => self.begin_waiting(at, &observation, true, world),
                _ => {
                    let now = world.moment(&observation);
                    let new = self.waiting_key(packet, now);
                    self.rename(at, new);
                }
            }
        }
    }

    fn rename(&mut self, at: usize, key: u64) {
        let old = std::mem::replace(&mut self.waiting[at].key, key);
        self.unlist(at, old);
        self.waiting_by_key.entry(key).or_default().push(at);
    }

    fn unlist(&mut self, at: usize, key: u64) {
        if let Some(others) = self.waiting_by_key.get_mut(&key) {
            others.retain(|other| *other != at);
            if others.is_empty() {
                self.waiting_by_key.remove(&key);
            }
        }
    }

    fn begin_waiting(&mut self, at: usize, first: &Observation, whole: bool, world: &World) {
        let observations = self.end_wait(at);
        self.begin(first, whole, world);
        for observation in observations.into_iter().skip(1) {
            self.observe(&observation, world);
        }
    }

    /// Ends the wait of a journey whose paths are these.
    fn go_on(&mut self, at: usize, shares: &[Share], ambiguity: u32, world: &World) {
        let observations = self.end_wait(at);
        let mut observations = observations.into_iter();
        let Some(first) = observations.next() else { return };
        if first.point == Point::KfreeSkb {
            self.drop_of(&first, shares, Whereabouts::Way, world);
        } else {
            self.attach(&first, shares, ambiguity, world);
        }
        for observation in observations {
            self.observe(&observation, world);
        }
    }

    fn end_wait(&mut self, at: usize) -> Vec<Observation> {
        let waiting = self.waiting.remove(at);
        self.unlist(at, waiting.key);
        if let Some(first) = waiting.observations.first() {
            self.journeys.remove((first.node, first.identity));
        }
        waiting.observations
    }

    /// Nothing more will come for this wait to end: what fits is taken, else a path begins here.
    pub(super) fn give_up(&mut self, at: usize, world: &World) {
        let Waiting { observations, begins, .. } = &self.waiting[at];
        let (observation, begins) = (observations[0].clone(), *begins);
        let mut shares = Vec::new();
        match self.resolve(&observation, &mut shares, world) {
            Fit::Whole(ambiguity) | Fit::Part(ambiguity) => self.go_on(at, &shares, ambiguity, world),
            // A node's address stood for nobody's of interest.
            Fit::None if observation.via => {
                let others = u64::try_from(self.end_wait(at).len()).unwrap_or(u64::MAX);
                self.apart.aside += others;
            }
            Fit::None => self.begin_waiting(at, &observation, begins, world),
        }
    }
}

fn of_stream(flow: usize, forward: bool) -> u64 {
    // Flow numbers are small; hashes fill all bits.
    (flow as u64) << 1 | u64::from(forward)
}

fn of_unknown(key: Key) -> u64 {
    let mut hasher = FxHasher::default();
    key.hash(&mut hasher);
    hasher.finish()
}
