//! The agents of a trace: their lifecycles, their connections, and how they start together.
//!
//! Input: events of connections ([`Event`]), timer ticks, and requests of the session (add an agent, send a frame, stop).
//! Output: notifications for the session ([`Notification`]). The state machine of a single agent is in
//! [`lifecycle`](super::lifecycle).
//!
//! ```text
//! every initial agent:  attach ─┐ all attached ┌─ compare clocks ─┐ all compared ┌─ start
//! an agent that joins:  attach ───────────────── compare clocks ───────────────── start
//! ```
//!
//! 1. Initial agents wait for each other twice: to compare clocks on quiet nodes, and to start together, so that no path
//!    misses its beginning. If one fails, the trace ends.
//! 2. An agent that joins later waits for nobody. The session gets its frames twice: at once, to report its set-up
//!    ([`Notification::SetUp`]), and together once it traces, for the engine ([`Notification::Joined`]).
//! 3. An agent that is lost after the trace has begun is started again, also one that joined late and whose first set-up
//!    failed. The delay doubles from [`RETRY_FIRST`] to [`RETRY_MAX`], and begins anew once an agent has traced for
//!    [`STABLE_AFTER`]. The engine gets it as a new node, because the events between are missing.
//!
//! Limits: while no agent traces, the session ends the trace, so an only agent is not started again. Until a lost agent
//! traces again, at least [`RETRY_FIRST`] and a set-up later, its node's events are missing.

mod actions;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures_util::future::join_all;
use podtrace_protocol::frame::{Configuration, FromAgent, ToAgent};
use podtrace_protocol::inventory::Node;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tracing::debug;

use super::configured::differs;
use super::connection::{AgentConnection, ConnectionId, INCOMING, Received};
use super::lifecycle::{Lifecycle, SILENCE_WARNING, Stage};
use crate::agent::transport::{AgentPods, Connection, connect};

/// How long after its loss an agent is started again; each further time doubles it.
const RETRY_FIRST: Duration = Duration::from_secs(2);

/// Maximum of this delay.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// How long an agent must have traced for its earlier restarts not to count.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// Index of an agent among those of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AgentId(usize);

/// Number of an attempt to start an agent, among those of this agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt(u64);

/// An event of a connection.
pub(super) enum Event {
    /// A frame came, or the stream ended.
    Received(Received),
    /// An attempt to start an agent ended.
    Connected(AgentId, Attempt, Result<Connection>),
}

/// What the session has to know. `node` is the agent's node number in the engine.
#[derive(Debug)]
pub(super) enum Notification {
    /// A frame of an agent that is being set up. `node` is `None` if the engine does not know the agent yet.
    SetUp { agent: AgentId, node: Option<usize>, frame: FromAgent },
    /// A frame of an agent that traces.
    Frame { agent: AgentId, node: usize, frame: FromAgent },
    /// An agent started to trace after the trace began. `frames` are those held of its set-up. The session gives it a
    /// node number with [`Agents::set_node`].
    Joined { agent: AgentId, frames: Vec<FromAgent> },
    /// An agent ended. `why` is `None` after the goodbye that it was asked for, else the error.
    Left { agent: AgentId, node: usize, why: Option<String> },
    /// The first set-up of an agent failed.
    Failed { agent: AgentId, why: String },
}

/// One agent.
struct Agent {
    node: Node,
    lifecycle: Lifecycle,
    /// The last attempt to start it. Results of earlier ones, which were given up, do not count.
    attempt: Attempt,
    /// Ends the task of this attempt.
    attempt_task: Option<AbortHandle>,
    connection: Option<(ConnectionId, AgentConnection)>,
    /// What it traces.
    configuration: Configuration,
    /// Its node number in the engine; `None` until it joins.
    node_number: Option<usize>,
    /// Frames of its set-up, held until it joins.
    held_frames: Vec<FromAgent>,
    /// When it began to trace; `None` while it does not.
    tracing_since: Option<Instant>,
    /// Whether it has ever traced.
    has_traced: bool,
    /// Restarts since it last traced for [`STABLE_AFTER`].
    restarts: u32,
    restart_at: Option<Instant>,
}

/// The agents of a trace.
pub(super) struct Agents {
    agents: Vec<Agent>,
    /// Whether all initial agents have begun to trace. It stays so when one is lost.
    has_begun: bool,
    is_stopping: bool,
    /// Frames of all connections.
    incoming: mpsc::Receiver<Received>,
    /// Cloned for each new connection.
    incoming_sender: mpsc::Sender<Received>,
    last_connection_id: ConnectionId,
    connecting: JoinSet<(AgentId, Attempt, Result<Connection>)>,
    /// Agents' processes that are shutting down.
    terminating: JoinSet<()>,
    agent_pods: Option<Arc<AgentPods>>,
    /// Addresses of nodes, which masquerading may put in place of a pod's.
    node_addresses: BTreeSet<IpAddr>,
}

impl Agents {
    /// Begins to start the initial agents. A node that only the Kubernetes API can reach gets its agent in one of
    /// `agent_pods`.
    pub(super) fn begin(
        nodes: impl Iterator<Item = (Node, Configuration)>,
        agent_pods: Option<Arc<AgentPods>>,
        node_addresses: BTreeSet<IpAddr>,
        now: Instant,
    ) -> Self {
        let (incoming_sender, incoming) = mpsc::channel(INCOMING);
        let mut agents = Self {
            agents: Vec::new(),
            has_begun: false,
            is_stopping: false,
            incoming,
            incoming_sender,
            last_connection_id: ConnectionId(0),
            connecting: JoinSet::new(),
            terminating: JoinSet::new(),
            agent_pods,
            node_addresses,
        };
        for (number, (node, configuration)) in nodes.enumerate() {
            agents.add(node, configuration, Some(number), now);
        }
        agents
    }

    /// Starts an agent on one more node.
    pub(super) fn add_late(&mut self, node: Node, configuration: Configuration, now: Instant) {
        self.add(node, configuration, None, now);
    }

    fn add(&mut self, node: Node, configuration: Configuration, node_number: Option<usize>, now: Instant) {
        let id = AgentId(self.agents.len());
        self.agents.push(Agent {
            node,
            lifecycle: Lifecycle::begin(now),
            attempt: Attempt(0),
            attempt_task: None,
            connection: None,
            configuration,
            node_number,
            held_frames: Vec::new(),
            tracing_since: None,
            has_traced: false,
            restarts: 0,
            restart_at: None,
        });
        self.connect(id);
    }

    fn connect(&mut self, id: AgentId) {
        let agent = &mut self.agents[id.0];
        agent.attempt.0 += 1;
        let (attempt, node, pods) = (agent.attempt, agent.node.clone(), self.agent_pods.clone());
        let task = async move { (id, attempt, connect(&node, pods.as_deref()).await) };
        agent.attempt_task = Some(self.connecting.spawn(task));
    }

    /// Name of an agent's node.
    pub(super) fn name(&self, id: AgentId) -> &str {
        &self.agents[id.0].node.name
    }

    /// The agent that traces on a node of this name.
    pub(super) fn tracing_agent_on(&self, node: &str) -> Option<AgentId> {
        let mut agents = self.agents.iter();
        agents
            .position(|agent| agent.node.name == node && agent.lifecycle.stage() == Stage::Tracing)
            .map(AgentId)
    }

    /// Sets the node number that an agent has in the engine.
    pub(super) fn set_node(&mut self, id: AgentId, number: usize) {
        self.agents[id.0].node_number = Some(number);
    }

    /// Whether all initial agents have begun to trace.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether no agent traces or stops: each is being set up, waits to be started again, or has ended.
    pub(super) fn no_agent_traces(&self) -> bool {
        let mut stages = self.agents.iter().map(|agent| agent.lifecycle.stage());
        !stages.any(|stage| matches!(stage, Stage::Tracing | Stage::Stopping))
    }

    /// Waits for the next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> Event {
        let Self { incoming, connecting, .. } = self;
        loop {
            tokio::select! {
                Some(received) = incoming.recv() => return Event::Received(received),
                Some(connected) = connecting.join_next() => {
                    // An attempt that was given up, or one that panicked: that is on stderr, and its agent fails by the
                    // time limit of its set-up.
                    let Ok((id, attempt, connection)) = connected else { continue };
                    return Event::Connected(id, attempt, connection);
                }
                else => std::future::pending::<()>().await,
            }
        }
    }

    /// Handles an event.
    pub(super) fn handle(&mut self, event: Event, now: Instant) -> Vec<Notification> {
        let mut notifications = Vec::new();
        match event {
            Event::Connected(id, attempt, connected) => {
                let agent = &mut self.agents[id.0];
                if agent.attempt != attempt || agent.lifecycle.stage() != Stage::Connecting {
                    // It was given up, or the trace ends: dropping a connection ends its agent.
                    return notifications;
                }
                let actions = match connected {
                    Ok(connection) => {
                        self.last_connection_id.0 += 1;
                        let (id, incoming) = (self.last_connection_id, self.incoming_sender.clone());
                        agent.connection = Some((id, AgentConnection::begin(id, connection, incoming)));
                        agent.lifecycle.connected(now)
                    }
                    Err(error) => agent.lifecycle.handle_close(Some(format!("{error:#}")), now),
                };
                self.execute(id, actions, now, &mut notifications);
            }
            Event::Received((connection, received)) => {
                let owns =
                    |agent: &Agent| agent.connection.as_ref().is_some_and(|(own, _)| *own == connection);
                // No owner: late frames of a connection that was given up are ignored.
                let Some(id) = self.agents.iter().position(owns).map(AgentId) else {
                    return notifications;
                };
                match received {
                    Ok(Some(frame)) => self.handle_frame(id, frame, now, &mut notifications),
                    Ok(None) => self.handle_close(id, None, now, &mut notifications),
                    Err(error) => self.handle_close(id, Some(error), now, &mut notifications),
                }
            }
        }
        self.release_barriers(now, &mut notifications);
        notifications
    }

    /// Handles a timer tick. `stalled`: this process was suspended or blocked, so the time since the last tick must not
    /// count against the agents.
    pub(super) fn tick(&mut self, now: Instant, stalled: bool) -> Vec<Notification> {
        let mut notifications = Vec::new();
        let active: Vec<bool> = self
            .agents
            .iter()
            .map(|agent| {
                agent.lifecycle.stage() == Stage::Tracing && agent.lifecycle.silent_for(now) < SILENCE_WARNING
            })
            .collect();
        // With a queue that is half full, an agent's frames may just wait in it: only SILENCE_TIMEOUT_ALL applies then.
        let is_behind = self.incoming.len() >= INCOMING / 2;
        for index in 0..self.agents.len() {
            let agent = &mut self.agents[index];
            if stalled {
                agent.lifecycle.reset_timers(now);
            }
            if agent.restart_at.is_some_and(|due| due <= now) && !self.is_stopping {
                agent.restart_at = None;
                agent.lifecycle = Lifecycle::begin(now);
                debug!("{}: starting its agent again", agent.node.name);
                self.connect(AgentId(index));
                continue;
            }
            let others_active =
                !is_behind && active.iter().enumerate().any(|(other, active)| other != index && *active);
            let actions = agent.lifecycle.tick(now, others_active);
            self.execute(AgentId(index), actions, now, &mut notifications);
        }
        self.release_barriers(now, &mut notifications);
        notifications
    }

    /// Asks all agents to stop.
    pub(super) fn stop(&mut self, now: Instant) -> Vec<Notification> {
        self.is_stopping = true;
        let mut notifications = Vec::new();
        for index in 0..self.agents.len() {
            self.agents[index].restart_at = None;
            let actions = self.agents[index].lifecycle.stop(now);
            self.execute(AgentId(index), actions, now, &mut notifications);
        }
        notifications
    }

    /// Sends a frame to one agent.
    pub(super) fn send(&mut self, id: AgentId, frame: ToAgent, now: Instant) -> Vec<Notification> {
        let mut notifications = Vec::new();
        self.send_to(id, frame, now, &mut notifications);
        notifications
    }

    /// Sends each agent that traces its configuration, if it changed. `recreated` are pods that were deleted and created
    /// again; `configuration_of` returns that of a node's name.
    pub(super) fn update_configurations(
        &mut self,
        at_ns: u64,
        recreated: &BTreeSet<String>,
        configuration_of: impl Fn(&str) -> Option<Configuration>,
        now: Instant,
    ) -> Vec<Notification> {
        let mut notifications = Vec::new();
        for index in 0..self.agents.len() {
            let agent = &mut self.agents[index];
            let Some(configuration) = configuration_of(&agent.node.name) else { continue };
            match agent.lifecycle.stage() {
                Stage::Tracing => {
                    let before = std::mem::replace(&mut agent.configuration, configuration.clone());
                    if differs(&before, &configuration, recreated) {
                        self.send_to(
                            AgentId(index),
                            ToAgent::Update { at_ns, configuration },
                            now,
                            &mut notifications,
                        );
                    }
                }
                // Sent once the agent is connected.
                Stage::Connecting | Stage::Lost => agent.configuration = configuration,
                // An agent that is being set up gets it when it traces.
                _ => {}
            }
        }
        notifications
    }

    /// Ends all connections and waits for the processes; only briefly if the user wants it `at_once`.
    pub(super) async fn end(self, at_once: bool) {
        let Self { agents, connecting, mut terminating, incoming, .. } = self;
        // Ends the tasks that read from agents.
        drop(incoming);
        drop(connecting);
        let connections = agents.into_iter().filter_map(|agent| agent.connection);
        join_all(connections.map(|(_, connection)| connection.end(at_once))).await;
        while terminating.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests;
