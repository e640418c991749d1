//! Nodes' clocks on one timeline: the tracer's.
//!
//! Each answered question bounds a clock's offset: the node read its clock after the question left and before
//! the answer came. Packets bound the difference of two clocks: none arrives before it left. Clocks drift, so
//! every bound loosens as it ages, and a newer one that is as tight takes its place.

use rustc_hash::FxHashMap;

/// How fast two machines' monotonic clocks may come apart, in parts per million. Crystals are within 50, and NTP
/// slews no faster than that when it is settled.
const DRIFT_PPM: i64 = 50;

/// Half width of what the nodes' wall clocks tell where no question was answered: it says nothing certain.
const WALL_CLOCK_ERROR: i64 = 3_600_000_000_000;

/// The clocks of all nodes.
#[derive(Debug)]
pub(crate) struct Clocks {
    nodes: Vec<Node>,
    /// By (a, b): upper bound of b's offset minus a's.
    crossings: FxHashMap<(usize, usize), Bound>,
    /// Latest moment known, on the tracer's clock.
    now: i64,
    /// A lone node's clock is the timeline; what its offset is against the tracer's, for those that join it.
    lone: Option<Estimate>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Node {
    /// Offset of the node's clock against the tracer's, and half the width of the interval it is in.
    offset: Option<Estimate>,
    /// The node's wall clock minus its monotonic clock.
    wall: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Estimate {
    middle: i64,
    half: i64,
    taken: i64,
}

#[derive(Clone, Copy, Debug)]
struct Bound {
    value: i64,
    taken: i64,
}

fn aged(value: i64, taken: i64, now: i64) -> i64 {
    value.saturating_add(now.saturating_sub(taken).max(0) / 1_000_000 * DRIFT_PPM)
}

/// Clock readings are nanoseconds since some boot: nothing near the limit of `i64` occurs, and hostile ones
/// are clamped.
pub(crate) fn signed(nanoseconds: u64) -> i64 {
    i64::try_from(nanoseconds).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

impl Clocks {
    pub(crate) fn new(nodes: usize) -> Self {
        let mut clocks = Self {
            nodes: vec![Node::default(); nodes],
            crossings: FxHashMap::default(),
            // Not the smallest number, so that differences stay within range.
            now: i64::MIN / 4,
            lone: None,
        };
        if let [only] = clocks.nodes.as_mut_slice() {
            // With nothing to compare it to, a lone node's clock is the timeline.
            only.offset = Some(Estimate { middle: 0, half: 0, taken: i64::MAX / 4 });
        }
        clocks
    }

    /// One more node.
    pub(crate) fn add(&mut self) {
        self.nodes.push(Node::default());
    }

    /// A reading of the tracer's own clock on the common timeline.
    pub(crate) fn tracers(&self, at: u64) -> i64 {
        signed(at).saturating_add(self.lone.map_or(0, |lone| lone.middle))
    }

    /// Takes what a node said at first of its clocks.
    pub(crate) fn hello(&mut self, node: usize, monotonic_ns: u64, realtime_ns: u64) {
        self.nodes[node].wall = Some(signed(realtime_ns) - signed(monotonic_ns));
    }

    /// Takes an answered question.
    pub(crate) fn sample(&mut self, node: usize, sent: u64, read: u64, received: u64) {
        let (sent, read, received) = (signed(sent), signed(read), signed(received));
        if received < sent || (node == 0 && self.nodes.len() > 1 && self.lone.is_some()) {
            return;
        }
        let half = (received - sent + 1) / 2;
        let mut new = Estimate { middle: read - (sent + (received - sent) / 2), half, taken: received };
        let offset = if self.nodes.len() == 1 {
            &mut self.lone
        } else {
            if let Some(lone) = self.lone {
                // The lone one's own drift goes into the bound as the new one's does.
                new.middle = new.middle.saturating_sub(lone.middle);
                new.half = new.half.saturating_add(aged(lone.half, lone.taken, received));
                new.taken = received.saturating_add(lone.middle);
            }
            self.now = self.now.max(new.taken);
            &mut self.nodes[node].offset
        };
        if offset.is_none_or(|old| new.half <= aged(old.half, old.taken, new.taken)) {
            *offset = Some(new);
        }
    }

    /// Takes that a packet left `a` at `left` and arrived at `b` at `arrived`, each by its own clock.
    pub(crate) fn crossed(&mut self, (a, left): (usize, u64), (b, arrived): (usize, u64)) {
        let value = signed(arrived) - signed(left);
        let now = self.now;
        self.crossings
            .entry((a, b))
            .and_modify(|bound| {
                if value <= aged(bound.value, bound.taken, now) {
                    *bound = Bound { value, taken: now };
                }
            })
            .or_insert(Bound { value, taken: now });
    }

    /// Uses wall clocks for the nodes that never answered, once nothing better can come.
    pub(crate) fn settle(&mut self) {
        let base = self
            .nodes
            .iter()
            .find_map(|node| Some(node.offset?.middle.saturating_add(node.wall?)))
            .unwrap_or_default();
        for node in &mut self.nodes {
            node.offset.get_or_insert(Estimate {
                middle: base.saturating_sub(node.wall.unwrap_or_default()),
                half: WALL_CLOCK_ERROR,
                taken: i64::MAX / 4,
            });
        }
    }

    /// A node's reading on the common timeline; `None` until its clock is known.
    pub(crate) fn common(&self, node: usize, at: u64) -> Option<i64> {
        Some(signed(at).saturating_sub(self.nodes[node].offset?.middle))
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, now: i64) {
        self.now = self.now.max(now);
    }

    /// Bound of the error of [`Self::common`].
    pub(crate) fn error(&self, node: usize) -> i64 {
        self.nodes[node].offset.map_or(0, |offset| aged(offset.half, offset.taken, self.now))
    }

    /// The largest [`Self::error`] of all nodes.
    pub(crate) fn worst_error(&self) -> i64 {
        (0..self.nodes.len()).map(|node| self.error(node)).max().unwrap_or(0)
    }

    /// `b`'s clock minus `a`'s, and the bound of its error.
    pub(crate) fn difference(&self, a: usize, b: usize) -> (i64, u64) {
        if a == b {
            return (0, 0);
        }
        let (low, high) = match (self.nodes[a].offset, self.nodes[b].offset) {
            (Some(of_a), Some(of_b)) => {
                let middle = of_b.middle.saturating_sub(of_a.middle);
                let half = self.error(a).saturating_add(self.error(b));
                (middle.saturating_sub(half), middle.saturating_add(half))
            }
            _ => (-WALL_CLOCK_ERROR, WALL_CLOCK_ERROR),
        };
        let crossing = |pair| {
            let bound: &Bound = self.crossings.get(&pair)?;
            Some(aged(bound.value, bound.taken, self.now))
        };
        let high = crossing((a, b)).map_or(high, |bound| bound.min(high));
        let low = crossing((b, a)).map_or(low, |bound| low.max(bound.saturating_neg()));
        // Bounds that contradict one another (a clock was stepped): the truth is somewhere about both.
        let middle = low.midpoint(high);
        (middle, high.abs_diff(low).div_ceil(2))
    }

    /// A node's reading as nanoseconds since 1970.
    pub(crate) fn wall(&self, node: usize, at: u64) -> u64 {
        let wall = signed(at).saturating_add(self.nodes[node].wall.unwrap_or_default());
        u64::try_from(wall).unwrap_or_default()
    }
}
