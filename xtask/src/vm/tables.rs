//! Kernels against tests and hooks, as tables in Markdown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::hooks::Hook;
use super::row::{Outcome, Row};

/// The suite whose tests go by their names alone.
const FIRST_SUITE: &str = "scenarios";

/// The cell where a kernel reported nothing.
const NONE: &str = "–";

/// All tables.
pub(super) fn tables(rows: &[Row]) -> String {
    let parts = [tests(rows), hooks(rows), instructions(rows)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Kernel × test, without those that no guest has the programs for.
fn tests(rows: &[Row]) -> String {
    let mut names = Vec::new();
    let mut ended = BTreeMap::new();
    for (row, column) in rows.iter().zip(0..) {
        for (suite, test, outcome) in &row.tests {
            let name = if suite == FIRST_SUITE { test.clone() } else { format!("{suite}: {test}") };
            if *outcome != Outcome::Skipped && !names.contains(&name) {
                names.push(name.clone());
            }
            let word = match outcome {
                Outcome::Passed => "pass",
                Outcome::Failed => "FAIL",
                Outcome::Skipped => "skipped",
            };
            ended.insert((name, column), word.to_owned());
        }
    }
    table("scenario", rows, &names, |name, column| {
        ended.get(&(name.to_owned(), column)).cloned().unwrap_or_else(|| "not run".to_owned())
    })
}

/// Kernel × hook: how it is attached on all devices that it is for, and below the table what is to be said of it.
fn hooks(rows: &[Row]) -> String {
    let mut notes: Vec<String> = Vec::new();
    let mut cell = |point: &str, row: &Row| {
        let of_point: Vec<_> = row.hooks.iter().filter(|hook| hook.point == point).collect();
        let ways: BTreeSet<_> = of_point.iter().map(|hook| hook.how.as_deref().unwrap_or("absent")).collect();
        let mut cell = ways.into_iter().collect::<Vec<_>>().join(", ");
        for note in of_point.iter().filter_map(|hook| hook.note.clone()).collect::<BTreeSet<_>>() {
            let known = notes.iter().position(|known| *known == note);
            let number = known.unwrap_or_else(|| {
                notes.push(note);
                notes.len() - 1
            });
            // Writing to a string does not fail.
            let _ = write!(cell, " [{}]", number + 1);
        }
        if cell.is_empty() { NONE.to_owned() } else { cell }
    };
    let mut table = table("hook", rows, &points(rows), |point, column| cell(point, &rows[column]));
    for (note, number) in notes.iter().zip(1..) {
        let separator = if number == 1 { "\n" } else { "" };
        let _ = writeln!(table, "{separator}{number}. {}", one_line(note));
    }
    table
}

/// Kernel × hook: how many instructions the verifier went through, where the kernel reports it (5.16 and later).
fn instructions(rows: &[Row]) -> String {
    let count = |hook: &Hook| hook.instructions;
    if !rows.iter().flat_map(|row| &row.hooks).any(|hook| count(hook).is_some()) {
        return String::new();
    }
    table("verified instructions", rows, &points(rows), |point, column| {
        let most = rows[column].hooks.iter().filter(|hook| hook.point == point).filter_map(count).max();
        most.map_or_else(|| NONE.to_owned(), |count| count.to_string())
    })
}

/// All hooks that any kernel reported, in that order.
fn points(rows: &[Row]) -> Vec<String> {
    let mut points = Vec::new();
    for hook in rows.iter().flat_map(|row| &row.hooks) {
        if !points.contains(&hook.point) {
            points.push(hook.point.clone());
        }
    }
    points
}

/// A table with a column a kernel; nothing if it would have no rows.
fn table(what: &str, rows: &[Row], names: &[String], mut cell: impl FnMut(&str, usize) -> String) -> String {
    if names.is_empty() {
        return String::new();
    }
    let mut lines =
        vec![[what.to_owned()].into_iter().chain(rows.iter().map(|row| row.kernel.clone())).collect()];
    for name in names {
        let mut line = vec![name.clone()];
        line.extend((0..rows.len()).map(|column| cell(name, column)));
        lines.push(line);
    }
    let lines: Vec<Vec<String>> =
        lines.iter().map(|line: &Vec<String>| line.iter().map(|cell| one_line(cell)).collect()).collect();
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..=rows.len()).map(width).collect();
    let mut table = String::new();
    for (line, number) in lines.iter().zip(0..) {
        let padded: Vec<_> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(table, "| {} |", padded.join(" | "));
        if number == 0 {
            let rules: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
            let _ = writeln!(table, "| {} |", rules.join(" | "));
        }
    }
    table
}

/// Text from a guest, such as a verifier's log, made fit for a cell.
fn one_line(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    plain.replace('|', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(point: &str, how: Option<&str>, note: Option<&str>, instructions: Option<u64>) -> Hook {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Hook { point: point.to_owned(), how: owned(how), note: owned(note), instructions }
    }

    fn row(kernel: &str, outcome: Outcome, hooks: Vec<Hook>) -> Row {
        let tests = vec![(FIRST_SUITE.to_owned(), "nc".to_owned(), outcome)];
        Row { kernel: kernel.to_owned(), tests, hooks, ..Row::default() }
    }

    #[test]
    fn a_table_has_a_column_a_kernel_and_notes_below() {
        let old = vec![
            hook("tc:ingress", Some("clsact"), Some("tcx needs 6.6"), None),
            hook("tc:ingress", Some("clsact"), Some("tcx needs 6.6"), None),
            hook("fentry:ip_forward", None, Some("a | b\nc"), None),
        ];
        let new = vec![
            hook("tc:ingress", Some("tcx"), None, Some(700)),
            hook("tc:ingress", Some("tcx"), None, Some(800)),
        ];
        let rows = [row("5.10", Outcome::Failed, old), row("7.3", Outcome::Passed, new)];
        let expected = "\
| scenario | 5.10 | 7.3  |
| -------- | ---- | ---- |
| nc       | FAIL | pass |

| hook              | 5.10       | 7.3 |
| ----------------- | ---------- | --- |
| tc:ingress        | clsact [1] | tcx |
| fentry:ip_forward | absent [2] | –   |

1. tcx needs 6.6
2. a / b c

| verified instructions | 5.10 | 7.3 |
| --------------------- | ---- | --- |
| tc:ingress            | –    | 800 |
| fentry:ip_forward     | –    | –   |
";
        assert_eq!(tables(&rows), expected);
    }

    #[test]
    fn where_nothing_ran_there_is_no_table() {
        assert_eq!(tables(&[Row::failed("7.3".to_owned(), "gone".to_owned())]), "");
    }
}
