//! A run of podtrace, and what it told.

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

/// How long a trace may take to be ready.
const READY: Duration = Duration::from_secs(30);

/// How long after the last packet was sent a trace may take to report what is expected.
const ENOUGH: Duration = Duration::from_secs(15);

/// How long a trace may take that ends by itself, or to end once it was asked to.
const END: Duration = Duration::from_secs(45);

/// A trace under way; killed if dropped.
#[derive(Debug)]
pub struct Trace(Running);

impl Trace {
    /// Starts a trace of the lab's traffic that tells JSON.
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

    /// Waits until it says that it traces.
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

    /// Ends it as Ctrl-C does.
    ///
    /// # Errors
    ///
    /// If it does not end, or told what is not sound.
    pub fn interrupt(self) -> Result<Told> {
        self.0.signal(Signal::SIGINT)?;
        self.finish()
    }

    /// Ends it as Ctrl-C does once the paths it has reported are `enough`, or have not become so for long.
    ///
    /// # Errors
    ///
    /// If it ends before, does not end then, or reported what is not sound.
    pub fn interrupt_once(mut self, enough: impl Fn(&[Value]) -> bool) -> Result<Told> {
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
    /// If it does not end, or told what is not sound.
    pub fn finish(self) -> Result<Told> {
        Told::from(self.0.finish(END)?)
    }
}

/// The command of a trace that tells JSON.
pub fn command<S: AsRef<OsStr>>(lab: &Lab, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = lab.podtrace();
    // Named, for this machine may have a cluster that would be found before the lab.
    command.arg("--cluster").arg(lab.inventory()).args(["-o", "json"]).args(arguments);
    command
}

/// What a trace told.
#[derive(Clone, Debug)]
pub struct Told {
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
    /// What became of the cluster.
    pub changes: Vec<Change>,
    /// The summary; `None` if the trace could not run.
    pub summary: Option<Summary>,
}

impl Told {
    /// Takes a trace's output apart, and checks what must hold of any.
    ///
    /// # Errors
    ///
    /// If a line is not as the schema says, or the whole is not sound.
    pub fn from(output: Output) -> Result<Self> {
        let code = output.code();
        let Output { stdout, stderr, .. } = output;
        let mut told =
            Self { code, stdout, stderr, lines: vec![], paths: vec![], changes: vec![], summary: None };
        for line in told.stdout.lines() {
            ensure!(told.summary.is_none(), "there is a line after the summary: {line}");
            let value = schema::parse(line)?;
            match value["type"].as_str() {
                Some("path") => {
                    told.paths.push(serde_json::from_value(value.clone()).context("reading a path")?);
                    told.lines.push(value);
                }
                Some("change") => {
                    told.changes.push(serde_json::from_value(value).context("reading a change")?);
                }
                Some("summary") => {
                    told.summary = Some(serde_json::from_value(value).context("reading the summary")?);
                }
                _ => bail!("neither path nor change nor summary: {line}"),
            }
        }
        if let Some(summary) = &told.summary {
            check::sound(&told.paths, summary)?;
        }
        Ok(told)
    }

    /// The summary of a trace that ran.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn summary(&self) -> Result<&Summary> {
        self.summary.as_ref().with_context(|| format!("it told no summary:\n{}", self.stderr))
    }

    /// Events that it says the kernel withheld: they found no room, or their program did not run.
    #[must_use]
    pub fn withheld(&self) -> u64 {
        self.summary.map_or(0, |summary| {
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
