//! `cargo xtask networks`: scenarios on every pod network of the lab, by `tests/networks`, and the table of what came of them.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::build::{self, USER_SPACE, What, host_cargo};
use crate::toolchain::Route;
use crate::{root, workspace};

/// Where the table is.
const DOCS: &str = "docs/networks.md";

#[derive(Args)]
pub(crate) struct Options {
    /// Only cases whose name holds this: a network, a scenario, or NETWORK/SCENARIO
    name: Option<String>,
    /// Write the table in docs/networks.md; of all cases
    #[arg(long, conflicts_with = "name")]
    docs: bool,
}

pub(crate) fn run(options: &Options, route: Option<Route>) -> Result<ExitCode> {
    let (_, podtrace) = build::provide(What::Tests, route)?;
    root::authenticate()?;
    let mut tests: Command = host_cargo("test");
    tests.args(USER_SPACE).args(["--test", "networks"]);
    tests.env("PODTRACE_BIN", podtrace).env("PODTRACE_TEST_NETWORKS", "all");
    if options.docs {
        tests.env("PODTRACE_NETWORKS_DOCS", workspace::root().join(DOCS));
    }
    if let Some(name) = &options.name {
        tests.arg("--").arg(name);
    }
    root::runner(&mut tests);
    let status = tests.status().context("cannot run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
