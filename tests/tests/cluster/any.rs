//! What any cluster can be asked for, of whatever make: a ping between two nodes of it, by a user with all rights there
//! and none on this machine.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_path::{Direction, Verdict};
use podtrace_tests::cluster::{Cluster, SETTLED, Who};
use podtrace_tests::command::run;
use podtrace_tests::trace::Finished;
use podtrace_tests::{need, suite, wait};
use serde_json::json;

/// Environment variable that names what the pods run: an image with `sleep` in it.
const IMAGE: &str = "PODTRACE_TEST_IMAGE";

/// The image on our own cluster, and on others.
const OWN_IMAGE: &str = "localhost/podtrace-test:1";
const OTHER_IMAGE: &str = "busybox";

const NAMESPACE: &str = "podtrace-test";

pub(crate) fn trials(cluster: &Arc<Cluster>) -> Vec<Trial> {
    let needs: &[&str] = if cluster.is_own() { &["nsenter", "setpriv"] } else { &["kubectl", "setpriv"] };
    let cluster = Arc::clone(cluster);
    vec![suite::unless(need::missing(needs), "any-cluster-is-pinged-across", move || pinged(&cluster))]
}

/// A namespace with two pods on two nodes, as long as there are two.
struct Pods<'a>(&'a Cluster);

impl<'a> Pods<'a> {
    fn make(cluster: &'a Cluster) -> Result<Self> {
        let pods = Self(cluster);
        let names = cluster.ask(["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"])?;
        let nodes: Vec<_> = names.split_whitespace().collect();
        let image = if cluster.is_own() { OWN_IMAGE } else { OTHER_IMAGE };
        let image = std::env::var(IMAGE).unwrap_or_else(|_| image.to_owned());
        cluster.apply(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}).to_string(),
        )?;
        wait::until("pods can have their account", SETTLED, || {
            let words =
                ["get", "serviceaccount", "default", "--ignore-not-found", "-o", "name", "-n", NAMESPACE];
            Ok((!cluster.ask(words)?.is_empty()).then_some(()))
        })?;
        for (name, node) in [("one", nodes.first()), ("other", nodes.last())] {
            let pod = json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {
                    "nodeName": node.context("the cluster has no nodes")?,
                    "terminationGracePeriodSeconds": 0,
                    "automountServiceAccountToken": false,
                    "containers": [{"name": "main", "image": image, "command": ["sleep", "3600"]}],
                },
            });
            cluster.apply(&pod.to_string())?;
        }
        let ready = ["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s", "-n", NAMESPACE];
        cluster.ask(ready)?;
        Ok(pods)
    }
}

impl Drop for Pods<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.ask(["delete", "namespace", NAMESPACE, "--wait=false"]) {
            eprintln!("namespace {NAMESPACE} is left: {error:#}");
        }
    }
}

fn pinged(cluster: &Cluster) -> Result<()> {
    let before = cluster.agent_pods()?;
    let _pods = Pods::make(cluster)?;
    let ends = [format!("{NAMESPACE}/one"), format!("{NAMESPACE}/other")];
    let [from, to] = &ends;
    let arguments = ["--from", from, "--to", to, "--probe", "icmp", "-o", "json"];
    let finished = Finished::from(run(&mut cluster.podtrace(Who::Admin, arguments), SETTLED * 2)?)?;
    finished.complete().with_context(|| finished.stdout.clone())?;
    ensure!(finished.paths.len() == 2, "{}", finished.stdout);
    // Either may be reported first, within the error of the clocks.
    for (direction, ends) in [(Direction::Request, [from, to]), (Direction::Reply, [to, from])] {
        let path = finished.paths.iter().find(|path| path.flow.direction == direction);
        let path = path.with_context(|| format!("no {direction:?} in\n{}", finished.stdout))?;
        let pods = [path.from.pod.as_deref(), path.to.pod.as_deref()];
        let expected = ends.map(|end| Some(end.as_str()));
        ensure!(path.verdict == Verdict::Delivered && pods == expected, "{}", finished.stdout);
    }
    ensure!(
        cluster.agent_pods()? == before,
        "agents' pods before and after: {before:?}, {:?}",
        cluster.agent_pods()
    );
    Ok(())
}
