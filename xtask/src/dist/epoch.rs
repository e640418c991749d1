//! The time that everything shipped is of: that of the sources, so that it comes out the same whenever it is made.

use std::env;
use std::process::Command;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use crate::{run, workspace};

/// The variable by which builders agree on it (reproducible-builds.org).
pub(crate) const VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// Seconds since 1970: of the variable, else of the last commit.
pub(crate) fn of_sources() -> Result<u64> {
    if let Some(text) = env::var_os(VARIABLE) {
        let text = text.to_string_lossy();
        return text.trim().parse().with_context(|| format!("{VARIABLE} is no number of seconds: {text:?}"));
    }
    let mut git = Command::new("git");
    git.current_dir(workspace::root()).args(["log", "-1", "--format=%ct"]);
    let text = run::ask(&mut git).with_context(|| {
        format!("git does not say of when the sources are: set {VARIABLE} to seconds since 1970")
    })?;
    text.trim().parse().with_context(|| format!("git gives no number of seconds: {text:?}"))
}

/// The time in ISO 8601, UTC.
pub(crate) fn iso(seconds: u64) -> Result<String> {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    Ok(time.with_context(|| format!("{seconds} seconds after 1970 is no time"))?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_times() {
        assert_eq!(iso(1_700_000_000).unwrap(), "2023-11-14T22:13:20Z");
        assert!(iso(u64::MAX).is_err());
    }
}
