//! The Kubernetes API as the only access to a cluster: for names, and for agents in pods.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_tests::api_server::{ApiServer, Cluster};
use podtrace_tests::attached;
use podtrace_tests::command::{Output, Running, SHORT, run};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::{binary, wait};
use serde_json::Value;

/// Time limit for a trace with its setup.
const TRACE: Duration = Duration::from_secs(60);

pub(crate) fn trials() -> Vec<Trial> {
    let needs = ["setpriv", "nsenter"];
    vec![
        trial("kubernetes-traces-without-rights-on-this-machine", &needs, without_rights),
        trial("kubernetes-removes-the-pods-it-made", &needs, own_pods),
        trial("kubernetes-ignores-a-tenants-agent", &needs, tenants_agent),
        trial("kubernetes-removes-its-pods-when-interrupted", &needs, interrupted),
        trial("kubernetes-names-the-right-to-exec", &needs, right_to_exec),
        trial("kubernetes-tells-a-lost-connection", &needs, lost),
        trial("kubernetes-topology", &needs, topology),
    ]
}

/// podtrace as a user without privileges, with a kubeconfig.
pub(crate) struct User {
    directory: tempfile::TempDir,
}

impl User {
    pub(crate) fn of(server: &ApiServer) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        // Not where only root gets to, as the binary may be.
        let permissions = fs::Permissions::from_mode(0o755);
        let directory = tempfile::Builder::new().permissions(permissions).tempdir()?;
        binary::copy_to(&directory.path().join("podtrace"))?;
        fs::write(directory.path().join("kubeconfig"), server.kubeconfig())?;
        Ok(Self { directory })
    }

    pub(crate) fn podtrace(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(self.directory.path().join("podtrace")).args(arguments);
        command.arg("--kubeconfig").arg(self.directory.path().join("kubeconfig"));
        command.env("HOME", "/nonexistent").env("NO_COLOR", "1");
        for variable in ["KUBECONFIG", "SUDO_USER", "PODTRACE_LAB", "PODTRACE_AGENT_IMAGE"] {
            command.env_remove(variable);
        }
        command
    }
}

const PING: [&str; 8] = ["--from", "pod1", "--to", "pod3", "--probe", "icmp", "-o", "json"];

/// Checks that an echo request and its reply were followed over both nodes without loss.
fn check_ping(output: &Output) -> Result<()> {
    ensure!(output.code() == 0, "it ended with {}:\n{}{}", output.code(), output.stdout, output.stderr);
    let lines: Vec<Value> =
        output.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("no JSON")?;
    let summary = lines.last().context("it reported nothing")?;
    ensure!(summary["complete"] == true, "{summary}");
    let paths: Vec<_> = lines.iter().filter(|line| line["type"] == "path").collect();
    // The reply may be over first.
    let mut ends: Vec<_> =
        paths.iter().map(|path| (path["from"]["pod"].as_str(), path["to"]["pod"].as_str())).collect();
    let (one, three) = (Some("default/pod1"), Some("default/pod3"));
    ends.sort_unstable();
    ensure!(ends == [(one, three), (three, one)], "{ends:?}");
    for path in paths {
        let hops = path["hops"].as_array().context("a path without hops")?;
        let on = |node: &str| hops.iter().filter(|hop| hop["node"] == node).count();
        ensure!(path["verdict"] == "delivered" && on("node1") >= 4 && on("node2") >= 4, "{path}");
    }
    Ok(())
}

fn without_rights() -> Result<()> {
    let lab = Lab::up("kube-user")?;
    let server = ApiServer::start(&lab, Cluster { installed: true, ..Cluster::default() })?;
    let user = User::of(&server)?;
    check_ping(&run(&mut user.podtrace(&PING), TRACE)?)?;
    ensure!(server.asked("POST") == 0 && server.asked("DELETE") == 0, "it made or removed pods");
    ensure!(attached::tcx(&lab)?.is_empty(), "something is still attached");
    Ok(())
}

fn own_pods() -> Result<()> {
    let lab = Lab::up("kube-pods")?;
    let server = ApiServer::start(&lab, Cluster::default())?;
    server.leave_behind("node2", "podtrace-agent-old");
    let user = User::of(&server)?;
    check_ping(&run(&mut user.podtrace(&PING), TRACE)?)?;
    ensure!(server.asked("POST") == 2, "it made {} pods on two nodes", server.asked("POST"));
    ensure!(server.agent_pods().is_empty(), "left: {:?}", server.agent_pods());
    Ok(())
}

/// Whoever labels a pod as an agent's neither serves a trace nor loses the pod.
fn tenants_agent() -> Result<()> {
    let lab = Lab::up("kube-tenant")?;
    let server = ApiServer::start(&lab, Cluster { installed: true, ..Cluster::default() })?;
    for (namespace, name) in [("tenant", "podtrace-agent-x"), ("podtrace", "podtrace-agent-zz")] {
        server.label_as_agent(namespace, "node2", name, "Running");
    }
    server.label_as_agent("tenant", "node2", "podtrace-agent-ended", "Succeeded");
    let pods = server.agent_pods();
    let user = User::of(&server)?;
    check_ping(&run(&mut user.podtrace(&PING), TRACE)?)?;
    for (namespace, name) in [("tenant", "podtrace-agent-x"), ("podtrace", "podtrace-agent-zz")] {
        let exec = format!("GET /api/v1/namespaces/{namespace}/pods/{name}/exec");
        ensure!(server.asked(&exec) == 0, "an agent was started in {namespace}/{name}");
    }
    ensure!(server.asked("DELETE") == 0 && server.agent_pods() == pods, "left: {:?}", server.agent_pods());
    Ok(())
}

fn interrupted() -> Result<()> {
    let lab = Lab::up("kube-int")?;
    let server = ApiServer::start(&lab, Cluster { slow: true, ..Cluster::default() })?;
    let user = User::of(&server)?;
    let trace = Running::start(&mut user.podtrace(&PING))?;
    // It has made its pods and looks whether they run.
    wait::until("it waits for its pods", SHORT, || {
        Ok((server.asked("GET /api/v1/namespaces/podtrace/pods/") >= 2).then_some(()))
    })?;
    ensure!(server.agent_pods().len() == 2, "{:?}", server.agent_pods());
    let output = trace.interrupt(SHORT)?;
    ensure!(output.code() == 1 && output.stderr.contains("interrupted before"), "{output:?}");
    ensure!(server.agent_pods().is_empty(), "left: {:?}", server.agent_pods());
    Ok(())
}

fn right_to_exec() -> Result<()> {
    let lab = Lab::up("kube-exec")?;
    // One agent's end ends the trace while the other's pod is being made, which must not stay.
    let cluster = Cluster { forbidden: Some("/exec"), slow_to_answer: Some("node2"), ..Cluster::default() };
    let server = ApiServer::start(&lab, cluster)?;
    let user = User::of(&server)?;
    let output = run(&mut user.podtrace(&PING), TRACE)?;
    ensure!(output.code() == 1 && output.stderr.lines().count() == 1, "{output:?}");
    for part in ["does not let you get pods/exec in namespace podtrace", "--role=podtrace-user"] {
        ensure!(output.stderr.contains(part), "`{part}` is not in {}", output.stderr);
    }
    ensure!(server.agent_pods().is_empty(), "left: {:?}", server.agent_pods());
    Ok(())
}

/// When both connections break during a trace, it says so, is incomplete, and the agents end.
fn lost() -> Result<()> {
    let lab = Lab::up("kube-lost")?;
    let server = ApiServer::start(&lab, Cluster { installed: true, ..Cluster::default() })?;
    let user = User::of(&server)?;
    let mut trace = Running::start(&mut user.podtrace(&["--from", "pod1", "--to", "pod3", "-o", "json"]))?;
    trace.wait_for_line("tracing ", TRACE)?;
    server.cut();
    let output = trace.finish(TRACE)?;
    ensure!(output.code() == 1, "it ended with {}", output.code());
    for node in ["node1", "node2"] {
        let line = format!("{node}: the connection through the Kubernetes API was lost");
        ensure!(output.stderr.contains(&line), "`{line}` is not in {}", output.stderr);
    }
    ensure!(output.stdout.contains("\"complete\":false"), "{}", output.stdout);
    wait::until("nothing is attached any more", SHORT, || Ok(attached::tcx(&lab)?.is_empty().then_some(())))
}

fn topology() -> Result<()> {
    let lab = Lab::up("kube-map")?;
    let server = ApiServer::start(&lab, Cluster::default())?;
    let user = User::of(&server)?;
    let output = run(&mut user.podtrace(&["topology"]), TRACE)?;
    ensure!(output.code() == 0, "{output:?}");
    for pod in ["pod1", "pod2", "pod3", "pod4"] {
        ensure!(output.stdout.contains(&format!("default/{pod}\n")), "{pod} is missing:\n{}", output.stdout);
    }
    ensure!(server.agent_pods().is_empty(), "left: {:?}", server.agent_pods());
    Ok(())
}
