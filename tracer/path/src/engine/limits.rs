//! What an engine holds is bounded: observations that wait while a node is silent, and memory as a whole.
//!
//! Whatever is given up is counted, and makes the trace incomplete. Paths that overlap the time of that are reported as
//! open where they would have vanished: what was given up may have shown how they went on.

use super::Engine;
use super::periods::Periods;
use crate::join::track::{Track, TrackId};
use crate::memory::{self, cost};
use crate::model::{Path, Shed};
use crate::node::NodeId;
use crate::time::{Moment, NodeTime};

/// Reason of an open path some of whose events may have been discarded.
const EVENTS_DISCARDED: &str =
    "events were discarded while it was in flight, as a node was silent for too long";

/// Reason of an open path that was given up, or some of whose events were.
const MEMORY_SHORT: &str = "packets were given up while it was in flight, to stay within the memory limit";

/// Reason of an open path some of whose events a node may have lost.
const EVENTS_LOST: &str = "events were lost on a node while it was in flight";

/// Maximum number of observations that wait while a node is silent: some 200 MB.
const MAX_WAITING: usize = 1 << 19;

/// Bounds, and what was given up to stay within them.
#[derive(Debug)]
pub(super) struct Limits {
    /// Maximum estimated memory in bytes.
    memory: u64,
    /// Maximum number of waiting observations.
    pub(super) waiting: usize,
    /// Number of discarded observations.
    pub(super) discarded: u64,
    pub(super) shed: Shed,
    discarded_times: Periods,
    shed_times: Periods,
    /// When nodes lost events: a full ring buffer or map, or a program that the kernel skipped.
    lost_times: Periods,
}

impl Limits {
    pub(super) fn new(memory: Option<u64>) -> Self {
        let memory = memory.unwrap_or(memory::DEFAULT_MEMORY).max(memory::LEAST_MEMORY);
        // Half for what waits, half for what it becomes.
        let waiting =
            usize::try_from(memory / 2 / memory::OBSERVATION).unwrap_or(usize::MAX).min(MAX_WAITING);
        Self {
            memory,
            waiting,
            discarded: 0,
            shed: Shed::default(),
            discarded_times: Periods::default(),
            shed_times: Periods::default(),
            lost_times: Periods::default(),
        }
    }

    /// Why a track may lack events, if it may.
    pub(super) fn cut(&self, track: &Track) -> Option<&'static str> {
        if self.shed_times.overlap(track) {
            return Some(MEMORY_SHORT);
        }
        if self.lost_times.overlap(track) {
            return Some(EVENTS_LOST);
        }
        self.discarded_times.overlap(track).then_some(EVENTS_DISCARDED)
    }
}

impl Engine {
    /// Estimated memory of all that is held of packets and flows, in bytes.
    #[must_use]
    pub fn memory(&self) -> u64 {
        cost(memory::OBSERVATION, self.waiting()) + self.joiner.memory()
    }

    /// Gives up the oldest work until the rest fits into the memory limit.
    pub(super) fn keep_to_memory(&mut self, now: Moment, out: &mut Vec<Path>) {
        while self.memory() > self.limits.memory {
            let Some(forgotten) = self.joiner.forget_oldest(now, &self.world) else { return };
            let shed = &mut self.limits.shed;
            shed.flows += forgotten.flows;
            shed.events += forgotten.events;
            if forgotten.events > 0 {
                self.limits.shed_times.add(now, now);
            }
            for id in forgotten.tracks {
                self.give_up(id, now, out);
            }
        }
    }

    fn give_up(&mut self, id: TrackId, now: Moment, out: &mut Vec<Path>) {
        let Some(track) = self.joiner.track(id) else { return };
        // One that has ended loses nothing but what might have come later.
        let first = track.first;
        self.limits.shed.paths += 1;
        self.limits.shed_times.add(first, first);
        self.limits.shed_times.add(now, now);
        self.joiner.note_lost_events();
        self.world.events_lost = true;
        self.report(id, false, out);
    }

    /// Notes that a node has lost events since `from`, by its own clock; `None` if that is not known.
    pub(super) fn note_lost(&mut self, node: NodeId, from: Option<NodeTime>, until: Option<NodeTime>) {
        let common = |time: Option<NodeTime>| self.world.clocks.common(node, time?);
        let (from, until) = (common(from).unwrap_or(Moment::MIN), common(until).unwrap_or(Moment::MAX));
        self.limits.lost_times.add(from, until);
    }

    /// While too many observations wait, discards the oldest: up to the same time on all nodes.
    pub(super) fn keep_to_limit(&mut self) {
        while self.waiting() > self.limits.waiting {
            let fullest = self.queues.iter().max_by_key(|(_, queue)| queue.len());
            let Some(fullest) = fullest.map(|(node, _)| node) else { return };
            self.queues[fullest].release_all();
            // An eighth at a time, because each round visits every node.
            let Some(until) = self.queues[fullest].oldest_eighth() else { return };
            let common = self.world.clocks.common(fullest, until);
            for node in self.queues.ids() {
                if node == fullest {
                    self.discard(node, |time, _| time <= until);
                } else {
                    // A node whose clock is not known yet cannot be compared.
                    self.discard(node, |_, moment| moment.is_some() && moment < common);
                }
                self.queues[node].shrink();
            }
        }
    }

    /// Discards a node's oldest observations as long as `is_old` holds of their time, on its clock and on the common
    /// timeline.
    fn discard(&mut self, node: NodeId, is_old: impl Fn(NodeTime, Option<Moment>) -> bool) {
        while let Some(time) = self.queues[node].next_time() {
            let moment = self.world.clocks.common(node, time);
            if !is_old(time, moment) {
                return;
            }
            self.queues[node].pop();
            self.limits.discarded += 1;
            self.limits.shed.events += 1;
            if let Some(moment) = moment {
                self.limits.discarded_times.add(moment, moment);
            }
        }
    }
}
