//! What tracing costs the traffic that is traced.
//!
//! 1. In each round, each load runs under each condition, one right after the other, so that what the machine does
//!    besides meets them alike. Untraced traffic is measured twice, and the order rotates from round to round.
//! 2. A ratio compares a rate with the mean of the two untraced rates of the same load and round. What is shown is the
//!    median over all rounds, with the least and the greatest.
//! 3. After the rounds each load runs once more while the kernel counts what each program takes, since counting costs too.
//!
//! Clients run on one CPU and servers on another one; podtrace, tcpdump and all else run where the kernel puts them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::condition::{CONDITIONS, Condition};
use super::kernel::{Counts, Statistics};
use super::lab::Lab;
use super::load::{LOADS, Load, Servers};
use super::{Options, Profile, helper, table};
use crate::{run, workspace};

/// One load under one condition.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) load: Load,
    pub(super) condition: Condition,
    pub(super) round: u32,
    /// Per second, see [`Load::unit`].
    pub(super) rate: f64,
    /// CPUs that what ran beside the load used, on average.
    pub(super) cpus: f64,
    /// What podtrace's programs counted.
    pub(super) counts: Counts,
}

/// Everything that was measured.
pub(super) struct Figures {
    pub(super) samples: Vec<Sample>,
    /// The same with times of programs; their rates are not compared.
    pub(super) timed: Vec<Sample>,
    pub(super) seconds: u32,
    pub(super) rounds: u32,
}

/// Measures, prints the table, and keeps the figures.
pub(super) fn run(options: &Options, podtrace: &Path) -> Result<()> {
    let helper = helper(Profile::Debug)?;
    let directory = workspace::root().join("target/bench");
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let outcome = measure(options, podtrace, &helper, &directory);
    fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()))?;
    let figures = outcome?;
    print!("{}", table::text(&figures));
    let data = options.data.clone().unwrap_or_else(|| workspace::target_dir().join("bench.json"));
    fs::write(&data, table::json(&figures)?).with_context(|| format!("writing {}", data.display()))?;
    println!("figures: {}", data.display());
    Ok(())
}

fn measure(options: &Options, podtrace: &Path, helper: &Path, directory: &Path) -> Result<Figures> {
    let (rounds, seconds) = if options.quick { (1, 1) } else { (5, 2) };
    let (rounds, seconds) = (options.rounds.unwrap_or(rounds), options.seconds.unwrap_or(seconds));
    let loads: Vec<Load> = Choice(&options.only, LOADS.map(|load| load.name)).of(LOADS, |load| load.name);
    let mut conditions =
        Choice(&options.only, CONDITIONS.map(Condition::name)).of(CONDITIONS, Condition::name);
    if !conditions.contains(&Condition::Untraced) {
        conditions.extend([Condition::Untraced; 2]);
    }
    let lab = Lab::up(podtrace)?;
    let servers = Servers::start(&lab, helper)?;
    let bench = Bench { lab: &lab, helper, directory, seconds };
    let mut samples = Vec::new();
    for round in 1..=rounds {
        let what = format!("round {round} of {rounds}");
        run::watched(&what, |progress| {
            for load in &loads {
                for at in 0..conditions.len() {
                    let condition = conditions[(at + round as usize - 1) % conditions.len()];
                    progress.tell(&format!("{}, {}", load.name, condition.name()));
                    samples.push(bench.sample(*load, condition, round)?);
                }
            }
            Ok(())
        })?;
    }
    let timed = run::watched("timing the eBPF programs", |_| bench.timed(&loads, &conditions))?;
    drop(servers);
    Ok(Figures { samples, timed, seconds, rounds })
}

/// What a load or condition runs with.
struct Bench<'a> {
    lab: &'a Lab,
    helper: &'a Path,
    directory: &'a Path,
    seconds: u32,
}

impl Bench<'_> {
    /// Measures one load under one condition.
    fn sample(&self, load: Load, condition: Condition, round: u32) -> Result<Sample> {
        let beside = condition.begin(self.lab, self.directory)?;
        let pids = beside.pids()?;
        let counts =
            || if condition.is_traced() { Counts::read(self.helper, &pids) } else { Ok(Counts::default()) };
        let (before, used) = (counts()?, beside.cpu_seconds()?);
        let rate = load
            .run(self.lab, self.helper, self.seconds)
            .with_context(|| format!("{}, {}", load.name, condition.name()))?;
        let cpus = (beside.cpu_seconds()? - used) / f64::from(self.seconds);
        let counts = counts()?.since(&before);
        beside.stop()?;
        Ok(Sample { load, condition, round, rate, cpus, counts })
    }

    /// Measures each load, matching and not, with the kernel's statistics of programs. What else podtrace is asked for is
    /// made in user space.
    fn timed(&self, loads: &[Load], conditions: &[Condition]) -> Result<Vec<Sample>> {
        let _statistics = Statistics::begin()?;
        let mut timed = Vec::new();
        for load in loads {
            for condition in conditions.iter().filter(|condition| {
                matches!(condition, Condition::Missing | Condition::Json | Condition::Sample)
            }) {
                timed.push(self.sample(*load, *condition, 0)?);
            }
        }
        Ok(timed)
    }
}

/// The words of `--only`, and the names that they may choose from.
struct Choice<'a, const N: usize>(&'a [String], [&'static str; N]);

impl<const N: usize> Choice<'_, N> {
    /// Those whose name contains a word; all if no name does.
    fn of<T>(&self, all: [T; N], name: impl Fn(T) -> &'static str) -> Vec<T>
    where
        T: Copy,
    {
        let Self(words, names) = self;
        let fits = |name: &str| words.iter().any(|word| name.contains(word.as_str()));
        let some = names.iter().any(|name| fits(name));
        all.into_iter().filter(|one| !some || fits(name(*one))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_loads_or_conditions() {
        let names = ["UDP same", "TCP same", "UDP across"];
        let chosen = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Choice(&words, names).of(names, |name| name)
        };
        assert_eq!(chosen(&["UDP"]), ["UDP same", "UDP across"]);
        assert_eq!(chosen(&["json"]), names);
        assert_eq!(chosen(&[]), names);
    }
}
