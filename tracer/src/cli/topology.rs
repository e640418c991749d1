//! `podtrace topology`.

use std::io::{self, IsTerminal as _, Write as _};

use anstream::AutoStream;
use anyhow::{Context as _, Result, ensure};
use terminal_size::{Width, terminal_size_of};
use tracing::warn;

use super::args::{Topology, TopologyFormat};
use super::notes;
use super::output::choose_color;
use super::source::{self, Found};
use super::{DONE, FAILED, runtime};
use crate::agent::transport::AgentPods;
use crate::cluster::Wanted;
use crate::session::survey;
use podtrace_protocol::inventory::Inventory;
use podtrace_protocol::topology::Survey;
use podtrace_report::output::map;

pub(super) fn run(args: &Topology) -> Result<u8> {
    choose_color(args.color);
    notes::show_plain(args.quiet, args.verbose);
    let wanted = Wanted {
        cluster: args.cluster.clone(),
        kubeconfig: args.kubeconfig.clone(),
        context: args.context.clone(),
    };
    let runtime = runtime()?;
    let image = args.agent_image.as_deref();
    let Found { inventory, pods, .. } = runtime.block_on(source::find(&wanted, image))?;
    let local = inventory.nodes.iter().any(|node| node.run.is_local());
    ensure!(
        !local || nix::unistd::geteuid().is_root(),
        "looking into the network namespaces of pods needs root: run it as root (sudo podtrace topology)"
    );
    let surveys = runtime.block_on(look(&inventory, pods.as_deref()));
    let told = match args.output {
        TopologyFormat::Text => map::draw(&surveys, &inventory, width()),
        TopologyFormat::Json => map::tell(&surveys, &inventory).context("telling the topology")?,
    };
    let mut out = AutoStream::auto(io::stdout());
    out.write_all(told.as_bytes()).and_then(|()| out.flush()).context("writing to stdout")?;
    let mut status = DONE;
    for survey in &surveys {
        if let Err(error) = &survey.found {
            warn!("{} was not looked at: {error}", survey.node);
            status = FAILED;
        }
        // The drawing has them, too.
        for warning in &survey.warnings {
            detail!("{}: {warning}", survey.node);
        }
    }
    Ok(status)
}

/// Looks at the nodes, and removes what was made for it.
async fn look(inventory: &Inventory, pods: Option<&AgentPods>) -> Vec<Survey> {
    let surveys = survey(inventory, pods).await;
    if let Some(pods) = pods {
        for left in pods.remove().await {
            warn!("{left}");
        }
    }
    surveys
}

/// Columns of the terminal; what goes elsewhere has room for all.
fn width() -> usize {
    match terminal_size_of(io::stdout()) {
        Some((Width(columns), _)) if io::stdout().is_terminal() => usize::from(columns),
        _ => usize::MAX,
    }
}
