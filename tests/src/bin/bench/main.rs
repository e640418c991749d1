//! What `cargo xtask bench` runs: makes a recording of any size, measures a command, exchanges datagrams, and reads what the
//! kernel knows of podtrace's programs.

mod exchange;
mod generate;
mod kernel;

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["generate", template, file, events] => {
            let events = events.parse().context("the number of events")?;
            generate::recording(Path::new(template), Path::new(file), events)
        }
        ["measure", program, arguments @ ..] => measure(program, arguments),
        ["answer", address] => exchange::answer(address),
        ["ask", address, seconds] => {
            exchange::ask(address, seconds.parse().context("the number of seconds")?)
        }
        ["kernel", pids @ ..] => kernel::print(pids),
        _ => bail!(
            "generate TEMPLATE FILE EVENTS, measure PROGRAM [ARGUMENT…], answer ADDRESS, ask ADDRESS SECONDS, or kernel [PID…]"
        ),
    }
}

/// Runs a command, and tells its time and the most memory that it had at once. What it says is not kept.
fn measure(program: &str, arguments: &[&str]) -> Result<()> {
    let nowhere = File::options().write(true).open("/dev/null").context("opening /dev/null")?;
    let begun = Instant::now();
    let mut command = Command::new(program);
    let status = command.args(arguments).stdin(Stdio::null()).stdout(nowhere).status();
    let status = status.with_context(|| format!("running {program}"))?;
    let took = begun.elapsed();
    ensure!(status.success(), "{command:?} ended with {status}");
    // It is the only child that this process ever had.
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("asking what it used")?;
    println!("{} {}", took.as_millis(), usage.max_rss());
    Ok(())
}
