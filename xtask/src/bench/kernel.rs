//! What the kernel counts of podtrace's eBPF programs, and what they count themselves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::run;

/// The kernel counts runs and nanoseconds of eBPF programs while this is 1, which costs some nanoseconds per run.
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Has the kernel count runs of eBPF programs, until it is dropped.
pub(super) struct Statistics {
    before: String,
}

impl Statistics {
    pub(super) fn begin() -> Result<Self> {
        let before = fs::read_to_string(STATISTICS).context("reading kernel.bpf_stats_enabled")?;
        fs::write(STATISTICS, "1").context("setting kernel.bpf_stats_enabled")?;
        Ok(Self { before })
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(STATISTICS, &self.before) {
            eprintln!("kernel.bpf_stats_enabled could not be set to {} again: {error}", self.before.trim());
        }
    }
}

/// Counts of one trace's agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) produced: u64,
    pub(super) lost: u64,
    /// By name of the program: runs, and nanoseconds in all.
    pub(super) programs: BTreeMap<String, (u64, u64)>,
}

impl Counts {
    /// What the helper reads of the agents among these processes.
    pub(super) fn read(helper: &Path, pids: &[u32]) -> Result<Self> {
        let pids = pids.iter().map(u32::to_string);
        let said = run::ask(Command::new(helper).arg("kernel").args(pids))
            .context("asking the kernel for its counts")?;
        Self::parse(&said).with_context(|| format!("the helper says {said:?}"))
    }

    fn parse(said: &str) -> Option<Self> {
        let said: Value = serde_json::from_str(said).ok()?;
        let mut counts = Self {
            produced: said["produced"].as_u64()?,
            lost: said["lost"].as_u64()?,
            programs: BTreeMap::new(),
        };
        for program in said["programs"].as_array()? {
            let sums = counts.programs.entry(program["name"].as_str()?.to_owned()).or_default();
            sums.0 += program["runs"].as_u64()?;
            sums.1 += program["nanoseconds"].as_u64()?;
        }
        Some(counts)
    }

    /// What was counted since.
    pub(super) fn since(&self, before: &Self) -> Self {
        let programs = self.programs.iter().map(|(name, (runs, nanoseconds))| {
            let (runs_before, before) = before.programs.get(name).copied().unwrap_or_default();
            (name.clone(), (runs.saturating_sub(runs_before), nanoseconds.saturating_sub(before)))
        });
        Self {
            produced: self.produced.saturating_sub(before.produced),
            lost: self.lost.saturating_sub(before.lost),
            programs: programs.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_one_name_are_summed() {
        let counts = |runs: u64| {
            let program = format!("{{\"name\": \"a\", \"runs\": {runs}, \"nanoseconds\": 100}}");
            let said = format!("{{\"produced\": {runs}, \"lost\": 1, \"programs\": [{program}, {program}]}}");
            Counts::parse(&said).unwrap()
        };
        assert_eq!(counts(3).programs["a"], (6, 200));
        let since = counts(3).since(&counts(1));
        assert_eq!((since.produced, since.lost, since.programs["a"]), (2, 0, (4, 0)));
    }
}
