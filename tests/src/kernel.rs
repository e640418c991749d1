//! The running kernel, and expectations that hold for some kernels only.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// The two leading numbers of a kernel's version, such as 6.12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    major: u32,
    minor: u32,
}

impl Series {
    /// The running kernel's.
    ///
    /// # Errors
    ///
    /// If the kernel does not say.
    pub fn running() -> Result<Self> {
        let names = nix::sys::utsname::uname().context("asking the kernel for its version")?;
        let release = names.release().to_string_lossy();
        Self::of_release(&release).with_context(|| format!("`{release}` is no kernel version"))
    }

    /// Its second number.
    #[must_use]
    pub fn minor(self) -> u32 {
        self.minor
    }

    /// Reads `6.12.118+deb13-cloud-amd64`.
    fn of_release(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { major, minor } = self;
        write!(f, "{major}.{minor}")
    }
}

/// Whether functions of the running kernel can be hooked.
#[must_use]
pub fn has_kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe").exists()
}

/// The running kernel as tables name it: `6.18 without kprobes`.
#[must_use]
pub fn name() -> String {
    let series = Series::running().map_or_else(|_| "unknown".to_owned(), |series| series.to_string());
    format!("{series} {} kprobes", if has_kprobes() { "with" } else { "without" })
}

/// Environment variable that is set in guests. It says which of the tests are run there.
pub const GUESTS: &str = "PODTRACE_TEST_GUESTS";

/// Whether this is a virtual machine of `cargo xtask`, whose kernel can do what this machine's may not.
#[must_use]
pub fn is_guest() -> bool {
    std::env::var_os(GUESTS).is_some()
}

/// A word of podtrace's command line as it fits the machine: in a guest, whose CPUs are emulated, seconds are more.
#[must_use]
pub fn in_its_time(word: &str) -> String {
    const FACTOR: u32 = 5;
    let seconds = word.strip_suffix('s').and_then(|number| number.parse::<u32>().ok());
    match seconds.filter(|_| is_guest()) {
        Some(seconds) => format!("{}s", seconds * FACTOR),
        None => word.to_owned(),
    }
}

/// Kernels from one series, inclusive, to another, exclusive: `5.17..6.2`, `..5.17`, `6.2..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernels {
    from: Option<Series>,
    to: Option<Series>,
}

impl FromStr for Kernels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let failed = || format!("`{text}` is no range of kernels such as 5.17..6.2, ..5.17 or 6.2..");
        let series = |text: &str| -> Result<Option<Series>, String> {
            if text.is_empty() {
                return Ok(None);
            }
            let (major, minor) = text.split_once('.').ok_or_else(failed)?;
            let number = |text: &str| text.parse().map_err(|_| failed());
            Ok(Some(Series { major: number(major)?, minor: number(minor)? }))
        };
        let (from, to) = text.split_once("..").ok_or_else(failed)?;
        Ok(Self { from: series(from)?, to: series(to)? })
    }
}

impl<'de> Deserialize<'de> for Kernels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |end: Option<Series>| end.map(|series| series.to_string()).unwrap_or_default();
        write!(f, "{}..{}", end(self.from), end(self.to))
    }
}

impl Kernels {
    /// Whether they include this series.
    #[must_use]
    pub fn include(&self, series: Series) -> bool {
        self.from.is_none_or(|from| from <= series) && self.to.is_none_or(|to| series < to)
    }
}

/// Checks that these ranges, in their order, include every kernel exactly once.
///
/// # Errors
///
/// If a kernel would be in none or in two.
pub fn check_ranges(ranges: &[Kernels]) -> Result<()> {
    let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { bail!("no kernel is named") };
    ensure!(first.from.is_none(), "no range includes the kernels before {first}");
    ensure!(last.to.is_none(), "no range includes the kernels after {last}");
    for pair in ranges.windows(2) {
        let [one, next] = pair else { continue };
        ensure!(one.to.is_some() && one.to == next.from, "{next} does not begin where {one} ends");
        ensure!(one.from < one.to, "{one} includes no kernel");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(texts: &[&str]) -> Vec<Kernels> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_release_begins_with_its_series() {
        for (release, series) in
            [("6.12.118+deb13-cloud-amd64", "6.12"), ("5.10.0-46-amd64", "5.10"), ("7.3-rc1", "7.3")]
        {
            assert_eq!(Series::of_release(release).unwrap().to_string(), series);
        }
        assert_eq!(Series::of_release("six"), None);
        assert!(Series::running().is_ok());
    }

    #[test]
    fn a_range_includes_its_start_and_not_its_end() {
        let range: Kernels = "5.17..6.2".parse().unwrap();
        let included = |series: &str| range.include(Series::of_release(series).unwrap());
        assert!(included("5.17") && included("6.1"));
        assert!(!included("5.10") && !included("6.2") && !included("6.12"));
        for wrong in ["5.17", "5..6", "a..b", "5.17...6.2"] {
            assert!(wrong.parse::<Kernels>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges_leave_no_kernel_out_and_name_none_twice() {
        assert!(check_ranges(&ranges(&["..5.17", "5.17..6.2", "6.2.."])).is_ok());
        assert!(check_ranges(&ranges(&[".."])).is_ok());
        for wrong in [
            &[][..],
            &["5.10.."],
            &["..6.2"],
            &["..5.17", "6.2.."],
            &["..6.2", "5.17.."],
            &["..", ".."],
            &["..6.2", "6.2..5.17", "5.17.."],
        ] {
            assert!(check_ranges(&ranges(wrong)).is_err(), "{wrong:?}");
        }
    }
}
