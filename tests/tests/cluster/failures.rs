//! What fails while a trace goes on: an agent, the API server, a kubelet. The trace goes on, or says what is missing, and
//! nothing is left.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use podtrace_path::Direction;
use podtrace_tests::cluster::{Cluster, SETTLED, Who, agents_on, end, nothing_runs, traced};
use podtrace_tests::command::{Running, SHORT, run};
use podtrace_tests::trace::Finished;
use podtrace_tests::wait;

use crate::own;

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(10);

/// What is traced: traffic that no API is needed for.
const CALLS: [&str; 6] = ["--from", "192.168.56.1", "--to", "svc/web-nodeport", "-o", "json"];

pub(crate) fn trials(cluster: &Arc<Cluster>) -> Vec<Trial> {
    vec![
        own(cluster, "agent-is-killed", agent),
        own(cluster, "api-server-stands-still", api_server_stops),
        own(cluster, "api-server-is-killed", api_server_is_killed),
        own(cluster, "kubelet-is-restarted", kubelet),
    ]
}

/// A call from outside to the node port, at node1 and answered by a pod on node2.
fn call() -> Result<()> {
    let script = "exec 3<>/dev/tcp/192.168.56.11/30080; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    let call = run(&mut Cluster::at("world", ["timeout", "10", "bash", "-c", script]), SHORT)?;
    ensure!(call.stdout.ends_with("hello from a pod\n"), "{call:?}");
    Ok(())
}

fn start(cluster: &Cluster) -> Result<Running> {
    traced(&mut cluster.podtrace(Who::User, CALLS))
}

/// A trace that has reported a call, so that every node has reported its beginning.
fn start_with_call(cluster: &Cluster) -> Result<Running> {
    let mut trace = start(cluster)?;
    call()?;
    trace.wait_for_line(r#"{"type":"path""#, SHORT)?;
    Ok(trace)
}

/// The SYNs of calls, and over how many nodes each was followed.
fn calls(finished: &Finished) -> Vec<usize> {
    let calls =
        finished.paths.iter().filter(|path| path.label == "SYN" && path.flow.direction == Direction::Request);
    calls
        .map(|path| {
            let mut nodes: Vec<_> = path.hops.iter().map(|hop| &hop.node).collect();
            nodes.dedup();
            nodes.len()
        })
        .collect()
}

/// It does not look whole.
fn is_not_complete(finished: &Finished) -> Result<()> {
    let summary = finished.summary()?;
    ensure!(!summary.complete, "it looks whole: {summary:?}\n{}", finished.stderr);
    Ok(())
}

/// The next trace works.
fn works(cluster: &Cluster) -> Result<()> {
    let trace = start(cluster)?;
    call()?;
    let finished = Finished::from(trace.interrupt(SETTLED)?)?;
    finished.complete()?;
    ensure!(calls(&finished) == [2], "{}", finished.stdout);
    nothing_runs()
}

fn agent(cluster: &Cluster) -> Result<()> {
    let mut trace = start_with_call(cluster)?;
    let agents = agents_on("node2")?;
    ensure!(!agents.is_empty(), "no agent is on node2: the test looks in the wrong place");
    agents.into_iter().try_for_each(end)?;
    trace.wait_for_line("warning: lost node2", SHORT)?;
    call()?;
    let finished = Finished::from(trace.interrupt(SETTLED)?)?;
    is_not_complete(&finished)?;
    ensure!(finished.code == 0, "it ended with {}:\n{}", finished.code, finished.stderr);
    ensure!(calls(&finished) == [2, 1], "{:?} of\n{}", calls(&finished), finished.stdout);
    ensure!(finished.stderr.contains("what it saw from here on is missing"), "{}", finished.stderr);
    nothing_runs()?;
    works(cluster)
}

/// It stands still for a while: nothing of the traffic meanwhile is missing in the end.
fn api_server_stops(cluster: &Cluster) -> Result<()> {
    let trace = start_with_call(cluster)?;
    let server = cluster.process("kube-apiserver")?;
    server.signal(Signal::SIGSTOP)?;
    let called = call();
    wait::moment(AWAY);
    server.signal(Signal::SIGCONT)?;
    called?;
    ready(cluster)?;
    call()?;
    let finished = Finished::from(trace.interrupt(SETTLED)?)?;
    finished.complete()?;
    ensure!(calls(&finished) == [2, 2, 2], "{:?} of\n{}", calls(&finished), finished.stdout);
    nothing_runs()
}

fn ready(cluster: &Cluster) -> Result<()> {
    wait::until("the API server is ready", SETTLED, || {
        let finished =
            run(&mut cluster.kubectl(["--request-timeout=5s", "get", "--raw", "/readyz"]), SETTLED)?;
        Ok((finished.code() == 0).then_some(()))
    })
}

/// With the API server, the agents' connections are gone.
fn api_server_is_killed(cluster: &Cluster) -> Result<()> {
    let trace = start_with_call(cluster)?;
    let restarted = cluster.process("kube-apiserver")?.restart();
    let finished = Finished::from(trace.finish(SETTLED)?);
    restarted?;
    ready(cluster)?;
    let finished = finished?;
    is_not_complete(&finished)?;
    ensure!(finished.code == 1, "it ended with {}:\n{}", finished.code, finished.stderr);
    for node in ["node1", "node2"] {
        let line = format!("{node}: the connection through the Kubernetes API was lost");
        ensure!(finished.stderr.contains(&line), "`{line}` is not in {}", finished.stderr);
    }
    ensure!(calls(&finished) == [2], "{:?} of\n{}", calls(&finished), finished.stdout);
    nothing_runs()?;
    works(cluster)
}

/// With a node's kubelet, the connection to its agent is gone. Pods stay.
fn kubelet(cluster: &Cluster) -> Result<()> {
    let mut trace = start_with_call(cluster)?;
    cluster.process("node2-kubelet")?.restart()?;
    trace.wait_for_line("warning: lost node2", SHORT)?;
    call()?;
    let finished = Finished::from(trace.interrupt(SETTLED)?)?;
    is_not_complete(&finished)?;
    ensure!(finished.code == 0, "it ended with {}:\n{}", finished.code, finished.stderr);
    ensure!(calls(&finished) == [2, 1], "{:?} of\n{}", calls(&finished), finished.stdout);
    nothing_runs()?;
    wait::until("the kubelet lets commands run again", SETTLED, || {
        Ok((cluster.exec("pod3", &["echo"])?.code() == 0).then_some(()))
    })
    .context("node2")?;
    works(cluster)
}
