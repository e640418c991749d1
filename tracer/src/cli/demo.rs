//! `podtrace demo`: shows what podtrace does, without a cluster.

use std::ops::ControlFlow;

use anyhow::{Context as _, Result, ensure};

use super::args::Format;
use super::output::{report, width};
use super::{FAILED, SUCCESS, notes, runtime};
use crate::files::Inputs;
use crate::lab::{Lab, RuleSet};
use crate::session::{Plan, ProbePlan, trace};
use podtrace_protocol::frame::{FilterSpec, ProbeKind, Side};
use podtrace_protocol::inventory::{Inventory, Pod, load};
use podtrace_report::output::View;
use podtrace_report::replay::Outcome;

/// A separate lab, so that the user's own one is not touched.
const LAB: &str = "demo";

pub(super) fn run() -> Result<u8> {
    notes::show_plain(true, 0);
    let lab = Lab::named(LAB)?;
    anstream::println!("{}\n", lab.up(None, Some(RuleSet::None))?);
    let shown = show(&lab);
    // Remove the lab even after an error.
    let removed = lab.down();
    let healthy = shown?;
    anstream::println!("\n{}", removed?);
    Ok(if healthy { SUCCESS } else { FAILED })
}

/// Traces both pings; returns whether both were delivered.
fn show(lab: &Lab) -> Result<bool> {
    let inventory = load(&lab.inventory_path())?;
    let runtime = runtime()?;
    let mut healthy = true;
    for (title, to) in [("On one node", "pod2"), ("Across two nodes, through the VXLAN tunnel", "pod3")] {
        anstream::println!("{title}:  podtrace --from pod1 --to {to} --probe icmp\n");
        let plan = ping(&inventory, "pod1", to)?;
        let mut report = report(Format::Text, View { width: width(), ..View::default() });
        let Outcome { summary, .. } =
            runtime.block_on(trace(&plan, &mut *report, &mut |_| ControlFlow::Continue(())))?;
        healthy &= summary.complete && summary.paths.delivered == 2;
        anstream::println!();
    }
    Ok(healthy)
}

/// One ICMP exchange between two pods of the lab.
fn ping(inventory: &Inventory, from: &str, to: &str) -> Result<Plan> {
    let pod = |name: &str| -> Result<&Pod> {
        let pod = inventory.pods.iter().find(|pod| pod.name == name);
        pod.with_context(|| format!("the lab has no pod {name}"))
    };
    let (from, to) = (pod(from)?, pod(to)?);
    ensure!(!from.ips.is_empty() && !to.ips.is_empty(), "the lab's pods have no addresses");
    let names = [&from.node, &to.node];
    Ok(Plan {
        title: format!("{} → {}", from.full_name(), to.full_name()),
        pods: None,
        nodes: inventory
            .nodes
            .iter()
            .map(|node| node.name.clone())
            .filter(|name| names.contains(&name))
            .collect(),
        tapped: Some([from.full_name(), to.full_name()].into()),
        filter: FilterSpec {
            from: Side { addresses: from.ips.clone(), ..Side::default() },
            to: Side { addresses: to.ips.clone(), ..Side::default() },
            protocol: Some(1),
            one_way: false,
            sample: None,
            stats: false,
        },
        probe: Some(ProbePlan {
            pod: from.full_name(),
            node: from.node.clone(),
            destination: to.ips[0],
            kind: ProbeKind::Icmp,
            exchanges: 1,
        }),
        count: None,
        timeout: Some(std::time::Duration::from_secs(20)),
        choice: None,
        write: None,
        inputs: Inputs::default(),
        snaplen: None,
        memory: podtrace_path::DEFAULT_MEMORY,
        inventory: inventory.clone(),
        following: None,
    })
}
