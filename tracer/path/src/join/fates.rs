//! Counts the drops that the kernels reported, by what they mean.
//!
//! 1. A drop that ends a track counts as fatal until the track is reported.
//! 2. If the packet arrived all the same, it was a copy: it counts as harmless then. If the track has no end, nobody knows.
//! 3. Harmless drops are counted by kind: what the packet was, reason and function. Beyond [`KINDS`], reason and function are
//!    left out.

use std::collections::BTreeMap;

use crate::model::{Drop, DropFates, HarmlessDrop, Verdict};

/// Kinds that are kept apart.
const KINDS: usize = 64;

/// What a copy was whose packet arrived.
const COPY: &str = "a copy of a packet that arrived";

/// What the packet was, the reason, and the function.
type Kind = (&'static str, Option<String>, Option<String>);

/// The counts so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fates {
    fatal: u64,
    unexplained: u64,
    harmless: BTreeMap<Kind, u64>,
}

impl Fates {
    /// A drop that ends a track, as far as is known.
    pub(crate) fn fatal(&mut self) {
        self.fatal += 1;
    }

    /// A drop that takes nothing from anybody.
    pub(crate) fn harmless(&mut self, what: &'static str, drop: &Drop) {
        let kind = (what, drop.reason.clone(), drop.location.clone());
        let is_listed = self.harmless.len() < KINDS || self.harmless.contains_key(&kind);
        *self.harmless.entry(if is_listed { kind } else { (what, None, None) }).or_default() += 1;
    }

    /// A drop that belongs to no track.
    pub(crate) fn unexplained(&mut self, count: u64) {
        self.unexplained += count;
    }

    /// A track with such a fatal drop is reported, and ended like this.
    pub(crate) fn settle(&mut self, verdict: Verdict, drop: &Drop, count: u64) {
        match verdict {
            Verdict::Dropped | Verdict::Vanished | Verdict::Rejected => {}
            Verdict::Delivered => {
                self.fatal = self.fatal.saturating_sub(count);
                (0..count).for_each(|_| self.harmless(COPY, drop));
            }
            Verdict::Open => {
                self.fatal = self.fatal.saturating_sub(count);
                self.unexplained(count);
            }
        }
    }

    /// How many drops are harmless.
    pub(crate) fn count_harmless(&self) -> u64 {
        self.harmless.values().sum()
    }

    /// What there is to report.
    pub(crate) fn finished(&self) -> DropFates {
        let mut harmless: Vec<_> = self
            .harmless
            .iter()
            .map(|((what, reason, location), count)| HarmlessDrop {
                what: (*what).to_owned(),
                reason: reason.clone(),
                location: location.clone(),
                count: *count,
            })
            .collect();
        harmless.sort_by_key(|kind| std::cmp::Reverse(kind.count));
        let Self { fatal, unexplained, harmless: _ } = *self;
        let mut fates = DropFates { seen: 0, fatal, unexplained, harmless };
        fates.seen = fatal + unexplained + fates.harmless();
        fates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drop(reason: &str) -> Drop {
        Drop { reason: Some(reason.to_owned()), ..Drop::default() }
    }

    #[test]
    fn every_drop_has_one_fate() {
        let mut fates = Fates::default();
        (0..5).for_each(|_| fates.fatal());
        fates.settle(Verdict::Dropped, &drop("NO_SOCKET"), 2);
        fates.settle(Verdict::Delivered, &drop("OTHERHOST"), 2);
        fates.settle(Verdict::Open, &drop("NO_SOCKET"), 1);
        fates.harmless("a flooded copy", &drop("OTHERHOST"));
        fates.unexplained(3);
        let finished = fates.finished();
        assert_eq!((finished.seen, finished.fatal, finished.unexplained), (9, 2, 4));
        assert_eq!((finished.harmless(), finished.harmless.len()), (3, 2));
        assert_eq!((finished.harmless[0].what.as_str(), finished.harmless[0].count), (COPY, 2));
    }

    #[test]
    fn kinds_beyond_the_bound_are_counted_together() {
        let mut fates = Fates::default();
        (0..KINDS + 9).for_each(|number| fates.harmless("a copy", &drop(&format!("R{number}"))));
        let finished = fates.finished();
        assert_eq!((finished.harmless.len(), finished.harmless()), (KINDS + 1, KINDS as u64 + 9));
        assert_eq!((finished.harmless[0].reason.as_deref(), finished.harmless[0].count), (None, 9));
    }
}
