//! What is on the cluster: pods with listeners, Services before them, podtrace's agents, and a user's rights.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::command::{quietly, told};
use super::control::kubectl;
use super::network::NODES;
use super::state::State;
use super::{Parts, image};
use crate::wait;

const PODS: &str = include_str!("manifests/pods.yaml");
const RIGHTS: &str = include_str!("manifests/rights.yaml");

/// Capabilities that agents can do without on a newer kernel, and the kernel's numbers of them.
const DISPENSABLE: [(&str, u32); 1] = [("SYS_RESOURCE", 24)];

/// How long nodes and pods may take.
const READY: Duration = Duration::from_secs(90);

/// Makes all of them, and waits until they are ready. The capabilities that agents have to do without.
pub(super) fn make(state: &State, parts: &Parts) -> Result<Vec<&'static str>> {
    nodes_are_ready(state, parts)?;
    let apply = |objects: &str| told(kubectl(state, parts).args(["apply", "-f", "-"]), objects);
    wait::until("pods can have their account", READY, || {
        quietly(kubectl(state, parts).args(["get", "serviceaccount", "default"])).map(drop)
    })?;
    apply(&PODS.replace("@IMAGE@", image::TEST))?;
    let manifest = quietly(Command::new(&parts.podtrace).args(["manifest", "--no-admission-policy"]))?;
    let (manifest, lacking) = affordable(&manifest, capabilities()?);
    // The tests install agents anew.
    state.write("manifest.yaml", &manifest)?;
    apply(&manifest)?;
    apply(RIGHTS)?;
    for (namespace, pods) in [("default", 4), ("podtrace", NODES.len())] {
        wait::until("its pods are ready", READY, || ready(state, parts, namespace, pods))
            .with_context(|| format!("pods of the namespace {namespace}"))?;
    }
    Ok(lacking)
}

/// The capabilities that this process can hand on, as the kernel's bits.
fn capabilities() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read this process's status")?;
    let bits = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bits = bits.context("the kernel does not tell this process's capabilities")?;
    u64::from_str_radix(bits.trim(), 16).context("reading this process's capabilities")
}

/// The manifest without what this machine, a container perhaps, cannot give anybody; and what that is.
fn affordable(manifest: &str, capabilities: u64) -> (String, Vec<&'static str>) {
    let missing = |(_, bit): &&(&str, u32)| capabilities & (1 << bit) == 0;
    let missing: Vec<_> = DISPENSABLE.iter().filter(missing).map(|(name, _)| *name).collect();
    let affordable = |line: &&str| !missing.iter().any(|name| line.trim() == format!("- {name}"));
    let kept: Vec<_> = manifest.lines().filter(affordable).collect();
    (kept.join("\n") + "\n", missing)
}

fn nodes_are_ready(state: &State, parts: &Parts) -> Result<()> {
    wait::until("the nodes are ready", READY, || {
        let nodes = quietly(kubectl(state, parts).args(["get", "nodes", "--no-headers"]))?;
        let ready = nodes.lines().filter(|line| line.split_whitespace().nth(1) == Some("Ready")).count();
        ensure!(ready == NODES.len(), "{ready} of {} are", NODES.len());
        Ok(())
    })
    .with_context(|| {
        let [one, other] = NODES.map(|node| state.last_words(&format!("{}-kubelet", node.name)));
        format!("the kubelets' last words:\n{one}\n{other}")
    })
}

fn ready(state: &State, parts: &Parts, namespace: &str, wanted: usize) -> Result<()> {
    const READY: &str =
        "jsonpath={range .items[*]}{.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";
    let told = quietly(kubectl(state, parts).args(["--namespace", namespace, "get", "pods", "-o", READY]))?;
    let ready = told.lines().filter(|status| *status == "True").count();
    ensure!(ready == wanted, "{ready} of {wanted} are: {}", pods(state, parts, namespace));
    Ok(())
}

/// The pods as a person looks at them.
fn pods(state: &State, parts: &Parts, namespace: &str) -> String {
    let events = ["--namespace", namespace, "get", "pods,events", "--no-headers"];
    quietly(kubectl(state, parts).args(events)).unwrap_or_else(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_ask_for_what_the_machine_has() {
        let manifest = "add:\n- SYS_ADMIN\n- SYS_RESOURCE\n";
        assert_eq!(affordable(manifest, u64::MAX), (manifest.to_owned(), vec![]));
        let (less, lacking) = affordable(manifest, !(1 << 24));
        assert_eq!((less.as_str(), &lacking[..]), ("add:\n- SYS_ADMIN\n", &["SYS_RESOURCE"][..]));
    }
}
