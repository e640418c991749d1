//! What a run on one kernel showed, as a line and as a row of the table.

use std::time::Duration;

use super::script::{PROBE, Section};
use crate::tally::Tally;

/// How podtrace works on a kernel, by its own account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// How tc programs were attached.
    pub(super) attach: Option<&'static str>,
    /// Whether drops are seen, and with their reasons.
    pub(super) drops: Option<&'static str>,
    /// Whether the cross-node ping was traced as it should be.
    pub(super) traced: bool,
}

impl Facts {
    /// Reads what `podtrace -v` says about its hooks.
    pub(super) fn from(probe: &Section) -> Self {
        let Section { name: _, lines, status } = probe;
        // `NODE: DEVICE POINT: HOW`, or `NODE: watched by HOW (NOTE): DEVICE POINT, …` where there is more to say.
        let watched = |how: &str, point: &str| {
            let told = [format!(": {how}"), format!(": watched by {how} (")];
            let mut lines = lines.iter().filter(|line| line.contains(point));
            lines.find(|line| line.ends_with(&told[0]) || line.contains(&told[1]))
        };
        // A kernel where some devices got one and some the other would be a find: the table shows the first.
        let attach = ["tcx", "clsact"].into_iter().find(|how| watched(how, " tc:").is_some());
        let drops = watched("raw_tracepoint", "tp:kfree_skb")
            .map(|line| if line.contains("no drop reasons") { "without reason" } else { "with reason" });
        Self { attach, drops, traced: *status == Some(0) }
    }
}

/// What came of one kernel.
pub(super) struct Row {
    /// The kernel's version, or the series if there is no kernel.
    pub(super) kernel: String,
    pub(super) facts: Facts,
    pub(super) tally: Tally,
    pub(super) took: Option<Duration>,
    /// Why it counts as failed although no test did.
    pub(super) problem: Option<String>,
}

impl Row {
    /// A kernel that could not be run.
    pub(super) fn failed(kernel: String, problem: String) -> Self {
        let (facts, tally) = (Facts::default(), Tally::default());
        Self { kernel, facts, tally, took: None, problem: Some(problem) }
    }

    /// Judges what a guest said.
    pub(super) fn of(kernel: String, sections: &[Section], suites: usize, took: Duration) -> Self {
        let mut row = Self {
            kernel,
            facts: Facts::default(),
            tally: Tally::default(),
            took: Some(took),
            problem: None,
        };
        let mut closed = 0;
        for section in sections {
            if section.name == PROBE {
                row.facts = Facts::from(section);
                continue;
            }
            let mut tally = None;
            for line in &section.lines {
                tally = Tally::from_closing_line(line).or(tally);
            }
            match (tally, section.status) {
                (Some(tally), Some(status)) => {
                    row.tally += tally;
                    closed += 1;
                    if status != 0 && tally.failed == 0 {
                        row.problem = Some(format!("{} ended with {status}", section.name));
                    }
                }
                _ => row.problem = Some(format!("{} did not come to its end", section.name)),
            }
        }
        if row.problem.is_none() && !row.facts.traced {
            row.problem = Some("podtrace did not trace a ping".to_owned());
        }
        if row.problem.is_none() && closed < suites {
            row.problem = Some("not all tests were run".to_owned());
        }
        if row.problem.is_none() && row.tally.total() == 0 {
            row.problem = Some("there was no test to run".to_owned());
        }
        row
    }

    /// Whether all is well.
    pub(super) fn passed(&self) -> bool {
        self.problem.is_none() && self.tally.failed == 0
    }

    /// One line about it.
    pub(super) fn line(&self) -> String {
        let Self { kernel, facts: _, tally, took, problem } = self;
        let mut line = format!("kernel {kernel}: ");
        match problem {
            Some(problem) if tally.total() == 0 => line += &format!("FAILED: {problem}"),
            Some(problem) => line += &format!("{tally}; FAILED: {problem}"),
            // A command was run instead of tests.
            None if tally.total() == 0 => line += "done",
            None => line += &tally.to_string(),
        }
        if let Some(took) = took {
            line += &format!(" ({} s)", took.as_secs());
        }
        line
    }
}

/// The rows as a table.
pub(super) fn table(rows: &[Row]) -> String {
    let mut cells = vec![["kernel", "taps", "drops", "traces a ping", "tests"].map(str::to_owned)];
    for Row { kernel, facts, tally, took: _, problem: _ } in rows {
        let Facts { attach, drops, traced } = facts;
        cells.push([
            kernel.clone(),
            attach.unwrap_or("none").to_owned(),
            drops.unwrap_or("not seen").to_owned(),
            if *traced { "yes" } else { "NO" }.to_owned(),
            match tally.total() {
                0 => "none".to_owned(),
                _ => {
                    format!("{} of {}, {} skipped", tally.passed, tally.passed + tally.failed, tally.skipped)
                }
            },
        ]);
    }
    let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<_> = (0..5).map(width).collect();
    let mut table = String::new();
    for (row, number) in cells.iter().zip(0..) {
        let padded: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        table += &format!("| {} |\n", padded.join(" | "));
        if number == 0 {
            let rules: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
            table += &format!("| {} |\n", rules.join(" | "));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: &str, lines: &str, status: Option<i32>) -> Section {
        Section { name: name.to_owned(), lines: lines.lines().map(str::to_owned).collect(), status }
    }

    const CLOSING: &str = "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";

    #[test]
    fn facts_are_what_podtrace_says() {
        let old = "node1: watched by clsact (tcx comes with Linux 6.6; here: EINVAL): eth0 tc:ingress, cni0 tc:egress\n\
                   node1: watched by raw_tracepoint (this kernel tells no drop reasons (5.17 and later do)): tp:kfree_skb";
        let facts = Facts::from(&section(PROBE, old, Some(0)));
        assert_eq!(facts, Facts { attach: Some("clsact"), drops: Some("without reason"), traced: true });
        let new = "node1: eth0 tc:egress: tcx\nnode1: tp:kfree_skb: raw_tracepoint";
        let facts = Facts::from(&section(PROBE, new, Some(1)));
        assert_eq!(facts, Facts { attach: Some("tcx"), drops: Some("with reason"), traced: false });
        let blind = "node1: not watched, hops there are missing (drops cannot be seen: EPERM): tp:kfree_skb";
        assert_eq!(Facts::from(&section(PROBE, blind, Some(0))).drops, None);
        assert_eq!(Facts::from(&section(PROBE, "error: no BTF", Some(1))), Facts::default());
    }

    #[test]
    fn what_did_not_run_is_no_success() {
        let row = |sections: &[Section]| Row::of("6.1".to_owned(), sections, 1, Duration::from_secs(7));
        let probe = || section(PROBE, "", Some(0));
        let good = row(&[probe(), section("scenarios", CLOSING, Some(0))]);
        assert!(good.passed());
        assert_eq!(good.line(), "kernel 6.1: 4 passed, 0 failed, 1 skipped (7 s)");
        assert!(!row(&[]).passed());
        assert!(!row(&[probe()]).passed(), "a suite is missing");
        assert!(!row(&[section("scenarios", CLOSING, Some(0))]).passed(), "the probe is missing");
        assert!(!row(&[probe(), section("scenarios", CLOSING, None)]).passed(), "cut short");
        assert!(!row(&[probe(), section("scenarios", CLOSING, Some(101))]).passed(), "crashed after");
        assert!(
            !row(&[probe(), section("scenarios", &CLOSING.replace("0 failed", "1 failed"), Some(101))])
                .passed()
        );
        assert!(!Row::failed("7.3".to_owned(), "no such kernel".to_owned()).passed());
    }

    #[test]
    fn tables_line_up() {
        let rows = [Row::failed("7.3".to_owned(), "gone".to_owned())];
        let lines: Vec<_> = table(&rows).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{lines:?}");
    }
}
