//! `--write` and `--rotate`: the destination of a recording.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use anyhow::Result;

use super::args::Write;
use super::{UsageError, size};
use podtrace_report::recording::{Rotation, Target};

impl Write {
    /// The destination of the recording; `None` without `--write`.
    pub(super) fn target(&self) -> Result<Option<Target>> {
        let refuse = |text: &str| Err(UsageError(text.to_owned()).into());
        let target = self.write.clone().map(|path| Target { path, rotate: self.rotate });
        if self.takes_stdout() {
            if self.rotate.is_some() {
                return refuse("--rotate needs a file, but --write is stdout");
            }
            if io::stdout().is_terminal() {
                return refuse(
                    "--write - writes binary data to the terminal: pipe it, as in `| tshark -r -`",
                );
            }
        }
        Ok(target)
    }

    /// Whether the recording goes to stdout, which is then not available for anything else.
    pub(super) fn takes_stdout(&self) -> bool {
        self.write.as_deref().is_some_and(|path| path == Path::new("-"))
    }
}

/// Smallest size of a file in bytes: below, every few packets would start a new one.
const SMALLEST: u64 = 50_000;

/// Parses `100M` or `100M,5`.
pub(super) fn rotation(text: &str) -> Result<Rotation, String> {
    let (size, keep) = match text.split_once(',') {
        Some((size, keep)) => (size, Some(keep)),
        None => (text, None),
    };
    let size = size::bytes(size)?;
    if size < SMALLEST {
        return Err(format!("expected a size of at least {}k", SMALLEST / 1_000));
    }
    let keep =
        match keep {
            None => None,
            Some(keep) => {
                let keep = keep.parse().ok().filter(|keep| *keep > 0);
                Some(keep.ok_or_else(|| {
                    "expected the number of files to keep after the comma: 100M,5".to_owned()
                })?)
            }
        };
    Ok(Rotation { size, keep })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, size, keep) in [
            ("50000", 50_000, None),
            ("500k", 500_000, None),
            ("100M", 100_000_000, None),
            ("2G,5", 2_000_000_000, Some(5)),
        ] {
            assert_eq!(rotation(text), Ok(Rotation { size, keep }), "{text}");
        }
        for text in [
            "",
            "0",
            "7",
            "49k",
            "M",
            "-1M",
            "1T",
            "1.5M",
            "99999999999999999999",
            "99999999999G",
            "1M,",
            "1M,0",
            "1M,x",
        ] {
            assert!(rotation(text).is_err(), "{text}");
        }
    }
}
