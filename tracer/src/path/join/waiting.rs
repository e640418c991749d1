//! Observations whose path has not begun yet: another node's events were read a little early.

use std::cmp::Reverse;

use super::super::fit::Fit;
use super::super::journey::{Holder, Share, Stamp, Whereabouts};
use super::super::model::Point;
use super::super::observation::Observation;
use super::super::packet::Packet;
use super::super::world::World;
use super::{Joiner, Look, TOLERANCE_NS, Timer, Waiting};

impl Joiner {
    /// The beginning of this observation's path has not been seen yet.
    pub(super) fn wait(&mut self, observation: &Observation, world: &World) {
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
        let at = self.waiting.insert(Waiting { observations: vec![observation.clone()], key, serial });
        self.waiting_by_key.entry(key).or_default().push(at);
        self.journeys.insert(journey, Holder::Waiting(at), stamp);
        let due = now.saturating_add(self.slack).saturating_add(TOLERANCE_NS);
        self.timers.push(Reverse(Timer { due, serial, what: Look::Waiting(at) }));
    }

    /// What a path has to have in common with an observation for that to be its own.
    fn waiting_key(&mut self, packet: &Packet, now: i64) -> u64 {
        if packet.stream().is_some() {
            let (flow, forward) = self.flows.of(packet, now);
            // Flow numbers are small; content hashes fill all bits.
            (flow as u64) << 1 | u64::from(forward)
        } else {
            packet.content_hash()
        }
    }

    /// A path has begun: whatever waited for it goes on.
    pub(super) fn retry(&mut self, track: usize, world: &World) {
        if self.waiting_by_key.is_empty() {
            return;
        }
        let begun = &self.tracks[track];
        let key = match begun.span {
            Some(_) => (begun.flow as u64) << 1 | u64::from(begun.forward),
            None => begun.hash,
        };
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
        if let Some(others) = self.waiting_by_key.get_mut(&waiting.key) {
            others.retain(|other| *other != at);
            if others.is_empty() {
                self.waiting_by_key.remove(&waiting.key);
            }
        }
        if let Some(first) = waiting.observations.first() {
            self.journeys.remove((first.node, first.identity));
        }
        waiting.observations
    }

    /// Nothing more will come for this wait to end: what fits is taken, else a path begins here.
    pub(super) fn give_up(&mut self, at: usize, world: &World) {
        let observation = self.waiting[at].observations[0].clone();
        let mut shares = Vec::new();
        match self.resolve(&observation, &mut shares, world) {
            Fit::Whole(ambiguity) | Fit::Part(ambiguity) => self.go_on(at, &shares, ambiguity, world),
            Fit::None => {
                let observations = self.end_wait(at);
                self.begin(&observation, false, world);
                for observation in observations.into_iter().skip(1) {
                    self.observe(&observation, world);
                }
            }
        }
    }
}
