//! Adds up the closing lines of test runners.

use std::fmt;
use std::ops::AddAssign;

/// How many tests ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Tally {
    /// Reads a closing line such as `test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; …`.
    pub(crate) fn from_closing_line(line: &str) -> Option<Self> {
        let (_, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let count = |of: &str| {
            let mut parts = counts.split("; ").filter_map(|part| part.split_once(' '));
            parts.find(|(_, what)| *what == of).and_then(|(number, _)| number.parse().ok())
        };
        Some(Self { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
    }

    /// All tests, the skipped ones too.
    pub(crate) fn total(self) -> u64 {
        let Self { passed, failed, skipped } = self;
        passed + failed + skipped
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, Self { passed, failed, skipped }: Self) {
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read() {
        let cases = [
            (
                "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
                Some((4, 0, 1)),
            ),
            (
                "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 2 filtered out",
                Some((12, 3, 0)),
            ),
            ("test result: ok", None),
            ("test result: ok. many passed; 0 failed; 0 ignored", None),
            ("test tally::tests::closing_lines_are_read ... ok", None),
            ("", None),
        ];
        for (line, expected) in cases {
            let found = Tally::from_closing_line(line).map(|t| (t.passed, t.failed, t.skipped));
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn tallies_add_up() {
        let mut sum = Tally { passed: 1, failed: 2, skipped: 3 };
        sum += Tally { passed: 10, failed: 20, skipped: 30 };
        assert_eq!(sum.to_string(), "11 passed, 22 failed, 33 skipped");
        assert_eq!(sum.total(), 66);
    }
}
