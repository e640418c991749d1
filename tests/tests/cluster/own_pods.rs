//! Without installed agents: pods for as long as a trace takes, which are gone after, however it ends; and what it says
//! of each right that takes.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use podtrace_tests::cluster::{Cluster, SETTLED, Who, nothing_runs, traced};
use podtrace_tests::command::run;
use podtrace_tests::trace::Finished;
use podtrace_tests::wait;

use crate::own;
use crate::rights::is_allowed;

const PING: [&str; 8] = ["--from", "pod1", "--to", "pod3", "--probe", "icmp", "-o", "json"];

/// The nodes that agents are installed on.
const INSTALLED: usize = 2;

/// How long a pod stays that nobody came back to, with some to spare.
const IDLE: std::time::Duration = std::time::Duration::from_secs(120);

/// To begin with.
pub(crate) fn trials(cluster: &Arc<Cluster>) -> Vec<Trial> {
    vec![
        own(cluster, "own-pods-are-removed", removed),
        own(cluster, "own-pods-take-rights", rights),
        own(cluster, "own-pods-of-the-killed-end", killed),
    ]
}

/// In the end, when pods have had the time to end by themselves.
pub(crate) fn late_trials(cluster: &Arc<Cluster>) -> Vec<Trial> {
    vec![own(cluster, "own-pods-of-the-killed-are-removed", swept)]
}

/// What it takes to trace without installed agents, while it lasts.
struct Uninstalled<'a>(&'a Cluster);

impl<'a> Uninstalled<'a> {
    fn from(cluster: &'a Cluster) -> Result<Self> {
        let guard = Self(cluster);
        cluster.ask(["--namespace", "podtrace", "delete", "daemonset", "podtrace-agent"])?;
        cluster.agents_stand(0)?;
        Ok(guard)
    }

    fn install_again(&self) -> Result<()> {
        self.0.install()?;
        self.0.installed_agents_stand(INSTALLED)
    }
}

impl Drop for Uninstalled<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.install_again() {
            eprintln!("agents could not be installed again: {error:#}");
        }
    }
}

fn removed(cluster: &Cluster) -> Result<()> {
    let _uninstalled = Uninstalled::from(cluster)?;
    let trace = traced(&mut cluster.podtrace(Who::Admin, ["--from", "pod1", "--to", "pod3", "-o", "json"]))?;
    let pods = cluster.agent_pods()?;
    ensure!(
        pods.len() == 2 && pods.iter().all(|pod| pod.starts_with("podtrace/podtrace-agent-")),
        "{pods:?}"
    );
    let finished = Finished::from(trace.interrupt(SETTLED)?)?;
    finished.complete()?;
    ensure!(cluster.agent_pods()?.is_empty(), "left: {:?}", cluster.agent_pods());
    let finished = Finished::from(run(&mut cluster.podtrace(Who::Admin, PING), SETTLED)?)?;
    finished.complete()?;
    ensure!(
        finished.paths.len() == 2 && finished.paths.iter().all(|path| path.hops.len() == 8),
        "{}",
        finished.stdout
    );
    ensure!(cluster.agent_pods()?.is_empty(), "left: {:?}", cluster.agent_pods());
    nothing_runs()
}

/// The user may make pods, but for one thing at a time.
fn rights(cluster: &Cluster) -> Result<()> {
    let _uninstalled = Uninstalled::from(cluster)?;
    let allow = |verbs: &[&str]| -> Result<()> {
        let verbs = verbs.join(", ");
        cluster.apply(&format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: makes-pods, namespace: podtrace}}\n\
             rules: [{{apiGroups: [''], resources: [pods], verbs: [{verbs}]}}]\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
             metadata: {{name: makes-pods, namespace: podtrace}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: makes-pods}}\n\
             subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: tracer-user}}]\n"
        ))
    };
    let remove_pods =
        || cluster.ask(["--namespace", "podtrace", "delete", "pods", "--all", "--grace-period=0", "--force"]);
    for (allowed, missing, works) in [
        (&["get", "delete"][..], "create", false),
        // To get pods is a right that comes with their names, so it cannot be missing here.
        (&["create", "get"][..], "delete", true),
    ] {
        allow(allowed)?;
        is_allowed(cluster, missing, "pods", Some("podtrace"), false)?;
        is_allowed(cluster, "get", "pods", Some("podtrace"), true)?;
        let output = run(&mut cluster.podtrace(Who::User, PING), SETTLED)?;
        let named = format!("does not let you {missing} pods in namespace podtrace");
        ensure!(output.stderr.contains(&named), "`{named}` is not in {output:?}");
        ensure!((output.code() == 0) == works, "{output:?}");
        if works {
            let finished = Finished::from(output)?;
            finished.complete()?;
            ensure!(
                finished.stderr.contains("is left on the cluster, and ends by itself"),
                "{}",
                finished.stderr
            );
            remove_pods()?;
        }
        cluster.agents_stand(0)?;
    }
    allow(&["create", "delete", "get"])?;
    is_allowed(cluster, "delete", "pods", Some("podtrace"), true)?;
    let finished = Finished::from(run(&mut cluster.podtrace(Who::User, PING), SETTLED)?)?;
    finished.complete()?;
    ensure!(cluster.agent_pods()?.is_empty(), "left: {:?}", cluster.agent_pods());
    cluster.ask(["--namespace", "podtrace", "delete", "role,rolebinding", "makes-pods"]).map(drop)
}

/// Killed, podtrace can remove nothing: its agents end at once all the same.
fn killed(cluster: &Cluster) -> Result<()> {
    let _uninstalled = Uninstalled::from(cluster)?;
    let trace = traced(&mut cluster.podtrace(Who::Admin, ["--from", "pod1", "--to", "pod3", "-o", "json"]))?;
    trace.signal(Signal::SIGKILL)?;
    nothing_runs()?;
    ensure!(cluster.agent_pods()?.len() == 2, "they are there until they have been idle for a while");
    Ok(())
}

/// The pods of the killed have ended by themselves; the next trace of their nodes removes them.
fn swept(cluster: &Cluster) -> Result<()> {
    const PHASES: &str =
        "jsonpath={range .items[?(@.spec.restartPolicy==\"Never\")]}{.status.phase}{\"\\n\"}{end}";
    let words = ["--namespace", "podtrace", "get", "pods", "-o", PHASES];
    wait::until("the pods that were left have ended", IDLE, || {
        let phases = cluster.ask(words)?;
        Ok(phases.lines().all(|phase| phase == "Succeeded").then_some(()))
    })?;
    let left = cluster.ask(words)?.lines().count();
    let finished = Finished::from(run(&mut cluster.podtrace(Who::Admin, PING), SETTLED)?)?;
    finished.complete()?;
    cluster.agents_stand(INSTALLED).with_context(|| format!("{left} had been left"))?;
    ensure!(left == 2, "{left} had been left: the test looks in the wrong place");
    nothing_runs()
}
