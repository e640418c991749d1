//! What reading a large recording takes, in time and in memory, by what is made of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{run, workspace};

/// The recording whose packets are repeated.
const TEMPLATE: &str = "tests/recordings/cross-node-ping.pcapng";

/// What a recording is read to: a name, and the arguments of `podtrace read`. `OUT` is a file.
const READS: [(&str, &[&str]); 5] = [
    ("json", &["-o", "json"]),
    ("text", &["-o", "text"]),
    ("json, filtered", &["-o", "json", "--filter", "icmp and src net 10.42.0.0/24 or udp port 53"]),
    ("pcapng", &["-o", "json", "--write", "OUT"]),
    ("html", &["-o", "json", "--html", "OUT"]),
];

/// Measures with a tenth of the events if `quick`. `helper` makes recordings and measures commands.
pub(super) fn run(quick: bool, podtrace: &Path, helper: &Path) -> Result<()> {
    let directory = workspace::root().join("target/bench");
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let events: u64 = if quick { 100_000 } else { 1_000_000 };
    let outcome = measure(podtrace, helper, &directory, events);
    // Hundreds of megabytes, which nobody needs any more.
    fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()))?;
    outcome
}

fn measure(podtrace: &Path, helper: &Path, directory: &Path, events: u64) -> Result<()> {
    let (large, small) = (directory.join("large.pcapng"), directory.join("small.pcapng"));
    for (file, events) in [(&small, events / 10), (&large, events)] {
        let mut generate = Command::new(helper);
        generate.arg("generate").arg(workspace::root().join(TEMPLATE)).arg(file).arg(events.to_string());
        run::step(&format!("making a recording of {events} events"), &mut generate)?;
    }
    let size = fs::metadata(&large).context("looking at the recording")?.len();
    println!("{events} events, {} MB, {} bytes an event", size / 1_000_000, size / events);
    println!(
        "{:16} {:>8} {:>12} {:>9} {:>10} {:>24}",
        "read to", "time", "events/s", "of json's", "memory", "of a tenth of the events"
    );
    let knows_html =
        run::ask(Command::new(podtrace).args(["read", "--help"])).is_some_and(|help| help.contains("--html"));
    let mut json = None;
    for (name, arguments) in READS {
        if name == "html" && !knows_html {
            println!("{name:16} not written by this podtrace");
            continue;
        }
        let read = |file: &Path| Cost::of(podtrace, helper, file, &directory.join("out"), arguments);
        let tenth = read(&small)?;
        let whole = read(&large)?;
        let of = *json.get_or_insert(whole.milliseconds);
        println!(
            "{name:16} {:>6.1} s {:>12} {:>9.2} {:>7} MB {:>24.2}",
            whole.milliseconds / 1e3,
            (1e3 * events as f64 / whole.milliseconds).round(),
            whole.milliseconds / of,
            whole.kib / 1024,
            whole.kib as f64 / tenth.kib as f64
        );
    }
    Ok(())
}

/// What a command took.
#[derive(Clone, Copy)]
struct Cost {
    milliseconds: f64,
    /// The most memory at once.
    kib: u64,
}

impl Cost {
    fn of(podtrace: &Path, helper: &Path, file: &Path, out: &Path, arguments: &[&str]) -> Result<Self> {
        let mut measured = Command::new(helper);
        measured.arg("measure").arg(podtrace).args(["read", "-q"]).arg(file);
        for argument in arguments {
            if *argument == "OUT" {
                measured.arg(out)
            } else {
                measured.arg(argument)
            };
        }
        let output = measured.output().with_context(|| format!("running {}", helper.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "reading {} failed: {said}", file.display());
        let numbers = String::from_utf8_lossy(&output.stdout);
        let parsed = numbers.trim().split_once(' ').and_then(|(time, memory)| {
            Some(Self { milliseconds: time.parse().ok()?, kib: memory.parse().ok()? })
        });
        parsed.with_context(|| format!("the measurement says {numbers:?}"))
    }
}
