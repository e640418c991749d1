//! The observations of one node that are not matched to paths yet.

use std::collections::VecDeque;

use podtrace_protocol::frame::Accounting;

use crate::observation::Observation;
use crate::time::NodeTime;

/// One node's observations, and its watermark: the time before which it has sent everything.
#[derive(Debug, Default)]
pub(crate) struct NodeQueue {
    /// In the order in which they were read.
    incoming: Vec<Observation>,
    /// In the order of time, up to the watermark.
    ready: VecDeque<Observation>,
    /// The time of the last heartbeat: everything before it has been sent.
    watermark: Option<NodeTime>,
    /// Number of records that it has sent, including those that could not be decoded.
    pub(crate) records: u64,
    pub(crate) counters: Accounting,
    /// How many events it had lost by the watermark.
    lost_by_watermark: u64,
    pub(crate) goodbye: bool,
    pub(crate) ended: bool,
}

impl NodeQueue {
    pub(crate) fn push(&mut self, observation: Observation) {
        self.incoming.push(observation);
    }

    /// Whether the node has lost events since the watermark.
    pub(crate) fn has_lost(&self) -> bool {
        lost(self.counters) > self.lost_by_watermark
    }

    /// Handles a heartbeat: observations before `now` are complete, and become ready.
    pub(crate) fn heartbeat(&mut self, now: NodeTime) {
        // A heartbeat without a watermark says nothing of when events were lost.
        if Some(now) > self.watermark {
            self.lost_by_watermark = lost(self.counters);
            self.watermark = Some(now);
        }
        self.sort_incoming();
        let count = self.incoming.partition_point(|observation| observation.time < now);
        self.ready.extend(self.incoming.drain(..count));
    }

    /// The node's stream has ended: everything is ready.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.release_all();
    }

    /// Makes everything ready.
    pub(crate) fn release_all(&mut self) {
        self.sort_incoming();
        self.ready.extend(self.incoming.drain(..));
    }

    fn sort_incoming(&mut self) {
        // Stable, so that events of one moment stay in the order in which they were read; and fast, because the input is
        // almost sorted.
        self.incoming.sort_by_key(|observation| observation.time);
    }

    pub(crate) fn watermark(&self) -> Option<NodeTime> {
        self.watermark
    }

    /// The time of the next observation that is ready.
    pub(crate) fn next_time(&self) -> Option<NodeTime> {
        self.ready.front().map(|observation| observation.time)
    }

    pub(crate) fn pop(&mut self) -> Option<Observation> {
        self.ready.pop_front()
    }

    /// The time that divides the oldest eighth of the ready observations from the others: they are taken first when too much
    /// waits.
    pub(crate) fn oldest_eighth(&self) -> Option<NodeTime> {
        self.ready.get(self.ready.len() / 8).map(|observation| observation.time)
    }

    /// Gives back the memory of what was discarded.
    pub(crate) fn shrink(&mut self) {
        self.incoming.shrink_to(2 * self.incoming.len());
        self.ready.shrink_to(2 * self.ready.len());
    }

    /// How many observations it holds.
    pub(crate) fn len(&self) -> usize {
        self.incoming.len() + self.ready.len()
    }
}

/// How many events a node lost, whatever they were lost to.
fn lost(counters: Accounting) -> u64 {
    let Accounting { lost_ring, lost_map, missed_probes, produced: _, sent: _, unsampled: _ } = counters;
    lost_ring + lost_map + missed_probes
}
