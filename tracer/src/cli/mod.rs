//! The command line: what was typed, what it means, and the exit status.

mod args;
mod demo;
mod expect;
mod lab;
mod meaning;
mod notes;
mod output;
mod read;
mod source;
mod status;
mod topology;
mod trace;
mod write;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, Parser as _};

pub use args::Cli;
use args::Command;

/// Traced, or done otherwise.
const DONE: u8 = 0;
/// Could not run.
const FAILED: u8 = 1;
/// Wrong usage.
const USAGE: u8 = 2;
/// An expectation failed.
const NOT_AS_EXPECTED: u8 = 3;
/// No matching packet before `--timeout`.
const NOTHING_SEEN: u8 = 4;

/// Wrong usage that clap cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Runs podtrace.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => trace::run(&cli.trace),
        Some(Command::Read(args)) => read::run(&args),
        Some(Command::Topology(args)) => topology::run(&args),
        Some(Command::Lab(args)) => lab::run(&args),
        Some(Command::Demo) => demo::run(),
        Some(Command::Agent(args)) => agent(args.idle),
        Some(Command::Manifest(args)) => manifest(&args.image),
        Some(Command::Completions { shell }) => completions(shell),
        Some(Command::Man) => man(),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) if is_broken_pipe(&error) => ExitCode::from(DONE),
        Err(error) => {
            // One line, whatever its causes hold.
            anstream::eprintln!("podtrace: {}", podtrace_escape::escape(&format!("{error:#}")));
            let usage = error.downcast_ref::<UsageError>().is_some();
            ExitCode::from(if usage { USAGE } else { FAILED })
        }
    }
}

/// A reader that has seen enough, such as `head`, is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is))
}

/// What went wrong is told to the tracer on the stream, which tells the user.
fn agent(idle: Option<Option<Duration>>) -> Result<u8> {
    if let Some(limit) = idle {
        crate::agent::idle(limit);
        return Ok(DONE);
    }
    Ok(if crate::agent::serve().is_ok() { DONE } else { FAILED })
}

fn manifest(image: &str) -> Result<u8> {
    print(crate::cluster::kube::manifest(image).as_bytes())
}

fn completions(shell: clap_complete::Shell) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "podtrace", &mut script);
    print(&script)
}

fn man() -> Result<u8> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).context("making the manual page")?;
    print(&page)
}

fn print(bytes: &[u8]) -> Result<u8> {
    use io::Write as _;
    io::stdout().write_all(bytes).context("writing to stdout")?;
    Ok(DONE)
}

/// An event loop for a command.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the event loop")
}
