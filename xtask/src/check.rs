//! `cargo xtask check`: what shows without root and without a kernel whether a change is fit to land.
//!
//! `cargo xtask test` takes the same steps.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::build::{USER_SPACE, host_cargo};
use crate::report::Report;
use crate::targets::{self, Suites};
use crate::toolchain::{Route, Toolchain};
use crate::walls::Walls;
use crate::{deny, ebpf, run, rustup};

/// A target that has no operating system, for the crates that need none.
const FOREIGN: &str = "wasm32-unknown-unknown";

pub(crate) fn run(route: Option<Route>) -> Result<ExitCode> {
    let mut report = Report::default();
    steps(&mut report, Toolchain::installed(route).as_ref());
    Ok(report.close())
}

/// Runs all checks; those of the eBPF programs with this toolchain.
pub(crate) fn steps(report: &mut Report, toolchain: Option<&Toolchain>) {
    report.step("rustfmt", || {
        rustup::component("rustfmt", "cargo-fmt")?;
        let mut cargo = host_cargo("fmt");
        run::step("checking the format", cargo.args(["--all", "--check", "--", "--color", "never"]))
    });
    report.step("clippy", || {
        rustup::component("clippy", "cargo-clippy")?;
        let mut cargo = host_cargo("clippy");
        cargo.args(USER_SPACE).args(["--all-targets", "--", "-D", "warnings"]);
        run::step("clippy for the programs of user space", &mut cargo)
    });
    match toolchain {
        Some(toolchain) if toolchain.has_clippy() => {
            report.step("clippy for the eBPF programs", || ebpf::clippy(toolchain));
        }
        Some(_) => report.skip("clippy for the eBPF programs", "their toolchain has none"),
        None => report.skip("clippy for the eBPF programs", "`cargo xtask build` provides their toolchain"),
    }
    match rustup::target(FOREIGN, "the pure crates must compile without an operating system") {
        Ok(true) => {
            report.step("pure crates", pure);
        }
        Ok(false) => {
            report.skip("pure crates for another system", &format!("there is no rustup to add {FOREIGN}"));
        }
        Err(error) => report.fail("pure crates", &error),
    }
    report.step("documentation", || {
        run::step("documentation", host_cargo("docs").env("RUSTDOCFLAGS", "-D warnings"))
    });
    deny::check(report);
    match units() {
        Ok(tests) => report.tests("unit tests", tests),
        Err(error) => report.fail("unit tests", &error),
    }
    let mut examples = host_cargo("test");
    examples.args(USER_SPACE).arg("--doc");
    report.run_tests("examples in the documentation", examples);
}

/// Compiles the crates that depend on no platform for a target that is none.
fn pure() -> Result<()> {
    let pure = Walls::drawn()?.pure;
    let mut cargo = host_cargo("check");
    cargo.args(["--target", FOREIGN]).args(pure.iter().flat_map(|name| ["--package", name]));
    run::step(&format!("compiling the pure crates for {FOREIGN}"), &mut cargo)
}

fn units() -> Result<Command> {
    let mut tests = host_cargo("test");
    tests.args(USER_SPACE).args(targets::tests(Suites::Units)?).arg("--no-fail-fast");
    Ok(tests)
}
