//! How a trace ends: by a signal, without a reader, after its probe.

use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podtrace_tests::attached;
use podtrace_tests::command::{Running, SHORT};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::trace::{self, Trace};
use podtrace_tests::wait;

use crate::{POD3, TRAFFIC};

/// Time limit for what a busy machine does slowly.
const LONG: Duration = Duration::from_secs(45);

pub(crate) fn trials() -> Vec<Trial> {
    let none: &[&str] = &[];
    vec![
        trial("sigint-tells-the-summary", none, || ended_by("sigint", Signal::SIGINT)),
        trial("sigterm-tells-the-summary", none, || ended_by("sigterm", Signal::SIGTERM)),
        trial("sighup-tells-the-summary", none, || ended_by("sighup", Signal::SIGHUP)),
        trial("nohup-keeps-it-going", &["nohup"], nohup),
        trial("a-hint-after-silence", none, hint),
        trial("a-reader-that-goes-is-no-error", none, reader_that_goes),
        trial("a-reader-that-is-gone-ends-the-trace", none, reader_that_is_gone),
        trial("a-second-interrupt-ends-at-once-while-nobody-reads", none, nobody_reads),
        trial("text-tells-what-json-does", none, text),
        trial("two-traces-at-once", none, two_traces),
    ]
}

fn ended_by(name: &str, signal: Signal) -> Result<()> {
    let lab = Lab::up(name)?;
    let trace = Trace::ready(&lab, ["--from", "pod1", "--to", "pod3"])?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "5", "56"])?;
    trace.process().signal(signal)?;
    let finished = trace.finish()?;
    finished.complete()?;
    ensure!(finished.paths.len() == 10, "{} paths", finished.paths.len());
    ensure!(attached::tcx(&lab)?.is_empty(), "something is left attached");
    Ok(())
}

/// A terminal that goes ends no trace that was started to outlive it.
fn nohup() -> Result<()> {
    let lab = Lab::up("nohup")?;
    let traced = trace::command(&lab, ["--from", "pod1", "--to", "pod3"]);
    let mut command = Command::new("nohup");
    command.arg(traced.get_program()).args(traced.get_args());
    command.envs(traced.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut running = Running::start(&mut command)?;
    running.wait_for_line("tracing ", LONG)?;
    running.signal(Signal::SIGHUP)?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "1", "56"])?;
    running.wait_until("it has reported both ways", LONG, |stdout| Ok(stdout.lines().count() >= 2))?;
    let finished = trace::Finished::from(running.interrupt(LONG)?)?;
    finished.complete()?;
    Ok(())
}

/// Where nothing comes, a hint says what to do; where a probe was asked for, it does not advise one.
fn hint() -> Result<()> {
    let lab = Lab::up("hint")?;
    for (options, hint) in [
        ("--from pod1 --to pod3", "nothing seen yet; `--probe icmp` sends a packet"),
        ("--from pod1 --to pod3 --proto tcp", "nothing seen yet; `--probe tcp` sends a packet"),
        ("--to pod3", "nothing seen yet: no packet matched any → default/pod3"),
    ] {
        let mut running = Running::start(&mut trace::command(&lab, options.split(' ')))?;
        running.wait_for_line(hint, LONG)?;
        let output = running.interrupt(LONG)?;
        ensure!(output.stderr.matches("nothing seen yet").count() == 1, "{}", output.stderr);
    }
    let output = Trace::ready(&lab, ["--from", "pod1", "--to", "pod3", "--probe", "icmp"])?.finish()?;
    ensure!(!output.stderr.contains("nothing seen yet"), "{}", output.stderr);
    Ok(())
}

/// `podtrace … | head -n 1`
fn reader_that_goes() -> Result<()> {
    let lab = Lab::up("head")?;
    let mut command =
        trace::command(&lab, ["--from", "pod1", "--to", "pod3", "--probe", "icmp", "--count", "100"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
    ensure!(line.contains("\"type\":\"path\""), "{line}");
    let status = wait::until("podtrace ends when its reader has gone", SHORT, || Ok(child.try_wait()?))?;
    ensure!(status.code() == Some(0), "{status}");
    ensure!(attached::tcx(&lab)?.is_empty(), "something is left attached");
    Ok(())
}

/// The reader ends before the first output.
fn reader_that_is_gone() -> Result<()> {
    let lab = Lab::up("gone")?;
    let mut command = trace::command(&lab, ["--from", "pod1", "--to", "pod3", "--probe", "icmp"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    drop(child.stdout.take());
    let status = wait::until("podtrace ends", SHORT, || Ok(child.try_wait()?))?;
    ensure!(status.code() == Some(0), "{status}");
    Ok(())
}

/// As `podtrace … 2>&1 | less` where nobody scrolls: output and messages wait for the same reader.
fn nobody_reads() -> Result<()> {
    let lab = Lab::up("nobody-reads")?;
    let (mut reader, writer) = std::io::pipe()?;
    let mut command = trace::command(&lab, ["--from", "pod1", "--to", "pod3"]);
    let mut child = command.stdout(writer.try_clone()?).stderr(writer.try_clone()?).spawn()?;
    drop(command);
    let ended = nobody_reads_more(&lab, &mut reader, &writer, &mut child);
    // It has ended in the best case.
    let _ = child.kill();
    let _ = child.wait();
    ensure!(ended?.code() == Some(130), "it did not end by the second Ctrl-C");
    Ok(())
}

fn nobody_reads_more(
    lab: &Lab,
    reader: &mut std::io::PipeReader,
    writer: &std::io::PipeWriter,
    child: &mut Child,
) -> Result<ExitStatus> {
    let mut line = String::new();
    let mut lines = BufReader::new(reader);
    while !line.starts_with("tracing ") {
        line.clear();
        ensure!(lines.read_line(&mut line)? > 0, "it ended before it traced");
    }
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "200", "56"])?;
    wait::until("the pipe is full", SHORT, || {
        let mut fds = [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO)?;
        Ok((!fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLOUT))).then_some(()))
    })?;
    let interrupt =
        || kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT).map_err(anyhow::Error::from);
    interrupt()?;
    // Two at once would be one.
    wait::moment(Duration::from_millis(300));
    interrupt()?;
    wait::until("podtrace ends", SHORT, || Ok(child.try_wait()?))
}

/// The text holds what the issue asks to be seen.
fn text() -> Result<()> {
    let lab = Lab::up("text")?;
    let mut command = lab.podtrace();
    command.arg("--cluster").arg(lab.inventory()).args(["--from", "pod1", "--to", "pod3", "--probe", "icmp"]);
    let output = podtrace_tests::command::succeed(&mut command, SHORT)?;
    for part in
        ["default/pod1", "default/pod3", "cni0", "flannel.1", "eth0", "vni 1", ":8472", "+50 B", "delivered"]
    {
        ensure!(output.stdout.contains(part), "`{part}` is not in\n{}", output.stdout);
    }
    ensure!(!output.stdout.contains('\u{1b}'), "colours in a pipe");
    Ok(())
}

/// Two tracers at the same time do not disturb each other.
fn two_traces() -> Result<()> {
    let lab = Lab::up("two")?;
    let both = Trace::ready(&lab, ["--from", "pod1", "--to", "pod3"])?;
    let one = Trace::ready(&lab, ["--from", "pod1", "--to", "pod3", "--one-way"])?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "5", "56"])?;
    let one = one.interrupt()?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "5", "56"])?;
    let both = both.interrupt()?;
    one.complete()?;
    both.complete()?;
    ensure!((one.paths.len(), both.paths.len()) == (5, 20), "{} and {}", one.paths.len(), both.paths.len());
    Ok(())
}
