//! How many packets there were, by those in the sample.
//!
//! A packet on the wire is in the sample with a probability of 1/N. One that GSO segments later is in it if one of its
//! segments is: with that of 1 - (1 - 1/N)^segments. Each path in the sample stands for as many as the inverse of its own
//! probability (Horvitz and Thompson's estimator), so that the expected sum is the number of all.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use super::finished::Estimate;

/// Paths by the number of packets on the wire that each stands for.
#[derive(Clone, Debug, Default)]
pub(super) struct Sampled(BTreeMap<u32, u64>);

impl Sampled {
    /// Adds a path.
    pub(super) fn add(&mut self, wire_packets: u32) {
        *self.0.entry(wire_packets.max(1)).or_default() += 1;
    }

    /// What they stand for, where one in so many packets was traced.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    pub(super) fn estimate(&self, one_in: NonZeroU32) -> Estimate {
        let missed = 1.0 - 1.0 / f64::from(one_in.get());
        let paths = |(segments, count): (&u32, &u64)| {
            let probability = 1.0 - missed.powf(f64::from(*segments));
            *count as f64 / probability
        };
        Estimate { one_in, estimated_paths: self.0.iter().map(paths).sum::<f64>().round() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn estimated(paths: &[(u32, u64)], one_in: u32) -> u64 {
        let mut sampled = Sampled::default();
        for (segments, count) in paths {
            (0..*count).for_each(|_| sampled.add(*segments));
        }
        sampled.estimate(NonZeroU32::new(one_in).unwrap()).estimated_paths
    }

    #[test]
    fn a_packet_stands_for_n() {
        assert_eq!(estimated(&[(1, 52)], 100), 5_200);
        assert_eq!(estimated(&[(0, 3)], 10), 30, "of an unknown number of segments");
        assert_eq!(estimated(&[(1, 7), (45, 7)], 1), 14, "all of them");
        assert_eq!(estimated(&[], 100), 0);
    }

    #[test]
    fn what_gso_segments_stands_for_less() {
        // 36 of 100 packets of 45 segments have one of them in a sample of 1 in 100.
        assert_eq!(estimated(&[(45, 36)], 100), 99);
        assert_eq!(estimated(&[(45, 36), (1, 1)], 100), 199);
    }
}
