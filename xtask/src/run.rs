//! Running other programs: quietly with a progress line, or with their output passed through.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// Runs `command` with one progress line on stderr; its own output is shown only if it fails.
///
/// On a terminal the line lives: it shows the time and the command's latest output.
pub(crate) fn step(what: &str, command: &mut Command) -> Result<()> {
    let started = Instant::now();
    let progress = Progress::start(what)?;
    let (status, output) = gather(command, |line| progress.tell(line))?;
    ended(progress, status, started.elapsed(), &output, &shown(command))
}

/// Ends a command's progress line; shows its output if it failed.
fn ended(
    progress: Progress<'_>,
    status: ExitStatus,
    took: Duration,
    output: &[String],
    command: &str,
) -> Result<()> {
    let what = progress.what;
    if status.success() {
        progress.end(&humanly(took));
        return Ok(());
    }
    progress.end(&format!("FAILED after {}", humanly(took)));
    let mut stderr = io::stderr().lock();
    for line in output.iter().filter(|line| !is_noise(line)) {
        writeln!(stderr, "    {line}")?;
    }
    bail!("{what}: `{command}` ended with {status}")
}

/// What a command said, and how long it took.
type Said = (Vec<String>, Duration);

/// A command that runs while others do; killed if dropped.
pub(crate) struct Beside<'a> {
    what: &'a str,
    command: String,
    child: Child,
    /// Gathers what it says; there until it is waited for.
    reader: Option<JoinHandle<Result<Said>>>,
}

impl<'a> Beside<'a> {
    /// Starts `command`, whose line comes once it is waited for.
    pub(crate) fn start(what: &'a str, mut command: Command) -> Result<Self> {
        let started = Instant::now();
        let shown = shown(&command);
        let (reader, writer) = io::pipe().context("cannot make a pipe")?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn().with_context(|| format!("cannot run `{shown}`"))?;
        let reader = thread::spawn(move || {
            let mut output = Vec::new();
            each_line(reader, |line| output.push(line.to_owned()))?;
            Ok((output, started.elapsed()))
        });
        Ok(Self { what, command: shown, child, reader: Some(reader) })
    }

    /// Waits for its end, with one progress line; its output is shown only if it failed.
    pub(crate) fn finish(mut self) -> Result<()> {
        let progress = Progress::start(self.what)?;
        let reader = self.reader.take().context("it is waited for only once")?;
        let (output, took) =
            reader.join().map_err(|_| anyhow!("the thread that reads its output panicked"))??;
        ended(progress, self.child.wait()?, took, &output, &self.command)
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        // It has ended already in the best case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Does `work` with one progress line on stderr, as [`step`] does a command.
pub(crate) fn watched<T>(what: &str, work: impl FnOnce(&Progress<'_>) -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let progress = Progress::start(what)?;
    let outcome = work(&progress);
    let took = humanly(started.elapsed());
    progress.end(&if outcome.is_ok() { took } else { format!("FAILED after {took}") });
    outcome
}

/// Runs `command`, passes its stdout on line by line and hands each line to `on_line`.
pub(crate) fn pass_through(command: &mut Command, mut on_line: impl FnMut(&str)) -> Result<ExitStatus> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`", shown(command)))?;
    let stdout = child.stdout.take().context("the child's stdout was not piped")?;
    let mut out = io::stdout().lock();
    each_line(stdout, |line| {
        on_line(line);
        // A reader of ours that has gone away must not stop the tests: the exit status still counts.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    })?;
    child.wait().with_context(|| format!("cannot wait for `{}`", shown(command)))
}

/// The stdout of `command`, or nothing if it cannot be run or fails: for looking at what a machine has.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The stdout of `command`, however it ends: for programs that answer in part and then fail.
pub(crate) fn ask_whatever_its_status(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Directories of system tools that a user's PATH may lack.
const SYSTEM: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The first program of this name in PATH, or in the directories of system tools.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories: Vec<_> = env::split_paths(&path).chain(SYSTEM.map(PathBuf::from)).collect();
    find_program_in(program, &directories)
}

/// The program of this name in the first of these directories that has one.
pub(crate) fn find_program_in(program: &str, directories: &[PathBuf]) -> Option<PathBuf> {
    // PATH cannot name a directory whose own name has a colon.
    let paths = env::join_paths(directories.iter().filter(|directory| directory.is_absolute())).ok()?;
    which::which_in_global(program, Some(paths)).ok()?.next()
}

/// PATH with `dir` in front.
pub(crate) fn path_with(dir: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths(std::iter::once(dir.to_path_buf()).chain(env::split_paths(&path)))
        .with_context(|| format!("{} cannot stand in PATH", dir.display()))
}

/// Takes out of `command`'s environment what the cargo and rustup that run xtask, or a user's settings for
/// builds for this machine, would impose on another toolchain.
pub(crate) fn without_outer_cargo(command: &mut Command) -> &mut Command {
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(belongs_to_outer_cargo) {
            command.env_remove(&name);
        }
    }
    command
}

fn belongs_to_outer_cargo(name: &str) -> bool {
    // Of cargo's own variables only those that say where it lives and how it reaches the network stay.
    const KEPT: [&str; 5] = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    match name {
        "RUSTFLAGS" | "RUSTDOCFLAGS" | "RUSTC" | "RUSTDOC" | "RUSTC_WRAPPER" | "RUSTC_WORKSPACE_WRAPPER" => {
            true
        }
        "RUSTC_BOOTSTRAP" | "RUSTUP_TOOLCHAIN" | "RUST_RECURSION_COUNT" => true,
        // `cargo run` sets it to the outer toolchain's libraries.
        "LD_LIBRARY_PATH" => true,
        _ => name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept)),
    }
}

/// Runs `command` to its end with both outputs in one pipe.
pub(crate) fn gather(
    command: &mut Command,
    mut on_line: impl FnMut(&str),
) -> Result<(ExitStatus, Vec<String>)> {
    let (reader, writer) = io::pipe().context("cannot make a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let spawned = command.spawn().with_context(|| format!("cannot run `{}`", shown(command)));
    // The command keeps our ends of the pipe open: without this the reader would never see the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = spawned?;
    let mut output = Vec::new();
    each_line(reader, |line| {
        on_line(line);
        output.push(line.to_owned());
    })?;
    Ok((child.wait()?, output))
}

fn each_line(reader: impl io::Read, mut on_line: impl FnMut(&str)) -> Result<()> {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).context("cannot read the output of a command")? > 0 {
        on_line(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(())
}

/// Whether a line of cargo's only says that all is well so far.
fn is_noise(line: &str) -> bool {
    const VERBS: [&str; 7] =
        ["Compiling", "Checking", "Downloaded", "Downloading", "Updating", "Locking", "Finished"];
    line.split_whitespace().next().is_some_and(|verb| VERBS.contains(&verb))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn humanly(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

/// One line about a step: alive on a terminal, otherwise written once in two halves.
pub(crate) struct Progress<'a> {
    what: &'a str,
    bar: Option<ProgressBar>,
    /// Whether something was written between the halves.
    interrupted: AtomicBool,
}

impl<'a> Progress<'a> {
    fn start(what: &'a str) -> Result<Self> {
        let bar = if io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed}  {wide_msg:.dim}")?;
            let bar = ProgressBar::new_spinner().with_style(style).with_prefix(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            Some(bar)
        } else {
            eprint!("{what} … ");
            None
        };
        Ok(Self { what, bar, interrupted: AtomicBool::new(false) })
    }

    /// Shows what is going on, on a terminal.
    pub(crate) fn tell(&self, line: &str) {
        if let Some(bar) = &self.bar {
            // A line of another program: nothing of it may steer the terminal.
            bar.set_message(line.chars().filter(|c| !c.is_control()).collect::<String>());
        }
    }

    /// Writes a line of a result to stdout while the step goes on.
    pub(crate) fn interject(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{line}")),
            None => {
                if !self.interrupted.swap(true, Ordering::Relaxed) {
                    eprintln!();
                }
                println!("{line}");
            }
        }
    }

    fn end(self, result: &str) {
        let Self { what, bar, interrupted } = self;
        if let Some(bar) = &bar {
            bar.finish_and_clear();
        }
        if bar.is_some() || interrupted.into_inner() {
            eprint!("{what} … ");
        }
        eprintln!("{result}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outer_cargo_leaves_no_trace_but_network_and_home() {
        let dropped = [
            "CARGO",
            "CARGO_MANIFEST_DIR",
            "CARGO_PKG_NAME",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_TARGET_DIR",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_MAKEFLAGS",
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTUP_TOOLCHAIN",
        ];
        for name in dropped {
            assert!(belongs_to_outer_cargo(name), "{name} would leak");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_PROXY", "RUSTUP_HOME", "PATH", "HOME"] {
            assert!(!belongs_to_outer_cargo(name), "{name} must stay");
        }
    }

    #[test]
    fn both_outputs_are_gathered_and_the_status_told() {
        let mut seen = 0;
        let script = "echo out; echo err >&2; exit 3";
        let (status, output) = gather(Command::new("sh").args(["-c", script]), |_| seen += 1).unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(output, ["out", "err"]);
        assert_eq!(seen, 2);
    }

    #[test]
    fn a_failed_step_names_the_command() {
        let error = step("trying", Command::new("false").arg("x")).unwrap_err().to_string();
        assert!(error.contains("trying: `false x` ended with"), "{error}");
        let error = step("trying", &mut Command::new("no-such-program")).unwrap_err().to_string();
        assert!(error.contains("cannot run `no-such-program`"), "{error}");
    }

    #[test]
    fn a_command_beside_others_ends_with_them() {
        let sh = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        Beside::start("trying", sh("echo out")).unwrap().finish().unwrap();
        let error = Beside::start("trying", sh("exit 3")).unwrap().finish().unwrap_err().to_string();
        assert!(error.contains("trying: `sh -c exit 3` ended with"), "{error}");
        let left = Beside::start("trying", sh("exec sleep 600")).unwrap();
        let process = format!("/proc/{}", left.child.id());
        drop(left);
        assert!(!Path::new(&process).exists(), "it was dropped and still runs");
    }

    #[test]
    fn only_lines_without_news_are_noise() {
        assert!(is_noise("   Compiling libc v0.2.0"));
        assert!(!is_noise("error: could not compile `podtrace`"));
        assert!(!is_noise(""));
    }
}
