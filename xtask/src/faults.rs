//! `cargo xtask faults`: how true podtrace is about networks that are broken, by the fault suite in `tests/faults`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::build::{self, What};
use crate::toolchain::Route;
use crate::{root, workspace};

/// What the suite's table is written to.
const DOCS: &str = "docs/faults.md";

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent flags")]
pub(crate) struct Options {
    /// Only variants whose name holds one of these; a kind's or a variant's whole name stands for itself
    names: Vec<String>,
    /// Print the score as JSON, a run a line; the text goes to stderr
    #[arg(long)]
    json: bool,
    /// Only the first variant of each kind
    #[arg(long)]
    first: bool,
    /// Run nothing: what the last runs on this machine came to
    #[arg(long)]
    stored: bool,
    /// Write docs/faults.md of each variant's last run on this machine
    #[arg(long)]
    docs: bool,
    /// Record in tests/faults/holds.txt what was right in these runs
    #[arg(long)]
    mark: bool,
    /// Print what podtrace says in each run
    #[arg(long)]
    show: bool,
    /// Print the names of the variants
    #[arg(long)]
    list: bool,
}

pub(crate) fn run(options: &Options, route: Option<Route>) -> Result<ExitCode> {
    let (_, podtrace) = build::provide(What::Tests, route)?;
    let faults = podtrace.with_file_name("faults");
    root::authenticate()?;
    let mut command = root::command(&faults)?;
    command.env("PODTRACE_BIN", podtrace).args(&options.names);
    let Options { names: _, json, first, stored, docs, mark, show, list } = options;
    for (given, flag) in [
        (json, "--json"),
        (first, "--first"),
        (stored, "--stored"),
        (mark, "--mark"),
        (show, "--show"),
        (list, "--list"),
    ] {
        if *given {
            command.arg(flag);
        }
    }
    if *docs {
        command.arg("--docs").arg(workspace::root().join(DOCS));
    }
    let status = command.status().with_context(|| format!("cannot run {}", faults.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
