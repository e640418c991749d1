//! What was measured, as a table and as JSON.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::condition::Condition;
use super::load::Load;
use super::statistics::Spread;
use super::traffic::{Figures, Sample};

/// Width of a column of the table.
const COLUMN: usize = 20;

impl Figures {
    /// The loads, in the order in which they were measured.
    fn loads(&self) -> Vec<Load> {
        distinct(self.samples.iter().map(|sample| sample.load))
    }

    /// The conditions other than untraced.
    fn conditions(&self) -> Vec<Condition> {
        let mut conditions = distinct(self.samples.iter().map(|sample| sample.condition));
        conditions.retain(|condition| *condition != Condition::Untraced);
        conditions.sort_by_key(|condition| *condition as u8);
        conditions
    }

    fn of(&self, load: Load, condition: Condition) -> impl Iterator<Item = &Sample> {
        let fits = move |sample: &&Sample| sample.load == load && sample.condition == condition;
        self.samples.iter().filter(fits)
    }

    /// The untraced rates of one load and round.
    fn untraced(&self, load: Load, round: u32) -> Vec<f64> {
        let samples = self.of(load, Condition::Untraced).filter(|sample| sample.round == round);
        samples.map(|sample| sample.rate).collect()
    }

    /// Rates as ratios to the untraced ones of the same round.
    fn ratios(&self, load: Load, condition: Condition) -> Option<Spread> {
        let ratio = |sample: &Sample| {
            let untraced = self.untraced(load, sample.round);
            sample.rate / (untraced.iter().sum::<f64>() / untraced.len() as f64)
        };
        Spread::of(self.of(load, condition).map(ratio))
    }

    /// How much the lower of a round's two untraced rates is of the higher one.
    fn noise(&self, load: Load) -> Option<Spread> {
        let rounds = 1..=self.rounds;
        Spread::of(rounds.filter_map(|round| {
            let untraced = Spread::of(self.untraced(load, round))?;
            Some(untraced.least / untraced.greatest)
        }))
    }

    fn median(&self, load: Load, condition: Condition, of: impl Fn(&Sample) -> f64) -> f64 {
        Spread::of(self.of(load, condition).map(of)).map_or(f64::NAN, |spread| spread.median)
    }
}

fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for one in all {
        if !distinct.contains(&one) {
            distinct.push(one);
        }
    }
    distinct
}

/// The table, in markdown.
pub(super) fn text(figures: &Figures) -> String {
    let mut text = String::new();
    let loads = figures.loads();
    let mut row = |name: &str, cell: &dyn Fn(Load) -> String| {
        let cells = loads.iter().fold(String::new(), |mut cells, load| {
            let _ = write!(cells, " {:>COLUMN$} |", cell(*load));
            cells
        });
        let _ = writeln!(text, "| {name:40} |{cells}");
    };
    let ratio = |spread: Option<Spread>| {
        spread.map_or_else(
            || "-".to_owned(),
            |Spread { least, median, greatest }| format!("{median:.2} ({least:.2}-{greatest:.2})"),
        )
    };
    row("", &|load| load.name.to_owned());
    row(&"-".repeat(40), &|_| "-".repeat(COLUMN));
    row("untraced, per second", &|load| {
        scaled(figures.median(load, Condition::Untraced, |sample| sample.rate), load.unit())
    });
    row("noise: untraced to untraced", &|load| ratio(figures.noise(load)));
    for condition in figures.conditions() {
        row(condition.name(), &|load| ratio(figures.ratios(load, condition)));
    }
    for condition in figures.conditions() {
        row(&format!("CPUs: {}", condition.name()), &|load| {
            format!("{:.2}", figures.median(load, condition, |sample| sample.cpus))
        });
    }
    for condition in figures.conditions().into_iter().filter(|condition| condition.is_traced()) {
        row(&format!("events/s: {}", condition.name()), &|load| {
            let per_second = |sample: &Sample| sample.counts.produced as f64 / f64::from(figures.seconds);
            format!("{:.0}", figures.median(load, condition, per_second))
        });
        row(&format!("lost: {}", condition.name()), &|load| {
            let lost =
                |sample: &Sample| 100.0 * sample.counts.lost as f64 / sample.counts.produced.max(1) as f64;
            format!("{:.1} %", figures.median(load, condition, lost))
        });
    }
    for (condition, program) in programs(figures) {
        row(&format!("ns: {program}, {}", short(condition)), &|load| {
            let timed = figures.timed.iter().find(|one| one.load == load && one.condition == condition);
            match timed.and_then(|sample| sample.counts.programs.get(&program)) {
                Some((runs, nanoseconds)) if *runs > 0 => format!("{}", nanoseconds / runs),
                _ => "-".to_owned(),
            }
        });
    }
    text
}

/// Conditions and programs that have times.
fn programs(figures: &Figures) -> Vec<(Condition, String)> {
    let of = |sample: &Sample| {
        let ran = sample.counts.programs.iter().filter(|(_, (runs, _))| *runs > 0);
        ran.map(|(name, _)| (sample.condition, name.clone())).collect::<Vec<_>>()
    };
    let mut programs = distinct(figures.timed.iter().flat_map(of));
    programs.sort_by(|one, other| (one.0 as u8, &one.1).cmp(&(other.0 as u8, &other.1)));
    programs
}

fn short(condition: Condition) -> &'static str {
    match condition {
        Condition::Missing => "not matching",
        Condition::Sample => "sampled",
        _ => "matching",
    }
}

fn scaled(rate: f64, unit: &str) -> String {
    match unit {
        "bits" => format!("{:.2} Gbit", rate / 1e9),
        unit => format!("{rate:.0} {unit}"),
    }
}

/// All of it.
pub(super) fn json(figures: &Figures) -> Result<String> {
    let samples = |samples: &[Sample]| samples.iter().map(sample).collect::<Vec<_>>();
    let mut ratios = Vec::new();
    for load in figures.loads() {
        for condition in figures.conditions() {
            if let Some(spread) = figures.ratios(load, condition) {
                ratios.push(
                    json!({"load": load.name, "condition": condition.name(), "ratio": spread_json(spread)}),
                );
            }
        }
        if let Some(spread) = figures.noise(load) {
            ratios.push(json!({"load": load.name, "condition": "untraced", "ratio": spread_json(spread)}));
        }
    }
    let all = json!({
        "rounds": figures.rounds,
        "seconds": figures.seconds,
        "ratios": ratios,
        "samples": samples(&figures.samples),
        "timed": samples(&figures.timed),
    });
    let mut text = serde_json::to_string_pretty(&all).context("writing the figures as JSON")?;
    text.push('\n');
    Ok(text)
}

fn spread_json(spread: Spread) -> Value {
    let Spread { least, median, greatest } = spread;
    json!({"least": least, "median": median, "greatest": greatest})
}

fn sample(sample: &Sample) -> Value {
    let Sample { load, condition, round, rate, cpus, counts } = sample;
    let programs: Vec<_> = counts
        .programs
        .iter()
        .filter(|(_, (runs, _))| *runs > 0)
        .map(|(name, (runs, nanoseconds))| json!({"name": name, "runs": runs, "nanoseconds": nanoseconds}))
        .collect();
    json!({
        "load": load.name,
        "condition": condition.name(),
        "round": round,
        "rate": rate,
        "unit": load.unit(),
        "cpus": cpus,
        "produced": counts.produced,
        "lost": counts.lost,
        "programs": programs,
    })
}
