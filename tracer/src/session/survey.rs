//! Looking at the networking of all nodes, without tracing anything.

use anyhow::{Context as _, Result};
use futures_util::future::join_all;

use super::ask::ask;
use super::plan::pods_of;
use crate::agent::transport::AgentPods;
use crate::node::topology::Reading;
use podtrace_protocol::frame::{FromAgent, ToAgent};
use podtrace_protocol::inventory::{Inventory, Node};
use podtrace_protocol::topology::Survey;

/// Looks at all nodes at once; those that only the Kubernetes API reaches, by agents in `pods`. One that cannot be
/// reached says why, and keeps nobody waiting.
pub async fn survey(inventory: &Inventory, pods: Option<&AgentPods>) -> Vec<Survey> {
    join_all(inventory.nodes.iter().map(async |node| {
        let (found, warnings) = match look(inventory, node, pods).await {
            Ok(Reading { topology, warnings }) => (Ok(topology), warnings),
            Err(error) => (Err(format!("{error:#}")), Vec::new()),
        };
        Survey { node: node.name.clone(), addresses: node.addresses.clone(), found, warnings }
    }))
    .await
}

async fn look(inventory: &Inventory, node: &Node, pods: Option<&AgentPods>) -> Result<Reading> {
    let mut warnings = Vec::new();
    let mut topology = None;
    let question = ToAgent::Look { pods: pods_of(inventory, node) };
    ask(node, pods, question, |frame| {
        match frame {
            FromAgent::Warning { text } => warnings.push(text),
            FromAgent::Topology(found) => topology = Some(found),
            _ => {}
        }
        topology.is_some()
    })
    .await?;
    let topology = topology.with_context(|| format!("the agent on {} sent no topology", node.name))?;
    Ok(Reading { topology, warnings })
}
