//! Hooks functions of the kernel's network stack: by fentry where the kernel can, otherwise by kprobe.
//!
//! fentry is a direct call and costs less than a kprobe. It needs the function's BTF, and the kernel proper only: not
//! modules, and on some architectures nothing at all. A function that cannot be hooked is reported with the reason; its
//! hops are then inferred. Attaching runs on several threads, since each call waits for the verifier or for other CPUs.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use anyhow::{Context as _, Result, bail};
use aya::programs::{
    FEntry, FExit, KProbe, Program, ProgramError, fentry::FEntryLink, fexit::FExitLink, kprobe::KProbeLink,
};
use podtrace_protocol::frame::{HookState, Mechanism};
use podtrace_protocol::hook::{COPIES, HOOKS};

use super::{attached::verified_instructions, prototypes::Prototypes, verifier::verifier_error};

/// Exists if the kernel has kprobes: the type number of their perf events.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe/type";

/// Threads that load and attach.
const THREADS: usize = 8;

/// Keeps a function hooked until it is dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "a link is held to be dropped")]
pub(super) enum FunctionLink {
    Entry(FEntryLink),
    Exit(FExitLink),
    Probe(KProbeLink),
}

/// A function, and the programs that can hook it, the best first.
struct Job<'a> {
    function: &'static str,
    programs: Vec<(Mechanism, &'a mut Program)>,
}

/// Hooks all functions of the table. Returns the links, and one state per function in the table's order.
pub(super) fn attach<'a>(
    programs: impl Iterator<Item = (&'a str, &'a mut Program)>,
    prototypes: &Prototypes,
) -> (Vec<FunctionLink>, Vec<HookState>) {
    let kernel = Kernel::new();
    let mut jobs = jobs(programs.collect(), prototypes, kernel.has_kprobes).into_iter();
    // The first one alone: it finds out whether this kernel has fentry, and all others then skip it.
    let first = jobs.next().map(|job| hook(job, &kernel));
    let others = in_parallel(jobs.collect(), |job| hook(job, &kernel));
    let (links, states): (Vec<_>, Vec<_>) = first.into_iter().chain(others).unzip();
    (links.into_iter().flatten().collect(), states)
}

/// Pairs each function with its programs. Their names are `fentry_FUNCTION` and so on.
fn jobs<'a>(
    mut programs: HashMap<&'a str, &'a mut Program>,
    prototypes: &Prototypes,
    has_kprobes: bool,
) -> Vec<Job<'a>> {
    let mut job = |function: &'static str, mechanisms: &[(Mechanism, bool)]| {
        let usable = mechanisms.iter().filter(|(_, usable)| *usable);
        let programs = usable.filter_map(|(mechanism, _)| {
            let name = format!("{mechanism}_{}", function.trim_start_matches('_'));
            Some((*mechanism, programs.remove(name.as_str())?))
        });
        Job { function, programs: programs.collect() }
    };
    let mut jobs = Vec::new();
    for hook in &HOOKS {
        let built_in = prototypes.is_built_in(hook.function);
        jobs.push(job(hook.function, &[(Mechanism::Fentry, built_in), (Mechanism::Kprobe, has_kprobes)]));
    }
    for function in COPIES {
        jobs.push(job(function, &[(Mechanism::Fexit, prototypes.is_built_in(function))]));
    }
    jobs
}

/// Runs `work` on each item, on several threads. Results are in the order of the items.
fn in_parallel<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = THREADS.min(items.len());
    let queue = Mutex::new(items.into_iter().enumerate());
    let next = || queue.lock().ok()?.next();
    let mut results = std::thread::scope(|scope| {
        let worker =
            || std::iter::from_fn(next).map(|(number, item)| (number, work(item))).collect::<Vec<_>>();
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        // A panic's message is on stderr already; what that thread did not finish is missing.
        workers.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect::<Vec<_>>()
    });
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// What this kernel supports.
struct Kernel {
    has_kprobes: bool,
    types: OnceLock<Option<aya::Btf>>,
    /// Why the kernel has no fentry: an answer for one function holds for all.
    no_fentry: OnceLock<String>,
}

impl Kernel {
    fn new() -> Self {
        let has_kprobes = Path::new(KPROBES).exists();
        Self { has_kprobes, types: OnceLock::new(), no_fentry: OnceLock::new() }
    }

    /// aya's own reading of the kernel's BTF, by which it finds the function to attach to.
    fn types(&self) -> Result<&aya::Btf> {
        let types = self.types.get_or_init(|| aya::Btf::from_sys_fs().ok());
        types.as_ref().context("reading the kernel's BTF from /sys/kernel/btf/vmlinux")
    }
}

/// Hooks one function by the first program that works.
fn hook(job: Job<'_>, kernel: &Kernel) -> (Option<FunctionLink>, HookState) {
    let Job { function, programs } = job;
    let mut problems =
        if kernel.has_kprobes { String::new() } else { "this kernel has no kprobes".to_owned() };
    for (mechanism, program) in programs {
        match attach_program(mechanism, function, program, kernel) {
            Ok((link, instructions)) => {
                let state = HookState::absent(&format!("{mechanism}:{function}"));
                return (Some(link), HookState { mechanism: Some(mechanism), instructions, ..state });
            }
            Err(error) => {
                let separator = if problems.is_empty() { "" } else { "; " };
                // Writing into a string cannot fail.
                let _ = write!(problems, "{separator}{error:#}");
            }
        }
    }
    if problems.is_empty() {
        "this kernel has no such function".clone_into(&mut problems);
    }
    (None, HookState { note: Some(problems), ..HookState::absent(&format!("kprobe:{function}")) })
}

/// Returns the link, and the number of instructions that the verifier processed.
fn attach_program(
    mechanism: Mechanism,
    function: &str,
    program: &mut Program,
    kernel: &Kernel,
) -> Result<(FunctionLink, Option<u32>)> {
    let is_fentry = mechanism != Mechanism::Kprobe;
    if is_fentry && let Some(reason) = kernel.no_fentry.get() {
        bail!("{reason}");
    }
    let attached = match program {
        Program::FEntry(program) => fentry(program, function, kernel.types()?),
        Program::FExit(program) => fexit(program, function, kernel.types()?),
        Program::KProbe(program) => kprobe(program, function),
        _ => bail!("the kernel object's program {mechanism}_{function} is of another type"),
    };
    match attached {
        Ok(link) => Ok((link, verified_instructions(program))),
        Err(error) => {
            if is_fentry && let Some(cause) = unsupported(&error) {
                bail!("{}", kernel.no_fentry.get_or_init(|| format!("this kernel has no fentry: {cause}")));
            }
            Err(verifier_error(error).context(format!("hooking by {mechanism}")))
        }
    }
}

/// The kernel's error if it says that it lacks the kind of program, rather than that something is wrong with this one.
fn unsupported(error: &ProgramError) -> Option<String> {
    /// Internal to the kernel, but returned to user space here; libc has no name or message for it.
    const ENOTSUPP: i32 = 524;
    let cause = match error {
        ProgramError::LoadError { io_error, .. } => io_error,
        ProgramError::SyscallError(error) => &error.io_error,
        _ => return None,
    };
    match cause.raw_os_error()? {
        ENOTSUPP => Some("not supported".to_owned()),
        nix::libc::EPERM | nix::libc::EOPNOTSUPP => Some(cause.to_string()),
        _ => None,
    }
}

fn fentry(program: &mut FEntry, function: &str, types: &aya::Btf) -> Result<FunctionLink, ProgramError> {
    program.load(function, types)?;
    let id = program.attach()?;
    Ok(FunctionLink::Entry(program.take_link(id)?))
}

fn fexit(program: &mut FExit, function: &str, types: &aya::Btf) -> Result<FunctionLink, ProgramError> {
    program.load(function, types)?;
    let id = program.attach()?;
    Ok(FunctionLink::Exit(program.take_link(id)?))
}

fn kprobe(program: &mut KProbe, function: &str) -> Result<FunctionLink, ProgramError> {
    program.load()?;
    let id = program.attach(function, 0)?;
    Ok(FunctionLink::Probe(program.take_link(id)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_results_keep_the_order() {
        let numbers: Vec<usize> = (0..100).collect();
        assert_eq!(in_parallel(numbers.clone(), |number| number), numbers);
        assert!(in_parallel(Vec::<usize>::new(), |number| number).is_empty());
    }
}
