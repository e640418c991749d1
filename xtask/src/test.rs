//! `cargo xtask test`: every check and every test, each runner's closing line, and one sum.
//!
//! A failing step does not keep the others from running: one run tells all that is wrong.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail, ensure};

use crate::build::host_cargo;
use crate::tally::Tally;
use crate::toolchain::{Route, Toolchain};
use crate::{apt, build, ebpf, k8s, root, run, vm, workspace};

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

pub(crate) fn run(route: Option<Route>) -> Result<ExitCode> {
    let mut report = Report::default();
    let toolchain = report.step("toolchain", || Toolchain::provide(route));
    let binary = toolchain.as_ref().and_then(|toolchain| report.step("build", || build::release(toolchain)));

    report.step("rustfmt", || {
        component("rustfmt", "cargo-fmt")?;
        run::step(
            "checking the format",
            host_cargo("fmt").args(["--all", "--check", "--", "--color", "never"]),
        )
    });
    report.step("clippy", || {
        component("clippy", "cargo-clippy")?;
        let mut cargo = host_cargo("clippy");
        cargo.args(["--workspace", "--exclude", "tracer-ebpf", "--all-targets", "--", "-D", "warnings"]);
        run::step("clippy for the programs of user space", &mut cargo)
    });
    match &toolchain {
        Some(toolchain) if toolchain.has_clippy() => {
            report.step("clippy for the kernel programs", || ebpf::clippy(toolchain));
        }
        _ => report.skip("clippy for the kernel programs", "their toolchain has none"),
    }
    if run::find_program("cargo-deny").is_some() {
        report.step("licences and advisories", || {
            run::step("checking licences and advisories", host_cargo("deny").args(["--workspace", "check"]))
        });
    } else {
        eprintln!(
            "licences and advisories were not checked: `cargo install --locked cargo-deny` provides for it"
        );
    }

    let mut tests = host_cargo("test");
    tests.args(["--workspace", "--exclude", "tracer-ebpf", "--exclude", "podtrace-tests", "--no-fail-fast"]);
    report.tests("unit tests", tests);
    match &binary {
        Some(binary) => match scenarios(binary) {
            Ok(tests) => report.tests("scenario tests", tests),
            Err(error) => report.fail("scenario tests", &error),
        },
        None => report.fail("scenario tests", &anyhow::anyhow!("not run, for there is no binary to test")),
    }
    match &toolchain {
        Some(toolchain) => report.guests(toolchain),
        None => {
            report
                .fail("virtual machines", &anyhow::anyhow!("not run, for nothing can be compiled for them"));
        }
    }
    match (&toolchain, binary) {
        (Some(toolchain), Some(binary)) => report.cluster(toolchain, &binary),
        _ => report.fail("Kubernetes", &anyhow::anyhow!("not run, for there is no binary to test")),
    }
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
    tests.args(["--package", "podtrace-tests", "--no-fail-fast"]).env("PODTRACE_BIN", binary);
    root::authenticate()?;
    root::runner(&mut tests);
    Ok(tests)
}

/// Provides a component of the host's toolchain, which rustup's minimal profile lacks.
fn component(name: &str, program: &str) -> Result<()> {
    let works = || run::ask(Command::new(program).arg("--version")).is_some();
    if works() {
        return Ok(());
    }
    if run::find_program("rustup").is_none() {
        bail!("`{program}` is missing, and there is no rustup to add it: please install it");
    }
    eprintln!("installing rustup's component {name}: it checks the code");
    run::step(
        &format!("rustup component add {name}"),
        Command::new("rustup").args(["component", "add", name]),
    )
}

/// What has come out so far.
#[derive(Default)]
struct Report {
    tally: Tally,
    failures: Vec<String>,
}

impl Report {
    /// Runs a check; the result is there if it succeeded.
    fn step<T>(&mut self, name: &str, check: impl FnOnce() -> Result<T>) -> Option<T> {
        check().map_err(|error| self.fail(name, &error)).ok()
    }

    /// Notes that a check or runner failed without having counted a failed test.
    fn fail(&mut self, name: &str, error: &anyhow::Error) {
        eprintln!("error: {error:#}");
        self.tally.failed += 1;
        self.failures.push(name.to_owned());
    }

    fn skip(&mut self, name: &str, reason: &str) {
        eprintln!("{name}: skipped, {reason}");
        self.tally.skipped += 1;
    }

    /// Compiles and runs tests.
    fn tests(&mut self, name: &str, mut cargo: Command) {
        let Ok(()) = self.compile(name, &cargo) else {
            return;
        };
        let mut tally = Tally::default();
        let outcome = run::pass_through(&mut cargo, |line| {
            if let Some(closed) = Tally::from_closing_line(line) {
                tally += closed;
            }
        });
        self.tally += tally;
        let problem = match outcome {
            Err(error) => Some(error),
            // A runner that crashed has no closing line: what it held back must not look like a success.
            Ok(status) if !status.success() && tally.failed == 0 => {
                Some(anyhow::anyhow!("{name} ended with {status} without a failed test"))
            }
            Ok(_) if tally.total() == 0 => Some(anyhow::anyhow!("{name}: there was none to run")),
            Ok(_) => None,
        };
        match problem {
            Some(error) => self.fail(name, &error),
            None if tally.failed > 0 => self.failures.push(name.to_owned()),
            None => {}
        }
    }

    /// Runs what may differ from kernel to kernel in virtual machines.
    fn guests(&mut self, toolchain: &Toolchain) {
        const NAME: &str = "virtual machines";
        let ready = match vm::prepare_compact() {
            Ok(ready) => ready,
            Err(error) => return self.skip(NAME, &format!("{error:#}; `cargo xtask vm` tries again")),
        };
        for (series, problem) in &ready.absent {
            self.skip(&format!("kernel {series}"), &format!("{problem}; `cargo xtask vm` tries again"));
        }
        let Some(tested) = self.step(NAME, || vm::compact(toolchain, &ready)) else { return };
        self.tally += tested.tally;
        for problem in &tested.problems {
            self.fail(NAME, &anyhow::anyhow!("{problem}"));
        }
        if tested.problems.is_empty() && tested.tally.failed > 0 {
            self.failures.push(NAME.to_owned());
        }
    }

    /// Tests on a real Kubernetes, if it was built once: that takes longer than all the rest.
    fn cluster(&mut self, toolchain: &Toolchain, binary: &Path) {
        const NAME: &str = "Kubernetes";
        if !k8s::is_cached() {
            return self.skip(NAME, "it was not built yet: `cargo xtask k8s test` does so once");
        }
        if let Some(cluster) = self.step(NAME, || k8s::cluster(toolchain)) {
            self.tests("tests on Kubernetes", cluster.tests(binary));
        }
    }

    /// Compiles what `cargo test` will run, so that the run's own output is the tests' alone.
    fn compile(&mut self, name: &str, cargo: &Command) -> Result<(), ()> {
        let mut compile = Command::new(cargo.get_program());
        compile.current_dir(workspace::root()).args(cargo.get_args()).arg("--no-run");
        for (name, value) in cargo.get_envs() {
            if let Some(value) = value {
                compile.env(name, value);
            }
        }
        run::step(&format!("compiling the {name}"), &mut compile).map_err(|error| self.fail(name, &error))
    }

    /// Prints the sum and what failed.
    fn close(self) -> ExitCode {
        let Self { tally, failures } = self;
        if !failures.is_empty() {
            eprintln!("failed: {}", failures.join(", "));
        }
        println!("podtrace: {tally}");
        if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
