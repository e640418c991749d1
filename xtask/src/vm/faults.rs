//! The fault suite in guests: kernels with kprobes, and with what this machine's kernel may lack.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::fleet::Fleet;
use super::guest::Ended;
use super::payload::{PODTRACE, Payload};
use super::prepare;
use super::row::Row;
use super::script::{self, PATIENCE, SECTION, quoted, quoted_path};
use super::series::Series;
use crate::toolchain::Toolchain;

/// The suite's program, and the name of the part that runs it.
const FAULTS: &str = "faults";

/// How a line begins that is a run's.
const RUN: &str = "{\"kernel\":";

/// What is run where.
pub(crate) struct Order<'a> {
    pub(crate) kernels: &'a [Series],
    /// Arguments of the suite's program.
    pub(crate) arguments: &'a [String],
    /// How long a guest may take.
    pub(crate) within: Duration,
    /// Where the runs are kept.
    pub(crate) keep: &'a Path,
}

/// Runs the suite on these kernels; the runs go to the file where they are kept. Whether all went as recorded.
pub(crate) fn run(order: &Order<'_>, toolchain: &Toolchain) -> Result<bool> {
    let Order { kernels, arguments, within, keep } = order;
    let ready = prepare(kernels, false)?;
    for (series, problem) in &ready.absent {
        println!("kernel {series}: {problem}");
    }
    ensure!(!ready.kernels.is_empty(), "there is no kernel to run the faults on");
    let payload = Payload::build(toolchain, &[])?;
    let fleet = Fleet { busybox: &ready.busybox, payload: &payload, within: *within };
    let script = script(payload.program(FAULTS)?, arguments);
    let rows = fleet.run(&ready.kernels, |_| script.clone(), judge)?;
    for (row, (series, kernel)) in rows.iter().zip(&ready.kernels) {
        println!("\nkernel {series}");
        row.details.iter().filter(|line| !line.starts_with(RUN)).for_each(|line| println!("{line}"));
        store(keep, &fleet.guest(*series, kernel).output())?;
    }
    Ok(ready.absent.is_empty() && rows.iter().all(Row::passed))
}

/// Runs the suite; each run is a line of JSON as soon as it has ended.
fn script(program: &Path, arguments: &[String]) -> String {
    let arguments: String = arguments.iter().map(|argument| format!(" {}", quoted(argument))).collect();
    format!(
        "{SECTION}export PODTRACE_BIN={PODTRACE} PODTRACE_TEST_PATIENCE={PATIENCE} PODTRACE_TEST_GUESTS=all PODTRACE_FAULTS=/tmp/faults.jsonl\n\
         section {FAULTS} {} --json{arguments}\n",
        quoted_path(program)
    )
}

/// What a guest's run came to.
fn judge(kernel: String, ended: &Ended) -> Row {
    let sections = script::sections(&ended.lines);
    let mut row = Row { kernel, took: Some(ended.took), ..Row::default() };
    let Some(suite) = sections.iter().find(|section| section.name == FAULTS) else {
        row.problem = Some("the fault suite was not run".to_owned());
        return row;
    };
    row.details.clone_from(&suite.lines);
    if suite.status != Some(0) {
        row.problem = Some("not all faults were reported as recorded".to_owned());
    }
    row
}

/// Adds the runs in a guest's output to the file where they are kept: the last of a variant counts. The output is there also
/// where the guest did not come to its end.
fn store(file: &Path, output: &Path) -> Result<()> {
    let said = fs::read_to_string(output).with_context(|| format!("cannot read {}", output.display()))?;
    let about = || format!("cannot write {}", file.display());
    let mut file = OpenOptions::new().create(true).append(true).open(file).with_context(about)?;
    for run in said.lines().filter(|line| line.starts_with(RUN)) {
        writeln!(file, "{run}").with_context(about)?;
    }
    Ok(())
}
