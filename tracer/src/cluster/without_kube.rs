//! What stands for [`kube`](super::kube) in a podtrace that was built without Kubernetes support: the same names, and an
//! error wherever a server would be asked. Nothing else in the tree knows of the difference, but for the transport.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::PathBuf;

use podtrace_protocol::inventory::{Inventory, Node};

#[path = "kube/manifest.rs"]
#[expect(dead_code, reason = "no pods are made for agents")]
mod manifest;

pub use manifest::{default_image, manifest};

/// Why a cluster cannot be asked.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("this podtrace was built without Kubernetes support; describe the cluster by `--cluster FILE`")]
pub struct ApiError;

/// The API of a cluster, of which there is none.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    none: Infallible,
}

impl Api {
    /// No server is known.
    ///
    /// # Errors
    ///
    /// Always.
    pub async fn by_kubeconfig(_: &[PathBuf], _: Option<&str>) -> Result<Self, ApiError> {
        Err(ApiError)
    }

    /// No server is known.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn in_cluster() -> Result<Self, ApiError> {
        Err(ApiError)
    }

    /// The namespace of endpoints that are given without one.
    #[must_use]
    pub fn namespace(&self) -> &str {
        match self.none {}
    }

    /// Where the server is.
    #[must_use]
    pub fn account(&self) -> String {
        match self.none {}
    }
}

/// What this machine is to a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Machine;

impl Machine {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        Self
    }
}

/// A cluster as its API describes it.
#[derive(Debug)]
pub struct Described {
    /// Nodes, pods and Services.
    pub inventory: Inventory,
    /// What was noticed.
    pub notes: Vec<String>,
    /// How it is watched.
    pub watch: Watch,
}

/// Describes the cluster of an API.
///
/// # Errors
///
/// None: there is no API.
pub async fn describe(api: &Api, _: &Machine) -> Result<Described, ApiError> {
    match api.none {}
}

/// A cluster that can be watched.
#[derive(Clone, Debug)]
pub struct Watch {
    none: Infallible,
}

impl Watch {
    /// Begins to watch.
    #[must_use]
    pub fn begin(self) -> Watching {
        match self.none {}
    }
}

/// A cluster that is watched.
#[derive(Debug)]
pub struct Watching {
    none: Infallible,
}

impl Watching {
    /// The next news.
    pub async fn next(&mut self) -> Option<News> {
        match self.none {}
    }
}

/// News of a cluster.
#[derive(Clone, Debug)]
pub enum News {
    /// It has changed.
    Cluster {
        /// As it is now.
        inventory: Box<Inventory>,
        /// Pods that were made anew.
        recreated: BTreeSet<String>,
    },
    /// The server cannot be reached.
    Lost(ApiError),
    /// It can again.
    Back,
    /// Watching is not allowed.
    Denied(ApiError),
}

/// Pods that agents are started in.
#[derive(Debug)]
pub struct AgentPods {
    none: Infallible,
}

impl AgentPods {
    /// Pods of a cluster.
    #[must_use]
    pub fn new(api: Api, _: String) -> Self {
        match api.none {}
    }

    /// Removes the pods that were made.
    pub async fn remove(&self) -> Vec<String> {
        match self.none {}
    }
}

/// A command in a pod.
#[derive(Debug)]
pub struct Session {
    none: Infallible,
}

impl Session {
    pub(crate) fn expect_end(&self) {
        match self.none {}
    }

    pub(crate) async fn wait(&mut self) {
        match self.none {}
    }

    pub(crate) fn abandon(&self) {
        match self.none {}
    }
}

/// Starts an agent in a pod.
pub(crate) async fn connect<T>(pods: &AgentPods, _: &Node) -> anyhow::Result<T> {
    match pods.none {}
}
