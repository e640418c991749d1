//! Trails: the hops of packets that go the same way, with the numbers of each hop.
//!
//! 1. A path belongs to the first trail of its direction that it agrees with: hop by hop, until one of them ends.
//! 2. A path that goes further than its trail extends it.
//! 3. The drop that ended a packet is no hop: it counts at the last hop that the packet reached.

use std::collections::VecDeque;
use std::sync::Arc;

use podtrace_path::{Action, Direction, End, Evidence, Hop, NatKind, Path, Protocol, Verdict};

/// Times that a sparkline is made of.
pub(super) const SAMPLES: usize = 128;

/// What makes hops equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HopKey {
    pub(super) node: Arc<str>,
    pub(super) device: Option<Arc<str>>,
    pub(super) action: Action,
    pub(super) nat: Option<NatKind>,
}

/// A hop of a trail.
#[derive(Clone, Debug)]
pub(super) struct TrailHop {
    pub(super) key: HopKey,
    pub(super) pod: Option<Arc<str>>,
    /// Packets that reached it.
    pub(super) packets: u64,
    /// Packets that were lost after it, and before the next one.
    pub(super) lost_here: u64,
    /// Why the last of these was lost.
    pub(super) why: Option<String>,
    /// Times since the hop before that has a time.
    pub(super) times: Times,
    /// Whether it was never observed.
    pub(super) inferred: bool,
}

/// Times in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    pub(super) count: u64,
    pub(super) last: u64,
    pub(super) best: u64,
    pub(super) worst: u64,
    sum: u128,
    /// Largest bound of the clocks' error.
    pub(super) error: u64,
    /// The last ones, the oldest first.
    pub(super) samples: VecDeque<u64>,
}

impl Times {
    fn record(&mut self, ns: i64, error: u64) {
        // Negative ones, which only the clocks' error makes, count as 0.
        let ns = u64::try_from(ns).unwrap_or(0);
        self.best = if self.count == 0 { ns } else { self.best.min(ns) };
        self.worst = self.worst.max(ns);
        self.last = ns;
        self.sum += u128::from(ns);
        self.count += 1;
        self.error = self.error.max(error);
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(ns);
    }

    pub(super) fn average(&self) -> u64 {
        u64::try_from(self.sum / u128::from(self.count.max(1))).unwrap_or(u64::MAX)
    }
}

/// Packets that go the same way.
#[derive(Clone, Debug)]
pub(super) struct Trail {
    pub(super) direction: Direction,
    pub(super) proto: Protocol,
    /// The ends of its last packet.
    pub(super) from: End,
    pub(super) to: End,
    pub(super) hops: Vec<TrailHop>,
    pub(super) sent: u64,
    pub(super) lost: u64,
    pub(super) open: u64,
    /// From first hop to last, of delivered packets.
    pub(super) whole: Times,
    /// Numbers of its last packet, and of the last that was lost.
    pub(super) newest: u64,
    pub(super) newest_lost: Option<u64>,
}

fn keys(path: &Path) -> Vec<HopKey> {
    let hops = path.hops.iter().filter(|hop| hop.action != Action::Drop && hop.drop.is_none());
    hops.map(key).collect()
}

fn key(hop: &Hop) -> HopKey {
    HopKey {
        node: hop.node.clone(),
        device: hop.device.clone(),
        action: hop.action,
        nat: hop.nat.as_ref().map(|nat| nat.kind),
    }
}

impl Trail {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            direction: path.flow.direction,
            proto: path.proto,
            from: path.from.clone(),
            to: path.to.clone(),
            hops: Vec::new(),
            sent: 0,
            lost: 0,
            open: 0,
            whole: Times::default(),
            newest: path.id,
            newest_lost: None,
        }
    }

    /// Whether a path goes this way, as far as both go.
    pub(super) fn agrees(&self, path: &Path) -> bool {
        let ends = |from: &End, to: &End| (name(from), name(to));
        self.direction == path.flow.direction
            && self.proto == path.proto
            && ends(&self.from, &self.to) == ends(&path.from, &path.to)
            && self.hops.iter().zip(keys(path)).all(|(hop, key)| hop.key == key)
    }

    pub(super) fn add(&mut self, path: &Path) {
        self.sent += 1;
        (self.from, self.to) = (path.from.clone(), path.to.clone());
        self.newest = path.id;
        let failed = matches!(path.verdict, Verdict::Dropped | Verdict::Vanished | Verdict::Rejected);
        self.lost += u64::from(failed);
        self.open += u64::from(path.verdict == Verdict::Open);
        if failed {
            self.newest_lost = Some(path.id);
        }
        if path.verdict == Verdict::Delivered {
            self.whole.record(path.duration_ns, path.duration_error_ns);
        }
        let mut reached = None;
        let mut previous: Option<(&Hop, i64)> = None;
        let passed = path.hops.iter().filter(|hop| hop.action != Action::Drop && hop.drop.is_none());
        for (index, hop) in passed.enumerate() {
            if index == self.hops.len() {
                self.hops.push(TrailHop::new(hop));
            }
            let known = &mut self.hops[index];
            known.packets += 1;
            known.inferred &= hop.evidence == Evidence::Inferred;
            reached = Some(index);
            let Some(at) = hop.at_ns else { continue };
            if let Some((earlier, earlier_at)) = previous {
                let error = if earlier.node == hop.node {
                    0
                } else {
                    earlier.clock_error_ns.saturating_add(hop.clock_error_ns)
                };
                known.times.record(at.saturating_sub(earlier_at), error);
            }
            previous = Some((hop, at));
        }
        if failed && let Some(hop) = reached.and_then(|index| self.hops.get_mut(index)) {
            hop.lost_here += 1;
            hop.why = why(path);
        }
    }
}

/// Pods and Services are the same whatever the port: each connection has its own.
pub(super) fn name(end: &End) -> String {
    match (&end.service, &end.pod) {
        (Some(service), _) => format!("svc/{service}"),
        (None, Some(pod)) => pod.to_string(),
        (None, None) => end.ip.to_string(),
    }
}

/// Why a packet was lost, in a word: the kernel's reason, or what happened to it.
fn why(path: &Path) -> Option<String> {
    let drop = path.hops.iter().rev().find_map(|hop| hop.drop.as_ref());
    match (path.verdict, drop) {
        (Verdict::Dropped, Some(drop)) => drop.reason.clone().or_else(|| drop.location.clone()),
        (Verdict::Vanished, _) => Some("vanished".to_owned()),
        (Verdict::Rejected, _) => Some("refused".to_owned()),
        _ => path.reason.clone(),
    }
}

impl TrailHop {
    fn new(hop: &Hop) -> Self {
        Self {
            key: key(hop),
            pod: hop.pod.clone(),
            packets: 0,
            lost_here: 0,
            why: None,
            times: Times::default(),
            inferred: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn a_lost_packet_counts_on_the_trail_of_those_that_arrived() {
        let whole = samples::cross_node_request();
        let mut trail = Trail::new(&whole);
        trail.add(&whole);
        let mut lost = Path { verdict: Verdict::Vanished, ..whole.clone() };
        lost.hops.truncate(4);
        assert!(trail.agrees(&lost));
        trail.add(&lost);
        assert_eq!((trail.sent, trail.lost), (2, 1));
        let packets: Vec<_> = trail.hops.iter().map(|hop| hop.packets).collect();
        assert_eq!(packets, [2, 2, 2, 2, 1, 1, 1, 1]);
        assert_eq!((trail.hops[3].lost_here, trail.hops[3].why.as_deref()), (1, Some("vanished")));
        assert!(!trail.agrees(&samples::cross_node_reply()));
    }

    #[test]
    fn the_first_packet_may_be_the_one_that_was_lost() {
        let whole = samples::cross_node_request();
        let mut lost = Path { verdict: Verdict::Vanished, ..whole.clone() };
        lost.hops.truncate(2);
        let mut trail = Trail::new(&lost);
        trail.add(&lost);
        assert!(trail.agrees(&whole));
        trail.add(&whole);
        assert_eq!((trail.hops.len(), trail.hops[1].lost_here), (whole.hops.len(), 1));
    }

    #[test]
    fn times_are_of_steps_and_samples_are_bounded() {
        let whole = samples::cross_node_request();
        let mut trail = Trail::new(&whole);
        (0..SAMPLES + 9).for_each(|_| trail.add(&whole));
        assert_eq!(trail.hops[0].times.count, 0, "nothing is before the first");
        let times = &trail.hops[1].times;
        assert_eq!((times.best, times.average(), times.worst), (24_100, 24_100, 24_100));
        assert_eq!((times.samples.len(), times.count), (SAMPLES, SAMPLES as u64 + 9));
        assert!(trail.hops[4].times.error > 0, "two clocks measured it");
    }
}
