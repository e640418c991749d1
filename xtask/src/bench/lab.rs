//! The lab that is measured in: two nodes in network namespaces, removed at the end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{root, run};

/// Where labs keep their state.
const STATE: &str = "/run/podtrace";

/// The CPU that clients run on, and the one of servers.
pub(super) const CLIENT: u32 = 0;
pub(super) const SERVER: u32 = 1;

/// Which pod sends, and which ones it sends to.
pub(super) const FROM: &str = "pod1";
/// A pod that neither sends nor receives.
pub(super) const SILENT: &str = "pod4";

/// A lab that is up. Dropping it removes it.
pub(super) struct Lab {
    podtrace: PathBuf,
    name: String,
}

impl Lab {
    pub(super) fn up(podtrace: &Path) -> Result<Self> {
        ensure!(root::is_root(), "measuring traffic needs root: run this command as root");
        let lab = Self { podtrace: podtrace.to_owned(), name: format!("bench-{}", std::process::id()) };
        run::step("building the lab", lab.podtrace().args(["lab", "up", "--rules", "none"]))?;
        Ok(lab)
    }

    /// podtrace, in an environment where this lab is the only cluster.
    pub(super) fn podtrace(&self) -> Command {
        let mut command = Command::new(&self.podtrace);
        command.env("PODTRACE_LAB", &self.name).env_remove("KUBECONFIG").stdin(Stdio::null());
        command
    }

    /// A trace of this lab.
    pub(super) fn trace(&self) -> Command {
        let mut command = self.podtrace();
        command.arg("--cluster").arg(Path::new(STATE).join(&self.name).join("cluster.yaml"));
        command
    }

    /// A command in a pod or on a node; on one CPU only, if given.
    pub(super) fn command<S: AsRef<OsStr>>(
        &self,
        place: &str,
        cpu: Option<u32>,
        words: impl IntoIterator<Item = S>,
    ) -> Command {
        let exec = ["lab", "exec", place, "--"];
        let mut command = match cpu {
            None => self.podtrace(),
            Some(cpu) => {
                let mut command = Command::new("taskset");
                command.env("PODTRACE_LAB", &self.name).stdin(Stdio::null());
                command.args(["-c", &cpu.to_string()]).arg(&self.podtrace);
                command
            }
        };
        command.args(exec).args(words);
        command
    }

    /// The devices on a node that packets of pods pass.
    pub(super) fn devices(&self, node: &str) -> Result<Vec<String>> {
        let listed = run::ask(&mut self.command(node, None, ["ip", "-j", "link", "show", "up"]));
        let listed = listed.with_context(|| format!("listing the devices of {node}"))?;
        let listed: serde_json::Value = serde_json::from_str(&listed).context("reading what `ip` lists")?;
        let Some(listed) = listed.as_array() else { bail!("`ip` lists no devices on {node}") };
        let names = listed.iter().filter_map(|device| device["ifname"].as_str());
        Ok(names.filter(|name| *name != "lo").map(str::to_owned).collect())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // What is left can be removed by hand: the command says how.
        let _ = run::step("removing the lab", self.podtrace().args(["lab", "down"]));
    }
}

/// A pod's address.
pub(super) fn address(pod: &str) -> &'static str {
    match pod {
        "pod1" => "10.42.0.10",
        "pod2" => "10.42.0.11",
        "pod3" => "10.42.1.10",
        _ => "10.42.1.11",
    }
}
