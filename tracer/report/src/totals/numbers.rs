//! Sets of small numbers, and the parts of TCP's sequence space that were seen.

/// Numbers that are given from 1 on, such as a trace's flows: one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NumberSet {
    words: Vec<u64>,
    count: u64,
}

/// Larger numbers are not kept, so that no set takes more than 8 MiB.
const LARGEST: u64 = 1 << 26;

impl NumberSet {
    /// Adds a number; whether it is new.
    pub(super) fn add(&mut self, number: u64) -> bool {
        let (Ok(word), true) = (usize::try_from(number / 64), number < LARGEST) else { return false };
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let bit = 1 << (number % 64);
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u64::from(is_new);
        is_new
    }

    /// How many numbers there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

/// The bytes of one direction of a TCP connection that were seen, to recognise those that are sent again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stream {
    /// The last sequence number, as it is in segments and without its wraps.
    last: Option<(u32, i64)>,
    /// What was seen: from, up to but without; in order, apart from one another.
    seen: Vec<(i64, i64)>,
}

/// More gaps are filled from below: segments that come late into one of these look like retransmissions.
const GAPS: usize = 64;

impl Stream {
    /// Adds a segment; whether a part of it was seen before. Segments of no length are none.
    pub(super) fn is_again(&mut self, seq: u32, length: u32) -> bool {
        if length == 0 {
            return false;
        }
        let from = match self.last {
            // Sequence numbers are compared by their signed difference, as TCP does.
            Some((last, at)) => at + i64::from(seq.wrapping_sub(last).cast_signed()),
            None => 0,
        };
        self.last = Some((seq, from));
        let (mut from, mut to) = (from, from + i64::from(length));
        let first = self.seen.partition_point(|range| range.1 < from);
        let last = first + self.seen[first..].partition_point(|range| range.0 <= to);
        let again = self.seen[first..last].iter().any(|range| range.0 < to && from < range.1);
        if let (Some(low), Some(high)) = (self.seen[first..last].first(), self.seen[first..last].last()) {
            (from, to) = (from.min(low.0), to.max(high.1));
        }
        self.seen.splice(first..last, [(from, to)]);
        if self.seen.len() > GAPS {
            let (low, _) = self.seen.remove(0);
            self.seen[0].0 = low;
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_counts_each_number_once() {
        let mut set = NumberSet::default();
        assert_eq!([7, 7, 64, 1 << 40].map(|number| set.add(number)), [true, false, true, false]);
        assert_eq!(set.count(), 2);
    }

    #[test]
    fn bytes_that_were_seen_are_again() {
        let mut stream = Stream::default();
        let start = u32::MAX - 1_000;
        let mut again = |offset: u32, length| stream.is_again(start.wrapping_add(offset), length);
        assert!(!again(0, 1), "SYN");
        assert!(!again(1, 1_448));
        assert!(!again(1_449, 1_448), "beyond the wrap");
        assert!(!again(4_345, 1_448), "overtook another");
        assert!(!again(2_897, 1_448), "was overtaken");
        assert!(again(1_449, 1_448), "sent again");
        assert!(again(0, 100), "a part of it");
        assert!(!again(2_000, 0), "an acknowledgment");
        assert!(!again(5_793, 1));
    }

    #[test]
    fn gaps_are_bounded() {
        let mut stream = Stream::default();
        assert!((0..10_000).all(|number| !stream.is_again(number * 10, 5)));
        assert_eq!(stream.seen.len(), GAPS);
        assert!(stream.is_again(99_990, 5));
    }
}
