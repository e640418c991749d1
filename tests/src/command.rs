//! Runs commands with a deadline, and commands in the background.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// Time limit for a command that waits for nothing.
pub const SHORT: Duration = Duration::from_secs(20);

/// What terminals' control sequences begin with.
const ESCAPE: u8 = 0x1b;

/// Lines of output that are shown if a command does not end.
const TAIL: usize = 20;

/// The result of a command.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its status.
    pub status: ExitStatus,
    /// Its stdout.
    pub stdout: String,
    /// Its stderr.
    pub stderr: String,
}

impl Output {
    /// Its exit status; 128 plus the signal's number if a signal ended it, as in shells.
    #[must_use]
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt as _;
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }
}

/// Runs a command to its end.
///
/// # Errors
///
/// If it cannot be started or takes longer than `within`.
pub fn run(command: &mut Command, within: Duration) -> Result<Output> {
    Running::start(command)?.finish(within)
}

/// Runs a command to its end, which must succeed.
///
/// # Errors
///
/// If it cannot be started, takes longer than `within` or fails.
pub fn succeed(command: &mut Command, within: Duration) -> Result<Output> {
    let output = run(command, within)?;
    if !output.status.success() {
        bail!("{command:?} ended with {}:\n{}{}", output.status, output.stdout, output.stderr);
    }
    Ok(output)
}

/// A running command; killed when dropped.
#[derive(Debug)]
pub struct Running {
    what: String,
    child: Child,
    stdout: Stream,
    stderr: Stream,
}

impl Running {
    /// Starts a command.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        Self::with_input(command, Stdio::null(), b'\n').map(|(running, _)| running)
    }

    /// Starts a command that reads what is written for it, and that draws on a terminal: its output is there up to the last
    /// control sequence, whether or not a line ends.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn reading(command: &mut Command) -> Result<(Self, ChildStdin)> {
        let (running, input) = Self::with_input(command, Stdio::piped(), ESCAPE)?;
        Ok((running, input.context("it has no stdin")?))
    }

    fn with_input(command: &mut Command, input: Stdio, end: u8) -> Result<(Self, Option<ChildStdin>)> {
        let what = format!("{command:?}");
        let mut child = command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {what}"))?;
        let stdout = Stream::of(child.stdout.take().context("it has no stdout")?, end);
        let stderr = Stream::of(child.stderr.take().context("it has no stderr")?, b'\n');
        let input = child.stdin.take();
        Ok((Self { what, child, stdout, stderr }, input))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Its stdout so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Waits until a line of its stdout or stderr begins with `start`.
    ///
    /// # Errors
    ///
    /// If it ends before, or takes longer than `within`.
    pub fn wait_for_line(&mut self, start: &str, within: Duration) -> Result<()> {
        let what = format!("{} says `{start}`", self.what);
        let said = |text: &str| text.lines().any(|line| line.starts_with(start));
        let stderr = Arc::clone(&self.stderr.text);
        self.wait_until(&what, within, |stdout| Ok(said(&lock(&stderr)) || said(stdout)))
    }

    /// Waits until what it has said on stdout so far is `enough`.
    ///
    /// # Errors
    ///
    /// If it ends before, or takes longer than `within`, or what it says cannot be judged.
    pub fn wait_until(
        &mut self,
        what: &str,
        within: Duration,
        mut enough: impl FnMut(&str) -> Result<bool>,
    ) -> Result<()> {
        wait::until(what, within, || {
            // Looked at first: what is said before the end counts.
            let ended = self.child.try_wait().context("waiting for it")?;
            if enough(&self.stdout.text())? {
                return Ok(Some(()));
            }
            match ended {
                Some(status) => bail!("it ended with {status} before that"),
                None => Ok(None),
            }
        })
        .with_context(|| format!("it said:\n{}{}", tail(&self.stdout.text()), tail(&self.stderr.text())))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// If that cannot be done.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).context("the process id")?;
        kill(Pid::from_raw(id), signal).with_context(|| format!("sending {signal} to {}", self.what))
    }

    /// Asks it to end by SIGINT and waits until it does.
    ///
    /// # Errors
    ///
    /// If it does not within `within`.
    pub fn interrupt(self, within: Duration) -> Result<Output> {
        self.signal(Signal::SIGINT)?;
        self.finish(within)
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// If it does not come within `within`.
    pub fn finish(mut self, within: Duration) -> Result<Output> {
        let ends = format!("{} ends", self.what);
        let status = wait::until(&ends, within, || self.child.try_wait().context("waiting for it"))
            .with_context(|| {
                format!("it said:\n{}{}", tail(&self.stdout.text()), tail(&self.stderr.text()))
            })?;
        Ok(Output { status, stdout: self.stdout.rest(), stderr: self.stderr.rest() })
    }
}

/// The last of it: thousands of paths help nobody.
fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let finished = &lines[lines.len().saturating_sub(TAIL)..];
    finished.iter().map(|line| format!("{line}\n")).collect()
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already in the best case, and is reaped then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command says, gathered by a thread so that a full pipe never stops it.
#[derive(Debug)]
struct Stream {
    text: Arc<Mutex<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    /// Gathers it in pieces that end like this.
    fn of(from: impl Read + Send + 'static, end: u8) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let into = Arc::clone(&text);
        let thread = std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(end, &mut line).is_ok_and(|length| length > 0) {
                lock(&into).push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { text, thread: Some(thread) }
    }

    fn text(&self) -> String {
        lock(&self.text).clone()
    }

    /// All of it, once nobody holds its other end any more.
    fn rest(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            // A panic there can only mean that less was gathered, which the test will notice.
            let _ = thread.join();
        }
        std::mem::take(&mut lock(&self.text))
    }
}

fn lock(text: &Mutex<String>) -> MutexGuard<'_, String> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}
