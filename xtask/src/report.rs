//! What checks and tests came to: each runner's closing line, and one sum.

use std::process::{Command, ExitCode};

use anyhow::{Result, anyhow};

use crate::tally::Tally;
use crate::{run, workspace};

/// What has come out so far.
#[derive(Default)]
pub(crate) struct Report {
    tally: Tally,
    failures: Vec<String>,
}

impl Report {
    /// Runs a check; the result is there if it succeeded.
    pub(crate) fn step<T>(&mut self, name: &str, check: impl FnOnce() -> Result<T>) -> Option<T> {
        check().map_err(|error| self.fail(name, &error)).ok()
    }

    /// Notes that a check or runner failed without having counted a failed test.
    pub(crate) fn fail(&mut self, name: &str, error: &anyhow::Error) {
        eprintln!("error: {error:#}");
        self.tally.failed += 1;
        self.failures.push(name.to_owned());
    }

    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        eprintln!("{name}: skipped, {reason}");
        self.tally.skipped += 1;
    }

    /// Compiles tests and runs them.
    pub(crate) fn tests(&mut self, name: &str, cargo: Command) {
        if self.compile(name, &cargo).is_ok() {
            self.run_tests(name, cargo);
        }
    }

    /// Runs tests, compiling them on the way: cargo compiles examples in documentation only to run them.
    pub(crate) fn run_tests(&mut self, name: &str, mut cargo: Command) {
        let mut tally = Tally::default();
        let outcome = run::pass_through(&mut cargo, |line| {
            if let Some(closed) = Tally::from_closing_line(line) {
                tally += closed;
            }
        });
        self.tally += tally;
        let problem = match outcome {
            Err(error) => Some(error),
            // A runner that crashed has no closing line: what it held back must not look like a success.
            Ok(status) if !status.success() && tally.failed == 0 => {
                Some(anyhow!("{name} ended with {status} without a failed test"))
            }
            Ok(_) if tally.total() == 0 => Some(anyhow!("{name}: there was none to run")),
            Ok(_) => None,
        };
        match problem {
            Some(error) => self.fail(name, &error),
            None if tally.failed > 0 => self.failures.push(name.to_owned()),
            None => {}
        }
    }

    /// Adds what tests came to that were run elsewhere; `problems` are failures without a failed test.
    pub(crate) fn add(&mut self, name: &str, tally: Tally, problems: &[String]) {
        self.tally += tally;
        for problem in problems {
            self.fail(name, &anyhow!("{problem}"));
        }
        if problems.is_empty() && tally.failed > 0 {
            self.failures.push(name.to_owned());
        }
    }

    /// Compiles what `cargo test` will run, so that the run's own output is the tests' alone.
    fn compile(&mut self, name: &str, cargo: &Command) -> Result<(), ()> {
        let mut compile = Command::new(cargo.get_program());
        compile.current_dir(workspace::root()).args(cargo.get_args()).arg("--no-run");
        for (name, value) in cargo.get_envs() {
            if let Some(value) = value {
                compile.env(name, value);
            }
        }
        run::step(&format!("compiling the {name}"), &mut compile).map_err(|error| self.fail(name, &error))
    }

    /// Prints the sum and what failed.
    pub(crate) fn close(self) -> ExitCode {
        let Self { tally, failures } = self;
        if !failures.is_empty() {
            eprintln!("failed: {}", failures.join(", "));
        }
        println!("podtrace: {tally}");
        if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
