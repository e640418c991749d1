//! Adds up what runs were worth, and compares with what the last recorded run was worth.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::data::{Variant, directory};
use super::judge::Judgement;
use crate::kernel;

/// How a variant's run came out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// It was judged.
    Judged(Judgement),
    /// This machine cannot do it.
    Skipped {
        /// Why.
        reason: String,
    },
    /// The lab or the fault could not be made.
    Broken {
        /// What went wrong.
        reason: String,
    },
}

/// A variant and how it came out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Where it ran: `6.18 without kprobes`.
    pub kernel: String,
    /// `KIND/VARIANT`.
    pub name: String,
    /// The kind.
    pub kind: String,
    /// Whether nothing is broken in it.
    pub healthy: bool,
    /// How it came out.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Run {
    /// Of a variant, on the running kernel.
    #[must_use]
    pub fn of(variant: &Variant, outcome: Outcome) -> Self {
        let Variant { name, kind, ways: _, what } = variant;
        let kernel = kernel::name();
        Self { kernel, name: name.clone(), kind: kind.clone(), healthy: what.healthy, outcome }
    }

    /// What it was worth, if it was judged.
    #[must_use]
    pub fn judged(&self) -> Option<&Judgement> {
        match &self.outcome {
            Outcome::Judged(judgement) => Some(judgement),
            Outcome::Skipped { .. } | Outcome::Broken { .. } => None,
        }
    }
}

/// Sums over runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Score {
    /// Runs that were judged.
    pub runs: u32,
    /// Of these, localised.
    pub localised: u32,
    /// Explained.
    pub explained: u32,
    /// With a false sentence.
    #[serde(rename = "false")]
    pub falsehoods: u32,
    /// Runs that could not be made here.
    pub skipped: u32,
    /// Runs that went wrong.
    pub broken: u32,
}

impl Score {
    /// Of these runs.
    pub fn of<'a>(runs: impl IntoIterator<Item = &'a Run>) -> Self {
        let mut score = Self::default();
        for run in runs {
            match &run.outcome {
                Outcome::Judged(judgement) => {
                    score.runs += 1;
                    score.localised += u32::from(judgement.localised);
                    score.explained += u32::from(judgement.explained);
                    score.falsehoods += u32::from(!judgement.falsehoods.is_empty());
                }
                Outcome::Skipped { .. } => score.skipped += 1,
                Outcome::Broken { .. } => score.broken += 1,
            }
        }
        score
    }
}

/// The last run of every variant on every kernel, so that the table can be made of runs at different times.
#[derive(Debug)]
pub struct Stored {
    path: PathBuf,
    runs: Mutex<BTreeMap<(String, String), Run>>,
}

/// Variants differ by kernel and name.
fn key(run: &Run) -> (String, String) {
    (run.kernel.clone(), run.name.clone())
}

impl Stored {
    /// What is stored in `path`.
    ///
    /// # Errors
    ///
    /// If it is there and cannot be read.
    pub fn load(path: PathBuf) -> Result<Self> {
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("reading {}", path.display()))?,
        };
        // A line that an earlier version wrote otherwise is a run that has to be made again.
        let runs = text.lines().filter_map(|line| serde_json::from_str::<Run>(line).ok());
        let runs = runs.map(|run| (key(&run), run)).collect();
        Ok(Self { path, runs: Mutex::new(runs) })
    }

    /// Adds a run, in place of the variant's former one.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn add(&self, run: &Run) -> Result<()> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.insert(key(run), run.clone());
        let mut text = String::new();
        for run in runs.values() {
            writeln!(text, "{}", serde_json::to_string(run)?)?;
        }
        std::fs::write(&self.path, text).with_context(|| format!("writing {}", self.path.display()))
    }

    /// The runs of these variants on the running kernel that are stored, in the variants' order.
    #[must_use]
    pub fn of(&self, variants: &[Variant]) -> Vec<Run> {
        self.on(&kernel::name(), variants)
    }

    /// The runs of these variants on a kernel.
    #[must_use]
    pub fn on(&self, kernel: &str, variants: &[Variant]) -> Vec<Run> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let run = |variant: &Variant| runs.get(&(kernel.to_owned(), variant.name.clone())).cloned();
        variants.iter().filter_map(run).collect()
    }

    /// The kernels of all runs, the oldest first.
    #[must_use]
    pub fn kernels(&self) -> Vec<String> {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kernels: Vec<String> = runs.keys().map(|(kernel, _)| kernel.clone()).collect();
        kernels.dedup();
        let numbers = |kernel: &str| {
            let series = kernel.split(' ').next().unwrap_or_default();
            series.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u32>>()
        };
        kernels.sort_by_key(|kernel| numbers(kernel));
        kernels
    }
}

/// What variants were worth when it was recorded: `holds.txt`, a line each with letters for what was right:
/// `L`ocalised, `E`xplained, `T`rue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded(BTreeMap<String, String>);

/// The letters of a run.
#[must_use]
pub fn letters(judgement: &Judgement) -> String {
    [('L', judgement.localised), ('E', judgement.explained), ('T', judgement.falsehoods.is_empty())]
        .iter()
        .filter_map(|(letter, right)| right.then_some(*letter))
        .collect()
}

impl Recorded {
    fn path() -> PathBuf {
        directory().join("holds.txt")
    }

    /// What is recorded.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn load() -> Result<Self> {
        let path = Self::path();
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("reading {}", path.display()))?,
        };
        let mut lines = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, letters) = line.split_once(' ').unwrap_or((line, ""));
            if lines.insert(name.to_owned(), letters.trim().to_owned()).is_some() {
                bail!("{}: {name} is there twice", path.display());
            }
        }
        Ok(Self(lines))
    }

    /// Whether all of a variant was right.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|letters| letters == "LET")
    }

    /// What was right and is no more, and what is right now and was not.
    #[must_use]
    pub fn against(&self, name: &str, judgement: &Judgement) -> (String, String) {
        let before = self.0.get(name).map(String::as_str).unwrap_or_default();
        let now = letters(judgement);
        let without = |one: &str, other: &str| one.chars().filter(|c| !other.contains(*c)).collect();
        (without(before, &now), without(&now, before))
    }

    /// Takes over what these runs were worth, and forgets variants that are gone.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn mark(mut self, runs: &[Run], all: &[Variant]) -> Result<()> {
        for run in runs {
            if let Some(judgement) = run.judged() {
                self.0.insert(run.name.clone(), letters(judgement));
            }
        }
        self.0.retain(|name, _| all.iter().any(|variant| variant.name == *name));
        let mut text = "# What was right when each variant was last marked: Localised, Explained, True. \
                        `cargo xtask faults --mark` writes it.\n"
            .to_owned();
        for (name, letters) in &self.0 {
            writeln!(text, "{}", format!("{name} {letters}").trim_end())?;
        }
        let path = Self::path();
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_got_better_and_worse_is_named_by_letter() {
        let recorded = Recorded(BTreeMap::from([("a/b".to_owned(), "LT".to_owned())]));
        let now = Judgement {
            localised: true,
            explained: true,
            falsehoods: vec!["x".to_owned()],
            ..Judgement::default()
        };
        assert_eq!(recorded.against("a/b", &now), ("T".to_owned(), "E".to_owned()));
        assert_eq!(recorded.against("new", &now), (String::new(), "LE".to_owned()));
        assert!(!recorded.holds("a/b"));
    }
}
