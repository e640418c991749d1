//! Starting a cluster.

use anyhow::{Context as _, Result, bail};

use super::control::{self, kubectl};
use super::image::Image;
use super::network::{self, NODES, namespace, path};
use super::node::Node;
use super::pki::{ADMIN, Pki, USER, kubeconfig};
use super::state::State;
use super::{Parts, objects};
use crate::run;

/// The file that is there once all was started.
const WHOLE: &str = "whole";

/// Starts one, unless one is up.
pub(super) fn up(state: &State, parts: &Parts) -> Result<()> {
    if state.exists() || !network::existing()?.is_empty() {
        let is_whole = is_whole(state, parts);
        is_whole.context("there is a cluster that does not work: `cargo xtask k8s down` removes it")?;
        println!("the cluster is up already");
    } else {
        start(state, parts)
            .context("the cluster did not start: `cargo xtask k8s down` removes what there is of it")?;
    }
    describe(state, parts);
    Ok(())
}

/// Whether everything that was started runs, and the API server answers.
fn is_whole(state: &State, parts: &Parts) -> Result<()> {
    if !state.path(WHOLE).exists() {
        bail!("it was not started to its end");
    }
    for (name, process) in state.processes()? {
        if !process.is_there() {
            bail!("{name} has ended: {}", state.last_words(&name));
        }
    }
    control::ready(state, parts)
}

fn start(state: &State, parts: &Parts) -> Result<()> {
    state.create()?;
    // What the tests run, wherever it was built.
    let kubectl = state.path("kubectl");
    std::os::unix::fs::symlink(parts.kubernetes.path("kubectl"), &kubectl)
        .with_context(|| format!("cannot write {}", kubectl.display()))?;
    run::watched("laying the cluster's wires", |_| network::lay())?;
    let pki = run::watched("signing certificates", |_| Pki::make(state))?;
    run::watched("starting the API server", |_| control::start(state, parts, &pki))?;
    run::watched("starting the nodes", |_| {
        let nodes: Vec<_> =
            NODES.iter().map(|place| Node::start(state, parts, place)).collect::<Result<_>>()?;
        let images = Image::all(state, parts)?;
        nodes.iter().try_for_each(|node| {
            node.import(&images)?;
            node.join(&pki)
        })
    })?;
    for capability in run::watched("starting pods and agents", |_| objects::make(state, parts))? {
        eprintln!("agents go without {capability}, which this machine has none of");
    }
    state.write(WHOLE, "").map(drop)
}

fn describe(state: &State, parts: &Parts) {
    let [one, other] = NODES.map(|node| namespace(node.name));
    let [laptop, world] = ["laptop", "world"].map(path);
    println!("nodes: network namespaces {one} and {other}; state and logs: {}", state.directory().display());
    println!("kubectl: {:?}", kubectl(state, parts));
    println!(
        "a laptop that reaches only the API server: nsenter --net={} podtrace --kubeconfig {} …",
        laptop.display(),
        kubeconfig(state, USER).display()
    );
    println!(
        "a host outside of the cluster: nsenter --net={}; administrator: {}",
        world.display(),
        kubeconfig(state, ADMIN).display()
    );
}
