//! A traced pod is deleted and created again during the trace: it keeps its name, and the change is reported.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_path::{Change, ChangeKind, Path, Place, Verdict};
use podtrace_tests::cluster::{Cluster, SETTLED, Who, nothing_runs, traced};
use podtrace_tests::command::Running;
use podtrace_tests::trace::Finished;
use podtrace_tests::wait;
use serde_json::{Value, json};

use crate::own;

/// What an agent is said to do after a change that concerns it.
const LOOKS: &str = "trace filter updated";

pub(crate) fn trials(cluster: &Arc<Cluster>) -> Vec<Trial> {
    vec![
        own(cluster, "pod-is-made-anew-while-it-is-traced", made_anew),
        own(cluster, "service-loses-and-gets-a-pod-while-it-is-traced", fewer_and_more),
    ]
}

/// A pod that can be deleted and made anew. Dropping it puts back what the cluster had before.
struct Pod<'a> {
    cluster: &'a Cluster,
    name: String,
    whole: Value,
    /// Whether it is one of the cluster's own.
    stays: bool,
}

impl<'a> Pod<'a> {
    /// One that is there.
    fn of(cluster: &'a Cluster, name: &str) -> Result<Self> {
        let whole = cluster.ask(["get", "pod", name, "-o", "json"])?;
        let mut whole: Value = serde_json::from_str(&whole).context("reading a pod")?;
        let known = whole.as_object_mut().context("a pod that is no object")?;
        known.remove("status");
        let metadata = whole["metadata"].as_object_mut().context("a pod without metadata")?;
        metadata.retain(|name, _| ["name", "namespace", "labels", "annotations"].contains(&name.as_str()));
        Ok(Self { cluster, name: name.to_owned(), whole, stays: true })
    }

    /// One more like it, on another node, for as long as this lasts.
    fn another(&self, name: &str, node: &str) -> Result<Self> {
        let mut whole = self.whole.clone();
        whole["metadata"]["name"] = json!(name);
        whole["metadata"]["annotations"] = json!({});
        whole["spec"]["nodeName"] = json!(node);
        let pod = Self { cluster: self.cluster, name: name.to_owned(), whole, stays: false };
        pod.make()?;
        Ok(pod)
    }

    fn make(&self) -> Result<()> {
        self.cluster.create(&self.whole.to_string())?;
        self.is_ready()
    }

    fn is_ready(&self) -> Result<()> {
        let timeout = format!("--timeout={}s", SETTLED.as_secs() / 2);
        self.cluster.ask(["wait", "--for=condition=Ready", "pod", &self.name, &timeout]).map(drop)
    }

    /// Returns when there is no pod of that name any more.
    fn delete(&self) -> Result<()> {
        self.cluster.ask(["delete", "pod", &self.name, "--ignore-not-found"]).map(drop)
    }

    fn address(&self) -> Result<IpAddr> {
        let finished = self.cluster.ask(["get", "pod", &self.name, "-o", "jsonpath={.status.podIP}"])?;
        finished.parse().with_context(|| format!("the address of {}: `{finished}`", self.name))
    }

    fn put_back(&self) -> Result<()> {
        if !self.stays {
            return self.delete();
        }
        let there = self.cluster.ask(["get", "pod", &self.name, "--ignore-not-found", "-o", "name"])?;
        if there.is_empty() { self.make() } else { self.is_ready() }
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.put_back() {
            eprintln!("the pod {} could not be put back: {error:#}", self.name);
        }
    }
}

fn start(cluster: &Cluster, ends: [&str; 4]) -> Result<Running> {
    traced(&mut cluster.podtrace(Who::User, ends.iter().chain(&["-o", "json", "-v"])))
}

/// Waits until a line that it tells has all of these in it.
fn tells(trace: &Running, parts: &[&str]) -> Result<()> {
    wait::until(&format!("it tells of {parts:?}"), SETTLED, || {
        let finished = trace.stdout();
        Ok(finished.lines().any(|line| parts.iter().all(|part| line.contains(part))).then_some(()))
    })
    .with_context(|| format!("its output:\n{}{}", trace.stdout(), trace.stderr()))
}

/// How often a node's agent has said that it looks for what is traced now.
fn looks(trace: &Running, node: &str) -> usize {
    let start = format!("{node}: {LOOKS}");
    trace.stderr().lines().filter(|line| line.contains(&start)).count()
}

/// Waits until it has said so more often than `before`.
fn looks_again(trace: &Running, node: &str, before: usize) -> Result<()> {
    wait::until(&format!("the trace filter of {node} is updated"), SETTLED, || {
        Ok((looks(trace, node) > before).then_some(()))
    })
    .with_context(|| format!("it said:\n{}{}", trace.stdout(), trace.stderr()))
}

fn ping(cluster: &Cluster, address: IpAddr) -> Result<()> {
    let ping = cluster.exec("pod1", &["ping", "-c", "1", &address.to_string()])?;
    ensure!(ping.code() == 0, "{ping:?}");
    Ok(())
}

/// Where a pod of node2 is.
fn on_node2(address: IpAddr) -> Place {
    Place { ips: vec![address], node: Some("node2".to_owned()) }
}

/// Whether an echo request and its reply crossed both nodes, reported with the names of the pods.
fn cross(paths: &[Path], address: IpAddr) -> bool {
    let crosses = |path: &&Path, from: &str, to: &str| {
        let on = |node: &str| path.hops.iter().filter(|hop| &*hop.node == node).count();
        (path.from.pod.as_deref(), path.to.pod.as_deref()) == (Some(from), Some(to))
            && [path.from.ip, path.to.ip].contains(&address)
            && path.verdict == Verdict::Delivered
            && (on("node1"), on("node2")) == (4, 4)
    };
    [("default/pod1", "default/pod3"), ("default/pod3", "default/pod1")]
        .iter()
        .all(|(from, to)| paths.iter().any(|path| crosses(&path, from, to)))
}

/// Pings until one is reported to have crossed: an agent may still have the previous filter.
fn ping_until_told(cluster: &Cluster, trace: &Running, address: IpAddr) -> Result<()> {
    wait::until(&format!("a ping of {address} is reported completely"), SETTLED, || {
        ping(cluster, address)?;
        let finished = trace.stdout();
        let paths: Vec<Path> = finished.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ok(cross(&paths, address).then_some(()))
    })
    .with_context(|| format!("its output:\n{}{}", trace.stdout(), trace.stderr()))
}

/// pod3 is deleted and made anew, on its node and with another address.
fn made_anew(cluster: &Cluster) -> Result<()> {
    let pod3 = Pod::of(cluster, "pod3")?;
    let old = pod3.address()?;
    let trace = start(cluster, ["--from", "pod1", "--to", "pod3"])?;
    ping(cluster, old)?;
    tells(&trace, &[r#""type":"path""#, "echo reply"])?;
    let nodes = ["node1", "node2"];
    let before = nodes.map(|node| looks(&trace, node));
    pod3.delete()?;
    tells(&trace, &[r#""type":"change""#, r#""what":"gone""#])?;
    pod3.make()?;
    let new = pod3.address()?;
    ensure!(new != old, "{old} was given again: the test has nothing to see");
    tells(&trace, &[r#""type":"change""#, &new.to_string()])?;
    for (node, before) in nodes.into_iter().zip(before) {
        looks_again(&trace, node, before)?;
    }
    ping_until_told(cluster, &trace, new)?;
    let finished = Finished::from(trace.interrupt(SETTLED)?)?;
    finished.complete().with_context(|| finished.stdout.clone())?;
    let whats: Vec<_> = finished.changes.iter().map(|change| (change.about.as_str(), change.kind)).collect();
    ensure!(
        whats == [("default/pod3", ChangeKind::Gone), ("default/pod3", ChangeKind::Back)],
        "{:?}",
        finished.changes
    );
    ensure!(finished.changes[0].was == Some(on_node2(old)), "{:?}", finished.changes);
    ensure!(finished.changes[1].now == Some(on_node2(new)), "{:?}", finished.changes);
    ensure!(cross(&finished.paths, old) && cross(&finished.paths, new), "{}", finished.stdout);
    let stranger = finished
        .paths
        .iter()
        .find(|path| ![path.from.ip, path.to.ip].iter().any(|ip| [old, new].contains(ip)));
    ensure!(stranger.is_none(), "{stranger:?}");
    nothing_runs()
}

/// Calls the Service `web` from pod1, and tells whether it was answered.
fn call(cluster: &Cluster, address: &str) -> Result<bool> {
    let script = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 80");
    let answer = cluster.exec("pod1", &["sh", "-c", &script])?;
    Ok(answer.code() == 0 && answer.stdout.ends_with("hello from a pod\n"))
}

/// Calls until one was answered since and the SYN of one to this pod is reported.
fn call_until(cluster: &Cluster, trace: &Running, address: &str, pod: &str) -> Result<()> {
    let count = |trace: &Running| {
        let answered = format!(r#""pod":"{pod}""#);
        let finished = trace.stdout();
        finished.lines().filter(|line| line.contains(r#""label":"SYN""#) && line.contains(&answered)).count()
    };
    let before = count(trace);
    wait::until(&format!("a call is answered by {pod}"), SETTLED, || {
        Ok((call(cluster, address)? && count(trace) > before).then_some(()))
    })
    .with_context(|| format!("its output:\n{}{}", trace.stdout(), trace.stderr()))
}

/// One of the two pods behind a Service goes, and comes back.
fn fewer_and_more(cluster: &Cluster) -> Result<()> {
    let address = cluster.ask(["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?;
    let pod5 = Pod::of(cluster, "pod3")?.another("pod5", "node1")?;
    stands_behind(cluster, &pod5)?;
    let trace = start(cluster, ["--from", "pod1", "--to", "svc/web:80"])?;
    pod5.delete()?;
    tells(&trace, &[r#""type":"change""#, r#""removed":["default/pod5"]"#])?;
    call_until(cluster, &trace, &address, "default/pod3")?;
    let before = looks(&trace, "node1");
    pod5.make()?;
    tells(&trace, &[r#""type":"change""#, r#""added":["default/pod5"]"#])?;
    looks_again(&trace, "node1", before)?;
    call_until(cluster, &trace, &address, "default/pod5")?;
    let finished = Finished::from(trace.interrupt(SETTLED)?)?;
    finished.complete().with_context(|| finished.stdout.clone())?;
    let whats: Vec<_> = finished
        .changes
        .iter()
        .map(|Change { about, kind, added, removed, .. }| (about.as_str(), *kind, added.len(), removed.len()))
        .collect();
    let web = "svc/default/web:80";
    ensure!(
        whats == [(web, ChangeKind::Endpoints, 0, 1), (web, ChangeKind::Endpoints, 1, 0)],
        "{:?}",
        finished.changes
    );
    nothing_runs()
}

/// Waits until a pod is behind the Service.
fn stands_behind(cluster: &Cluster, pod: &Pod<'_>) -> Result<()> {
    const NAMES: &str =
        "jsonpath={range .items[*].endpoints[?(@.conditions.ready==true)]}{.targetRef.name}{\"\\n\"}{end}";
    let words = ["get", "endpointslices", "-l", "kubernetes.io/service-name=web", "-o", NAMES];
    wait::until(&format!("{} is behind the Service", pod.name), SETTLED, || {
        Ok((cluster.ask(words)?.lines().any(|name| name == pod.name)).then_some(()))
    })
}
