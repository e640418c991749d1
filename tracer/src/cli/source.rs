//! Finds the cluster for a command and reads its inventory.

use std::sync::Arc;

use anyhow::Result;
use tracing::info;

use crate::agent::transport::AgentPods;
use crate::cluster::kube::{Api, Described, Machine, Watch, default_image, describe};
use crate::cluster::{self, Host, Source, Wanted};
use podtrace_protocol::inventory::{self, Inventory};

/// Default namespace of endpoints, if the kubeconfig has none.
pub(super) const NAMESPACE: &str = "default";

/// A cluster and how to reach it.
pub(super) struct Cluster {
    /// Nodes, pods and Services.
    pub(super) inventory: Inventory,
    /// Namespace of endpoints given without one.
    pub(super) namespace: String,
    /// Starts agents in pods; `None` without the Kubernetes API.
    pub(super) pods: Option<Arc<AgentPods>>,
    /// Watches cluster changes; `None` without the Kubernetes API.
    pub(super) watch: Option<Watch>,
}

/// Finds the cluster and reports where. `image` is for temporary agents.
pub(super) async fn find(wanted: &Wanted, image: Option<&str>) -> Result<Cluster> {
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
            return Ok(Cluster { inventory, namespace: NAMESPACE.to_owned(), pods: None, watch: None });
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
    Ok(Cluster { inventory, namespace, pods, watch: Some(watch) })
}
