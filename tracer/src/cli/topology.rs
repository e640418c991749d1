//! `podtrace topology`.

use std::io::{self, Write as _};

use anstream::AutoStream;
use anyhow::{Context as _, Result, ensure};
use tracing::warn;

use super::args::{Topology, TopologyFormat};
use super::notes;
use super::output::{choose_color, width};
use super::source::{self, Cluster};
use super::{FAILED, SUCCESS, runtime};
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
    let Cluster { inventory, pods, .. } = runtime.block_on(source::find(&wanted, image))?;
    let local = inventory.nodes.iter().any(|node| node.run.is_local());
    ensure!(
        !local || nix::unistd::geteuid().is_root(),
        "reading pods' network namespaces needs root: sudo podtrace topology"
    );
    let surveys = runtime.block_on(survey_nodes(&inventory, pods.as_deref()));
    let text = match args.output {
        TopologyFormat::Text => map::draw(&surveys, &inventory, width()),
        TopologyFormat::Json => map::to_json(&surveys, &inventory).context("writing the topology as JSON")?,
    };
    let mut out = AutoStream::auto(io::stdout());
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("writing to stdout")?;
    let mut status = SUCCESS;
    for survey in &surveys {
        if let Err(error) = &survey.found {
            warn!("{}: could not read the topology: {error}", survey.node);
            status = FAILED;
        }
        // The drawing shows warnings, too.
        for warning in &survey.warnings {
            detail!("{}: {warning}", survey.node);
        }
    }
    Ok(status)
}

/// Reads the topology of all nodes, and removes temporary agent pods.
async fn survey_nodes(inventory: &Inventory, pods: Option<&AgentPods>) -> Vec<Survey> {
    let surveys = survey(inventory, pods).await;
    if let Some(pods) = pods {
        for warning in pods.remove().await {
            warn!("{warning}");
        }
    }
    surveys
}
