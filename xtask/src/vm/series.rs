//! A kernel series such as 6.12.

use std::fmt;
use std::str::FromStr;

/// The kernels that are booted if none are named: the oldest, the newest, and those between at which something
/// changed for us (drop reasons in 5.17, tcx in 6.6).
pub(super) const DEFAULT: &str = "5.10,6.1,6.12,6.18,7.3";

/// Those of them that `cargo xtask test` boots.
pub(super) const COMPACT: [Series; 4] =
    [Series::of(5, 10), Series::of(6, 1), Series::of(6, 12), Series::of(7, 3)];

/// Those that are wired to each other.
pub(super) const PAIR: [Series; 2] = [Series::of(6, 1), Series::of(7, 3)];

/// The two leading numbers of a kernel's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    major: u32,
    minor: u32,
}

impl Series {
    const fn of(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }
}

impl FromStr for Series {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once('.')
            .and_then(|(major, minor)| Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? }));
        parts.ok_or_else(|| "a kernel series is two numbers, such as 6.12".to_owned())
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor } = self;
        write!(f, "{major}.{minor}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_two_numbers() {
        assert_eq!("6.12".parse::<Series>().unwrap().to_string(), "6.12");
        for wrong in ["6", "6.", "6.1.2", "v6.1", ""] {
            assert!(wrong.parse::<Series>().is_err(), "{wrong}");
        }
        assert!("5.10".parse::<Series>() < "6.1".parse::<Series>());
    }
}
