//! `podtrace doctor`.

use anyhow::{Context as _, Result, ensure};
use tracing::warn;

use super::args::{Doctor, DoctorFormat};
use super::look::{Looking, print};
use super::output::width;
use super::{FAILED, FINDINGS, SUCCESS, UsageError};
use podtrace_escape::shell_word;
use podtrace_protocol::inventory::{Endpoint, Inventory, Resolved, nearest_text, resolve};
use podtrace_report::doctor::{Limits, Way, examine};
use podtrace_report::output::doctor::{Shown, to_json, write};

pub(super) fn run(args: &Doctor) -> Result<u8> {
    let from = args.from.as_deref().map(endpoint).transpose()?;
    let to = args.to.as_deref().map(endpoint).transpose()?;
    let looking = Looking::begin(&args.look, "doctor")?;
    let inventory = &looking.inventory;
    check_nodes(&args.nodes, inventory)?;
    let namespace = args.namespace.as_deref().unwrap_or(&looking.namespace);
    let ends = match (from, to) {
        (None, None) => None,
        (from, to) => {
            let end = |end: Option<Endpoint>| resolve(&end.unwrap_or(Endpoint::Any), inventory, namespace);
            Some((end(from)?, end(to)?))
        }
    };
    let way = ends.as_ref().map(|(from, to)| Way::between(from, to));
    let limits = Limits { nodes: args.nodes.clone(), way };
    let surveys = looking.survey(true);
    let found = examine(&surveys, inventory, &limits);
    let next = ends.as_ref().map(|(from, to)| next(args, from, to));
    let shown = Shown { description: args.look.verbose > 0, next };
    print(&match args.output {
        DoctorFormat::Text => write(&found, &shown, width()),
        DoctorFormat::Json => to_json(&found).context("writing the findings as JSON")?,
    })?;
    let mut status = if found.is_healthy() { SUCCESS } else { FINDINGS };
    for survey in &surveys {
        if let Err(error) = &survey.found {
            warn!("{}: could not be read: {error}", survey.node);
            // What was found counts for more than what was not looked at.
            status = if found.is_healthy() { FAILED } else { FINDINGS };
        }
    }
    Ok(status)
}

fn endpoint(text: &str) -> Result<Endpoint> {
    text.parse::<Endpoint>().map_err(|error| UsageError(error.to_string()).into())
}

/// Names of nodes are those of the cluster.
fn check_nodes(wanted: &[String], inventory: &Inventory) -> Result<()> {
    for name in wanted {
        let known = || inventory.nodes.iter().map(|node| node.name.as_str());
        ensure!(
            known().any(|node| node == name),
            "the cluster has no node {name:?}; {}",
            nearest_text(name, "nodes", known())
        );
    }
    Ok(())
}

/// The trace that watches a packet on this way.
fn next(args: &Doctor, from: &Resolved, to: &Resolved) -> String {
    let mut words = vec!["sudo".to_owned(), "podtrace".to_owned()];
    let mut option = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            words.extend([name.to_owned(), shell_word(value)]);
        }
    };
    option("--from", args.from.as_deref());
    option("--to", args.to.as_deref());
    option("-n", args.namespace.as_deref());
    // A pod sends the packets of a probe, to one place.
    if from.pods.len() == 1 && from.service.is_empty() && !to.addresses.is_empty() {
        option("--probe", probe(to));
    }
    option("--cluster", args.look.cluster.as_deref().and_then(|path| path.to_str()));
    option("--kubeconfig", args.look.kubeconfig.as_deref().and_then(|path| path.to_str()));
    option("--context", args.look.context.as_deref());
    words.join(" ")
}

/// What is sent to an end: a Service answers at its ports only.
fn probe(to: &Resolved) -> Option<&'static str> {
    match to.service.first().and_then(podtrace_protocol::inventory::ServicePort::protocol_number) {
        Some(17) => Some("udp"),
        Some(6) => Some("tcp"),
        // Probes send nothing else.
        Some(_) => None,
        None if !to.ports.is_empty() => Some("tcp"),
        None => Some("icmp"),
    }
}
