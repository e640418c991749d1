//! The directory of a cluster that runs: certificates, logs, and an account of what was started.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::process::Process;

/// Where it is. There is one cluster at a time.
const DIRECTORY: &str = "/run/podtrace-k8s";

/// Lines of a log that are told when what wrote it has failed.
const TAIL: usize = 8;

/// The state of a cluster.
pub(super) struct State {
    directory: PathBuf,
}

impl State {
    /// The one place.
    pub(super) fn standard() -> Self {
        Self::at(DIRECTORY.into())
    }

    pub(super) fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Whether there is a cluster, or something of one.
    pub(super) fn exists(&self) -> bool {
        self.directory.exists()
    }

    /// Makes the directory, which must not be there.
    pub(super) fn create(&self) -> Result<()> {
        for directory in [
            &self.directory,
            &self.path("pids"),
            &self.path("commands"),
            &self.path("logs"),
            &self.path("pki"),
        ] {
            fs::create_dir(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        }
        Ok(())
    }

    /// A file in the directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Starts a process that outlives us, and notes it down.
    pub(super) fn start(&self, name: &str, command: &mut Command) -> Result<Process> {
        let log = self.log(name);
        let about = || format!("cannot write {}", log.display());
        let out = File::create(&log).with_context(about)?;
        let err = out.try_clone().with_context(about)?;
        // Out of the terminal's process group: Ctrl-C is not for it.
        command.process_group(0).stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let process = Process::of(child.id())?;
        // The tests start some of them again.
        self.write(&format!("commands/{name}"), described(command).to_string())?;
        self.note(name, process)?;
        Ok(process)
    }

    /// Notes a process down under this name.
    pub(super) fn note(&self, name: &str, process: Process) -> Result<()> {
        self.write(&format!("pids/{name}"), process.to_string()).map(drop)
    }

    /// All that was started, by name.
    pub(super) fn processes(&self) -> Result<Vec<(String, Process)>> {
        let directory = self.path("pids");
        if !directory.exists() {
            return Ok(Vec::new());
        }
        let about = || format!("cannot read {}", directory.display());
        let mut processes = Vec::new();
        for entry in fs::read_dir(&directory).with_context(about)? {
            let entry = entry.with_context(about)?;
            let text = fs::read_to_string(entry.path()).with_context(about)?;
            let process = text.parse().with_context(|| format!("reading {}", entry.path().display()))?;
            processes.push((entry.file_name().to_string_lossy().into_owned(), process));
        }
        processes.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(processes)
    }

    /// Where a process writes what it says.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.path("logs").join(name)
    }

    /// The last that a process has said.
    pub(super) fn last_words(&self, name: &str) -> String {
        let text = fs::read(self.log(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = text.unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

/// A command as others can start it: its words, and what it was given as environment.
fn described(command: &Command) -> Value {
    let text = |word: &OsStr| word.to_string_lossy().into_owned();
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).map(text).collect();
    let variables = command.get_envs().filter_map(|(name, value)| Some((text(name), text(value?))));
    json!({"words": words, "environment": variables.collect::<BTreeMap<_, _>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_started_is_on_the_account() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(directory.path().join("state"));
        assert!(!state.exists() && state.processes().unwrap().is_empty());
        state.create().unwrap();
        assert!(state.exists() && state.create().is_err(), "there is one cluster at a time");
        let mut command = Command::new("sh");
        let process = state.start("one", command.args(["-c", "echo said; exec sleep 60"])).unwrap();
        assert_eq!(state.processes().unwrap(), [("one".to_owned(), process)]);
        crate::wait::until("it has spoken", std::time::Duration::from_secs(10), || {
            anyhow::ensure!(state.last_words("one") == "said", "it has not");
            Ok(())
        })
        .unwrap();
        process.kill().unwrap();
    }
}
