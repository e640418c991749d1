//! Looking at the nodes of a cluster without a trace: what `podtrace topology` and `podtrace doctor` share.

use std::io::{self, Write as _};
use std::sync::Arc;

use anstream::AutoStream;
use anyhow::{Context as _, Result, ensure};
use tracing::warn;

use super::args::Look;
use super::notes;
use super::output::choose_color;
use super::runtime;
use super::source::{self, Cluster};
use crate::agent::transport::AgentPods;
use crate::cluster::Wanted;
use crate::session::survey;
use podtrace_protocol::inventory::Inventory;
use podtrace_protocol::topology::Survey;

/// A cluster whose nodes can be looked at.
pub(super) struct Looking {
    /// Nodes, pods and Services.
    pub(super) inventory: Inventory,
    /// Namespace of endpoints given without one.
    pub(super) namespace: String,
    pods: Option<Arc<AgentPods>>,
    runtime: tokio::runtime::Runtime,
}

impl Looking {
    /// Finds the cluster, and shows messages as the options say. `command` is what needs root on nodes of this machine.
    pub(super) fn begin(args: &Look, command: &str) -> Result<Self> {
        choose_color(args.color);
        notes::show_plain(args.quiet, args.verbose);
        let wanted = Wanted {
            cluster: args.cluster.clone(),
            kubeconfig: args.kubeconfig.clone(),
            context: args.context.clone(),
        };
        let runtime = runtime()?;
        let image = args.agent_image.as_deref();
        let Cluster { inventory, namespace, pods, .. } = runtime.block_on(source::find(&wanted, image))?;
        let local = inventory.nodes.iter().any(|node| node.run.is_local());
        ensure!(
            !local || nix::unistd::geteuid().is_root(),
            "reading pods' network namespaces needs root: sudo podtrace {command}"
        );
        Ok(Self { inventory, namespace, pods, runtime })
    }

    /// Reads all nodes, with their packet filters if wanted, and removes temporary agent pods.
    pub(super) fn survey(&self, rules: bool) -> Vec<Survey> {
        self.runtime.block_on(async {
            let surveys = survey(&self.inventory, self.pods.as_deref(), rules).await;
            if let Some(pods) = &self.pods {
                for warning in pods.remove().await {
                    warn!("{warning}");
                }
            }
            surveys
        })
    }
}

/// Writes text with colours to stdout, which removes them where they are not wanted.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = AutoStream::auto(io::stdout());
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("writing to stdout")
}
