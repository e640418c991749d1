//! `cargo xtask`: builds, demonstrates and tests podtrace, and provides what that needs.
//!
//! One file per subcommand; the rooms they share are `toolchain` (what compiles the eBPF programs), `ebpf`
//! (compiling them), `walls` (what crates may depend on),
//! `rooms` (that their modules do not depend on each other in a circle), `targets` (which tests there are), `report` and `tally` (what
//! they came to), `architecture` (what processors are called), `remap` (paths that programs do not mention), `archive`
//! (archives that come out the same every time), `cargo_tool` (programs from crates.io), `musl` (programs without shared libraries), `tools` (programs with theirs), `run` (a command with
//! progress), `apt`, `debian` and `rustup` (what is installed, and packages that are not), `root`
//! and `workspace`.

mod apt;
mod architecture;
mod archive;
mod bench;
mod book;
mod build;
mod cargo_tool;
mod check;
mod clean_caches;
mod debian;
mod demo;
mod deny;
mod dist;
mod ebpf;
mod faults;
mod k8s;
mod musl;
mod networks;
mod remap;
mod report;
#[cfg(test)]
mod rooms;
mod root;
mod run;
mod rustup;
mod tally;
mod targets;
mod test;
mod toolchain;
mod tools;
mod vm;
mod wait;
mod walls;
mod workspace;

use std::env;
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::{Args, Parser, Subcommand, ValueEnum as _};

use crate::toolchain::Route;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the release binary with its eBPF programs
    Build(Toolchain),
    /// Build, then show the way of a ping within a node and of one across two (root)
    Demo(Toolchain),
    /// Check format, lints, unit tests, documentation, licences and the walls between crates
    Check(Toolchain),
    /// Build, then check the code and run every test, on real packets too (root)
    Test(Toolchain),
    /// Boot Debian's kernels under QEMU and run podtrace and its scenario tests inside
    Vm {
        #[command(flatten)]
        toolchain: Toolchain,
        #[command(flatten)]
        options: vm::Options,
    },
    /// A real Kubernetes of two nodes on this machine, and podtrace's tests on it
    K8s {
        #[command(flatten)]
        toolchain: Toolchain,
        #[command(subcommand)]
        action: k8s::Action,
    },
    /// Measure what tracing costs the traffic (root), and what reading a recording of a million events takes
    Bench {
        #[command(flatten)]
        toolchain: Toolchain,
        #[command(flatten)]
        options: bench::Options,
    },
    /// Break labs in every known way, and print how true podtrace is about them (root)
    Faults {
        #[command(flatten)]
        toolchain: Toolchain,
        #[command(flatten)]
        options: faults::Options,
    },
    /// Run scenarios on every pod network that the lab can have (root)
    Networks {
        #[command(flatten)]
        toolchain: Toolchain,
        #[command(flatten)]
        options: networks::Options,
    },
    /// Make what a release consists of: static binaries, packages, checksums, a bill of materials
    Dist {
        #[command(flatten)]
        toolchain: Toolchain,
        #[command(flatten)]
        options: dist::Options,
    },
    /// Make one book of the documentation
    Book,
    /// Remove the tools that these commands put into podtrace's cache
    CleanCaches,
}

#[derive(Args)]
struct Toolchain {
    /// What compiles the eBPF programs [default: $PODTRACE_BPF_TOOLCHAIN, else by what the machine has]
    #[arg(long = "toolchain", value_name = "ROUTE", value_enum)]
    route: Option<Route>,
}

impl Toolchain {
    /// The route that the flag or the variable forces.
    fn route(self) -> Result<Option<Route>> {
        // clap's own reading of variables would have clap compiled twice: podtrace takes it without that feature.
        match (self.route, env::var("PODTRACE_BPF_TOOLCHAIN")) {
            (None, Ok(name)) if !name.is_empty() => Route::from_str(&name, false).map(Some).map_err(|_| {
                anyhow!("PODTRACE_BPF_TOOLCHAIN is `{}`: use `rustup` or `debian`", name.escape_debug())
            }),
            (route, _) => Ok(route),
        }
    }
}

fn main() -> ExitCode {
    dispatch(Cli::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Build(toolchain) => build::run(toolchain.route()?),
        Command::Demo(toolchain) => demo::run(toolchain.route()?),
        Command::Check(toolchain) => check::run(toolchain.route()?),
        Command::Test(toolchain) => test::run(toolchain.route()?),
        Command::Vm { toolchain, options } => vm::run(&options, toolchain.route()?),
        Command::K8s { toolchain, action } => k8s::run(action, toolchain.route()?),
        Command::Bench { toolchain, options } => bench::run(&options, toolchain.route()?),
        Command::Faults { toolchain, options } => faults::run(&options, toolchain.route()?),
        Command::Networks { toolchain, options } => networks::run(&options, toolchain.route()?),
        Command::Dist { toolchain, options } => dist::run(&options, toolchain.route()?),
        Command::Book => book::run(),
        Command::CleanCaches => clean_caches::run(),
    }
}
