//! Attaching to functions of the network stack: by fentry where the kernel can, else by kprobe, else not at all; then
//! what they would have seen is inferred.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use anyhow::{Context as _, Result, anyhow};
use aya::programs::{
    FEntry, FExit, KProbe, Program, ProgramError, fentry::FEntryLink, fexit::FExitLink, kprobe::KProbeLink,
};
use tracer_common::Arguments;

use super::{btf::Btf, programs::instructions, refusal::refused};
use podtrace_protocol::frame::HookState;
use podtrace_protocol::hook::{COPIES, HOOKS, Hook, Other};

/// Here when the kernel has kprobes: their kind of perf event.
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe/type";

/// Where modules keep their type information, beside the kernel's own.
const BTF_DIRECTORY: &str = "/sys/kernel/btf";

/// Threads that load and attach: the kernel lets each wait, for the verifier or for other CPUs.
const ATTACHERS: usize = 8;

/// Keeps a function hooked until it is dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "a link is held to be dropped")]
pub(super) enum StackLink {
    Entry(FEntryLink),
    Exit(FExitLink),
    Probe(KProbeLink),
}

/// What this kernel's type information says of the functions to hook.
#[derive(Debug, Default)]
pub(super) struct Prototypes {
    /// Functions that are part of the kernel proper, which fentry can hook.
    in_kernel: Vec<&'static str>,
    /// Where functions take what is read.
    pub(super) arguments: Option<Arguments>,
}

impl Prototypes {
    /// Looks the functions up in the kernel and in those of its modules that are loaded.
    pub(super) fn read(kernel: &Btf<'_>) -> Self {
        let names: Vec<&str> = HOOKS.iter().map(|hook| hook.function).chain(COPIES).collect();
        let mut known = kernel.arguments(&names);
        let in_kernel = names.into_iter().filter(|name| known.contains_key(name)).collect();
        let mut modules: Vec<_> = HOOKS.iter().filter_map(|hook| hook.module).collect();
        modules.dedup();
        for module in modules {
            let here =
                HOOKS.iter().filter(|hook| hook.module == Some(module) && !known.contains_key(hook.function));
            let names: Vec<_> = here.map(|hook| hook.function).collect();
            // Not loaded, or of a kernel without type information for modules (before 5.11): the table has to do.
            let Ok(bytes) = std::fs::read(Path::new(BTF_DIRECTORY).join(module)) else { continue };
            if let Ok(btf) = Btf::parse_module(&bytes, kernel) {
                known.extend(btf.arguments(&names));
            }
        }
        let mut arguments = Arguments::NONE;
        for hook in &HOOKS {
            let number = usize::from(hook.number);
            let place = |of: &str, otherwise: u8| match known.get(hook.function) {
                Some(arguments) => {
                    arguments.iter().position(|argument| argument == of).and_then(|at| u8::try_from(at).ok())
                }
                None => Some(otherwise),
            };
            // A function that takes no packet any more is left alone: its program finds no argument to look at.
            arguments.skb[number] = place("sk_buff", hook.skb).unwrap_or(tracer_common::NO_ARGUMENT);
            match hook.other {
                Other::Nothing => {}
                Other::Pointer(of, otherwise) => {
                    arguments.other[number] = place(of, otherwise).unwrap_or(tracer_common::NO_ARGUMENT);
                }
                Other::Value(at) => arguments.other[number] = at,
            }
        }
        Self { in_kernel, arguments: Some(arguments) }
    }

    fn has(&self, function: &str) -> bool {
        self.in_kernel.contains(&function)
    }
}

/// A function, and the programs that may hook it.
struct Job<'a> {
    function: &'static str,
    ways: Vec<(&'static str, &'a mut Program)>,
}

/// Hooks all functions of the table, several at a time. What cannot be hooked is told and costs nothing.
pub(super) fn attach<'a>(
    programs: impl Iterator<Item = (&'a str, &'a mut Program)>,
    prototypes: &Prototypes,
) -> (Vec<StackLink>, Vec<HookState>) {
    let mut programs: HashMap<_, _> = programs.collect();
    let mut take = |how: &'static str, function: &str| {
        let name = format!("{how}_{}", function.trim_start_matches('_'));
        Some((how, programs.remove(name.as_str())?))
    };
    let (fentry, kprobes) = (Fentry::default(), Path::new(KPROBES).exists());
    let jobs: Vec<Job<'_>> = HOOKS
        .iter()
        .map(|Hook { function, .. }| Job {
            function,
            ways: [
                prototypes.has(function).then(|| take("fentry", function)).flatten(),
                kprobes.then(|| take("kprobe", function)).flatten(),
            ]
            .into_iter()
            .flatten()
            .collect(),
        })
        .collect();
    let copies = COPIES.iter().map(|function| Job {
        function,
        ways: prototypes.has(function).then(|| take("fexit", function)).flatten().into_iter().collect(),
    });
    let count = jobs.len() + COPIES.len();
    let mut queue = jobs.into_iter().chain(copies).enumerate();
    let mut done: Vec<_> = (0..count).map(|_| None).collect();
    // The first one by itself: it tells whether fentry works here at all.
    if let Some((number, job)) = queue.next() {
        done[number] = Some(hook(job, &fentry, kprobes));
    }
    let (queue, done) = (Mutex::new(queue), Mutex::new(done));
    std::thread::scope(|scope| {
        for _ in 0..ATTACHERS.min(count) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().map(|mut queue| queue.next());
                    let Ok(Some((number, job))) = next else { return };
                    let result = hook(job, &fentry, kprobes);
                    if let Ok(mut done) = done.lock() {
                        done[number] = Some(result);
                    }
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_default();
    let (links, states): (Vec<_>, Vec<_>) = done.into_iter().flatten().unzip();
    (links.into_iter().flatten().collect(), states)
}

/// What is known of fentry and fexit on this kernel.
#[derive(Default)]
struct Fentry {
    types: OnceLock<Option<aya::Btf>>,
    /// Why the kernel has no such thing: said of one function, it holds for all.
    refused: OnceLock<String>,
}

impl Fentry {
    fn types(&self) -> Result<&aya::Btf> {
        let types = self.types.get_or_init(|| aya::Btf::from_sys_fs().ok());
        types.as_ref().context("the kernel's type information cannot be read")
    }
}

/// Hooks one function in the best way that works.
fn hook(job: Job<'_>, fentry: &Fentry, kprobes: bool) -> (Option<StackLink>, HookState) {
    let Job { function, ways } = job;
    let mut state = HookState {
        point: format!("kprobe:{function}"),
        device: None,
        how: None,
        note: None,
        instructions: None,
    };
    let mut problem = if kprobes { None } else { Some("this kernel has no kprobes".to_owned()) };
    for (how, program) in ways {
        match attach_one(how, function, program, fentry) {
            Ok((link, count)) => {
                state.point = format!("{how}:{function}");
                state.how = Some(how.to_owned());
                state.instructions = count;
                state.note = None;
                return (Some(link), state);
            }
            Err(error) => {
                let text = format!("{error:#}");
                problem = Some(problem.map_or_else(|| text.clone(), |before| format!("{before}; {text}")));
            }
        }
    }
    state.note = Some(problem.unwrap_or_else(|| "this kernel has no such function".to_owned()));
    (None, state)
}

fn attach_one(
    how: &str,
    function: &str,
    program: &mut Program,
    fentry: &Fentry,
) -> Result<(StackLink, Option<u32>)> {
    if how != "kprobe"
        && let Some(reason) = fentry.refused.get()
    {
        return Err(anyhow!("{reason}"));
    }
    let attached = match program {
        Program::FEntry(program) => entry(program, function, fentry.types()?),
        Program::FExit(program) => exit(program, function, fentry.types()?),
        Program::KProbe(program) => probe(program, function),
        _ => return Err(anyhow!("the kernel object has a program of another kind under this name")),
    };
    let link = attached.map_err(|error| match missing_feature(&error) {
        Some(cause) if how != "kprobe" => {
            anyhow!("{}", fentry.refused.get_or_init(|| format!("it refuses fentry: {cause}")))
        }
        _ => refused(error).context(format!("by {how}")),
    })?;
    Ok((link, instructions(program)))
}

/// The kernel's word for having no such kind of program at all, rather than something against this function.
fn missing_feature(error: &ProgramError) -> Option<String> {
    /// Not among the codes that user space should see; printed as a number.
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

fn entry(program: &mut FEntry, function: &str, types: &aya::Btf) -> Result<StackLink, ProgramError> {
    program.load(function, types)?;
    let id = program.attach()?;
    Ok(StackLink::Entry(program.take_link(id)?))
}

fn exit(program: &mut FExit, function: &str, types: &aya::Btf) -> Result<StackLink, ProgramError> {
    program.load(function, types)?;
    let id = program.attach()?;
    Ok(StackLink::Exit(program.take_link(id)?))
}

fn probe(program: &mut KProbe, function: &str) -> Result<StackLink, ProgramError> {
    program.load()?;
    let id = program.attach(function, 0)?;
    Ok(StackLink::Probe(program.take_link(id)?))
}
