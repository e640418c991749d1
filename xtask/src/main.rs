//! `cargo xtask`: builds, demonstrates and tests podtrace, and provides what that needs.
//!
//! One file per subcommand; the rooms they share are `toolchain` (what compiles the kernel programs), `ebpf`
//! (compiling them), `run` (a command with progress), `apt`, `root` and `workspace`.

mod apt;
mod build;
mod clean_caches;
mod demo;
mod ebpf;
mod root;
mod run;
mod tally;
mod test;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::toolchain::Route;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build the release binary with its kernel programs
    Build(Toolchain),
    /// Build, then show the way of a ping within a node and of one across two (root)
    Demo(Toolchain),
    /// Build, then check the code and run every test, on real packets too (root)
    Test(Toolchain),
    /// Remove the tools that these commands put into podtrace's cache
    CleanCaches,
}

#[derive(Args)]
struct Toolchain {
    /// What compiles the kernel programs; chosen by what the machine has unless given
    #[arg(long = "toolchain", value_name = "ROUTE", env = "PODTRACE_BPF_TOOLCHAIN", value_enum)]
    route: Option<Route>,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Build(Toolchain { route }) => build::run(route),
        Command::Demo(Toolchain { route }) => demo::run(route),
        Command::Test(Toolchain { route }) => test::run(route),
        Command::CleanCaches => clean_caches::run(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
