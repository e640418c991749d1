//! `cargo xtask faults`: how true podtrace is about networks that are broken, by the fault suite in `tests/faults`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::build::{self, What};
use crate::toolchain::{Route, Toolchain};
use crate::vm::series::Series;
use crate::{root, vm, workspace};

/// What the suite's table is written to.
const DOCS: &str = "docs/faults.md";

/// Where the last run of each variant on each kernel is kept, below `target`.
const KEPT: &str = "faults.jsonl";

/// Seconds that a guest may take for all of them.
const WITHIN: u64 = 4 * 3600;

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent flags")]
pub(crate) struct Options {
    /// Only variants whose name holds one of these; a kind's or a variant's whole name stands for itself
    names: Vec<String>,
    /// Run them in guests with these kernels, such as 5.10,6.12
    #[arg(long = "kernel", value_name = "SERIES", value_delimiter = ',', conflicts_with_all = ["stored", "docs", "mark", "list", "json"])]
    kernels: Vec<Series>,
    /// Print the score as JSON, a run a line; the text goes to stderr
    #[arg(long)]
    json: bool,
    /// Only the first variant of each kind
    #[arg(long)]
    first: bool,
    /// Run nothing: what the last runs on this machine came to
    #[arg(long)]
    stored: bool,
    /// Write docs/faults.md of each variant's last run, on this machine and in its guests
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
    /// Run each variant so often
    #[arg(long, value_name = "N", default_value_t = 1)]
    times: usize,
}

pub(crate) fn run(options: &Options, route: Option<Route>) -> Result<ExitCode> {
    let Options { names, kernels, json, first, stored, docs, mark, show, list, times } = options;
    let flags = [
        (json, "--json"),
        (first, "--first"),
        (stored, "--stored"),
        (mark, "--mark"),
        (show, "--show"),
        (list, "--list"),
    ];
    let flags = flags.iter().filter(|(given, _)| **given).map(|(_, flag)| (*flag).to_owned());
    let arguments: Vec<String> =
        names.iter().cloned().chain(flags).chain(["--times".to_owned(), times.to_string()]).collect();
    let kept = workspace::target_dir().join(KEPT);
    let succeeded = if kernels.is_empty() {
        let (_, podtrace) = build::provide(What::Tests, route)?;
        let faults = podtrace.with_file_name("faults");
        root::authenticate()?;
        let mut command = root::command(&faults)?;
        command.env("PODTRACE_BIN", podtrace).env("PODTRACE_FAULTS", kept).args(arguments);
        if *docs {
            command.arg("--docs").arg(workspace::root().join(DOCS));
        }
        let status = command.status().with_context(|| format!("cannot run {}", faults.display()))?;
        status.success()
    } else {
        let within = Duration::from_secs(WITHIN);
        let order = vm::faults::Order { kernels, arguments: &arguments, within, keep: &kept };
        vm::faults::run(&order, &Toolchain::provide(route)?)?
    };
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
