//! Which paths are like one before: the same way, the same verdict, the same cause.
//!
//! 1. The first path of its kind is new.
//! 2. A later one is an outlier if it took longer than any before it and four times as long as 99 of 100 did; as long as there
//!    are too few of them to say so, longer than a millisecond and eight times as long as half of them.
//! 3. Any other is like the first of its kind.
//!
//! Limit: the first [`KINDS`] kinds are remembered; paths of others are like none, and not new either.

use rustc_hash::FxHashMap;

use super::cause::{self, Key};
use super::histogram::Histogram;
use super::route::{Way, way};
use podtrace_path::{FlowRef, Path, Verdict};

/// How many kinds are remembered.
const KINDS: usize = 1_024;

/// How many paths of a kind make its 99th percentile worth the name.
const ENOUGH: u64 = 50;

/// Below this, in nanoseconds, no time is an outlier.
const NOT_LONG: u64 = 200_000;

/// The same, and how many times the median is long, for the first paths of a kind.
const NOT_LONG_AT_FIRST: u64 = 1_000_000;
const TIMES_MEDIAN: u64 = 8;

/// The kinds of paths seen so far.
#[derive(Clone, Debug, Default)]
pub struct Novelty {
    kinds: FxHashMap<(Verdict, Way, Option<Key>), Kind>,
}

#[derive(Clone, Debug)]
struct Kind {
    first: First,
    durations: Histogram,
}

/// The first path of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// Number of the path.
    pub id: u64,
    /// Its flow.
    pub flow: FlowRef,
}

/// How a path compares with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// The first of its kind.
    New,
    /// Like this one.
    Like(First),
    /// Like this one, but it took longer than any: usual are so many nanoseconds at most.
    Outlier(First, u64),
    /// Kinds are no longer remembered.
    Unknown,
}

impl Novelty {
    /// Compares a path with those before it, and remembers it.
    pub fn compare(&mut self, path: &Path) -> Compared {
        let key = (path.verdict, way(path), cause::key(path));
        let Some(kind) = self.kinds.get_mut(&key) else {
            if self.kinds.len() >= KINDS {
                return Compared::Unknown;
            }
            let mut durations = Histogram::default();
            durations.record(path.duration_ns);
            self.kinds.insert(key, Kind { first: First { id: path.id, flow: path.flow }, durations });
            return Compared::New;
        };
        let duration = u64::try_from(path.duration_ns).unwrap_or(0);
        let durations = &mut kind.durations;
        let (usual, long) = if durations.count() >= ENOUGH {
            let usual = durations.percentile(99);
            (usual, NOT_LONG.max(usual.saturating_mul(4)))
        } else {
            let usual = durations.percentile(50);
            (usual, NOT_LONG_AT_FIRST.max(usual.saturating_mul(TIMES_MEDIAN)))
        };
        let is_outlier = path.verdict == Verdict::Delivered && duration > durations.max() && duration > long;
        durations.record(path.duration_ns);
        if is_outlier { Compared::Outlier(kind.first, usual) } else { Compared::Like(kind.first) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn paths_are_like_the_first_of_their_kind() {
        let mut novelty = Novelty::default();
        let request = samples::cross_node_request();
        let first = First { id: request.id, flow: request.flow };
        assert_eq!(novelty.compare(&request), Compared::New);
        assert_eq!(novelty.compare(&samples::cross_node_reply()), Compared::New);
        assert_eq!(novelty.compare(&Path { id: 9, ..request.clone() }), Compared::Like(first));
        assert_eq!(novelty.compare(&Path { verdict: Verdict::Open, ..request }), Compared::New);
        assert_eq!(novelty.compare(&samples::dropped()), Compared::New);
        assert!(matches!(novelty.compare(&samples::dropped()), Compared::Like(_)));
    }

    #[test]
    fn a_path_that_took_much_longer_is_an_outlier_once() {
        let mut novelty = Novelty::default();
        let slow = |duration_ns| Path { duration_ns, ..samples::cross_node_request() };
        novelty.compare(&slow(88_000));
        assert!(matches!(novelty.compare(&slow(900_000)), Compared::Like(_)), "not long for so few");
        assert!(matches!(novelty.compare(&slow(27_000_000)), Compared::Outlier(..)), "300 times as long");
        let mut novelty = Novelty::default();
        for _ in 0..ENOUGH {
            novelty.compare(&slow(88_000));
        }
        assert!(matches!(novelty.compare(&slow(150_000)), Compared::Like(_)), "not long");
        assert!(matches!(novelty.compare(&slow(5_000_000)), Compared::Outlier(_, 88_000..=160_000)));
        assert!(matches!(novelty.compare(&slow(4_000_000)), Compared::Like(_)), "not the longest");
    }
}
