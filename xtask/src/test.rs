//! `cargo xtask test`: every check and every test, each runner's closing line, and one sum.
//!
//! A failing step does not keep the others from running: one run tells all that is wrong.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, anyhow, ensure};

use crate::build::{self, USER_SPACE, What, host_cargo};
use crate::report::Report;
use crate::targets::{self, Suites};
use crate::toolchain::{Route, Toolchain};
use crate::{apt, check, k8s, root, run, vm};

/// A program that scenario tests run, its Debian package, and what for.
const SCENARIO_TOOLS: [(&str, &str, &str); 10] = [
    ("ip", "iproute2", "scenarios look at namespaces and devices with eyes other than podtrace's"),
    ("tcpdump", "tcpdump", "scenarios count packets beside the tracer"),
    ("iperf3", "iperf3", "scenarios trace while other pods exchange at full speed"),
    ("nc.openbsd", "netcat-openbsd", "scenarios exchange TCP and UDP between pods"),
    ("nft", "nftables", "scenarios drop by rules of netfilter"),
    ("iptables", "iptables", "scenarios translate and drop by rules of iptables"),
    ("conntrack", "conntrack", "faults leave stale entries in connection tracking"),
    ("ping", "iputils-ping", "faults are looked for by pings"),
    ("tshark", "tshark", "scenarios look at the files that traces leave"),
    ("chromium", "chromium", "the pages of --html are looked at in a browser"),
];

/// The tests in virtual machines, in the report.
const GUESTS: &str = "virtual machines";

pub(crate) fn run(route: Option<Route>) -> Result<ExitCode> {
    let mut report = Report::default();
    let built = report.step("build", || build::provide(What::Tests, route));
    check::steps(&mut report, built.as_ref().map(|(toolchain, _)| toolchain));
    let Some((toolchain, binary)) = built else {
        for name in ["scenario tests", "virtual machines", "Kubernetes"] {
            report.fail(name, &anyhow!("not run, for there is no binary to test"));
        }
        return Ok(report.close());
    };
    let ready = guests_ready(&mut report);
    // Tests on packets mostly wait.
    let compiling = ready.as_ref().and_then(|_| report.step(GUESTS, || vm::begin_compiling(&toolchain)));
    match scenarios(&binary) {
        Ok(tests) => report.tests("scenario tests", tests),
        Err(error) => report.fail("scenario tests", &error),
    }
    let compiled = compiling.and_then(|compiling| report.step(GUESTS, || compiling.finish()));
    if let (Some(ready), Some(())) = (ready, compiled) {
        guests(&mut report, &toolchain, &ready);
    }
    cluster(&mut report, &toolchain, &binary);
    Ok(report.close())
}

/// The run of the scenario tests against `binary`, once their tools are here.
fn scenarios(binary: &Path) -> Result<Command> {
    ensure!(binary.is_file(), "{} is not there", binary.display());
    for (program, package, why) in SCENARIO_TOOLS {
        if run::find_program(program).is_none() {
            apt::install(&[package], why)?;
        }
    }
    let mut tests = host_cargo("test");
    tests.args(USER_SPACE).args(targets::tests(Suites::OnPackets)?).arg("--no-fail-fast");
    tests.env("PODTRACE_BIN", binary);
    root::authenticate()?;
    root::runner(&mut tests);
    Ok(tests)
}

/// Provides virtual machines; what cannot be had is skipped.
fn guests_ready(report: &mut Report) -> Option<vm::Ready> {
    let ready = match vm::prepare_compact() {
        Ok(ready) => ready,
        Err(error) => {
            report.skip(GUESTS, &format!("{error:#}; `cargo xtask vm` tries again"));
            return None;
        }
    };
    for (series, problem) in &ready.absent {
        report.skip(&format!("kernel {series}"), &format!("{problem}; `cargo xtask vm` tries again"));
    }
    Some(ready)
}

/// Runs what may differ from kernel to kernel in virtual machines.
fn guests(report: &mut Report, toolchain: &Toolchain, ready: &vm::Ready) {
    if let Some(tested) = report.step(GUESTS, || vm::compact(toolchain, ready)) {
        report.add(GUESTS, tested.tally, &tested.problems);
    }
}

/// Tests on a real Kubernetes, if it was built once: that takes longer than all the rest.
fn cluster(report: &mut Report, toolchain: &Toolchain, binary: &Path) {
    const NAME: &str = "Kubernetes";
    if !k8s::is_cached() {
        return report.skip(NAME, "it was not built yet: `cargo xtask k8s test` does so once");
    }
    if let Some(cluster) = report.step(NAME, || k8s::cluster(toolchain)) {
        report.tests("tests on Kubernetes", cluster.tests(binary));
    }
}
