//! The cluster of a command, from wherever it is described.

use std::sync::Arc;

use anyhow::Result;
use tracing::info;

use crate::agent::transport::AgentPods;
use crate::cluster::kube::{Api, Described, Machine, Watch, default_image, describe};
use crate::cluster::{self, Host, Source, Wanted};
use podtrace_protocol::inventory::{self, Inventory};

/// Namespace of endpoints named without one, where nothing says otherwise.
pub(super) const NAMESPACE: &str = "default";

/// A cluster.
pub(super) struct Found {
    /// What there is.
    pub(super) inventory: Inventory,
    /// Namespace of endpoints named without one.
    pub(super) namespace: String,
    /// Pods for agents, if it is the Kubernetes API that told us.
    pub(super) pods: Option<Arc<AgentPods>>,
    /// How it is watched, if it can be.
    pub(super) watch: Option<Watch>,
}

/// Finds the cluster, and says where. Agents are made of `image` where there are none.
pub(super) async fn find(wanted: &Wanted, image: Option<&str>) -> Result<Found> {
    let found = cluster::discover(wanted, &Host::here(crate::lab::running()))?;
    for place in &found.looked {
        detail!("{place}");
    }
    for note in &found.notes {
        info!("{note}");
    }
    let api = match &found.source {
        Source::Inventory(file) | Source::Lab(file) => {
            let inventory = inventory::load(file)?;
            return Ok(Found { inventory, namespace: NAMESPACE.to_owned(), pods: None, watch: None });
        }
        Source::Kubeconfig { files, context } => Api::by_kubeconfig(files, context.as_deref()).await?,
        Source::InCluster => Api::in_cluster()?,
    };
    detail!("{}", api.account());
    let Described { inventory, notes, watch } = describe(&api, &Machine::here()).await?;
    for note in &notes {
        detail!("{note}");
    }
    let namespace = api.namespace().to_owned();
    let image = image.map_or_else(default_image, str::to_owned);
    let pods = Some(Arc::new(AgentPods::new(api, image)));
    Ok(Found { inventory, namespace, pods, watch: Some(watch) })
}
