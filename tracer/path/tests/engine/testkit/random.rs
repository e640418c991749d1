//! Random numbers, the same ones in every run.

/// Xorshift.
pub(in super::super) struct Random(u64);

impl Random {
    /// A seed that is 0 counts as 1.
    pub(in super::super) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(in super::super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
