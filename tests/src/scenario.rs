//! Scenarios as data: what is set up, traced, sent and expected. `scenarios/README.md` shows the format.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::command::Running;
use crate::kernel::{self, Kernels, Series};
use crate::lab::Lab;
use crate::trace::{Finished, Trace};
use crate::{command, conntrack, expect, suite};

/// How long a server may take to be ready.
const READY: Duration = Duration::from_secs(10);

/// How often a scenario is run whose trace says itself that the kernel withheld some of it.
const ATTEMPTS: u32 = 10;

/// Options by which a trace ends by itself. One without them is ended once it has reported what `some` expects: which
/// packets come first, and how many are sent again, depends on how quick the machine is.
const ENDINGS: [&str; 3] = ["--probe", "--count", "--timeout"];

/// One scenario.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a sentence.
    pub about: String,
    /// Programs that have to be installed.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Whether it shows what may differ from kernel to kernel.
    #[serde(default)]
    pub guests: bool,
    /// The rule sets by which the lab may have Services, each a run of its own.
    #[serde(default)]
    pub rules: Vec<Rules>,
    /// How the lab is wired, by the name of `podtrace lab up --network`.
    #[serde(default = "default_network")]
    network: String,
    /// How many connections the kernel tracks at most meanwhile.
    #[serde(default, rename = "conntrack-max")]
    conntrack_max: Option<u32>,
    #[serde(default)]
    setup: Vec<Step>,
    #[serde(default)]
    serve: Vec<Server>,
    trace: String,
    #[serde(default)]
    traffic: Vec<Step>,
    expect: Expected,
}

/// How a lab's rules are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rules {
    /// As kube-proxy writes them for nftables.
    Nft,
    /// As it writes them for iptables.
    Iptables,
}

impl Rules {
    /// As podtrace calls them.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Iptables => "iptables",
        }
    }

    /// The program that loads them.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Iptables => "iptables-restore",
        }
    }
}

/// A command that is run to its end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// A pod, a node, `world` or `fabric`.
    on: String,
    run: String,
    #[serde(default)]
    status: i32,
}

/// A command that goes on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    on: String,
    run: String,
    /// How the line begins by which it says that it is ready.
    ready: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    #[serde(default)]
    status: i32,
    /// All paths, in any order.
    #[serde(default)]
    paths: Vec<ExpectedPath>,
    /// Paths that are among the reported ones, if their number is not determined.
    #[serde(default)]
    some: Vec<ExpectedPath>,
    /// A subset of the summary.
    #[serde(default)]
    summary: Value,
    /// Parts of stderr.
    #[serde(default)]
    stderr: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedPath {
    /// A subset of the path.
    is: Value,
    /// All its hops.
    hops: Vec<String>,
    /// Additional expectations by kernel.
    #[serde(default, rename = "by-kernel")]
    by_kernel: Vec<OnKernels>,
    /// A subset of the path that is also expected if kernel functions can be hooked.
    #[serde(default)]
    hooked: Value,
}

/// Expectations about a path on some kernels.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnKernels {
    kernels: Kernels,
    /// A subset of the path.
    is: Value,
}

/// The directory of the scenarios.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// All scenarios, in the order of their names.
///
/// # Errors
///
/// If one cannot be parsed, or there are none.
pub fn all() -> Result<Vec<(String, Scenario)>> {
    let directory = directory();
    let mut scenarios = Vec::new();
    for entry in directory.read_dir().with_context(|| format!("reading {}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            scenarios.push((name, load(&path)?));
        }
    }
    ensure!(!scenarios.is_empty(), "there are no scenarios in {}", directory.display());
    scenarios.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(scenarios)
}

fn load(path: &Path) -> Result<Scenario> {
    let about = || format!("reading {}", path.display());
    let text = std::fs::read_to_string(path).with_context(about)?;
    Scenario::parse(&text).with_context(about)
}

fn default_network() -> String {
    "flannel-vxlan".to_owned()
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    ///
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self> {
        let scenario: Self = serde_saphyr::from_str(text)?;
        let Expected { paths, some, .. } = &scenario.expect;
        ensure!(some.is_empty() || paths.is_empty(), "give either all paths or some");
        for path in paths.iter().chain(some).filter(|path| !path.by_kernel.is_empty()) {
            let ranges: Vec<Kernels> = path.by_kernel.iter().map(|expected| expected.kernels).collect();
            kernel::check_ranges(&ranges)?;
        }
        Ok(scenario)
    }

    /// Runs it in a lab of its own, which has these rules. `traffic` is the helper that scenarios call by this name; what is traced is
    /// written to `file`. A trace that says that it missed or lost events shows nothing of what is expected: on a slow or
    /// busy machine an interrupt may find an eBPF program already running. It is run again, with a note.
    ///
    /// # Errors
    ///
    /// If anything is not as expected.
    pub fn run(&self, name: &str, rules: Option<Rules>, traffic: &str, file: &Path) -> Result<Finished> {
        let mut attempt = 1;
        loop {
            let finished = self.trace(name, rules, traffic, file)?;
            let Err(what) = self.expect.check(&finished, Series::running()?) else { return Ok(finished) };
            let withheld = finished.withheld();
            if withheld == 0 || attempt == ATTEMPTS {
                bail!("{what}\nits output:\n{}{}", finished.stdout, finished.stderr);
            }
            suite::note_at_the_end(format!(
                "{name} was run again, for its trace lacked {withheld} events that the kernel withheld"
            ));
            attempt += 1;
        }
    }

    /// Runs the trace and the traffic.
    fn trace(&self, name: &str, rules: Option<Rules>, traffic: &str, file: &Path) -> Result<Finished> {
        let lab = Lab::on(name, &self.network, rules.map_or("none", Rules::name))?;
        // The kernel may track connections only now that the lab has rules.
        let _limit = self.conntrack_max.map(conntrack::Limit::set).transpose()?;
        for step in &self.setup {
            step.run(&lab, traffic)?;
        }
        let mut servers: Vec<Running> = Vec::new();
        for server in &self.serve {
            let mut running = lab.spawn(&server.on, words(&server.run, traffic))?;
            running.wait_for_line(&server.ready, READY)?;
            servers.push(running);
        }
        let arguments: Vec<_> = words(&self.trace, traffic).into_iter().map(kernel::in_its_time).collect();
        let arguments = arguments.iter().map(AsRef::as_ref);
        let mut trace = Trace::start(&lab, arguments.chain(["--write".as_ref(), file.as_os_str()]))?;
        if !self.traffic.is_empty() {
            trace.wait_until_ready()?;
        }
        for step in &self.traffic {
            step.run(&lab, traffic)?;
        }
        if self.ends_by_itself() {
            return trace.finish();
        }
        let some = &self.expect.some;
        ensure!(!some.is_empty(), "its trace has none of {ENDINGS:?}, so `some` must say when it may end");
        let kernel = Series::running()?;
        trace.interrupt_once(|finished| {
            some.iter().all(|expected| finished.iter().any(|actual| expected.check(actual, kernel).is_ok()))
        })
    }

    fn ends_by_itself(&self) -> bool {
        self.trace.split_whitespace().any(|word| ENDINGS.contains(&word))
    }
}

impl Step {
    fn run(&self, lab: &Lab, traffic: &str) -> Result<()> {
        let output = command::run(&mut lab.command(&self.on, words(&self.run, traffic)), command::SHORT)?;
        if output.code() != self.status {
            bail!(
                "`{}` on {} ended with {}:\n{}{}",
                self.run,
                self.on,
                output.code(),
                output.stdout,
                output.stderr
            );
        }
        Ok(())
    }
}

impl Expected {
    /// Every reported path is one of the expected ones, in any order: paths of two nodes are ordered by clocks with an
    /// error.
    fn check_paths(&self, finished: &[Value], kernel: Series) -> Result<(), String> {
        let mut left: Vec<&Value> = finished.iter().collect();
        for (expected, number) in self.paths.iter().zip(0..) {
            let fitting = left.iter().position(|actual| expected.check(actual, kernel).is_ok());
            let Some(at) = fitting else {
                let what = expected.check(&finished[number], kernel).err().unwrap_or_default();
                return Err(format!(
                    "no reported path is the expected one number {}; compared with the reported one of that number: {what}",
                    number + 1
                ));
            };
            left.remove(at);
        }
        Ok(())
    }

    fn check(&self, finished: &Finished, kernel: Series) -> Result<(), String> {
        if finished.code != self.status {
            return Err(format!("status {} was expected, it ended with {}", self.status, finished.code));
        }
        if let Some(part) = self.stderr.iter().find(|part| !finished.stderr.contains(*part)) {
            return Err(format!("stderr was expected to hold `{part}`"));
        }
        for (expected, number) in self.some.iter().zip(1..) {
            let off: Result<Vec<String>, ()> =
                finished.lines.iter().map(|actual| expected.check(actual, kernel).err().ok_or(())).collect();
            // One that fits ends it; else the one that fits best tells what is amiss.
            let Ok(off) = off else { continue };
            let nearest = off.iter().min_by_key(|what| what.lines().count());
            return Err(format!(
                "no reported path is number {number} of some; compared with the nearest: {}",
                nearest.map_or("there is none", String::as_str)
            ));
        }
        if self.some.is_empty() && finished.lines.len() != self.paths.len() {
            return Err(format!(
                "{} paths were expected, {} were reported",
                self.paths.len(),
                finished.lines.len()
            ));
        }
        self.check_paths(&finished.lines, kernel)?;
        if !self.summary.is_null() {
            let summary = serde_json::to_value(&finished.summary).map_err(|error| error.to_string())?;
            expect::subset(&self.summary, &summary).map_err(|what| format!("summary: {what}"))?;
        }
        Ok(())
    }
}

impl ExpectedPath {
    fn check(&self, actual: &Value, kernel: Series) -> Result<(), String> {
        let hops = actual["hops"].as_array().map(Vec::as_slice).unwrap_or_default();
        expect::subset(&self.is, actual)?;
        for expected in self.by_kernel.iter().filter(|expected| expected.kernels.include(kernel)) {
            expect::subset(&expected.is, actual)
                .map_err(|what| format!("on kernels {}: {what}", expected.kernels))?;
        }
        if !self.hooked.is_null() && kernel::has_kprobes() {
            expect::subset(&self.hooked, actual)
                .map_err(|what| format!("where the stack is hooked: {what}"))?;
        }
        expect::hops(&self.hops, hops)
    }
}

/// The words of a command; the helper is called `traffic`.
fn words<'a>(line: &'a str, traffic: &'a str) -> Vec<&'a str> {
    line.split_whitespace().map(|word| if word == "traffic" { traffic } else { word }).collect()
}
