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
//! 2. An agent that joins later waits for nobody. Its frames are held until it has started; then the engine gets the
//!    held ones first.
//! 3. An agent that is lost while it traces is started again, with exponential backoff ([`RETRY_FIRST`], [`RETRY_MAX`]).
//!    The engine gets it as a new node, because the events between are missing.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures_util::future::join_all;
use podtrace_protocol::frame::{Configuration, FromAgent, ToAgent};
use podtrace_protocol::inventory::Node;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::configured::{check_pods, differs};
use super::lifecycle::{Action, Lifecycle, SILENCE_WARNING, Stage};
use super::link::{INCOMING, Link, LinkId, Received};
use crate::agent::transport::{AgentPods, Connection, connect};

/// How long after its loss an agent is started again; each further time doubles it.
const RETRY_FIRST: Duration = Duration::from_secs(2);

/// Maximum of this delay.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Index of an agent among those of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AgentId(usize);

/// An event of a connection.
pub(super) enum Event {
    /// A frame came, or the stream ended.
    Received(Received),
    /// The attempt to start an agent ended.
    Connected(AgentId, Result<Connection>),
}

/// What the session has to know. `node` is the agent's node number in the engine.
pub(super) enum Notification {
    /// A frame of an agent that is being set up. `node` is `None` if the engine does not know the agent yet.
    SetUp { agent: AgentId, node: Option<usize>, frame: FromAgent },
    /// A frame of an agent that traces.
    Frame { agent: AgentId, node: usize, frame: FromAgent },
    /// An agent started to trace after the trace began. `frames` are those held of its set-up. The session gives it a
    /// node number with [`Agents::set_node`].
    Joined { agent: AgentId, frames: Vec<FromAgent> },
    /// An agent ended. `why` is `None` after a goodbye, else the error.
    Left { agent: AgentId, node: usize, why: Option<String> },
    /// The set-up of an agent failed.
    Failed { agent: AgentId, why: String },
}

/// One agent.
struct Agent {
    node: Node,
    lifecycle: Lifecycle,
    link: Option<(LinkId, Link)>,
    /// What it traces.
    configuration: Configuration,
    /// Its node number in the engine; `None` until it joins.
    node_number: Option<usize>,
    /// Frames of its set-up, held until it joins.
    held_frames: Vec<FromAgent>,
    /// Restarts so far.
    retries: u32,
    retry_at: Option<Instant>,
}

/// The agents of a trace.
pub(super) struct Agents {
    agents: Vec<Agent>,
    /// Whether all initial agents trace.
    has_begun: bool,
    is_stopping: bool,
    /// Frames of all connections.
    incoming: mpsc::Receiver<Received>,
    /// Cloned for each new connection.
    incoming_sender: mpsc::Sender<Received>,
    last_link: u64,
    connecting: JoinSet<(AgentId, Result<Connection>)>,
    /// Agents' processes that are shutting down.
    ending: JoinSet<()>,
    pods: Option<Arc<AgentPods>>,
    /// Addresses of nodes, which masquerading may put in place of a pod's.
    node_addresses: BTreeSet<IpAddr>,
}

impl Agents {
    /// Begins to start the initial agents. A node that only the Kubernetes API can reach gets its agent in one of `pods`.
    pub(super) fn begin(
        nodes: impl Iterator<Item = (Node, Configuration)>,
        pods: Option<Arc<AgentPods>>,
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
            last_link: 0,
            connecting: JoinSet::new(),
            ending: JoinSet::new(),
            pods,
            node_addresses,
        };
        for (number, (node, configuration)) in nodes.enumerate() {
            agents.add(node, configuration, Some(number), now);
        }
        agents
    }

    /// Starts an agent on one more node.
    pub(super) fn join(&mut self, node: Node, configuration: Configuration, now: Instant) {
        self.add(node, configuration, None, now);
    }

    fn add(&mut self, node: Node, configuration: Configuration, node_number: Option<usize>, now: Instant) {
        let id = AgentId(self.agents.len());
        self.agents.push(Agent {
            node,
            lifecycle: Lifecycle::begin(now),
            link: None,
            configuration,
            node_number,
            held_frames: Vec::new(),
            retries: 0,
            retry_at: None,
        });
        self.connect(id);
    }

    fn connect(&mut self, id: AgentId) {
        let (node, pods) = (self.agents[id.0].node.clone(), self.pods.clone());
        self.connecting.spawn(async move { (id, connect(&node, pods.as_deref()).await) });
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

    /// Whether all initial agents trace.
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
                    // A task that panicked printed that to stderr; its agent fails by the time limit of its set-up.
                    let Ok((id, connection)) = connected else { continue };
                    return Event::Connected(id, connection);
                }
                else => std::future::pending::<()>().await,
            }
        }
    }

    /// Handles an event.
    pub(super) fn handle(&mut self, event: Event, now: Instant) -> Vec<Notification> {
        let mut notifications = Vec::new();
        match event {
            Event::Connected(id, Ok(connection)) => {
                self.last_link += 1;
                let link = LinkId(self.last_link);
                self.agents[id.0].link =
                    Some((link, Link::begin(link, connection, self.incoming_sender.clone())));
                let actions = self.agents[id.0].lifecycle.connected(now);
                self.perform(id, actions, now, &mut notifications);
            }
            Event::Connected(id, Err(error)) => {
                let actions = self.agents[id.0].lifecycle.closed(Some(format!("{error:#}")), now);
                self.perform(id, actions, now, &mut notifications);
            }
            Event::Received((link, received)) => {
                let owns_link = |agent: &Agent| agent.link.as_ref().is_some_and(|(own, _)| *own == link);
                // No owner: late frames of a connection that was given up are ignored.
                let Some(id) = self.agents.iter().position(owns_link).map(AgentId) else {
                    return notifications;
                };
                match received {
                    Ok(Some(frame)) => self.frame(id, frame, now, &mut notifications),
                    Ok(None) => self.closed(id, None, now, &mut notifications),
                    Err(error) => self.closed(id, Some(error), now, &mut notifications),
                }
            }
        }
        self.advance(now, &mut notifications);
        notifications
    }

    /// Handles a timer tick. `stalled`: this process was suspended or blocked, so the agents' silence is not their fault.
    pub(super) fn tick(&mut self, now: Instant, stalled: bool) -> Vec<Notification> {
        let mut notifications = Vec::new();
        let active: Vec<bool> = self
            .agents
            .iter()
            .map(|agent| {
                agent.lifecycle.stage() == Stage::Tracing && agent.lifecycle.silent_for(now) < SILENCE_WARNING
            })
            .collect();
        // With a queue that is half full, an agent's frames may just wait behind others': do not judge its silence.
        let is_behind = self.incoming.len() >= INCOMING / 2;
        for at in 0..self.agents.len() {
            let agent = &mut self.agents[at];
            if stalled {
                agent.lifecycle.reset_silence_timer(now);
            }
            if agent.retry_at.is_some_and(|due| due <= now) && !self.is_stopping {
                agent.retry_at = None;
                agent.lifecycle = Lifecycle::begin(now);
                debug!("{}: starting its agent again", agent.node.name);
                self.connect(AgentId(at));
                continue;
            }
            let others_active =
                !is_behind && active.iter().enumerate().any(|(other, active)| other != at && *active);
            let actions = agent.lifecycle.tick(now, others_active);
            self.perform(AgentId(at), actions, now, &mut notifications);
        }
        self.advance(now, &mut notifications);
        notifications
    }

    /// Asks all agents to stop.
    pub(super) fn stop(&mut self, now: Instant) -> Vec<Notification> {
        self.is_stopping = true;
        let mut notifications = Vec::new();
        for at in 0..self.agents.len() {
            self.agents[at].retry_at = None;
            let actions = self.agents[at].lifecycle.stop(now);
            self.perform(AgentId(at), actions, now, &mut notifications);
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
    /// again; `configuration` returns that of a node's name.
    pub(super) fn configure(
        &mut self,
        at_ns: u64,
        recreated: &BTreeSet<String>,
        configuration: impl Fn(&str) -> Option<Configuration>,
        now: Instant,
    ) -> Vec<Notification> {
        let mut notifications = Vec::new();
        for at in 0..self.agents.len() {
            let agent = &mut self.agents[at];
            let Some(configuration) = configuration(&agent.node.name) else { continue };
            match agent.lifecycle.stage() {
                Stage::Tracing => {
                    let before = std::mem::replace(&mut agent.configuration, configuration.clone());
                    if differs(&before, &configuration, recreated) {
                        self.send_to(
                            AgentId(at),
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
        let Self { agents, connecting, mut ending, incoming, .. } = self;
        // Ends the tasks that read from agents.
        drop(incoming);
        drop(connecting);
        join_all(agents.into_iter().filter_map(|agent| agent.link).map(|(_, link)| link.end(at_once))).await;
        while ending.join_next().await.is_some() {}
    }

    fn frame(&mut self, id: AgentId, frame: FromAgent, now: Instant, notifications: &mut Vec<Notification>) {
        let (has_begun, agent) = (self.has_begun, &mut self.agents[id.0]);
        let before = agent.lifecycle.stage();
        let mut actions = agent.lifecycle.frame(&frame, now);
        if let FromAgent::Topology(topology) = &frame {
            self.node_addresses.extend(topology.own_addresses());
            if !has_begun && let Err(error) = check_pods(&agent.node.name, topology, &agent.configuration) {
                actions = agent.lifecycle.closed(Some(error), now);
            }
        }
        if agent.lifecycle.stage() == Stage::Lost {
            self.perform(id, actions, now, notifications);
            return;
        }
        let is_goodbye = matches!(frame, FromAgent::Goodbye { .. });
        match agent.node_number {
            Some(node) if before >= Stage::Tracing => {
                notifications.push(Notification::Frame { agent: id, node, frame });
            }
            Some(node) => notifications.push(Notification::SetUp { agent: id, node: Some(node), frame }),
            None => {
                agent.held_frames.push(frame.clone());
                notifications.push(Notification::SetUp { agent: id, node: None, frame });
            }
        }
        if is_goodbye && let Some(node) = agent.node_number.take() {
            notifications.push(Notification::Left { agent: id, node, why: None });
        }
        self.perform(id, actions, now, notifications);
    }

    fn closed(
        &mut self,
        id: AgentId,
        error: Option<String>,
        now: Instant,
        notifications: &mut Vec<Notification>,
    ) {
        let actions = self.agents[id.0].lifecycle.closed(error, now);
        self.perform(id, actions, now, notifications);
    }

    /// Performs the actions that its lifecycle asks of one agent.
    fn perform(
        &mut self,
        id: AgentId,
        actions: Vec<Action>,
        now: Instant,
        notifications: &mut Vec<Notification>,
    ) {
        for action in actions {
            let agent = &mut self.agents[id.0];
            let name = &agent.node.name;
            debug!("{name}: {action:?}");
            match action {
                Action::Configure => {
                    let configure = ToAgent::Configure(agent.configuration.clone());
                    self.send_to(id, configure, now, notifications);
                }
                Action::AskClock => {
                    if let Some((_, link)) = &agent.link {
                        link.ask_clock();
                    }
                }
                Action::Start => self.start(id, now, notifications),
                Action::Stop => self.send_to(id, ToAgent::Stop, now, notifications),
                Action::Traced => {
                    if agent.retries > 0 {
                        info!("{name}: traced again");
                    }
                    if agent.node_number.is_none() {
                        let frames = std::mem::take(&mut agent.held_frames);
                        notifications.push(Notification::Joined { agent: id, frames });
                    }
                }
                Action::Silent => {
                    warn!("{name}: {}; paths that may pass there wait for it", agent.lifecycle.silence(now));
                }
                Action::Active => info!("{name}: it speaks again"),
                Action::Lost(why) => self.lost(id, why, now, notifications),
            }
        }
    }

    /// Lets an agent emit events. The agents that trace already learn the addresses of its node by this.
    fn start(&mut self, id: AgentId, now: Instant, notifications: &mut Vec<Notification>) {
        let start = ToAgent::Start { via: self.node_addresses.iter().copied().collect() };
        self.send_to(id, start.clone(), now, notifications);
        if !self.has_begun {
            return;
        }
        for at in (0..self.agents.len()).filter(|at| *at != id.0) {
            if self.agents[at].lifecycle.stage() == Stage::Tracing {
                self.send_to(AgentId(at), start.clone(), now, notifications);
            }
        }
    }

    fn send_to(&mut self, id: AgentId, frame: ToAgent, now: Instant, notifications: &mut Vec<Notification>) {
        let Some((_, link)) = &self.agents[id.0].link else { return };
        if !link.send(frame) {
            self.closed(id, Some("it does not read what it is sent".to_owned()), now, notifications);
        }
    }

    fn lost(&mut self, id: AgentId, why: String, now: Instant, notifications: &mut Vec<Notification>) {
        let agent = &mut self.agents[id.0];
        agent.held_frames.clear();
        if let Some((_, link)) = agent.link.take() {
            self.ending.spawn(link.end(true));
        }
        let node = agent.node_number.take();
        let was_traced = self.has_begun && (node.is_some() || agent.retries > 0);
        if was_traced && !self.is_stopping {
            let wait = RETRY_FIRST.saturating_mul(1 << agent.retries.min(8)).min(RETRY_MAX);
            agent.retries += 1;
            agent.retry_at = Some(now + wait);
        }
        match node {
            Some(node) => notifications.push(Notification::Left { agent: id, node, why: Some(why) }),
            None if was_traced => debug!("{}: not reached again: {why}", agent.node.name),
            None => notifications.push(Notification::Failed { agent: id, why }),
        }
    }

    /// Lets agents go on whose turn has come: all at once at the start, each for itself later.
    fn advance(&mut self, now: Instant, notifications: &mut Vec<Notification>) {
        if self.is_stopping {
            return;
        }
        let first = self.agents.iter().map(|agent| agent.lifecycle.stage()).min();
        let first = first.filter(|_| !self.has_begun);
        for at in 0..self.agents.len() {
            let lifecycle = &mut self.agents[at].lifecycle;
            let actions = match lifecycle.stage() {
                Stage::Attached if first.is_none_or(|first| first >= Stage::Attached) => {
                    lifecycle.compare_clocks(now)
                }
                Stage::Compared if first.is_none_or(|first| first >= Stage::Compared) => lifecycle.start(now),
                _ => continue,
            };
            self.perform(AgentId(at), actions, now, notifications);
        }
        if first.is_some_and(|first| first == Stage::Tracing) {
            self.has_begun = true;
        }
    }
}
