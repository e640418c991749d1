//! Paths that wait for a node's state to be read again: what changed just before a packet was lost explains it.
//!
//! An agent says at once that the kernel announced a change (`NetworkChanging`), and later what it is (`NetworkChanged`,
//! `NetworkUnchanged`, or `Rules`). It reads the packet filter for the first time while it attaches. In between, a path that was
//! not delivered waits, and so do those after it, so that their order stays. The wait is bounded by the node's clock and by the
//! number of paths.

use std::collections::{BTreeMap, VecDeque};

use podtrace_path::{Path, Verdict};
use podtrace_protocol::frame::FromAgent;

/// How long a node may take to read its state.
const LONGEST_NS: u64 = 2_000_000_000;

/// How long it may take to read its packet filter for the first time: with many rules, and programs that start.
const LONGEST_FIRST_NS: u64 = 10_000_000_000;

/// Paths that wait at most.
const PATHS: usize = 1024;

/// Finished paths in their order, and the nodes that are reading their state.
#[derive(Debug, Default)]
pub(super) struct Pending {
    paths: VecDeque<Path>,
    reading: Readers,
    /// Those that read their packet filter for the first time.
    first: Readers,
}

/// Nodes that are reading, with the time of their first heartbeat since.
type Readers = BTreeMap<usize, Option<u64>>;

/// Takes a node's heartbeat. One that has been reading for too long is not waited for.
fn beat(readers: &mut Readers, node: usize, now_ns: u64, longest_ns: u64) {
    let Some(since) = readers.get_mut(&node) else { return };
    let since = *since.get_or_insert(now_ns);
    if since.saturating_add(longest_ns) < now_ns {
        readers.remove(&node);
    }
}

impl Pending {
    /// Takes a node's frame, or the end of its stream.
    pub(super) fn handle_frame(&mut self, node: usize, frame: Option<&FromAgent>) {
        match frame {
            Some(FromAgent::NetworkChanging) => {
                self.reading.insert(node, None);
            }
            Some(FromAgent::Hello(_)) => {
                self.first.insert(node, None);
            }
            Some(FromAgent::NetworkChanged(_) | FromAgent::NetworkUnchanged | FromAgent::Topology(_)) => {
                self.reading.remove(&node);
            }
            None | Some(FromAgent::Rules(_) | FromAgent::Goodbye { .. }) => {
                self.reading.remove(&node);
                self.first.remove(&node);
            }
            Some(FromAgent::Heartbeat { now_ns, .. }) => {
                beat(&mut self.reading, node, *now_ns, LONGEST_NS);
                beat(&mut self.first, node, *now_ns, LONGEST_FIRST_NS);
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
        self.first.clear();
    }

    /// The next path that need not wait.
    pub(super) fn next(&mut self) -> Option<Path> {
        let first = self.paths.front()?;
        let is_reading = !(self.reading.is_empty() && self.first.is_empty());
        let waits = first.verdict != Verdict::Delivered && is_reading && self.paths.len() <= PATHS;
        if waits { None } else { self.paths.pop_front() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;
    use podtrace_protocol::frame::{Accounting, Hello};
    use podtrace_protocol::topology::Topology;
    use podtrace_rules::Rules;

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
    fn what_was_lost_waits_for_the_first_reading_of_the_rules() {
        let mut pending = Pending::default();
        pending.handle_frame(0, Some(&FromAgent::Hello(Hello::default())));
        pending.extend([samples::dropped()].into_iter());
        pending.handle_frame(0, Some(&FromAgent::NetworkUnchanged));
        assert_eq!(pending.next(), None);
        pending.handle_frame(0, Some(&FromAgent::Rules(Rules::default())));
        assert!(pending.next().is_some());
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
