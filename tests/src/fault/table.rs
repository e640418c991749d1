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
pub fn claims(runs: &[Run]) -> Vec<(String, usize)> {
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

/// `docs/faults.md`.
#[must_use]
pub fn docs(runs: &[Run], kinds: &[(String, Kind)], where_run: &str) -> String {
    let (faults, healthy): (Vec<_>, Vec<_>) = runs.iter().partition(|run| !run.healthy);
    let score = Score::of(faults.iter().copied());
    let fine = Score::of(healthy.iter().copied());
    let number = by_kind(runs).len();
    let mut text = String::from(INTRODUCTION);
    let _ = write!(
        text,
        "\nLast run: {where_run}. {number} kinds, {} runs of faults: **localised {}, explained {}, with a false \
         sentence {}**; {} runs of healthy traffic, {} with an alarm. Skipped here: {}.\n",
        score.runs,
        share(score.localised, score.runs),
        share(score.explained, score.runs),
        share(score.falsehoods, score.runs),
        fine.runs,
        fine.falsehoods,
        score.skipped + fine.skipped,
    );
    text += "\n| kind | what is broken | runs | localised | explained | false | doctor |\n| --- | --- | ---: | ---: | ---: | ---: | --- |\n";
    for (kind, runs) in by_kind(runs) {
        let named = kinds.iter().find(|(name, _)| name == kind).map(|(_, kind)| kind);
        let about = named.map_or("", |kind| kind.about.as_str());
        let doctor = named.map_or("", doctor);
        let Score { runs, localised, explained, falsehoods, skipped, broken: _ } = Score::of(runs);
        let _ = if runs == 0 && skipped > 0 {
            writeln!(text, "| {kind} | {} | skipped | | | | {doctor} |", cell(about))
        } else {
            writeln!(
                text,
                "| {kind} | {} | {runs} | {localised} | {explained} | {falsehoods} | {doctor} |",
                cell(about)
            )
        };
    }
    text += "\n## False sentences by claim\n\n| claim | runs |\n| --- | ---: |\n";
    for (claim, count) in claims(runs) {
        let _ = writeln!(text, "| {claim} | {count} |");
    }
    text += "\n## Every miss, and what podtrace says instead\n\nL: localised, E: explained; a dash where it is not.\n\n\
             | run | | it says | false |\n| --- | --- | --- | --- |\n";
    for run in runs {
        let row = match &run.outcome {
            Outcome::Judged(judgement) if judgement.is_right() => continue,
            Outcome::Judged(judgement) => {
                let mark = |right: bool, letter: &'static str| if right { letter } else { "–" };
                format!(
                    "| {} | {}{} | {} | {} |",
                    run.name,
                    mark(judgement.localised, "L"),
                    mark(judgement.explained, "E"),
                    cell(&judgement.said),
                    cell(&judgement.falsehoods.iter().map(|text| short(text)).collect::<Vec<_>>().join("; "))
                )
            }
            Outcome::Skipped { reason } => format!("| {} | skipped | {} | |", run.name, cell(reason)),
            Outcome::Broken { reason } => format!("| {} | not run | {} | |", run.name, cell(&short(reason))),
        };
        text += &format!("{row}\n");
    }
    text
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
