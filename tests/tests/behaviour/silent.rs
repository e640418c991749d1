//! An agent that says nothing, or reads nothing, keeps the trace neither from going on nor from ending.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podtrace_path::Verdict;
use podtrace_protocol::codec::write_raw;
use podtrace_protocol::frame::{Attached, FromAgent, Hello, PROTOCOL_VERSION};
use podtrace_tests::attached;
use podtrace_tests::command::{Running, SHORT};
use podtrace_tests::lab::{Lab, netns_path};
use podtrace_tests::suite::{self, trial};
use podtrace_tests::trace::{self, Finished, Trace};
use podtrace_tests::{binary, wait};

use crate::{POD3, TRAFFIC};

/// What is traced.
const TRACE: [&str; 4] = ["--from", "pod1", "--to", "pod3"];

/// Within this, an agent that says nothing is given up: 10 s, and some for a busy machine.
const GIVEN_UP: Duration = Duration::from_secs(20);

/// Says how long it took to end after the second Ctrl-C.
fn note(took: Duration) {
    suite::note(&format!("ended {} ms after the second Ctrl-C", took.as_millis()));
}

pub(crate) fn trials() -> Vec<Trial> {
    let none: &[&str] = &[];
    vec![
        trial("a-stopped-agent-is-given-up-and-started-again", none, stopped),
        trial("an-agent-that-is-terminated-is-lost-and-started-again", none, terminated),
        trial("an-agent-that-stops-for-a-while-is-kept", none, stopped_for_a_while),
        trial("an-agent-that-reads-nothing-is-given-up", &["nsenter"], reads_nothing),
        trial("a-second-interrupt-ends-at-once-while-stopping", none, interrupted_while_stopping),
        trial("a-second-interrupt-ends-at-once-while-connecting", none, interrupted_while_connecting),
        trial("a-second-interrupt-ends-at-once-while-comparing-clocks", none, interrupted_while_comparing),
    ]
}

/// The agent of one of the lab's nodes.
pub(crate) fn agent_on(lab: &Lab, node: &str) -> Result<u32> {
    let namespace = fs::metadata(netns_path(lab.name(), node))?;
    let is_there = |agent: &u32| {
        let own = fs::metadata(format!("/proc/{agent}/ns/net"));
        own.is_ok_and(|own| (own.dev(), own.ino()) == (namespace.dev(), namespace.ino()))
    };
    attached::agents(lab)?.into_iter().find(is_there).with_context(|| format!("no agent is on {node}"))
}

fn signal(process: u32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(process)?), signal).with_context(|| format!("sending {signal}"))
}

fn ping(lab: &Lab) -> Result<()> {
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "1", "56"]).map(drop)
}

fn stopped() -> Result<()> {
    let lab = Lab::up("silent-stop")?;
    let mut trace = Running::start(&mut trace::command(&lab, TRACE))?;
    trace.wait_for_line("tracing ", SHORT)?;
    ping(&lab)?;
    wait::until("the ping is reported", SHORT, || Ok(trace.stdout().contains("\"id\":2,").then_some(())))?;
    signal(agent_on(&lab, "node2")?, Signal::SIGSTOP)?;
    ping(&lab)?;
    trace.wait_for_line("warning: node2: it has said nothing", GIVEN_UP)?;
    trace.wait_for_line("warning: lost node2: it has said nothing for 10 s", GIVEN_UP)?;
    // What is seen of node1 is reported while node2 is away.
    wait::until("the path that waited is reported", SHORT, || {
        Ok(trace.stdout().contains("the connection to the agent on node2 was lost").then_some(()))
    })?;
    trace.wait_for_line("node2: traced again", SHORT)?;
    ping(&lab)?;
    let finished = Finished::from(trace.interrupt(SHORT)?)?;
    let summary = finished.summary()?;
    ensure!(!summary.complete && summary.paths.vanished == 0, "{summary:?}\n{}", finished.stdout);
    let whole =
        finished.paths.iter().filter(|path| path.verdict == Verdict::Delivered && path.hops.len() == 8);
    ensure!(whole.count() == 4, "two pings were seen on both nodes:\n{}", finished.stdout);
    ensure!(attached::tcx(&lab)?.is_empty(), "something is left attached");
    Ok(())
}

/// Its goodbye is no reason to take the trace for complete: nobody asked for it.
fn terminated() -> Result<()> {
    let lab = Lab::up("silent-term")?;
    let mut trace = Running::start(&mut trace::command(&lab, TRACE))?;
    trace.wait_for_line("tracing ", SHORT)?;
    signal(agent_on(&lab, "node2")?, Signal::SIGTERM)?;
    trace.wait_for_line("warning: lost node2: its agent ended without being asked to", SHORT)?;
    ping(&lab)?;
    trace.wait_for_line("node2: traced again", GIVEN_UP)?;
    let finished = Finished::from(trace.interrupt(SHORT)?)?;
    let summary = finished.summary()?;
    ensure!(!summary.complete && summary.paths.vanished == 0, "{summary:?}\n{}", finished.stdout);
    ensure!(attached::tcx(&lab)?.is_empty(), "something is left attached");
    Ok(())
}

fn stopped_for_a_while() -> Result<()> {
    let lab = Lab::up("silent-while")?;
    let mut trace = Running::start(&mut trace::command(&lab, TRACE))?;
    trace.wait_for_line("tracing ", SHORT)?;
    let agent = agent_on(&lab, "node2")?;
    signal(agent, Signal::SIGSTOP)?;
    ping(&lab)?;
    trace.wait_for_line("warning: node2: it has said nothing", GIVEN_UP)?;
    signal(agent, Signal::SIGCONT)?;
    trace.wait_for_line("node2: it speaks again", SHORT)?;
    let finished = Finished::from(trace.interrupt(SHORT)?)?;
    finished.complete()?;
    ensure!(finished.paths.len() == 2, "{} paths", finished.paths.len());
    Ok(())
}

/// Node 2's agent gets its input by a process that is stopped.
fn reads_nothing() -> Result<()> {
    let lab = Lab::up("silent-reads")?;
    let files = tempfile::tempdir()?;
    let (reader, inventory) = (files.path().join("reader"), files.path().join("cluster.yaml"));
    let namespace = netns_path(lab.name(), "node2").display().to_string();
    let script = format!(
        "sh -c 'echo $$ > {}; exec cat' | exec {} agent",
        reader.display(),
        binary::podtrace()?.display()
    );
    let command = serde_json::json!(["nsenter", format!("--net={namespace}"), "sh", "-c", script]);
    let text = fs::read_to_string(lab.inventory())?;
    let before = format!("netns: {namespace}");
    ensure!(text.contains(&before), "the inventory has no `{before}`:\n{text}");
    fs::write(&inventory, text.replace(&before, &format!("command: {command}")))?;

    let mut command = lab.podtrace();
    command.arg("--cluster").arg(&inventory).args(["-o", "json"]).args(TRACE);
    let mut trace = Running::start(&mut command)?;
    trace.wait_for_line("tracing ", SHORT)?;
    ping(&lab)?;
    let reader: u32 = fs::read_to_string(reader)?.trim().parse()?;
    signal(reader, Signal::SIGSTOP)?;
    let given_up = trace.wait_for_line("warning: lost node2: it has answered nothing for 10 s", GIVEN_UP);
    // Nobody else ends it.
    signal(reader, Signal::SIGKILL)?;
    given_up?;
    ping(&lab)?;
    let finished = Finished::from(trace.interrupt(SHORT)?)?;
    ensure!(!finished.summary()?.complete, "{}", finished.stdout);
    Ok(())
}

fn interrupted_while_stopping() -> Result<()> {
    let lab = Lab::up("silent-twice")?;
    let trace = Trace::ready(&lab, TRACE)?;
    signal(agent_on(&lab, "node2")?, Signal::SIGSTOP)?;
    trace.process().signal(Signal::SIGINT)?;
    // Two at once would be one.
    wait::moment(Duration::from_millis(500));
    let since = Instant::now();
    let finished = trace.interrupt()?;
    note(since.elapsed());
    // It did not wait until the agent that is silent was given up.
    ensure!(finished.stderr.contains("some agents have not stopped"), "{}", finished.stderr);
    ensure!(!finished.stderr.contains("lost node2"), "{}", finished.stderr);
    ensure!(!finished.summary()?.complete, "{}", finished.stdout);
    Ok(())
}

fn interrupted_while_connecting() -> Result<()> {
    interrupted_during_set_up("echo started >&2; exec sleep 1000", "started")
}

/// An agent that has attached, and does not answer when it is asked for its clock.
fn interrupted_while_comparing() -> Result<()> {
    let mut frames = tempfile::NamedTempFile::new()?;
    let hello = Hello { protocol: PROTOCOL_VERSION, ..Hello::default() };
    for frame in [FromAgent::Hello(hello), FromAgent::Attached(Attached::default())] {
        write_raw(&mut frames, &frame.to_raw())?;
    }
    let script = format!("cat {}; exec sleep 1000", frames.path().display());
    interrupted_during_set_up(&script, "AskClock")
}

/// Interrupts a trace twice whose only agent is a shell script, once stderr has the text.
fn interrupted_during_set_up(script: &str, text: &str) -> Result<()> {
    let files = tempfile::tempdir()?;
    let inventory = files.path().join("cluster.yaml");
    let run = serde_json::json!({"command": ["sh", "-c", script]});
    fs::write(
        &inventory,
        format!(
            "nodes:\n- name: node1\n  addresses: [192.168.56.11]\n  run: {run}\n\
             pods:\n- {{name: pod1, namespace: default, node: node1, ips: [10.42.0.10]}}\n"
        ),
    )?;
    let mut command = std::process::Command::new(binary::podtrace()?);
    command.arg("--cluster").arg(&inventory).args(["--from", "pod1", "-vv"]);
    let trace = Running::start(&mut command)?;
    wait::until("its agent is that far", SHORT, || Ok(trace.stderr().contains(text).then_some(())))?;
    trace.signal(Signal::SIGINT)?;
    // Two at once would be one.
    wait::moment(Duration::from_millis(300));
    let since = Instant::now();
    let output = trace.interrupt(SHORT)?;
    note(since.elapsed());
    // A machine that is busy may take longer to end in order than a user waits.
    let ends = ["interrupted before", "ended at once"];
    ensure!(output.code() != 0 && ends.iter().any(|end| output.stderr.contains(end)), "{output:?}");
    Ok(())
}
