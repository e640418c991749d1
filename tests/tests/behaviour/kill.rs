//! After a tracer or an agent is killed at any moment, nothing stays attached, and the next run works.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podtrace_tests::attached::{self, Held};
use podtrace_tests::command::{Running, SHORT};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::{self, trial};
use podtrace_tests::trace::{self, Finished, Trace};
use podtrace_tests::wait;

use crate::{POD3, TRAFFIC};

/// Deadline for everything to be gone. Detaching waits for a grace period of the kernel's a tap, under a lock that whoever
/// makes or removes a namespace holds too.
const GONE_AT_LAST: Duration = Duration::from_secs(10);

/// One kill at a time: grace periods of several add up.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says how long it took until everything was gone.
fn note_median(mut took: Vec<Duration>) {
    took.sort_unstable();
    if let Some(median) = took.get(took.len() / 2) {
        suite::note(&format!("gone after {} ms (median of {} kills)", median.as_millis(), took.len()));
    }
}

/// What is traced.
const TRACE: [&str; 4] = ["--from", "pod1", "--to", "pod3"];

pub(crate) fn trials() -> Vec<Trial> {
    let none: &[&str] = &[];
    vec![
        trial("kill-while-setting-up", none, while_setting_up),
        trial("kill-while-tracing", none, || while_tracing("kill-idle", false)),
        trial("kill-under-flood", &["iperf3"], || while_tracing("kill-flood", true)),
        trial("kill-with-clsact", &["tc"], tracer_with_clsact),
        trial("kill-agent-with-clsact", &["tc"], agent_with_clsact),
        trial("clsact-leaves-nothing", &["tc"], clsact_leaves_nothing),
        trial("clsact-of-two-traces-leaves-nothing", &["tc"], clsact_of_two_traces),
    ]
}

/// Kills the tracer at several moments during its setup.
fn while_setting_up() -> Result<()> {
    let _alone = alone();
    let lab = Lab::up("kill-setup")?;
    // Milliseconds after the start. How far the setup is by then depends on the machine.
    let mut took = Vec::new();
    for delay in [0, 5, 15, 30, 60, 90, 120, 160, 200, 250, 300, 400, 500, 700] {
        let trace = Running::start(&mut trace::command(&lab, TRACE))?;
        wait::moment(Duration::from_millis(delay));
        let held = Held::by(&attached::agents(&lab)?);
        trace.signal(Signal::SIGKILL)?;
        took.push(gone(&lab, &held, &format!("{delay} ms after the start"))?);
    }
    note_median(took);
    works(&lab)
}

fn while_tracing(name: &str, flood: bool) -> Result<()> {
    let _alone = alone();
    let lab = Lab::up(name)?;
    let mut others = Vec::new();
    if flood {
        let mut server = lab.spawn("pod3", ["iperf3", "-s", "--forceflush"])?;
        server.wait_for_line("Server listening", SHORT)?;
        let mut client = lab.spawn("pod1", ["iperf3", "-c", POD3, "-t", "60", "--forceflush"])?;
        client.wait_for_line("[ ID]", SHORT)?;
        others.extend([server, client]);
    }
    let mut took = Vec::new();
    for _ in 0..3 {
        let trace = Trace::ready(&lab, TRACE)?;
        if !flood {
            lab.exec("pod1", [TRAFFIC, "echo", POD3, "5", "56"])?;
        }
        let held = Held::by(&attached::agents(&lab)?);
        let (programs, links) = held.count();
        ensure!(programs > 0 && links > 0, "the agents hold nothing: the test looks in the wrong place");
        ensure!(!attached::tcx(&lab)?.is_empty(), "nothing is attached: the test looks in the wrong place");
        trace.process().signal(Signal::SIGKILL)?;
        took.push(gone(&lab, &held, "while tracing")?);
    }
    note_median(took);
    drop(others);
    works(&lab)
}

/// Waits until nothing is left. Returns the time that it took.
fn gone(lab: &Lab, held: &Held, when: &str) -> Result<Duration> {
    let killed = Instant::now();
    let left = || -> Result<_> { Ok((attached::agents(lab)?, held.left()?, attached::tcx(lab)?)) };
    let nothing = (Vec::new(), Held::default(), Vec::new());
    wait::until(&format!("nothing is left of a tracer killed {when}"), GONE_AT_LAST, || {
        Ok((left()? == nothing).then_some(()))
    })
    .with_context(|| format!("agents, what they held, what is attached: {:?}", left()))?;
    Ok(killed.elapsed())
}

/// A whole trace in the same lab.
fn works(lab: &Lab) -> Result<()> {
    let finished = Trace::start(lab, TRACE.iter().chain(&["--probe", "icmp"]))?.finish()?;
    finished.complete()?;
    ensure!(finished.paths.len() == 2, "{} paths after a kill", finished.paths.len());
    Ok(())
}

fn clsact_trace(lab: &Lab, from: &str) -> Result<Running> {
    let mut command = trace::command(lab, ["--from", from, "--to", "pod3"]);
    let mut running = Running::start(command.env("PODTRACE_TC", "clsact"))?;
    running.wait_for_line("tracing ", SHORT)?;
    Ok(running)
}

/// The clsact qdiscs and filters of the lab's nodes.
fn clsact(lab: &Lab) -> Result<String> {
    let mut found = String::new();
    for node in ["node1", "node2"] {
        let qdiscs = lab.exec(node, ["tc", "qdisc", "show"])?.stdout;
        for line in qdiscs.lines().filter(|line| line.contains("clsact")) {
            found += &format!("{node}: {line}\n");
        }
        for device in ["cni0", "eth0", "flannel.1"] {
            for side in ["ingress", "egress"] {
                let filters = lab.command(node, ["tc", "filter", "show", "dev", device, side]);
                found += &podtrace_tests::command::run(&mut { filters }, SHORT)?.stdout;
            }
        }
    }
    Ok(found)
}

fn clsact_is_gone(lab: &Lab, within: Duration) -> Result<()> {
    wait::until("no clsact qdisc and no filter is left", within, || Ok(clsact(lab)?.is_empty().then_some(())))
}

fn tracer_with_clsact() -> Result<()> {
    let _alone = alone();
    let lab = Lab::up("kill-clsact")?;
    let trace = clsact_trace(&lab, "pod1")?;
    ensure!(clsact(&lab)?.contains("podtrace_"), "no filter is there: the test looks in the wrong place");
    trace.signal(Signal::SIGKILL)?;
    clsact_is_gone(&lab, GONE_AT_LAST)?;
    works(&lab)
}

/// A killed agent cannot clean up; the next one does.
fn agent_with_clsact() -> Result<()> {
    let _alone = alone();
    let lab = Lab::up("kill-agent")?;
    let trace = clsact_trace(&lab, "pod1")?;
    let agents = attached::agents(&lab)?;
    ensure!(agents.len() == 2, "there are {} agents", agents.len());
    for agent in agents {
        kill(Pid::from_raw(i32::try_from(agent)?), Signal::SIGKILL)?;
    }
    let ended = trace.finish(SHORT)?;
    ensure!(ended.stderr.contains("lost node1") && ended.stderr.contains("lost node2"), "{}", ended.stderr);
    ensure!(ended.stdout.contains("\"complete\":false"), "a lost agent, and yet: {}", ended.stdout);
    works(&lab)?;
    clsact_is_gone(&lab, GONE_AT_LAST)
}

/// With clsact the path is the same, and afterwards the devices are as before.
fn clsact_leaves_nothing() -> Result<()> {
    let lab = Lab::up("clsact")?;
    let mut command = trace::command(&lab, TRACE.iter().chain(&["--probe", "icmp"]));
    let output = podtrace_tests::command::run(command.env("PODTRACE_TC", "clsact"), SHORT)?;
    let finished = Finished::from(output)?;
    finished.complete()?;
    ensure!(
        finished.paths.len() == 2 && finished.paths.iter().all(|path| path.hops.len() == 8),
        "{}",
        finished.stdout
    );
    clsact_is_gone(&lab, GONE_AT_LAST)
}

/// The second one adds qdiscs that the first does not know of, and ends before it.
fn clsact_of_two_traces() -> Result<()> {
    let lab = Lab::up("clsact-two")?;
    let first = clsact_trace(&lab, "pod1")?;
    let second = clsact_trace(&lab, "pod2")?;
    for trace in [second, first] {
        Finished::from(trace.interrupt(SHORT)?)?.complete()?;
    }
    clsact_is_gone(&lab, GONE_AT_LAST)
}
