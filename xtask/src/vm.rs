//! `cargo xtask vm`: boots Debian's kernels under QEMU and runs podtrace and its tests inside.
//!
//! A guest has no distribution: busybox, the kernel's modules, and static programs in a first file system that lives
//! in memory. `packages` finds a kernel, `kernel` prepares it, `payload` compiles what it is given, `tools` are
//! programs of this machine, `guest` boots it, `fleet` several at a time, `pair` two that are wired to each other;
//! `script` says what they run, `row` judges, `tables` and `docs` show. `faults` runs the fault suite there.

mod bzimage;
mod cpio;
mod docs;
pub(crate) mod faults;
mod fleet;
mod guest;
mod hooks;
mod kernel;
mod modules;
mod packages;
mod pair;
mod payload;
mod qemu;
mod row;
mod script;
pub(crate) mod series;
mod tables;
mod unzip;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};

use self::fleet::Fleet;
use self::guest::Guest;
use self::kernel::Kernel;
use self::pair::Pair;
use self::payload::Payload;
use self::row::Row;
use self::script::{Choice, Share};
use self::series::Series;
use crate::debian::{Host, PrivateApt};
use crate::run::Beside;
use crate::tally::Tally;
use crate::toolchain::{Route, Toolchain};
use crate::{musl, workspace};

/// Seconds that a guest may take.
const WITHIN: u64 = 1800;

/// What to boot, and what to run there.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Kernel series to boot
    #[arg(long = "kernel", value_name = "SERIES", value_delimiter = ',', default_value = series::DEFAULT)]
    kernels: Vec<Series>,
    /// Test suites to run
    #[arg(long = "suite", value_delimiter = ',', value_parser = payload::SUITES, default_values = payload::SUITES)]
    suites: Vec<String>,
    /// Boot only two kernels, wired to each other, and trace between them
    #[arg(long, value_name = "SERIES,SERIES", value_delimiter = ',', conflicts_with_all = ["kernels", "suites", "arguments"])]
    pair: Vec<Series>,
    /// Run only the scenarios that `cargo xtask test` runs in guests, with all rule sets
    #[arg(long)]
    compact: bool,
    /// Keep the tables that this comes to in docs/kernels.md
    #[arg(long)]
    docs: bool,
    /// Run this in the guest's shell instead of the tests, and show what it says
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["arguments", "suites", "compact", "docs", "pair"])]
    run: Option<String>,
    /// Look for newer kernels than those in the cache
    #[arg(long)]
    update: bool,
    /// Seconds that a guest may take
    #[arg(long, value_name = "SECONDS", default_value_t = WITHIN)]
    within: u64,
    /// Arguments for the tests, such as a part of their names
    #[arg(last = true, value_name = "TEST ARGUMENTS")]
    arguments: Vec<String>,
}

pub(crate) fn run(options: &Options, route: Option<Route>) -> Result<ExitCode> {
    let Options { kernels: wanted, suites, pair, compact, docs, run, update, within, arguments } = options;
    ensure!(matches!(pair.len(), 0 | 2), "a pair is two kernels, such as 6.1,7.3");
    let ready = prepare(if pair.is_empty() { wanted } else { pair }, *update)?;
    let toolchain = Toolchain::provide(route)?;
    let mut rows: Vec<Row> = Vec::new();
    for (series, problem) in &ready.absent {
        let row = Row::failed(series.to_string(), problem.clone());
        println!("{}", row.line());
        rows.push(row);
    }
    if let Some(command) = run {
        rows.extend(ready.show(&toolchain, command, *within)?);
    } else if let &[one, other] = &pair[..] {
        let run =
            Run { suites: &[], choice: Choice::All, arguments, pair: Some([one, other]), within: *within };
        rows.extend(ready.test(&toolchain, &run)?.1);
    } else {
        let (suites, choice) = match compact {
            true => (&payload::COMPACT.map(str::to_owned)[..], Choice::Guests),
            false => (&suites[..], Choice::All),
        };
        // Whoever asks for some tests or kernels asks for no pair.
        let pair = Some(series::PAIR).filter(|_| arguments.is_empty());
        let run = Run { suites, choice, arguments, pair, within: *within };
        let (tables, tested) = ready.test(&toolchain, &run)?;
        print!("\n{tables}");
        if *docs {
            docs::write(&tables)?;
            eprintln!("the tables are in {}", docs::path().display());
        }
        rows.extend(tested);
    }
    let passed = rows.iter().all(Row::passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What guests run.
struct Run<'a> {
    suites: &'a [String],
    choice: Choice,
    arguments: &'a [String],
    /// Two kernels to be wired to each other, if both are there.
    pair: Option<[Series; 2]>,
    /// Seconds that a guest may take.
    within: u64,
}

/// What guests need of the machine.
pub(crate) struct Ready {
    busybox: PathBuf,
    kernels: Vec<(Series, Kernel)>,
    /// Kernels that cannot be had, and why.
    pub(crate) absent: Vec<(Series, String)>,
}

/// Provides QEMU, busybox and kernels. An error means that there can be no guests here.
fn prepare(wanted: &[Series], update: bool) -> Result<Ready> {
    ensure!(cfg!(target_arch = "x86_64"), "the guests' kernels are for x86-64, which this machine is not");
    let cache = workspace::cache_dir()?.join("vm");
    let busybox = tools(&cache)?;
    let Provided { kernels, absent } = provide(wanted, &cache, update);
    Ok(Ready { busybox, kernels, absent })
}

/// Provides what [`compact`] needs.
pub(crate) fn prepare_compact() -> Result<Ready> {
    prepare(&series::COMPACT, false)
}

/// Begins to compile what [`compact`] runs in guests.
pub(crate) fn begin_compiling(toolchain: &Toolchain) -> Result<Beside<'static>> {
    let suites = payload::COMPACT.into_iter().chain([pair::SUITE]).map(str::to_owned);
    musl::begin(toolchain, &suites.collect::<Vec<_>>())
}

/// What came of guests.
#[derive(Default)]
pub(crate) struct Tested {
    pub(crate) tally: Tally,
    /// What failed without having counted a failed test.
    pub(crate) problems: Vec<String>,
}

/// Runs what may differ from kernel to kernel on the kernels between which something changed for us.
pub(crate) fn compact(toolchain: &Toolchain, ready: &Ready) -> Result<Tested> {
    let suites = &payload::COMPACT.map(str::to_owned);
    let pair = Some(series::PAIR);
    let run = Run { suites, choice: Choice::Alternating, arguments: &[], pair, within: WITHIN };
    let mut tested = Tested::default();
    if ready.kernels.is_empty() {
        return Ok(tested);
    }
    let (tables, rows) = ready.test(toolchain, &run)?;
    println!("\n{tables}");
    for row in rows {
        tested.tally += row.tally;
        tested.problems.extend(row.problem.map(|problem| format!("kernel {}: {problem}", row.kernel)));
    }
    Ok(tested)
}

impl Ready {
    /// Tests on every kernel, then between two; the tables, and what came of each.
    fn test(&self, toolchain: &Toolchain, run: &Run<'_>) -> Result<(String, Vec<Row>)> {
        let pair =
            run.pair.map(|pair| pair.map(|wanted| self.kernels.iter().find(|(series, _)| *series == wanted)));
        let pair = match pair {
            Some([Some(one), Some(other)]) => Some([one, other]),
            _ => None,
        };
        let mut programs = run.suites.to_vec();
        programs.extend(pair.map(|_| pair::SUITE.to_owned()));
        let payload = Payload::build(toolchain, &programs)?;
        let fleet =
            Fleet { busybox: &self.busybox, payload: &payload, within: Duration::from_secs(run.within) };
        let mut rows = Vec::new();
        if !run.suites.is_empty() {
            let share = |number| Share::of(run.choice, number, self.kernels.len());
            let script = |number| script::tests(&payload, run.choice, share(number), run.arguments);
            rows = fleet.run(&self.kernels, script, |kernel, ended| {
                let sections = script::sections(&ended.lines);
                let mut row = Row::of(kernel, &sections, payload.suites.len(), ended.took);
                if !row.passed() {
                    // The runner reports at its end what the failed tests said.
                    let failures = ended.lines.iter().position(|line| line == "failures:").unwrap_or(0);
                    row.details.extend(ended.lines[failures..].iter().map(|line| format!("    {line}")));
                }
                row
            })?;
        }
        let tables = tables::tables(&rows);
        if let Some(kernels) = pair {
            let row = Pair { fleet: &fleet, kernels }.test();
            println!("{}", row.line());
            rows.push(row);
        }
        for line in rows.iter().flat_map(|row| &row.details) {
            eprintln!("{line}");
        }
        Ok((tables, rows))
    }

    /// Runs a command in every guest and shows what it says.
    fn show(&self, toolchain: &Toolchain, command: &str, within: u64) -> Result<Vec<Row>> {
        let payload = Payload::build(toolchain, &[])?;
        let fleet = Fleet { busybox: &self.busybox, payload: &payload, within: Duration::from_secs(within) };
        let show = |(series, kernel): &(Series, Kernel)| {
            let row = show(&fleet.guest(*series, kernel), command);
            println!("{}", row.line());
            row
        };
        Ok(self.kernels.iter().map(show).collect())
    }
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

/// Kernels that can be had, and those that cannot, and why.
struct Provided {
    kernels: Vec<(Series, Kernel)>,
    absent: Vec<(Series, String)>,
}

/// The kernels of these series, from the cache or from Debian, and those that cannot be had.
fn provide(wanted: &[Series], cache: &Path, update: bool) -> Provided {
    let directory = cache.join("kernels");
    let mut apt = None;
    let mut provide = |series: Series| {
        if !update && let Some(kernel) = Kernel::cached(&directory, series) {
            return Ok(kernel);
        }
        let apt = match &mut apt {
            Some(apt) => apt,
            None => apt.insert(lists(cache)?),
        };
        Kernel::fetch(&directory, series, apt)
    };
    let (mut kernels, mut absent) = (Vec::new(), Vec::new());
    for series in wanted {
        match provide(*series) {
            Ok(kernel) => kernels.push((*series, kernel)),
            Err(error) => absent.push((*series, format!("cannot be had: {error:#}"))),
        }
    }
    Provided { kernels, absent }
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

/// Runs a command in a guest and shows what it says.
fn show(guest: &Guest<'_>, command: &str) -> Row {
    let version = guest.kernel.upstream().to_owned();
    println!("kernel {version}:");
    match guest.run(command, |line| println!("{line}")) {
        Ok(ended) => {
            let problem = (ended.status != 0).then(|| format!("the command ended with {}", ended.status));
            Row { kernel: version, took: Some(ended.took), problem, ..Row::default() }
        }
        Err(error) => {
            eprintln!("error: kernel {version}: {error:#}");
            Row::failed(version, "the guest failed".to_owned())
        }
    }
}
