//! The nodes' clocks on one timeline.
//!
//! Input: the tracer asks each node for its clock again and again and notes when the question left and when the answer
//! came; and finished joins say which packet left one node and arrived at another. Output: a node's reading as a moment
//! on the common timeline, and the difference of two nodes' clocks, each with the bound of its error.
//!
//! 1. The timeline is the tracer's clock. (If there is only one node, it is that node's clock: with nothing to compare
//!    it to, its readings are exact.)
//! 2. A node read its clock after the question left and before the answer came. So the clock's offset is within half the
//!    round trip of the middle.
//! 3. No packet arrives before it left: each one that crosses bounds the difference of two clocks on one side. A request
//!    and its answer bound it on both.
//! 4. Clocks drift, so each bound gets wider as it ages. A newer bound that is as tight replaces an older one.
//!
//! Limits: a clock that is stepped makes the bounds contradict one another; the result is then somewhere about both. A
//! node that never answered is placed by its wall clock, with an error that claims nothing.

use rustc_hash::FxHashMap;

use crate::node::{NodeId, PerNode};
use crate::time::{Moment, Nanos, NodeTime};

/// How fast two machines' monotonic clocks may come apart, in parts per million. Crystals are within 50, and NTP
/// slews no faster than that when it is settled.
const DRIFT_PPM: i64 = 50;

/// Error of an offset that only the wall clocks tell: it claims nothing.
const WALL_CLOCK_ERROR: Nanos = Nanos::from_secs(3600);

/// The clocks of all nodes.
#[derive(Debug)]
pub(crate) struct Clocks {
    nodes: PerNode<Node>,
    /// By (a, b): upper bound of b's offset minus a's.
    crossings: FxHashMap<(NodeId, NodeId), Bound>,
    /// Latest moment known.
    now: Moment,
    /// Up to when observations were joined last, once that is known.
    joined: Option<Moment>,
    /// A lone node's clock is the timeline. This is its offset against the tracer's clock, for nodes that join it.
    lone: Option<Offset>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// The node's clock minus the timeline.
    offset: Option<Offset>,
    /// The node's wall clock minus its monotonic clock.
    wall: Option<Nanos>,
}

/// An offset is at most `error` away from `middle`.
#[derive(Clone, Copy, Debug)]
struct Offset {
    middle: Nanos,
    error: Nanos,
    measured: Moment,
}

impl Offset {
    /// Whether it was measured, and not made up.
    fn ages(&self) -> bool {
        self.measured != Moment::AFTER_ALL
    }

    fn error_at(&self, now: Moment) -> Nanos {
        self.error + drift(self.measured, now)
    }
}

/// An upper bound of the difference of two clocks.
#[derive(Clone, Copy, Debug)]
struct Bound {
    difference: Nanos,
    measured: Moment,
}

impl Bound {
    fn at(&self, now: Moment) -> Nanos {
        self.difference + drift(self.measured, now)
    }
}

/// How far clocks may have drifted since a measurement.
fn drift(measured: Moment, now: Moment) -> Nanos {
    (now - measured).max(Nanos::ZERO) / 1_000_000 * DRIFT_PPM
}

impl Clocks {
    pub(crate) fn new(nodes: usize) -> Self {
        let exact = Offset { middle: Nanos::ZERO, error: Nanos::ZERO, measured: Moment::AFTER_ALL };
        let offset = (nodes == 1).then_some(exact);
        Self {
            nodes: (0..nodes).map(|_| Node { offset, wall: None }).collect(),
            crossings: FxHashMap::default(),
            now: Moment::BEFORE_ALL,
            joined: None,
            lone: None,
        }
    }

    /// Adds a node.
    pub(crate) fn add(&mut self) {
        self.nodes.push(Node::default());
    }

    /// A reading of the tracer's own clock on the common timeline.
    pub(crate) fn of_tracer(&self, reading_ns: u64) -> Moment {
        let offset = self.lone.map_or(Nanos::ZERO, |lone| lone.middle);
        Moment::ORIGIN + Nanos::of_reading(reading_ns) + offset
    }

    /// Takes what a node said of its clocks when it started: both read at the same time.
    pub(crate) fn hello(&mut self, node: NodeId, monotonic: NodeTime, realtime_ns: u64) {
        self.nodes[node].wall = Some(Nanos::of_reading(realtime_ns) - monotonic.reading());
    }

    /// Takes an answer: a node read its clock between two readings of the tracer's clock.
    pub(crate) fn sample(&mut self, node: NodeId, sent_ns: u64, read: NodeTime, received_ns: u64) {
        let (sent, received) = (Nanos::of_reading(sent_ns), Nanos::of_reading(received_ns));
        // The first node's clock is the timeline for good, if others joined it.
        let is_timeline = self.nodes.len() > 1 && self.lone.is_some() && node.index() == 0;
        if received < sent || is_timeline {
            return;
        }
        let round_trip = received - sent;
        let mut new = Offset {
            middle: read.reading() - (sent + round_trip / 2),
            error: (round_trip + Nanos::from_nanos(1)) / 2,
            measured: Moment::ORIGIN + received,
        };
        let known = if self.nodes.len() == 1 {
            &mut self.lone
        } else {
            if let Some(lone) = self.lone {
                // The timeline's own error against the tracer's clock is added to the new node's.
                new.middle = new.middle - lone.middle;
                new.error = new.error + lone.error_at(new.measured);
                new.measured = new.measured + lone.middle;
            }
            self.now = self.now.max(new.measured);
            &mut self.nodes[node].offset
        };
        if known.is_none_or(|old| new.error <= old.error_at(new.measured)) {
            *known = Some(new);
        }
    }

    /// Takes that a packet left one node and arrived at another, each by its own clock.
    pub(crate) fn crossed(&mut self, (a, left): (NodeId, NodeTime), (b, arrived): (NodeId, NodeTime)) {
        let now = self.now;
        let new = Bound { difference: arrived.reading() - left.reading(), measured: now };
        self.crossings
            .entry((a, b))
            .and_modify(|bound| {
                if new.difference <= bound.at(now) {
                    *bound = new;
                }
            })
            .or_insert(new);
    }

    /// Uses wall clocks for the nodes that never answered, once nothing better can come.
    pub(crate) fn settle(&mut self) {
        let base =
            self.nodes.values().find_map(|node| Some(node.offset?.middle + node.wall?)).unwrap_or_default();
        for node in self.nodes.values_mut() {
            node.offset.get_or_insert(Offset {
                middle: base - node.wall.unwrap_or_default(),
                error: WALL_CLOCK_ERROR,
                measured: Moment::AFTER_ALL,
            });
        }
    }

    /// A node's reading on the common timeline; `None` until its clock is known.
    pub(crate) fn common(&self, node: NodeId, reading: NodeTime) -> Option<Moment> {
        Some(Moment::ORIGIN + (reading.reading() - self.nodes[node].offset?.middle))
    }

    /// Lets time pass: observations are joined up to this moment.
    pub(crate) fn advance(&mut self, now: Moment) {
        self.now = self.now.max(now);
        self.joined = Some(now);
    }

    /// Bound of the error of [`Self::common`].
    pub(crate) fn error(&self, node: NodeId) -> Nanos {
        self.nodes[node].offset.map_or(Nanos::ZERO, |offset| offset.error_at(self.now))
    }

    /// The largest [`Self::error`] of all nodes for what is joined now. Where a node is far behind others, their clocks were
    /// measured after that, and have drifted since.
    pub(crate) fn worst_error(&self) -> Nanos {
        let of_joined = |node| {
            let measured = self.nodes[node].offset.filter(Offset::ages).map(|offset| offset.measured);
            let since = self.joined.zip(measured).map(|(joined, measured)| drift(joined, measured));
            self.error(node) + since.unwrap_or_default()
        };
        self.nodes.ids().map(of_joined).max().unwrap_or(Nanos::ZERO)
    }

    /// `b`'s clock minus `a`'s, and the bound of its error in nanoseconds.
    pub(crate) fn difference(&self, a: NodeId, b: NodeId) -> (Nanos, u64) {
        if a == b {
            return (Nanos::ZERO, 0);
        }
        let (low, high) = match (self.nodes[a].offset, self.nodes[b].offset) {
            (Some(of_a), Some(of_b)) => {
                let middle = of_b.middle - of_a.middle;
                let error = self.error(a) + self.error(b);
                (middle - error, middle + error)
            }
            _ => (-WALL_CLOCK_ERROR, WALL_CLOCK_ERROR),
        };
        let crossing = |pair| self.crossings.get(&pair).map(|bound| bound.at(self.now));
        let high = crossing((a, b)).map_or(high, |bound| bound.min(high));
        let low = crossing((b, a)).map_or(low, |bound| low.max(-bound));
        // Bounds contradict one another if a clock was stepped: the truth is somewhere about both.
        (low.midpoint(high), high.abs_diff(low).div_ceil(2))
    }

    /// A node's reading as nanoseconds since 1970.
    pub(crate) fn wall(&self, node: NodeId, reading: NodeTime) -> u64 {
        let wall = reading.reading() + self.nodes[node].wall.unwrap_or_default();
        u64::try_from(wall.get()).unwrap_or_default()
    }
}
