//! A log-linear histogram of durations: percentiles within 1/32 of their value, in bounded memory.
//!
//! 1. A duration below 32 ns has a bucket of its own. Above, each power of two is divided into 32 buckets of equal width.
//! 2. Only buckets with a value take memory, and there are fewer than 2,000 for all of 64 bits.
//! 3. A percentile is the upper end of the bucket that its value is in, but never above the largest value recorded.
//!
//! Count, sum, smallest and largest value are exact.

use std::collections::BTreeMap;

/// Bits of a value that its bucket keeps.
const PRECISION: u32 = 5;

/// Durations in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Histogram {
    buckets: BTreeMap<u16, u64>,
    count: u64,
    sum: u128,
    min: u64,
    max: u64,
}

impl Histogram {
    /// Adds a duration. Negative ones, which only the clocks' error makes, count as 0.
    pub(super) fn record(&mut self, nanoseconds: i64) {
        let value = u64::try_from(nanoseconds).unwrap_or(0);
        *self.buckets.entry(bucket(value)).or_default() += 1;
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = self.max.max(value);
        self.count += 1;
        self.sum += u128::from(value);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn min(&self) -> u64 {
        self.min
    }

    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// The average; 0 without values.
    pub(super) fn average(&self) -> u64 {
        u64::try_from(self.sum / u128::from(self.count.max(1))).unwrap_or(u64::MAX)
    }

    /// The value that so many percent of the values do not exceed; 0 without values.
    pub(super) fn percentile(&self, percent: u64) -> u64 {
        let rank = u128::from(self.count) * u128::from(percent);
        let mut below = 0;
        for (&bucket, &count) in &self.buckets {
            below += u128::from(count) * 100;
            if below >= rank {
                return upper_end(bucket).min(self.max);
            }
        }
        self.max
    }
}

/// The bucket of a value.
fn bucket(value: u64) -> u16 {
    let exponent = u64::BITS - 1 - value.max(1).leading_zeros();
    let shift = exponent.saturating_sub(PRECISION);
    let within = (value >> shift) & ((1 << PRECISION) - 1);
    let octave = u64::from((exponent + 1).saturating_sub(PRECISION));
    // At most 59 * 32 + 31.
    u16::try_from(octave << PRECISION | within).unwrap_or(u16::MAX)
}

/// The largest value in a bucket.
fn upper_end(bucket: u16) -> u64 {
    let (octave, within) = (u32::from(bucket) >> PRECISION, u64::from(bucket) & ((1 << PRECISION) - 1));
    let Some(shift) = octave.checked_sub(1) else { return within };
    let start = u128::from(within | 1 << PRECISION) << shift;
    u64::try_from(start + (1 << shift) - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = i64>) -> Histogram {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|value| histogram.record(value));
        histogram
    }

    #[test]
    fn a_value_is_in_a_bucket_that_ends_at_most_a_thirty_second_above_it() {
        for exponent in 0..64 {
            for value in [1_u64 << exponent, (1 << exponent) + (1 << exponent) / 3, (1 << exponent) - 1] {
                let end = upper_end(bucket(value));
                assert!(end >= value && end - value <= value / 32, "{value} is in a bucket up to {end}");
            }
        }
        assert_eq!(upper_end(bucket(u64::MAX)), u64::MAX);
        assert!(bucket(u64::MAX) < 2_000);
    }

    #[test]
    fn percentiles_are_close_and_extremes_exact() {
        let histogram = of((1..=10_000).map(|number| number * 1_000));
        for (percent, exact) in [(50, 5_000_000), (90, 9_000_000), (99, 9_900_000)] {
            let found = histogram.percentile(percent);
            assert!((exact..=exact + exact / 32).contains(&found), "p{percent} is {found}");
        }
        assert_eq!((histogram.min(), histogram.max()), (1_000, 10_000_000));
        assert_eq!((histogram.average(), histogram.count()), (5_000_500, 10_000));
    }

    #[test]
    fn few_values_and_none() {
        assert_eq!(of([]).percentile(50), 0);
        assert_eq!(of([]).average(), 0);
        let one = of([74_123]);
        assert_eq!((one.percentile(50), one.percentile(99), one.min()), (74_123, 74_123, 74_123));
        assert_eq!(of([-5]).max(), 0, "a negative duration is the clocks' error");
    }
}
