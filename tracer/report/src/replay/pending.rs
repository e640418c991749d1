//! Paths that wait for a node's state to be read again: what changed just before a packet was lost explains it.
//!
//! An agent says at once that the kernel announced a change (`NetworkChanging`), and later what it is (`NetworkChanged`, `NetworkUnchanged`).
//! In between, a path that was not delivered waits, and so do those after it, so that their order stays. The wait is
//! bounded by the node's clock and by the number of paths.

use std::collections::{BTreeMap, VecDeque};

use podtrace_path::{Path, Verdict};
use podtrace_protocol::frame::FromAgent;

/// How long a node may take to read its state.
const LONGEST_NS: u64 = 2_000_000_000;

/// Paths that wait at most.
const PATHS: usize = 1024;

/// Finished paths in their order, and the nodes that are reading their state.
#[derive(Debug, Default)]
pub(super) struct Pending {
    paths: VecDeque<Path>,
    /// The nodes, with the time of their first heartbeat since.
    reading: BTreeMap<usize, Option<u64>>,
}

impl Pending {
    /// Takes a node's frame, or the end of its stream.
    pub(super) fn handle_frame(&mut self, node: usize, frame: Option<&FromAgent>) {
        match frame {
            Some(FromAgent::NetworkChanging) => {
                self.reading.insert(node, None);
            }
            None
            | Some(
                FromAgent::NetworkChanged(_)
                | FromAgent::NetworkUnchanged
                | FromAgent::Topology(_)
                | FromAgent::Goodbye { .. },
            ) => {
                self.reading.remove(&node);
            }
            Some(FromAgent::Heartbeat { now_ns, .. }) => {
                let Some(since) = self.reading.get_mut(&node) else { return };
                let since = *since.get_or_insert(*now_ns);
                if since.saturating_add(LONGEST_NS) < *now_ns {
                    self.reading.remove(&node);
                }
            }
            Some(_) => {}
        }
    }

    /// Adds finished paths.
    pub(super) fn extend(&mut self, paths: impl Iterator<Item = Path>) {
        self.paths.extend(paths);
    }

    /// Waits no longer: the trace is over.
    pub(super) fn end(&mut self) {
        self.reading.clear();
    }

    /// The next path that need not wait.
    pub(super) fn next(&mut self) -> Option<Path> {
        let first = self.paths.front()?;
        let waits =
            first.verdict != Verdict::Delivered && !self.reading.is_empty() && self.paths.len() <= PATHS;
        if waits { None } else { self.paths.pop_front() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;
    use podtrace_protocol::frame::Accounting;
    use podtrace_protocol::topology::Topology;

    fn heartbeat(now_ns: u64) -> FromAgent {
        FromAgent::Heartbeat { now_ns, counters: Accounting::default() }
    }

    fn pending() -> Pending {
        let mut pending = Pending::default();
        pending.handle_frame(0, Some(&FromAgent::NetworkChanging));
        pending.extend(
            [samples::cross_node_request(), samples::dropped(), samples::cross_node_request()].into_iter(),
        );
        pending
    }

    #[test]
    fn what_was_lost_waits_for_the_nodes_state_and_the_order_stays() {
        let mut pending = pending();
        assert!(pending.next().is_some_and(|path| path.verdict == Verdict::Delivered));
        assert_eq!(pending.next(), None);
        pending.handle_frame(1, Some(&FromAgent::NetworkChanged(Topology::default())));
        assert_eq!(pending.next(), None, "another node's state");
        pending.handle_frame(0, Some(&FromAgent::NetworkChanged(Topology::default())));
        assert!(pending.next().is_some_and(|path| path.verdict == Verdict::Dropped));
        assert!(pending.next().is_some());
        assert_eq!(pending.next(), None);
    }

    #[test]
    fn the_wait_is_bounded_by_time_number_and_the_end() {
        let mut late = pending();
        late.next();
        late.handle_frame(0, Some(&heartbeat(5_000_000_000)));
        assert_eq!(late.next(), None);
        late.handle_frame(0, Some(&heartbeat(7_000_000_001)));
        assert!(late.next().is_some());

        let mut many = pending();
        many.next();
        many.extend(std::iter::repeat_n(samples::dropped(), PATHS));
        assert!(many.next().is_some());

        let mut over = pending();
        over.next();
        over.end();
        assert_eq!(std::iter::from_fn(|| over.next()).count(), 2);
    }
}
