//! Runs podtrace and parses its output.

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use podtrace_path::{Change, Path, Summary};
use serde_json::Value;

use crate::command::{Output, Running};
use crate::lab::Lab;
use crate::{check, schema};

/// Time limit for a trace to be ready.
const READY: Duration = Duration::from_secs(30);

/// Time limit, after the last packet was sent, to report what is expected.
const ENOUGH: Duration = Duration::from_secs(15);

/// Time limit for a trace that ends by itself, or to end after a signal.
const END: Duration = Duration::from_secs(45);

/// A running trace; killed when dropped.
#[derive(Debug)]
pub struct Trace(Running);

impl Trace {
    /// Starts a trace in the lab with JSON output.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start<S: AsRef<OsStr>>(lab: &Lab, arguments: impl IntoIterator<Item = S>) -> Result<Self> {
        Ok(Self(Running::start(&mut command(lab, arguments))?))
    }

    /// Starts a trace and waits until it is ready.
    ///
    /// # Errors
    ///
    /// If it ends before that.
    pub fn ready<S: AsRef<OsStr>>(lab: &Lab, arguments: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut trace = Self::start(lab, arguments)?;
        trace.wait_until_ready()?;
        Ok(trace)
    }

    /// Waits until it reports that it traces.
    ///
    /// # Errors
    ///
    /// If it ends before that.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        self.0.wait_for_line("tracing ", READY)
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Running {
        &self.0
    }

    /// Ends it like Ctrl-C.
    ///
    /// # Errors
    ///
    /// If it does not end, or its output is not sound.
    pub fn interrupt(self) -> Result<Finished> {
        self.0.signal(Signal::SIGINT)?;
        self.finish()
    }

    /// Ends it as Ctrl-C does once the paths it has reported are `enough`, or have not become so for long.
    ///
    /// # Errors
    ///
    /// If it ends before, does not end then, or reported what is not sound.
    pub fn interrupt_once(mut self, enough: impl Fn(&[Value]) -> bool) -> Result<Finished> {
        let mut read = 0;
        let mut paths = Vec::new();
        let waited = self.0.wait_until("it has reported what is expected", ENOUGH, |stdout| {
            // A line that is not whole yet is read later.
            let whole = stdout.rfind('\n').map_or(0, |end| end + 1);
            for line in stdout[read..whole].lines() {
                paths.push(schema::parse(line)?);
            }
            read = whole;
            Ok(enough(&paths))
        });
        match waited {
            Ok(()) => self.interrupt(),
            // What it has reported shows what is amiss; what it has not cannot be waited for any longer.
            Err(error) => self.interrupt().context(error),
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// If it does not end, or its output is not sound.
    pub fn finish(self) -> Result<Finished> {
        Finished::from(self.0.finish(END)?)
    }
}

/// The command of a trace with JSON output.
pub fn command<S: AsRef<OsStr>>(lab: &Lab, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = lab.podtrace();
    // Named, for this machine may have a cluster that would be found before the lab.
    command.arg("--cluster").arg(lab.inventory()).args(["-o", "json"]).args(arguments);
    command
}

/// The output of a finished trace.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit status.
    pub code: i32,
    /// Its stdout as it was.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
    /// The paths as JSON.
    pub lines: Vec<Value>,
    /// The paths.
    pub paths: Vec<Path>,
    /// Changes of the cluster.
    pub changes: Vec<Change>,
    /// Flows, routes, causes and their sums, as JSON.
    pub totals: Vec<Value>,
    /// Snapshots of counts, as JSON.
    pub stats: Vec<Value>,
    /// The summary; `None` if the trace could not run.
    pub summary: Option<Summary>,
}

impl Finished {
    /// Parses a trace's output, and checks what must hold for every trace.
    ///
    /// # Errors
    ///
    /// If a line does not match the schema, or the paths contradict each other.
    pub fn from(output: Output) -> Result<Self> {
        let code = output.code();
        let Output { stdout, stderr, .. } = output;
        let mut finished = Self {
            code,
            stdout,
            stderr,
            lines: vec![],
            paths: vec![],
            changes: vec![],
            totals: vec![],
            stats: vec![],
            summary: None,
        };
        for line in finished.stdout.lines() {
            ensure!(finished.summary.is_none(), "there is a line after the summary: {line}");
            let value = schema::parse(line)?;
            match value["type"].as_str() {
                Some("path") => {
                    finished.paths.push(serde_json::from_value(value.clone()).context("reading a path")?);
                    finished.lines.push(value);
                }
                Some("change") => {
                    finished.changes.push(serde_json::from_value(value).context("reading a change")?);
                }
                Some("flow" | "route" | "cause" | "totals") => finished.totals.push(value),
                Some("stats") => finished.stats.push(value),
                Some("summary") => {
                    finished.summary = Some(serde_json::from_value(value).context("reading the summary")?);
                }
                _ => bail!("not of a known type: {line}"),
            }
        }
        if let Some(summary) = &finished.summary {
            check::sound(&finished.paths, summary)?;
        }
        Ok(finished)
    }

    /// The summary of a trace that ran.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn summary(&self) -> Result<&Summary> {
        self.summary.as_ref().with_context(|| format!("it printed no summary:\n{}", self.stderr))
    }

    /// Events that it reports as lost: the ring or a map was full, or the kernel skipped the program.
    #[must_use]
    pub fn withheld(&self) -> u64 {
        self.summary.as_ref().map_or(0, |summary| {
            summary.events.lost_ring + summary.events.lost_map + summary.events.missed_probes
        })
    }

    /// Checks that it ran well and lost nothing.
    ///
    /// # Errors
    ///
    /// If it did not.
    pub fn complete(&self) -> Result<&Summary> {
        let summary = self.summary()?;
        ensure!(self.code == 0, "it ended with status {}:\n{}", self.code, self.stderr);
        ensure!(summary.complete, "the trace is not complete: {summary:?}\n{}", self.stderr);
        Ok(summary)
    }
}
