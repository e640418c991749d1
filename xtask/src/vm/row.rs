//! What a run on one kernel showed.

use std::time::Duration;

use super::hooks::{self, Hook};
use super::script::{HOOKS, PROBE, Section};
use crate::tally::Tally;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// Reads `test NAME ... ok`.
fn outcome(line: &str) -> Option<(&str, Outcome)> {
    let (name, ended) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let outcome = match ended.trim() {
        "ok" => Outcome::Passed,
        "FAILED" => Outcome::Failed,
        ended if ended.starts_with("ignored") => Outcome::Skipped,
        _ => return None,
    };
    Some((name.trim(), outcome))
}

/// What came of one kernel.
#[derive(Default)]
pub(super) struct Row {
    /// The kernel's version, or the series if there is no kernel.
    pub(super) kernel: String,
    /// Suite, test, and how it ended.
    pub(super) tests: Vec<(String, String, Outcome)>,
    pub(super) hooks: Vec<Hook>,
    pub(super) tally: Tally,
    pub(super) took: Option<Duration>,
    /// Why it counts as failed although no test did.
    pub(super) problem: Option<String>,
    /// What is to be seen of a failure, or of the fault suite.
    pub(super) details: Vec<String>,
}

impl Row {
    /// A kernel that could not be run.
    pub(super) fn failed(kernel: String, problem: String) -> Self {
        Self { kernel, problem: Some(problem), ..Self::default() }
    }

    /// Judges what a guest said.
    pub(super) fn of(kernel: String, sections: &[Section], suites: usize, took: Duration) -> Self {
        let mut row = Self { kernel, took: Some(took), ..Self::default() };
        let mut closed = 0;
        let mut traced = false;
        for section in sections {
            match section.name.as_str() {
                PROBE => traced = section.status == Some(0),
                HOOKS => {
                    row.hooks = hooks::read(&section.lines);
                    if section.status != Some(0) {
                        let said = section.lines.iter().filter(|line| !hooks::is_one(line));
                        row.details.extend(said.map(|line| format!("    {line}")));
                        row.problem = Some("hooks do not keep to their budget of instructions".to_owned());
                    }
                }
                _ => closed += usize::from(row.add_suite(section)),
            }
        }
        let problem = if !traced {
            Some("podtrace did not trace a ping")
        } else if closed < suites {
            Some("not all tests were run")
        } else if row.tally.total() == 0 {
            Some("there was no test to run")
        } else if row.hooks.is_empty() {
            Some("podtrace told of no hook")
        } else {
            None
        };
        row.problem = row.problem.take().or_else(|| problem.map(str::to_owned));
        row
    }

    /// Adds what a suite's run came to; whether it came to its end.
    fn add_suite(&mut self, section: &Section) -> bool {
        let mut tally = None;
        for line in &section.lines {
            tally = Tally::from_closing_line(line).or(tally);
            let found = outcome(line).map(|(test, outcome)| (section.name.clone(), test.to_owned(), outcome));
            self.tests.extend(found);
        }
        let (Some(tally), Some(status)) = (tally, section.status) else {
            self.problem = Some(format!("{} did not come to its end", section.name));
            return false;
        };
        self.tally += tally;
        if status != 0 && tally.failed == 0 {
            self.problem = Some(format!("{} ended with {status}", section.name));
        }
        true
    }

    /// Whether all is well.
    pub(super) fn passed(&self) -> bool {
        self.problem.is_none() && self.tally.failed == 0
    }

    /// One line about it.
    pub(super) fn line(&self) -> String {
        let mut line = format!("kernel {}: ", self.kernel);
        match &self.problem {
            Some(problem) if self.tally.total() == 0 => line += &format!("FAILED: {problem}"),
            Some(problem) => line += &format!("{}; FAILED: {problem}", self.tally),
            // A command was run instead of tests.
            None if self.tally.total() == 0 => line += "done",
            None => line += &self.tally.to_string(),
        }
        if let Some(took) = self.took {
            line += &format!(" ({} s)", took.as_secs());
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: &str, lines: &str, status: Option<i32>) -> Section {
        Section { name: name.to_owned(), lines: lines.lines().map(str::to_owned).collect(), status }
    }

    const CLOSING: &str = "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out";
    const HOOK: &str = r#"@hook {"point":"tp:kfree_skb","how":"raw_tracepoint"}"#;

    #[test]
    fn tests_are_read_with_how_they_ended() {
        assert_eq!(outcome("test dead-pod          ... ok"), Some(("dead-pod", Outcome::Passed)));
        assert_eq!(outcome("test lost-wire ... FAILED"), Some(("lost-wire", Outcome::Failed)));
        assert_eq!(outcome("test nc ... ignored, needs nc"), Some(("nc", Outcome::Skipped)));
        assert_eq!(outcome(CLOSING), None);
        assert_eq!(outcome("test nc ... "), None);
    }

    #[test]
    fn what_did_not_run_is_no_success() {
        let row = |sections: &[Section]| Row::of("6.1".to_owned(), sections, 1, Duration::from_secs(7));
        let probe = || section(PROBE, "", Some(0));
        let hooks = || section(HOOKS, HOOK, Some(0));
        let good = row(&[probe(), hooks(), section("scenarios", CLOSING, Some(0))]);
        assert!(good.passed());
        assert_eq!(good.line(), "kernel 6.1: 4 passed, 0 failed, 1 skipped (7 s)");
        assert!(!row(&[]).passed());
        assert!(!row(&[probe(), hooks()]).passed(), "a suite is missing");
        assert!(!row(&[probe(), section("scenarios", CLOSING, Some(0))]).passed(), "the hooks are missing");
        assert!(!row(&[hooks(), section("scenarios", CLOSING, Some(0))]).passed(), "the probe is missing");
        assert!(!row(&[probe(), hooks(), section("scenarios", CLOSING, None)]).passed(), "cut short");
        assert!(
            !row(&[probe(), hooks(), section("scenarios", CLOSING, Some(101))]).passed(),
            "crashed after"
        );
        let failed = CLOSING.replace("0 failed", "1 failed");
        assert!(!row(&[probe(), hooks(), section("scenarios", &failed, Some(101))]).passed());
        assert!(!Row::failed("7.3".to_owned(), "no such kernel".to_owned()).passed());
    }
}
