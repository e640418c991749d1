//! Runs a test binary's trials: some at a time, each skipped with a reason if the machine does not have what it needs.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, anyhow};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::{conntrack, lab, need};

/// Trials at a time on each processor: each has a lab of its own, and mostly waits.
const AT_A_TIME_PER_CPU: usize = 2;

/// Notes to print after all trials.
static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps a note to print after the trials' lines, which programs parse.
pub fn note_at_the_end(text: String) {
    NOTES.lock().unwrap_or_else(PoisonError::into_inner).push(text);
}

/// A test with real packets, which needs these programs.
pub fn trial(
    name: impl Into<String>,
    programs: &[impl AsRef<str>],
    test: impl FnOnce() -> Result<()> + Send + 'static,
) -> Trial {
    unless(need::missing(programs), name, test)
}

/// A test that is skipped with a reason if the machine does not have what it needs.
pub fn unless(
    missing: Option<String>,
    name: impl Into<String>,
    test: impl FnOnce() -> Result<()> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name, move || match missing {
        Some(reason) => Ok(Completion::ignored_with(reason)),
        None => judge(test).map(|()| Completion::Completed),
    })
}

/// A test that every machine and user can run.
pub fn plain(name: impl Into<String>, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || judge(test))
}

/// Turns a panic into a failure with its message; the other tests continue.
fn judge(test: impl FnOnce() -> Result<()>) -> Result<(), Failed> {
    let outcome = catch_unwind(AssertUnwindSafe(test));
    let result = outcome.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(anyhow!("it panicked: {}", message.unwrap_or("without a word")))
    });
    result.map_err(|error| format!("{error:#}").into())
}

/// Prints a figure that a test measured without asserting it.
pub fn note(text: &str) {
    anstream::eprintln!("    {text}");
}

/// Runs the trials as the command line says.
#[must_use]
pub fn run(trials: Vec<Trial>) -> ExitCode {
    let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
    go(trials, cpus * AT_A_TIME_PER_CPU)
}

/// Programs that trials start end when their terminal hangs up, also where whoever started the tests ignores that, as `nohup`
/// does.
fn heed_hang_ups() {
    // SAFETY: the default action replaces no handler of this program's, which has none.
    if let Err(error) = unsafe { signal(Signal::SIGHUP, SigHandler::SigDfl) } {
        eprintln!("SIGHUP stays ignored: {error}");
    }
}

/// Runs the trials, or reports why they could not be set up.
#[must_use]
pub fn run_if(trials: Result<Vec<Trial>>) -> ExitCode {
    heed_hang_ups();
    match trials {
        Ok(trials) => run(trials),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs trials about the same thing one after the other, in this order.
#[must_use]
pub fn run_in_order(trials: Vec<Trial>) -> ExitCode {
    go(trials, 1)
}

fn go(trials: Vec<Trial>, at_a_time: usize) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(at_a_time);
    if nix::unistd::geteuid().is_root()
        && !arguments.list
        && let Err(error) = lab::sweep().and_then(|()| conntrack::sweep())
    {
        eprintln!("remains of earlier runs may still exist: {error:#}");
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    for note in NOTES.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        eprintln!("note: {note}");
    }
    conclusion.exit_code()
}
