//! A lab of a test's own, removed whatever happens.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use podtrace::netns::{Netns, named_path};

use crate::binary;
use crate::command::{Output, Running, SHORT, run, succeed};

/// What the names of all tests' labs begin with.
const PREFIX: &str = "t-";

/// Characters of a test's name that its lab's name has room for.
const ROOM: usize = 18;

/// Where labs keep their state.
const STATE: &str = "/run/podtrace";

/// A lab that is up. Dropping it removes it.
#[derive(Debug)]
pub struct Lab {
    name: String,
    binary: PathBuf,
}

impl Lab {
    /// Builds a lab for the test of this name.
    ///
    /// # Errors
    ///
    /// If it cannot be built.
    pub fn up(test: &str) -> Result<Self> {
        Self::up_with(test, "none")
    }

    /// Builds a lab whose nodes have these rules for Services.
    ///
    /// # Errors
    ///
    /// If it cannot be built.
    pub fn up_with(test: &str, rules: &str) -> Result<Self> {
        Self::on(test, "flannel-vxlan", rules)
    }

    /// Builds a lab that is wired as this network.
    ///
    /// # Errors
    ///
    /// If it cannot be built.
    pub fn on(test: &str, network: &str, rules: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let test: String = test.chars().filter(|c| c.is_ascii_lowercase() || *c == '-').take(ROOM).collect();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // The last part tells whose it is: what dead processes left behind is removed by `sweep`.
        let name = format!("{PREFIX}{test}-{number}-{}", std::process::id());
        let lab = Self { name, binary: binary::podtrace()? };
        succeed(lab.podtrace().args(["lab", "up", "--network", network, "--rules", rules]), SHORT)?;
        Ok(lab)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its inventory is.
    #[must_use]
    pub fn inventory(&self) -> PathBuf {
        Path::new(STATE).join(&self.name).join("cluster.yaml")
    }

    /// podtrace, in an environment where this lab is the only cluster.
    #[must_use]
    pub fn podtrace(&self) -> Command {
        let mut command = podtrace(&self.binary);
        command.env("PODTRACE_LAB", &self.name);
        command
    }

    /// A command in a pod, on a node, or in the `fabric` between them.
    pub fn command<S: AsRef<OsStr>>(&self, on: &str, words: impl IntoIterator<Item = S>) -> Command {
        let mut command;
        if on == "fabric" {
            // Not a place that users go to, so `podtrace lab exec` does not either.
            command = Command::new("nsenter");
            command.arg(format!("--net={}", netns_path(&self.name, on).display()));
        } else {
            command = self.podtrace();
            command.args(["lab", "exec", on, "--"]);
        }
        command.args(words);
        command
    }

    /// Runs a command there, which must succeed.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub fn exec<S: AsRef<OsStr>>(&self, on: &str, words: impl IntoIterator<Item = S>) -> Result<Output> {
        succeed(&mut self.command(on, words), SHORT)
    }

    /// Starts a command there.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(&self, on: &str, words: impl IntoIterator<Item = S>) -> Result<Running> {
        Running::start(&mut self.command(on, words))
    }

    /// The network namespace of a pod, node or the fabric.
    ///
    /// # Errors
    ///
    /// If it is not there.
    pub fn netns(&self, of: &str) -> Result<Netns> {
        Netns::open(netns_path(&self.name, of))
    }
}

/// Where the network namespace of a lab's pod, node or fabric is.
#[must_use]
pub fn netns_path(lab: &str, of: &str) -> PathBuf {
    named_path(&format!("podtrace-{lab}-{of}"))
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = succeed(self.podtrace().args(["lab", "down"]), SHORT) {
            eprintln!("the lab {} is left behind: {error:#}", self.name);
        }
    }
}

/// A command of podtrace's that finds no cluster but one it is given.
#[must_use]
pub fn podtrace(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.env("HOME", "/nonexistent").env("NO_COLOR", "1");
    for variable in ["KUBECONFIG", "SUDO_USER", "PODTRACE_LAB", "PODTRACE_TC", "PODTRACE_BTF"] {
        command.env_remove(variable);
    }
    command
}

/// Removes the labs that killed test runs left behind.
///
/// # Errors
///
/// If podtrace cannot be run.
pub fn sweep() -> Result<()> {
    let Ok(entries) = std::fs::read_dir(STATE) else { return Ok(()) };
    for entry in entries {
        let name = entry.context("reading the labs' state")?.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let Some((_, owner)) = name.rsplit_once('-') else { continue };
        if !Path::new("/proc").join(owner).exists() {
            run(podtrace(&binary::podtrace()?).args(["lab", "--name", name, "down"]), SHORT)?;
        }
    }
    Ok(())
}
