//! One question to the agent of a node, outside of a trace.

use std::time::Duration;

use anyhow::{Context as _, Result};
use podtrace_protocol::frame::{FromAgent, ToAgent};
use podtrace_protocol::inventory::Node;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::connection::{AgentConnection, ConnectionId, INCOMING};
use super::lifecycle::{Action, Lifecycle};
use crate::agent::transport::{AgentPods, connect};

/// How often the agent's time limits are checked.
const CHECK_EVERY: Duration = Duration::from_millis(250);

/// Starts an agent, asks it a question, and ends it. `each` gets every frame; `true` ends the exchange.
pub(super) async fn ask(
    node: &Node,
    pods: Option<&AgentPods>,
    question: ToAgent,
    mut each: impl FnMut(FromAgent) -> bool,
) -> Result<()> {
    let (incoming, mut received) = mpsc::channel(INCOMING);
    let connection = AgentConnection::begin(ConnectionId(0), connect(node, pods).await?, incoming);
    connection.send(question);
    let mut lifecycle = Lifecycle::begin(Instant::now());
    lifecycle.connected(Instant::now());
    let mut checks = tokio::time::interval(CHECK_EVERY);
    let result = loop {
        let actions = tokio::select! {
            received = received.recv() => match received.map(|(_, received)| received) {
                Some(Ok(Some(frame))) => {
                    let actions = lifecycle.handle_frame(&frame, Instant::now());
                    if actions.is_empty() && each(frame) {
                        break Ok(());
                    }
                    actions
                }
                Some(Err(error)) => lifecycle.handle_close(Some(error), Instant::now()),
                Some(Ok(None)) | None => lifecycle.handle_close(None, Instant::now()),
            },
            _ = checks.tick() => lifecycle.tick(Instant::now(), false),
        };
        if let Some(Action::Lost(why)) = actions.into_iter().next() {
            break Err(anyhow::anyhow!(why));
        }
    };
    connection.end(false).await;
    result.with_context(|| format!("asking the agent on {}", node.name))
}
