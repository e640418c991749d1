//! Ways to reach a node: each starts an agent there and carries its frames.

mod command;
#[cfg(feature = "kube")]
mod exec;
#[cfg(feature = "kube")]
mod pods;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::process::Child;

use podtrace_protocol::inventory::{Node, Run};

#[cfg(not(feature = "kube"))]
pub use crate::cluster::kube::AgentPods;
#[cfg(not(feature = "kube"))]
use crate::cluster::kube::{Session, connect as connect_in_pod};
#[cfg(feature = "kube")]
use exec::{Session, connect_in_pod};
#[cfg(feature = "kube")]
pub use pods::AgentPods;

/// An agent under way. Dropping it ends the agent.
pub struct Connection {
    /// To keep, so that the agent lives.
    pub process: Process,
    /// Frames to it.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    /// Frames from it.
    pub output: Box<dyn AsyncRead + Send + Unpin>,
}

/// What runs an agent.
pub enum Process {
    /// A command on this machine.
    Command(Child),
    /// A command in a pod.
    Exec(Session),
}

impl Process {
    /// Its end was asked for, and is no surprise.
    pub fn expect_end(&self) {
        if let Self::Exec(session) = self {
            session.expect_end();
        }
    }

    /// Waits until the agent has ended.
    pub async fn wait(&mut self) {
        match self {
            // If it cannot be waited for, there is nothing to wait for.
            Self::Command(child) => drop(child.wait().await),
            Self::Exec(session) => session.wait().await,
        }
    }

    /// Ends it.
    pub async fn kill(&mut self) {
        match self {
            // It may be gone by now, which is what was wanted.
            Self::Command(child) => drop(child.kill().await),
            Self::Exec(session) => session.abandon(),
        }
    }
}

/// Starts the agent of a node; `pods` are where those are started that only the Kubernetes API reaches.
///
/// # Errors
///
/// If the command cannot be started.
pub async fn connect(node: &Node, pods: Option<&AgentPods>) -> Result<Connection> {
    if node.run != Run::Kubernetes {
        return command::connect(node);
    }
    let pods = pods.with_context(|| {
        format!(
            "node {} is to be reached by the Kubernetes API, but it is a file that describes the cluster: name the API \
             by --kubeconfig FILE instead",
            node.name
        )
    })?;
    connect_in_pod(pods, node).await
}
