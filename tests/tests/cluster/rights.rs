//! Each right of docs/kubernetes.md taken away in turn: what podtrace says names it.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_tests::cluster::{Cluster, SETTLED, Who, nothing_runs, traced};
use podtrace_tests::command::run;
use podtrace_tests::trace::Finished;
use podtrace_tests::wait;
use serde_json::{Value, json};

use crate::own;

const PING: [&str; 6] = ["--from", "pod1", "--to", "pod3", "--probe", "icmp"];

pub(crate) fn trials(cluster: &Arc<Cluster>) -> Vec<Trial> {
    vec![
        own(cluster, "rights-to-names-are-named", names),
        own(cluster, "right-to-watch-is-named", watch),
        own(cluster, "right-to-exec-is-named", exec),
        own(cluster, "without-any-right-the-error-is-one-line", none),
    ]
}

/// Waits until the API server knows what the user may do.
pub(crate) fn is_allowed(
    cluster: &Cluster,
    verb: &str,
    resource: &str,
    namespace: Option<&str>,
    wanted: bool,
) -> Result<()> {
    let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
    let mut words = vec!["auth", "can-i", verb, resource, "--as", "tracer-user", "--subresource", part];
    match namespace {
        Some(namespace) => words.extend(["--namespace", namespace]),
        None => words.push("--all-namespaces"),
    }
    wait::until(&format!("it is {wanted} that the user may {verb} {resource} {part}"), SETTLED, || {
        let finished = run(&mut cluster.kubectl(&words), SETTLED)?;
        Ok(((finished.stdout.trim() == "yes") == wanted).then_some(()))
    })
}

/// A role as it is, put back when the test is over.
struct Role<'a> {
    cluster: &'a Cluster,
    whole: Value,
}

impl<'a> Role<'a> {
    fn of(cluster: &'a Cluster, words: &[&str]) -> Result<Self> {
        let finished = cluster.ask(["get", "-o", "json"].iter().chain(words))?;
        let mut whole: Value = serde_json::from_str(&finished).context("reading a role")?;
        // Whoever puts it back is not asked what it was changed from.
        let metadata = whole["metadata"].as_object_mut().context("a role without metadata")?;
        metadata.retain(|name, _| ["name", "namespace", "labels"].contains(&name.as_str()));
        Ok(Self { cluster, whole })
    }

    /// With each of its rules changed so.
    fn change(&self, change: impl Fn(&mut Value)) -> Result<()> {
        self.replace(|rules| rules.iter_mut().for_each(change))
    }

    /// With its rules changed so.
    fn replace(&self, change: impl FnOnce(&mut Vec<Value>)) -> Result<()> {
        let mut changed = self.whole.clone();
        change(changed["rules"].as_array_mut().context("a role without rules")?);
        self.cluster.apply(&changed.to_string())
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.cluster.apply(&self.whole.to_string()) {
            eprintln!("a role could not be put back: {error:#}");
        }
    }
}

/// Takes a word out of a rule's list. A list may not be empty: it then holds one that means nothing.
fn without(rule: &mut Value, list: &str, word: &str) {
    if let Some(words) = rule[list].as_array_mut() {
        words.retain(|known| known != word);
        if words.is_empty() {
            words.push("nothing".into());
        }
    }
}

/// It does not run, and says in one line why.
fn refused(cluster: &Cluster, parts: &[&str]) -> Result<()> {
    let output = run(&mut cluster.podtrace(Who::User, PING), SETTLED)?;
    ensure!(output.code() == 1 && output.stdout.is_empty(), "{output:?}");
    ensure!(output.stderr.lines().count() == 1, "{}", output.stderr);
    for part in parts {
        ensure!(output.stderr.contains(part), "`{part}` is not in {}", output.stderr);
    }
    Ok(())
}

fn names(cluster: &Cluster) -> Result<()> {
    let role = Role::of(cluster, &["clusterrole", "podtrace-names"])?;
    for (resource, finished) in [
        ("nodes", "nodes"),
        ("pods", "pods"),
        ("services", "services"),
        // Asked for where there are no slices of this version, as here.
        ("endpoints", "endpoints"),
        ("endpointslices", "endpointslices.discovery.k8s.io"),
    ] {
        role.change(|rule| without(rule, "resources", resource))?;
        is_allowed(cluster, "list", finished, None, false)?;
        let gives = "kubectl create clusterrolebinding podtrace-YOU --clusterrole=podtrace-names";
        refused(cluster, &[&format!("does not let you list {finished} in the whole cluster"), gives])?;
        role.change(|_| {})?;
        is_allowed(cluster, "list", finished, None, true)?;
    }
    Ok(())
}

/// A trace stays with what there was when it began.
fn watch(cluster: &Cluster) -> Result<()> {
    const UNFOLLOWED: &str = "cluster changes are not watched";
    let role = Role::of(cluster, &["clusterrole", "podtrace-names"])?;
    let address = cluster.ask(["get", "pod", "pod3", "-o", "jsonpath={.status.podIP}"])?;
    // There are no slices of the version that is asked for here.
    for resource in ["pods", "services", "endpoints"] {
        // Two rules, as the others are to be watched still.
        role.replace(|rules| {
            let unwatched: Vec<_> = rules
                .iter_mut()
                .filter(|rule| holds(rule, "resources", resource))
                .map(|rule| {
                    let mut alone = rule.clone();
                    alone["resources"] = json!([resource]);
                    without(&mut alone, "verbs", "watch");
                    without(rule, "resources", resource);
                    alone
                })
                .collect();
            rules.extend(unwatched);
        })?;
        is_allowed(cluster, "watch", resource, None, false)?;
        is_allowed(cluster, "list", resource, None, true)?;
        let words = ["--from", "pod1", "--to", "pod3", "--proto", "icmp", "-o", "json"];
        let mut trace = traced(&mut cluster.podtrace(Who::User, words))?;
        trace.wait_for_line(&format!("warning: {UNFOLLOWED}"), SETTLED)?;
        let ping = cluster.exec("pod1", &["ping", "-c", "1", &address])?;
        ensure!(ping.code() == 0, "{ping:?}");
        let finished = Finished::from(trace.interrupt(SETTLED)?)?;
        finished.complete()?;
        ensure!(
            finished.paths.len() == 2 && finished.paths.iter().all(|path| path.hops.len() == 8),
            "{}",
            finished.stdout
        );
        let said: Vec<_> = finished.stderr.lines().filter(|line| line.contains(UNFOLLOWED)).collect();
        let named = format!("does not let you watch {resource} in the whole cluster");
        ensure!(
            said.len() == 1 && said[0].contains(&named),
            "`{named}` is not in it once: {}",
            finished.stderr
        );
        role.change(|_| {})?;
        is_allowed(cluster, "watch", resource, None, true)?;
    }
    nothing_runs()
}

fn holds(rule: &Value, list: &str, word: &str) -> bool {
    rule[list].as_array().is_some_and(|words| words.iter().any(|known| known == word))
}

fn exec(cluster: &Cluster) -> Result<()> {
    let role = Role::of(cluster, &["role", "podtrace-user", "--namespace", "podtrace"])?;
    let namespace = Some("podtrace");
    role.change(|rule| without(rule, "verbs", "get"))?;
    is_allowed(cluster, "get", "pods/exec", namespace, false)?;
    let gives = "kubectl -n podtrace create rolebinding podtrace-YOU --role=podtrace-user";
    refused(cluster, &["does not let you get pods/exec in namespace podtrace", gives])?;
    // A server of this age asks for the other one only.
    role.change(|rule| without(rule, "verbs", "create"))?;
    is_allowed(cluster, "get", "pods/exec", namespace, true)?;
    is_allowed(cluster, "create", "pods/exec", namespace, false)?;
    let output = run(&mut cluster.podtrace(Who::User, PING), SETTLED)?;
    ensure!(output.code() == 0, "{output:?}");
    role.change(|_| {})?;
    is_allowed(cluster, "create", "pods/exec", namespace, true)
}

/// All that is missing is named at once.
fn none(cluster: &Cluster) -> Result<()> {
    let role = Role::of(cluster, &["clusterrole", "podtrace-names"])?;
    role.change(|rule| without(rule, "verbs", "list"))?;
    for resource in ["nodes", "pods", "services", "endpointslices.discovery.k8s.io"] {
        is_allowed(cluster, "list", resource, None, false)?;
    }
    let missing = "does not let you list nodes in the whole cluster, nor list pods in the whole cluster, nor list \
                   services in the whole cluster, nor list endpointslices.discovery.k8s.io in the whole cluster";
    refused(cluster, &[missing])?;
    role.change(|_| {})?;
    is_allowed(cluster, "list", "pods", None, true)
}
