//! Looking at the networking of all nodes, without tracing anything.

use anyhow::Result;
use futures_util::future::join_all;

use super::ask::ask;
use super::plan::pods_of;
use crate::agent::transport::AgentPods;
use podtrace_protocol::frame::{FromAgent, ToAgent};
use podtrace_protocol::inventory::{Inventory, Node};
use podtrace_protocol::topology::{Survey, Topology};
use podtrace_rules::Rules;

/// Looks at all nodes at once; those that only the Kubernetes API reaches, by agents in `pods`. With `rules`, their packet
/// filters are read, too. One that cannot be reached says why, and keeps nobody waiting.
pub async fn survey(inventory: &Inventory, pods: Option<&AgentPods>, rules: bool) -> Vec<Survey> {
    join_all(inventory.nodes.iter().map(async |node| {
        let mut seen = Seen::default();
        let looked = look(inventory, node, pods, rules, &mut seen).await;
        let Seen { topology, rules, mut warnings } = seen;
        let found = match (looked, topology) {
            (Ok(()), Some(topology)) => Ok(topology),
            (Ok(()), None) => Err(format!("the agent on {} sent no topology", node.name)),
            // What it sent before is known all the same.
            (Err(error), Some(topology)) => {
                warnings.push(format!("{error:#}"));
                Ok(topology)
            }
            (Err(error), None) => Err(format!("{error:#}")),
        };
        Survey { node: node.name.clone(), addresses: node.addresses.clone(), found, rules, warnings }
    }))
    .await
}

/// What an agent has sent.
#[derive(Default)]
struct Seen {
    topology: Option<Topology>,
    rules: Option<Rules>,
    warnings: Vec<String>,
}

async fn look(
    inventory: &Inventory,
    node: &Node,
    pods: Option<&AgentPods>,
    rules: bool,
    seen: &mut Seen,
) -> Result<()> {
    let question = ToAgent::ReadTopology { pods: pods_of(inventory, node), rules };
    ask(node, pods, question, |frame| {
        match frame {
            FromAgent::Warning { text } => seen.warnings.push(text),
            FromAgent::Topology(found) => seen.topology = Some(found),
            FromAgent::Rules(found) => seen.rules = Some(found),
            _ => {}
        }
        seen.topology.is_some() && (seen.rules.is_some() || !rules)
    })
    .await
}
