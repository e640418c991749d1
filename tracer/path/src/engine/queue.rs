//! What one node has sent and is not joined yet.

use std::collections::VecDeque;

use podtrace_protocol::frame::Accounting;

use crate::observation::Observation;
use crate::time::NodeTime;

/// One node's observations, and how far it has reported.
#[derive(Debug, Default)]
pub(crate) struct NodeQueue {
    /// In the order in which they were read.
    incoming: Vec<Observation>,
    /// In the order of time, up to the last heartbeat.
    ready: VecDeque<Observation>,
    /// Everything before this has been reported.
    reported_until: Option<NodeTime>,
    /// Records that it has sent, unusable ones included.
    pub(crate) records: u64,
    pub(crate) counters: Accounting,
    pub(crate) goodbye: bool,
    pub(crate) ended: bool,
}

impl NodeQueue {
    pub(crate) fn push(&mut self, observation: Observation) {
        self.incoming.push(observation);
    }

    /// Takes a heartbeat: everything before `now` is ready.
    pub(crate) fn heartbeat(&mut self, now: NodeTime, counters: Accounting) {
        self.counters = counters;
        self.reported_until = self.reported_until.max(Some(now));
        self.sort_incoming();
        let count = self.incoming.partition_point(|observation| observation.time < now);
        self.ready.extend(self.incoming.drain(..count));
    }

    /// Nothing more comes: everything is ready.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.release_all();
    }

    /// Everything is ready.
    pub(crate) fn release_all(&mut self) {
        self.sort_incoming();
        self.ready.extend(self.incoming.drain(..));
    }

    fn sort_incoming(&mut self) {
        // Stable, so that events of one moment stay in the order in which they were read; and quick, for they nearly are
        // in order.
        self.incoming.sort_by_key(|observation| observation.time);
    }

    pub(crate) fn reported_until(&self) -> Option<NodeTime> {
        self.reported_until
    }

    /// The time of the next observation that is ready.
    pub(crate) fn next_time(&self) -> Option<NodeTime> {
        self.ready.front().map(|observation| observation.time)
    }

    pub(crate) fn pop(&mut self) -> Option<Observation> {
        self.ready.pop_front()
    }

    /// The time that divides the oldest eighth of the observations that are ready from the others.
    pub(crate) fn oldest_eighth(&self) -> Option<NodeTime> {
        self.ready.get(self.ready.len() / 8).map(|observation| observation.time)
    }

    /// How many observations it holds.
    pub(crate) fn len(&self) -> usize {
        self.incoming.len() + self.ready.len()
    }
}
