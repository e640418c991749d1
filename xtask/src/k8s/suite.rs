//! Testing podtrace on a cluster.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use super::state::State;
use super::{down, podtrace, up};
use crate::build::{self, host_cargo};
use crate::toolchain::Toolchain;
use crate::{root, run};

/// The tests.
const SUITE: &str = "cluster";

/// Variables by which tests know where cluster and binary are.
const STATE: &str = "PODTRACE_K8S";
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
        let mut tests = host_cargo("test");
        tests.args(["--package", "podtrace-tests", "--test", SUITE]);
        tests.env(BINARY, binary).env(STATE, State::standard().directory());
        root::runner(&mut tests);
        tests
    }
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

/// Tests on a cluster.
pub(super) fn run(toolchain: &Toolchain, arguments: &[String]) -> Result<ExitCode> {
    let binary = build::release(toolchain)?;
    let cluster = cluster(toolchain)?;
    let mut tests = cluster.tests(&binary);
    let mut compile = cluster.tests(&binary);
    run::step("compiling the tests", compile.arg("--no-run"))?;
    tests.arg("--").args(arguments);
    let status = tests.status().context("cannot run the tests")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
