//! The three kinds of time, each a type of its own, so that none is taken for another.
//!
//! A node's events carry readings of that node's monotonic clock ([`NodeTime`]). Two nodes' readings cannot be compared:
//! [`Clocks`](crate::world::clock::Clocks) puts them on one timeline ([`Moment`]). The difference of two readings of one
//! clock, or of two moments, is a duration ([`Nanos`]).
//!
//! All arithmetic saturates. Readings are clamped to [`LIMIT`]: a clock that counts from some boot is nowhere near it,
//! and whatever a hostile agent sends cannot overflow.

use std::iter::Sum;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// The largest reading of a clock, in nanoseconds: 73 years.
const LIMIT: i64 = i64::MAX / 4;

fn clamped(nanoseconds: u64) -> i64 {
    i64::try_from(nanoseconds).unwrap_or(LIMIT).min(LIMIT)
}

/// A signed duration in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Nanos(i64);

impl Nanos {
    pub(crate) const ZERO: Self = Self(0);

    pub(crate) const fn from_nanos(nanoseconds: i64) -> Self {
        Self(nanoseconds)
    }

    pub(crate) const fn from_millis(milliseconds: i64) -> Self {
        Self(milliseconds * 1_000_000)
    }

    pub(crate) const fn from_secs(seconds: i64) -> Self {
        Self(seconds * 1_000_000_000)
    }

    /// A reading of a clock that is no node's: since whatever it counts from.
    pub(crate) fn of_reading(nanoseconds: u64) -> Self {
        Self(clamped(nanoseconds))
    }

    pub(crate) fn get(self) -> i64 {
        self.0
    }

    pub(crate) fn midpoint(self, other: Self) -> Self {
        Self(self.0.midpoint(other.0))
    }

    /// The distance to another one, without its sign.
    pub(crate) fn abs_diff(self, other: Self) -> u64 {
        self.0.abs_diff(other.0)
    }
}

impl Add for Nanos {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Nanos {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for Nanos {
    type Output = Self;

    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl Mul<i64> for Nanos {
    type Output = Self;

    fn mul(self, factor: i64) -> Self {
        Self(self.0.saturating_mul(factor))
    }
}

impl Div<i64> for Nanos {
    type Output = Self;

    fn div(self, divisor: i64) -> Self {
        Self(self.0 / divisor)
    }
}

impl Sum for Nanos {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::ZERO, Add::add)
    }
}

/// A reading of one node's monotonic clock. Compare it with readings of the same node only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeTime(i64);

impl NodeTime {
    pub(crate) fn from_nanos(nanoseconds: u64) -> Self {
        Self(clamped(nanoseconds))
    }

    /// As a duration since whatever the clock counts from.
    pub(crate) fn reading(self) -> Nanos {
        Nanos(self.0)
    }

    pub(crate) fn abs_diff(self, other: Self) -> u64 {
        self.0.abs_diff(other.0)
    }
}

impl Sub for NodeTime {
    type Output = Nanos;

    fn sub(self, earlier: Self) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A moment on the timeline that all nodes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Moment(i64);

impl Moment {
    pub(crate) const MIN: Self = Self(i64::MIN);
    pub(crate) const MAX: Self = Self(i64::MAX);
    /// Before any reading of a clock; differences from it stay within range.
    pub(crate) const BEFORE_ALL: Self = Self(i64::MIN / 4);
    /// After any reading of a clock; differences from it stay within range.
    pub(crate) const AFTER_ALL: Self = Self(LIMIT);
    /// Where the timeline begins.
    pub(crate) const ORIGIN: Self = Self(0);
}

impl Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, duration: Nanos) -> Self {
        Self(self.0.saturating_add(duration.0))
    }
}

impl Sub<Nanos> for Moment {
    type Output = Self;

    fn sub(self, duration: Nanos) -> Self {
        Self(self.0.saturating_sub(duration.0))
    }
}

impl Sub for Moment {
    type Output = Nanos;

    fn sub(self, earlier: Self) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }
}
