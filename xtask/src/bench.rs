//! `cargo xtask bench`: what podtrace costs. Two parts: `traffic`, what tracing costs the traffic that is traced, and
//! `reading`, what reading a large recording takes.
//!
//! Numbers of one machine mean little on another: what is compared are ratios. What a part measured stands in a table on
//! stdout, and of `traffic` also in a file, as JSON.

mod beside;
mod condition;
mod kernel;
mod lab;
mod load;
mod reading;
mod statistics;
mod table;
mod traffic;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::build::{self, What};
use crate::toolchain::Route;
use crate::{run, workspace};

#[derive(Args)]
pub(crate) struct Options {
    /// Only this part [default: both]
    #[arg(value_enum)]
    part: Option<Part>,
    /// A tenth of the million events, and one short round of traffic
    #[arg(long)]
    quick: bool,
    /// Rounds of traffic [default: 5, or 1 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Seconds that each load runs [default: 2, or 1 with --quick]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// Only loads and conditions whose names contain one of these; untraced traffic is always measured
    #[arg(long, value_name = "WORD", value_delimiter = ',', allow_hyphen_values = true)]
    only: Vec<String>,
    /// Measure this podtrace instead of building one
    #[arg(long, value_name = "FILE")]
    podtrace: Option<PathBuf>,
    /// Where the figures of traffic are kept, as JSON [default: target/bench.json]
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What tracing costs the traffic, on real packets in the lab (root)
    Traffic,
    /// What reading a recording of a million events takes
    Reading,
}

impl Options {
    fn has(&self, part: Part) -> bool {
        self.part.is_none_or(|only| only == part)
    }
}

pub(crate) fn run(options: &Options, route: Option<Route>) -> Result<ExitCode> {
    let podtrace = match &options.podtrace {
        Some(given) => given.canonicalize().with_context(|| format!("looking for {}", given.display()))?,
        None => build::provide(What::Release, route)?.1,
    };
    if options.has(Part::Traffic) {
        traffic::run(options, &podtrace)?;
    }
    if options.has(Part::Reading) {
        reading::run(options.quick, &podtrace, &helper(Profile::Release)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How the helper is compiled: what it does for `traffic` is to wait for the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Profile {
    Debug,
    Release,
}

/// The program that makes recordings, exchanges datagrams, and asks the kernel about eBPF programs.
fn helper(profile: Profile) -> Result<PathBuf> {
    let mut cargo = build::host_cargo("build");
    let directory = match profile {
        Profile::Debug => {
            cargo.args(build::USER_SPACE).args(["--bin", "bench"]);
            "debug"
        }
        Profile::Release => {
            cargo.args(["--release", "--package", "podtrace-tests", "--bin", "bench"]);
            "release"
        }
    };
    run::step("compiling what measures", &mut cargo)?;
    Ok(workspace::target_dir().join(Path::new(directory)).join("bench"))
}
