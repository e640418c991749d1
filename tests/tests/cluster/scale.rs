//! A cluster with many pods and Services is traced as one with few: with little more memory, and hardly later.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use kube::Client;
use libtest_mimic::Trial;
use nix::libc;
use podtrace_tests::cluster::{Cluster, SETTLED, Who};
use podtrace_tests::command::run;
use podtrace_tests::{suite, wait};
use serde_json::{Value, json};

use crate::own;

/// How many of them.
const PODS: usize = 2_000;
const SERVICES: usize = 200;

/// How much more memory that may take.
const MORE: u64 = 20 << 20;

/// Requests at a time.
const AT_A_TIME: usize = 32;

/// Where they are, and on a node that is an object only.
const NAMESPACE: &str = "many";
const NODE: &str = "nowhere";

/// Traces, of which the median counts.
const TRACES: usize = 3;

/// How long a trace may take.
const TRACE: Duration = Duration::from_secs(60);

const ARGUMENTS: [&str; 9] = ["-q", "--from", "pod1", "--to", "pod3", "--probe", "icmp", "-o", "json"];

pub(crate) fn trials(cluster: &Arc<Cluster>) -> Vec<Trial> {
    vec![own(cluster, "thousands-of-pods", thousands)]
}

/// What a trace took.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// Until the first hops were reported.
    first: Duration,
    /// At most, in bytes.
    memory: u64,
}

fn thousands(cluster: &Cluster) -> Result<()> {
    let few = traces(cluster)?;
    let many = Many::make(cluster)?;
    settled()?;
    let taken = traces(cluster)?;
    drop(many);
    suite::note(&format!(
        "start to first hop: {:.2} s with 4 pods, {:.2} s with {PODS} pods and {SERVICES} Services; at most {:.1} and \
         {:.1} MiB of memory",
        few.first.as_secs_f64(),
        taken.first.as_secs_f64(),
        mebibytes(few.memory),
        mebibytes(taken.memory),
    ));
    let more = taken.memory.saturating_sub(few.memory);
    ensure!(more < MORE, "they took {:.1} MiB more of memory", mebibytes(more));
    Ok(())
}

/// Waits until the nodes know of all pods behind Services, and are at rest again.
fn settled() -> Result<()> {
    for node in ["node1", "node2"] {
        wait::until(&format!("{node} has rules for all pods"), SETTLED * 2, || {
            let rules = run(&mut Cluster::at(node, ["iptables-save", "-t", "nat"]), SETTLED)?.stdout;
            let leads_there = |rule: &&str| rule.contains("--to-destination 10.44.");
            Ok((rules.lines().filter(leads_there).count() == PODS).then_some(()))
        })?;
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The medians of several traces.
fn traces(cluster: &Cluster) -> Result<Taken> {
    let taken: Vec<_> = (0..TRACES).map(|_| trace(cluster)).collect::<Result<_>>()?;
    let mut first: Vec<_> = taken.iter().map(|taken| taken.first).collect();
    let mut memory: Vec<_> = taken.iter().map(|taken| taken.memory).collect();
    first.sort_unstable();
    memory.sort_unstable();
    Ok(Taken { first: first[TRACES / 2], memory: memory[TRACES / 2] })
}

/// A trace to its end, and what it took by the kernel's account.
fn trace(cluster: &Cluster) -> Result<Taken> {
    let mut podtrace = cluster.podtrace(Who::User, ARGUMENTS);
    let started = Instant::now();
    let mut child =
        podtrace.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting podtrace")?;
    let mut lines = BufReader::new(child.stdout.take().context("it has no stdout")?).lines();
    let line = lines.next().context("it reported nothing")?.context("reading its output")?;
    let first = started.elapsed();
    ensure!(line.starts_with(r#"{"type":"path""#), "it printed {line}");
    for line in lines {
        line.context("reading its output")?;
    }
    let (status, memory) = reap(i32::try_from(child.id())?)?;
    ensure!(status == 0, "it ended with {status}");
    ensure!(started.elapsed() < TRACE, "it took {:?}", started.elapsed());
    Ok(Taken { first, memory })
}

/// Waits for the end of a child: its status as the kernel tells it, and the most memory that it had.
fn reap(pid: i32) -> Result<(i32, u64)> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to what is written there, for as long as the call takes.
    let ended = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
    ensure!(ended == pid, "waiting for podtrace: {}", std::io::Error::last_os_error());
    // SAFETY: all zeroes are a valid one, and the kernel has filled it in.
    let usage = unsafe { usage.assume_init() };
    // In kibibytes.
    Ok((status, u64::try_from(usage.ru_maxrss)? << 10))
}

/// Many objects, removed when the test is over.
struct Many<'a>(&'a Cluster);

impl<'a> Many<'a> {
    fn make(cluster: &'a Cluster) -> Result<Self> {
        let many = Self(cluster);
        // No agent is for such a node: it has no label.
        cluster
            .apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}).to_string())?;
        cluster.apply(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}).to_string(),
        )?;
        wait::until("pods can have their account", SETTLED, || {
            let words = [
                "get",
                "serviceaccount",
                "default",
                "--ignore-not-found",
                "--namespace",
                NAMESPACE,
                "-o",
                "name",
            ];
            Ok((!cluster.ask(words)?.is_empty()).then_some(()))
        })?;
        cluster.on_api(async |client| {
            let pods = (0..PODS).map(|number| pod(client.clone(), number));
            stream::iter(pods).map(Ok).try_for_each_concurrent(AT_A_TIME, |pod| pod).await?;
            let services = (0..SERVICES).map(|number| service(client.clone(), number));
            stream::iter(services).map(Ok).try_for_each_concurrent(AT_A_TIME, |service| service).await
        })?;
        Ok(many)
    }
}

impl Drop for Many<'_> {
    fn drop(&mut self) {
        let removed = self.0.on_api(async |client| {
            // Nobody is on that node who would see to their end.
            let at_once = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
            send(&client, "DELETE", &format!("/api/v1/namespaces/{NAMESPACE}/pods"), &at_once).await?;
            send(&client, "DELETE", &format!("/api/v1/namespaces/{NAMESPACE}"), &json!({})).await?;
            send(&client, "DELETE", &format!("/api/v1/nodes/{NODE}"), &json!({})).await
        });
        if let Err(error) = removed {
            eprintln!("namespace {NAMESPACE} is left: {error:#}");
        }
    }
}

/// Makes a pod, and says of it what a kubelet would.
async fn pod(client: Client, number: usize) -> Result<()> {
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let name = format!("pod-{number}");
    let group = format!("group-{}", number % SERVICES);
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": group}},
        "spec": {"nodeName": NODE, "containers": [{"name": "main", "image": "none"}]},
    });
    send(&client, "POST", &pods, &pod).await?;
    let address = format!("10.44.{}.{}", number / 250, number % 250 + 1);
    let status = json!({"status": {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}],
    }});
    send(&client, "PATCH", &format!("{pods}/{name}/status"), &status).await
}

async fn service(client: Client, number: usize) -> Result<()> {
    let group = format!("group-{number}");
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": group},
        "spec": {"selector": {"app": group}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    send(&client, "POST", &format!("/api/v1/namespaces/{NAMESPACE}/services"), &service).await
}

async fn send(client: &Client, method: &str, path: &str, body: &Value) -> Result<()> {
    let kind = if method == "PATCH" { "application/strategic-merge-patch+json" } else { "application/json" };
    let request = http::Request::builder().method(method).uri(path).header("Content-Type", kind);
    let request = request.body(body.to_string().into_bytes()).context("a request")?;
    client.request::<Value>(request).await.with_context(|| format!("{method} {path}")).map(drop)
}
