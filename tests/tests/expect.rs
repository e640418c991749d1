//! `podtrace read --expect … --junit …` as a CI job uses it, on recordings: no root, no packets, no kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_tests::command::{Output, SHORT, run};
use podtrace_tests::{binary, expect, suite};

const PING: &str = "cross-node-ping";
const LOST: &str = "lost-fdb-entry";

/// Name, recording, expectations, exit status, and stderr; `*` stands for anything.
const CASES: [(&str, &str, &[&str], i32, &str); 8] = [
    ("holds", PING, &["delivered and no-nat", "loss == 0"], 0, "expectation held: *expectation held: *"),
    ("fails", PING, &["dropped"], 3, "expectation failed: dropped\n*nearest: ✓ #1 *differs at hop 8 of 8*"),
    ("fails-in-part", LOST, &["dropped", "delivered"], 3, "*held: dropped\nexpectation failed: delivered\n*"),
    ("names-the-hop", LOST, &["via eth0"], 3, "*expected via eth0, found veth* > cni0 > flannel.1\n"),
    ("points-at-a-mistake", PING, &["delivred"], 2, "*column 1: *did you mean `delivered`?\n*^^^^^^^^\n*"),
    ("knows-no-such-service", PING, &["to == svc/x"], 1, "podtrace: --expect 'to == svc/x' names svc/x, *"),
    ("counts", PING, &["paths == 3"], 3, "*found 2; must be exactly 3\n"),
    ("speaks-of-the-trace", PING, &["complete and any(reply)"], 0, "expectation held: *"),
];

fn main() -> ExitCode {
    let mut trials: Vec<Trial> = CASES
        .into_iter()
        .map(|(name, recording, expectations, status, says)| {
            suite::plain(format!("expectation-{name}"), move || {
                let output = run(&mut read(&path(recording), expectations)?, SHORT)?;
                check(&output, status, says)
            })
        })
        .collect();
    trials.push(suite::plain("junit-is-written", junit_is_written));
    trials.push(suite::plain("junit-needs-an-expectation", junit_needs_an_expectation));
    trials.push(suite::plain("junit-that-cannot-be-written", junit_that_cannot_be_written));
    trials.push(suite::plain("a-cut-recording-shows-nothing-whole", a_cut_recording));
    suite::run(trials)
}

fn path(recording: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings").join(recording).with_extension("pcapng")
}

fn read(recording: &Path, expectations: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary::podtrace()?);
    command.arg("read").arg(recording);
    for expectation in expectations {
        command.args(["--expect", expectation]);
    }
    Ok(command)
}

fn check(output: &Output, status: i32, says: &str) -> Result<()> {
    let finished = &output.stderr;
    ensure!(output.code() == status, "status {status} was expected, and not {}:\n{finished}", output.code());
    ensure!(expect::fits(says, finished), "`{says}` was expected:\n{finished}");
    Ok(())
}

fn junit_is_written() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("results.xml");
    // Longer than the new one, of which nothing may remain.
    fs::write(&file, "x".repeat(100_000))?;
    let mut command = read(&path(LOST), &["dropped", "delivered"])?;
    check(&run(command.arg("--junit").arg(&file), SHORT)?, 3, "*")?;
    let document = fs::read_to_string(&file)?;
    let says = "<?xml *<testsuite name=\"*lost-fdb-entry.pcapng\" tests=\"2\" failures=\"1\" errors=\"0\" *\
                <testcase name=\"dropped\" *<testcase name=\"delivered\" *<failure *NO_TX_TARGET*</testsuites>\n";
    ensure!(expect::fits(says, &document), "{document}");
    Ok(())
}

fn junit_needs_an_expectation() -> Result<()> {
    let mut command = read(&path(PING), &[])?;
    let output = run(command.args(["--junit", "results.xml"]), SHORT)?;
    check(&output, 2, "*--expect <EXPRESSION>*")
}

fn junit_that_cannot_be_written() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("absent").join("results.xml");
    let mut command = read(&path(PING), &["delivered"])?;
    let output = run(command.arg("--junit").arg(file), SHORT)?;
    ensure!(output.stdout.is_empty(), "nothing may be printed before it is known:\n{}", output.stdout);
    check(&output, 1, "podtrace: creating *results.xml for --junit: *\n")
}

fn a_cut_recording() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("cut.pcapng");
    let whole = fs::read(path(PING))?;
    let cut = whole.get(..whole.len() - 10).context("a recording of ten bytes")?;
    fs::write(&file, cut)?;
    let output = run(&mut read(&file, &["delivered", "any(delivered)"])?, SHORT)?;
    check(&output, 1, "*expectation failed: delivered\n*incomplete*expectation held: any(delivered)\n")
}
