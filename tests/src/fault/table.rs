//! The score as text and as `docs/faults.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::data::Kind;
use super::score::{Outcome, Run, Score};

/// A run in a line.
#[must_use]
pub fn line(run: &Run) -> String {
    match &run.outcome {
        Outcome::Skipped { reason } => format!("- - -  {}  skipped: {reason}", run.name),
        Outcome::Broken { reason } => format!("! ! !  {}  {reason}", run.name),
        Outcome::Judged(judgement) => {
            let mark = |right: bool, letter: char| if right { letter } else { '.' };
            let mut line = format!(
                "{} {} {}  {}",
                mark(judgement.localised, 'L'),
                mark(judgement.explained, 'E'),
                mark(!judgement.falsehoods.is_empty(), 'F'),
                run.name
            );
            if !judgement.is_right() {
                line += &format!("\n         said: {}", judgement.said);
            }
            for falsehood in &judgement.falsehoods {
                line += &format!("\n         false: {falsehood}");
            }
            line
        }
    }
}

/// The kinds' scores, and the sum.
#[must_use]
pub fn scores(runs: &[Run]) -> String {
    let mut text =
        format!("{:34} {:>5} {:>9} {:>9} {:>6}\n", "kind", "runs", "localised", "explained", "false");
    let mut row = |name: &str, score: Score| {
        let Score { runs, localised, explained, falsehoods, skipped, broken } = score;
        let mut line = format!("{name:34} {runs:>5} {localised:>9} {explained:>9} {falsehoods:>6}");
        for (number, word) in [(skipped, "skipped"), (broken, "broken")] {
            if number > 0 {
                line += &format!("  {number} {word}");
            }
        }
        text += &format!("{line}\n");
    };
    for (kind, runs) in by_kind(runs) {
        row(kind, Score::of(runs));
    }
    let (faults, healthy): (Vec<_>, Vec<_>) = runs.iter().partition(|run| !run.healthy);
    row("all faults", Score::of(faults));
    row("all healthy", Score::of(healthy));
    text
}

/// How often each claim was false, the most frequent first.
#[must_use]
pub fn claims<'a>(runs: impl IntoIterator<Item = &'a Run>) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for run in runs {
        let falsehoods = run.judged().map(|judgement| judgement.falsehoods.as_slice()).unwrap_or_default();
        let mut names: Vec<&str> =
            falsehoods.iter().map(|text| text.split(':').next().unwrap_or_default()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            *counts.entry(name).or_default() += 1;
        }
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
    counts.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), name.clone()));
    counts
}

/// The runs on one kernel.
#[derive(Clone, Debug)]
pub struct Column {
    /// The kernel, as [`Run::kernel`] has it.
    pub kernel: String,
    /// The last run of each variant there.
    pub runs: Vec<Run>,
}

/// `docs/faults.md`.
#[must_use]
pub fn docs(columns: &[Column], kinds: &[(String, Kind)]) -> String {
    let mut text = String::from(INTRODUCTION);
    text += "\n| kernel | runs of faults | localised | explained | with a false sentence | healthy runs | with an alarm | not run |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n";
    for Column { kernel, runs } in columns {
        let (faults, healthy): (Vec<_>, Vec<_>) = runs.iter().partition(|run| !run.healthy);
        let (faults, healthy) = (Score::of(faults), Score::of(healthy));
        let _ = writeln!(
            text,
            "| {kernel} | {} | {} | {} | {} | {} | {} | {} |",
            faults.runs,
            share(faults.localised, faults.runs),
            share(faults.explained, faults.runs),
            share(faults.falsehoods, faults.runs),
            healthy.runs,
            healthy.falsehoods,
            faults.skipped + faults.broken + healthy.skipped + healthy.broken,
        );
    }
    text += "\n## By kind\n\nRuns in which all of this was right, of those that were made.\n\n| kind | what is broken |";
    for Column { kernel, .. } in columns {
        let _ = write!(text, " {} |", kernel.split(' ').next().unwrap_or(kernel));
    }
    text += &format!(" doctor |\n| --- | --- |{} --- |\n", " ---: |".repeat(columns.len()));
    for (name, kind) in kinds {
        let cells: String =
            columns.iter().map(|column| format!(" {} |", right_of(&column.runs, name))).collect();
        let _ = writeln!(text, "| {name} | {} |{cells} {} |", cell(&kind.about), doctor(kind));
    }
    let claims = claims(columns.iter().flat_map(|column| &column.runs));
    if !claims.is_empty() {
        text += "\n## False sentences by claim\n\n| claim | runs |\n| --- | ---: |\n";
        for (claim, count) in claims {
            let _ = writeln!(text, "| {claim} | {count} |");
        }
    }
    text += "\n## Every miss, and what podtrace says instead\n\nL: localised, E: explained; a dash where it is not.\n\n\
             | run | kernel | | it says | false |\n| --- | --- | --- | --- | --- |\n";
    for run in columns.iter().flat_map(|column| &column.runs) {
        text.extend(miss(run).map(|row| row + "\n"));
    }
    text
}

/// `3/4`: runs of a kind in which all was right, of those that were judged.
fn right_of(runs: &[Run], kind: &str) -> String {
    let judged = runs.iter().filter(|run| run.kind == kind).filter_map(Run::judged);
    let (right, wrong): (Vec<_>, Vec<_>) = judged.partition(|judgement| judgement.is_right());
    match right.len() + wrong.len() {
        0 => "–".to_owned(),
        all => format!("{}/{all}", right.len()),
    }
}

/// A row about a run that was not right.
fn miss(run: &Run) -> Option<String> {
    let series = run.kernel.split(' ').next().unwrap_or_default();
    Some(match &run.outcome {
        Outcome::Judged(judgement) if judgement.is_right() => return None,
        Outcome::Judged(judgement) => {
            let mark = |right: bool, letter: &'static str| if right { letter } else { "–" };
            format!(
                "| {} | {series} | {}{} | {} | {} |",
                run.name,
                mark(judgement.localised, "L"),
                mark(judgement.explained, "E"),
                cell(&judgement.said),
                cell(&judgement.falsehoods.iter().map(|text| short(text)).collect::<Vec<_>>().join("; "))
            )
        }
        Outcome::Skipped { reason } => format!("| {} | {series} | skipped | {} | |", run.name, cell(reason)),
        Outcome::Broken { reason } => {
            format!("| {} | {series} | not run | {} | |", run.name, cell(&short(reason)))
        }
    })
}

/// What `podtrace doctor` finds of a kind.
fn doctor(kind: &Kind) -> &str {
    match &kind.doctor {
        Some(finds) => &finds.severity,
        None if kind.healthy => "nothing",
        None => "–",
    }
}

const INTRODUCTION: &str = "\
# Faults, and how true podtrace is about them

Written by `cargo xtask faults --docs`. Each run breaks a lab in one way (`tests/faults`), traces in it, and compares the
report with the right answer:

- **localised**: the verdict is right, and the node and device, or the pod, where the packet ended;
- **explained**: what is broken is named;
- **false**: at least one sentence is not true in that state;
- **doctor**: how bad `podtrace doctor` says it is, which reads the standing network and sends no packet. A dash where
  nothing that stands still shows it. `cargo test -p podtrace-tests --test doctor` checks this column, and that the fixes heal.

Only 6.18 ran the whole suite; the others ran some kinds, as the table below shows. Healthy traffic that overloads the machine
(`healthy-mixed-loaded`) may lose events that the trace counts: that is no alarm.
";

fn by_kind(runs: &[Run]) -> BTreeMap<&str, Vec<&Run>> {
    let mut kinds: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        kinds.entry(&run.kind).or_default().push(run);
    }
    kinds
}

fn share(part: u32, whole: u32) -> String {
    let percent = if whole == 0 { 0.0 } else { 100.0 * f64::from(part) / f64::from(whole) };
    format!("{part} ({percent:.0} %)")
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    // Times differ from run to run and say nothing here.
    text.replace('|', "\\|").replace('\n', " ").replace('<', "&lt;")
}

fn short(text: &str) -> String {
    const MOST: usize = 120;
    if text.chars().count() <= MOST {
        text.to_owned()
    } else {
        text.chars().take(MOST).chain(['…']).collect()
    }
}
