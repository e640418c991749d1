//! Testing podtrace on a cluster.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::state::State;
use super::{down, podtrace, up};
use crate::build::{self, USER_SPACE, What, host_cargo};
use crate::root;
use crate::toolchain::{Route, Toolchain};

/// The tests.
const SUITE: &str = "cluster";

/// Variables by which tests know where cluster and binary are.
const STATE: &str = "PODTRACE_K8S";
const KUBECONFIG: &str = "KUBECONFIG";
const BINARY: &str = "PODTRACE_BIN";

/// A cluster for as long as tests take. Dropping it removes it, unless it was there before.
pub(crate) struct Cluster {
    was_up: bool,
}

/// Starts a cluster, or takes the one that is up.
pub(crate) fn cluster(toolchain: &Toolchain) -> Result<Cluster> {
    let cluster = Cluster { was_up: State::standard().exists() };
    up(podtrace(toolchain)?)?;
    Ok(cluster)
}

impl Cluster {
    /// The run of the tests against `binary`; they all are about one cluster, one after the other.
    pub(crate) fn tests(&self, binary: &Path) -> Command {
        let mut tests = suite(binary);
        tests.env(STATE, State::standard().directory());
        tests
    }
}

/// The tests against `binary`, of no cluster yet.
fn suite(binary: &Path) -> Command {
    let mut tests = host_cargo("test");
    tests.args(USER_SPACE).args(["--test", SUITE]).env(BINARY, binary);
    root::runner(&mut tests);
    tests
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.was_up {
            return eprintln!("the cluster was up before and still is: `cargo xtask k8s down` removes it");
        }
        if let Err(error) = down() {
            eprintln!("error: the cluster is left behind: {error:#}; `cargo xtask k8s down` tries again");
        }
    }
}

/// Tests on a cluster: that of a kubeconfig, else one of our own.
pub(super) fn run(route: Option<Route>, kubeconfig: Option<&Path>, arguments: &[String]) -> Result<ExitCode> {
    let (toolchain, binary) = build::provide(What::Tests, route)?;
    let (mut tests, cluster) = match kubeconfig {
        Some(kubeconfig) => {
            let kubeconfig = std::path::absolute(kubeconfig).context("finding the kubeconfig")?;
            let mut tests = suite(&binary);
            tests.env(KUBECONFIG, kubeconfig).env_remove(STATE);
            (tests, None)
        }
        None => {
            let cluster = cluster(&toolchain)?;
            (cluster.tests(&binary), Some(cluster))
        }
    };
    // A cluster of our own goes away by what follows: Ctrl-C is for the tests only.
    let interrupts = Interrupts::ignored()?;
    let status = tests.arg("--").args(arguments).status().context("cannot run the tests")?;
    drop(cluster);
    drop(interrupts);
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Keeps Ctrl-C from ending this program, though not those that it starts.
struct Interrupts(SigAction);

impl Interrupts {
    fn ignored() -> Result<Self> {
        extern "C" fn nothing(_: i32) {}
        // A handler, for what is ignored stays so in programs that are started.
        let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler does nothing, which it may at any time.
        let before = unsafe { sigaction(Signal::SIGINT, &action) }.context("cannot keep off Ctrl-C")?;
        Ok(Self(before))
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        // SAFETY: it is the handler that was there before. That it is one that can be set was shown then.
        let _ = unsafe { sigaction(Signal::SIGINT, &self.0) };
    }
}
