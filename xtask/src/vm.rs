//! `cargo xtask vm`: boots Debian's kernels under QEMU and runs podtrace and its tests inside.
//!
//! A guest has no distribution: busybox, the kernel's modules, and static programs in a first file system that lives
//! in memory. `packages` finds a kernel, `kernel` prepares it, `payload` compiles what it is given, `tools` are
//! programs of this machine, `guest` boots it, `script` says what it runs, `facts` judges.

mod bzimage;
mod cpio;
mod facts;
mod guest;
mod host;
mod kernel;
mod modules;
mod packages;
mod payload;
mod private_apt;
mod qemu;
mod script;
mod series;
mod tools;
mod unzip;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use self::facts::{Row, table};
use self::guest::Guest;
use self::host::Host;
use self::kernel::Kernel;
use self::payload::Payload;
use self::private_apt::PrivateApt;
use self::series::Series;
use crate::toolchain::{Route, Toolchain};
use crate::{run, workspace};

/// What to boot, and what to run there.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Kernel series to boot
    #[arg(long = "kernel", value_name = "SERIES", value_delimiter = ',', default_value = series::DEFAULT)]
    kernels: Vec<Series>,
    /// Test suites to run
    #[arg(long = "suite", value_delimiter = ',', value_parser = payload::SUITES, default_values = payload::SUITES)]
    suites: Vec<String>,
    /// Run this in the guest's shell instead of the tests, and show what it says
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["arguments", "suites"])]
    run: Option<String>,
    /// Look for newer kernels than those in the cache
    #[arg(long)]
    update: bool,
    /// Seconds that a guest may take
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    within: u64,
    /// Arguments for the tests, such as a part of their names
    #[arg(last = true, value_name = "TEST ARGUMENTS")]
    arguments: Vec<String>,
}

pub(crate) fn run(options: &Options, route: Option<Route>) -> Result<ExitCode> {
    ensure!(cfg!(target_arch = "x86_64"), "the guests' kernels are for x86-64, which this machine is not");
    let suites = if options.run.is_none() { &options.suites[..] } else { &[] };
    let payload = Payload::build(&Toolchain::provide(route)?, suites)?;
    let cache = workspace::cache_dir()?.join("vm");
    let busybox = tools(&cache)?;
    let kernels = provide(&options.kernels, &cache, options.update);

    let mut rows = Vec::new();
    for (series, kernel) in options.kernels.iter().zip(kernels) {
        let guest = |kernel| Guest {
            kernel,
            busybox: &busybox,
            payload: &payload.archive,
            within: Duration::from_secs(options.within),
            logs: workspace::target_dir().join("vm").join(series.to_string()),
        };
        let row = match (&kernel, &options.run) {
            (Err(error), _) => {
                eprintln!("error: kernel {series} cannot be had: {error:#}");
                Row::failed(series.to_string(), "cannot be had".to_owned())
            }
            (Ok(kernel), Some(command)) => show(&guest(kernel), command),
            (Ok(kernel), None) => test(&guest(kernel), &payload, &options.arguments),
        };
        println!("{}", row.line());
        rows.push(row);
    }
    if options.run.is_none() {
        print!("\n{}", table(&rows));
    }
    let passed = rows.iter().all(Row::passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Provides QEMU and busybox; returns where the latter is.
fn tools(cache: &Path) -> Result<PathBuf> {
    let busybox = cache.join("busybox");
    if !qemu::is_here() || !busybox.is_file() {
        let host = Host::open(cache.join("apt-host"))?;
        if !qemu::is_here() {
            qemu::install(&host)?;
        }
        if !busybox.is_file() {
            host.busybox(&busybox)?;
        }
    }
    Ok(busybox)
}

/// The kernels of these series, from the cache or from Debian; one that cannot be had does not keep the others.
fn provide(wanted: &[Series], cache: &Path, update: bool) -> Vec<Result<Kernel>> {
    let directory = cache.join("kernels");
    let mut apt = None;
    let provide = |series: &Series| {
        if !update && let Some(kernel) = Kernel::cached(&directory, *series) {
            return Ok(kernel);
        }
        let apt = match &mut apt {
            Some(apt) => apt,
            None => apt.insert(lists(cache)?),
        };
        Kernel::fetch(&directory, *series, apt)
    };
    wanted.iter().map(provide).collect()
}

/// An apt that knows Debian's kernels.
fn lists(cache: &Path) -> Result<PrivateApt> {
    let apt = PrivateApt::open(cache.join("apt-kernels"), packages::SUITES)?;
    if let Err(error) = apt.update("Debian's kernels") {
        // Some suites may have been reached: a kernel that is in none is told as such.
        eprintln!("warning: {error:#}");
    }
    Ok(apt)
}

/// Runs the tests in a guest.
fn test(guest: &Guest<'_>, payload: &Payload, arguments: &[String]) -> Row {
    let version = guest.kernel.upstream().to_owned();
    let script = script::tests(&payload.suites, arguments);
    let started = Instant::now();
    let ended = run::watched(&format!("testing on kernel {version}"), |progress| {
        guest.run(&script, |line| progress.tell(line))
    });
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            eprintln!("error: kernel {version}: {error:#}");
            return Row {
                took: Some(started.elapsed()),
                ..Row::failed(version, "the guest failed".to_owned())
            };
        }
    };
    let row = Row::of(version, &script::sections(&ended.lines), payload.suites.len(), ended.took);
    if !row.passed() {
        for line in &ended.lines {
            eprintln!("    {line}");
        }
        eprintln!("error: kernel {}: {}", row.kernel, guest.where_to_look());
    }
    row
}

/// Runs a command in a guest and shows what it says.
fn show(guest: &Guest<'_>, command: &str) -> Row {
    let version = guest.kernel.upstream().to_owned();
    println!("kernel {version}:");
    match guest.run(command, |line| println!("{line}")) {
        Ok(ended) => {
            let problem = (ended.status != 0).then(|| format!("the command ended with {}", ended.status));
            Row { took: Some(ended.took), problem, ..Row::failed(version, String::new()) }
        }
        Err(error) => {
            eprintln!("error: kernel {version}: {error:#}");
            Row::failed(version, "the guest failed".to_owned())
        }
    }
}
