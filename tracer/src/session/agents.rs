//! The agents of a trace: their lives, their connections, and who waits for whom.
//!
//! Input are frames and ends of connections ([`Event`]), the time, and what the cluster's changes ask for. Output is
//! what the trace has to know ([`Happened`]). What one agent does in which order is in [`life`](super::life).
//!
//! 1. The agents that a trace begins with wait for each other: they compare clocks when all are attached, and start
//!    when all have. One that fails ends the trace.
//! 2. One that joins later waits for nobody. The engine gets its frames from `Started` on, those of its set-up first.
//! 3. One that is lost while it traces is started again, after [`RETRY`] at first and then ever less often. It joins as
//!    a node of its own, for nothing is known of the time between.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::join_all;
use podtrace_protocol::frame::{Configuration, FromAgent, PodAddresses, ToAgent};
use podtrace_protocol::inventory::Node;
use podtrace_protocol::topology::Topology;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::life::{Action, Life, QUIET, Stage};
use super::link::{INCOMING, Link, LinkId, Received};
use crate::agent::transport::{AgentPods, Connection, connect};

/// How long after its loss an agent is started again; each further time doubles it.
const RETRY: Duration = Duration::from_secs(2);

/// The most that this becomes.
const RETRY_AT_MOST: Duration = Duration::from_secs(60);

/// Number of an agent of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AgentId(usize);

/// Something that agents did.
pub(super) enum Event {
    Received(Received),
    /// An agent's process was started, or could not be.
    Connected(AgentId, Result<Connection>),
}

/// What the trace has to know.
pub(super) enum Happened {
    /// An agent that is being set up sent a frame; one that the engine has, of this number, if there is one.
    SetUp { agent: AgentId, node: Option<usize>, frame: FromAgent },
    /// An agent that traces sent a frame; `node` is its number in the engine.
    Frame { agent: AgentId, node: usize, frame: FromAgent },
    /// An agent traces that the engine does not have: [`Agents::set_number`] is to be called.
    Joined { agent: AgentId, frames: Vec<FromAgent> },
    /// No more frames come of this node, or why not after its goodbye.
    Left { agent: AgentId, node: usize, why: Option<String> },
    /// An agent that was being set up is of no use.
    Failed { agent: AgentId, why: String },
}

/// One agent.
struct Agent {
    node: Node,
    life: Life,
    link: Option<(LinkId, Link)>,
    /// What it traces.
    configuration: Configuration,
    /// Its node's number in the engine.
    number: Option<usize>,
    /// Frames of a set-up that the engine is yet to get.
    held: Vec<FromAgent>,
    /// How often it was started again.
    retries: u32,
    retry_at: Option<Instant>,
}

/// The agents of a trace.
pub(super) struct Agents {
    agents: Vec<Agent>,
    /// Whether all that the trace began with trace.
    has_begun: bool,
    is_stopping: bool,
    received: mpsc::Receiver<Received>,
    /// For further connections.
    incoming: mpsc::Sender<Received>,
    links: u64,
    connecting: JoinSet<(AgentId, Result<Connection>)>,
    /// Processes that are being ended.
    ending: JoinSet<()>,
    pods: Option<Arc<AgentPods>>,
    /// Addresses of nodes, which they may give to the packets of others.
    via: BTreeSet<IpAddr>,
}

impl Agents {
    /// Begins to start agents on these nodes, with what each is to trace. Where only the Kubernetes API leads to a node,
    /// its agent is started in one of `pods`; `via` are addresses of nodes.
    pub(super) fn begin(
        nodes: impl Iterator<Item = (Node, Configuration)>,
        pods: Option<Arc<AgentPods>>,
        via: BTreeSet<IpAddr>,
        now: Instant,
    ) -> Self {
        let (incoming, received) = mpsc::channel(INCOMING);
        let mut agents = Self {
            agents: Vec::new(),
            has_begun: false,
            is_stopping: false,
            received,
            incoming,
            links: 0,
            connecting: JoinSet::new(),
            ending: JoinSet::new(),
            pods,
            via,
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

    fn add(&mut self, node: Node, configuration: Configuration, number: Option<usize>, now: Instant) {
        let id = AgentId(self.agents.len());
        self.agents.push(Agent {
            node,
            life: Life::begin(now),
            link: None,
            configuration,
            number,
            held: Vec::new(),
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
    pub(super) fn on(&self, node: &str) -> Option<AgentId> {
        let mut agents = self.agents.iter();
        agents.position(|agent| agent.node.name == node && agent.life.stage() == Stage::Tracing).map(AgentId)
    }

    /// A node that joined has this number in the engine.
    pub(super) fn set_number(&mut self, id: AgentId, number: usize) {
        self.agents[id.0].number = Some(number);
    }

    /// Whether all that the trace began with trace.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether nothing is traced any more: every agent has ended or is lost.
    pub(super) fn none_traces(&self) -> bool {
        let mut stages = self.agents.iter().map(|agent| agent.life.stage());
        !stages.any(|stage| matches!(stage, Stage::Tracing | Stage::Stopping))
    }

    /// What happens next. Cancelling this loses nothing.
    pub(super) async fn next(&mut self) -> Event {
        let Self { received, connecting, .. } = self;
        loop {
            tokio::select! {
                Some(received) = received.recv() => return Event::Received(received),
                Some(connected) = connecting.join_next() => {
                    // One that panicked has said so on stderr, and its agent's time runs out.
                    let Ok((id, connection)) = connected else { continue };
                    return Event::Connected(id, connection);
                }
                else => std::future::pending::<()>().await,
            }
        }
    }

    /// Takes what happened.
    pub(super) fn take(&mut self, event: Event, now: Instant) -> Vec<Happened> {
        let mut happened = Vec::new();
        match event {
            Event::Connected(id, Ok(connection)) => {
                self.links += 1;
                let link = LinkId(self.links);
                self.agents[id.0].link = Some((link, Link::begin(link, connection, self.incoming.clone())));
                let actions = self.agents[id.0].life.connected(now);
                self.act(id, actions, now, &mut happened);
            }
            Event::Connected(id, Err(error)) => {
                let actions = self.agents[id.0].life.closed(Some(format!("{error:#}")), now);
                self.act(id, actions, now, &mut happened);
            }
            Event::Received((link, received)) => {
                let is_its = |agent: &Agent| agent.link.as_ref().is_some_and(|(own, _)| *own == link);
                // What a connection still brings that was given up is of no use.
                let Some(id) = self.agents.iter().position(is_its).map(AgentId) else { return happened };
                match received {
                    Ok(Some(frame)) => self.frame(id, frame, now, &mut happened),
                    Ok(None) => self.closed(id, None, now, &mut happened),
                    Err(error) => self.closed(id, Some(error), now, &mut happened),
                }
            }
        }
        self.advance(now, &mut happened);
        happened
    }

    /// Time has passed. `stood_still` says that it is the tracer that did nothing for a while.
    pub(super) fn tick(&mut self, now: Instant, stood_still: bool) -> Vec<Happened> {
        let mut happened = Vec::new();
        let speaking: Vec<bool> = self
            .agents
            .iter()
            .map(|agent| agent.life.stage() == Stage::Tracing && agent.life.quiet_for(now) < QUIET)
            .collect();
        // What an agent said may wait behind others' frames: no haste then.
        let is_behind = self.received.len() >= INCOMING / 2;
        for at in 0..self.agents.len() {
            let agent = &mut self.agents[at];
            if stood_still {
                agent.life.pardon(now);
            }
            if agent.retry_at.is_some_and(|at| at <= now) && !self.is_stopping {
                agent.retry_at = None;
                agent.life = Life::begin(now);
                debug!("{}: starting its agent again", agent.node.name);
                self.connect(AgentId(at));
                continue;
            }
            let others_speak =
                !is_behind && speaking.iter().enumerate().any(|(other, speaks)| other != at && *speaks);
            let actions = agent.life.tick(now, others_speak);
            self.act(AgentId(at), actions, now, &mut happened);
        }
        self.advance(now, &mut happened);
        happened
    }

    /// Asks all agents to end.
    pub(super) fn stop(&mut self, now: Instant) -> Vec<Happened> {
        self.is_stopping = true;
        let mut happened = Vec::new();
        for at in 0..self.agents.len() {
            self.agents[at].retry_at = None;
            let actions = self.agents[at].life.stop(now);
            self.act(AgentId(at), actions, now, &mut happened);
        }
        happened
    }

    /// Sends a frame to one agent.
    pub(super) fn send(&mut self, id: AgentId, frame: ToAgent, now: Instant) -> Vec<Happened> {
        let mut happened = Vec::new();
        self.send_to(id, frame, now, &mut happened);
        happened
    }

    /// Sends the agents that trace their configurations, where these differ from what they have. `recreated` are pods that were
    /// made anew, `configuration` gives a node's, by its name.
    pub(super) fn configure(
        &mut self,
        at_ns: u64,
        recreated: &BTreeSet<String>,
        configuration: impl Fn(&str) -> Option<Configuration>,
        now: Instant,
    ) -> Vec<Happened> {
        let mut happened = Vec::new();
        for at in 0..self.agents.len() {
            let agent = &mut self.agents[at];
            let Some(configuration) = configuration(&agent.node.name) else { continue };
            match agent.life.stage() {
                Stage::Tracing => {
                    let before = std::mem::replace(&mut agent.configuration, configuration.clone());
                    if differs(&before, &configuration, recreated) {
                        self.send_to(
                            AgentId(at),
                            ToAgent::Update { at_ns, configuration },
                            now,
                            &mut happened,
                        );
                    }
                }
                // It is sent when the agent is connected.
                Stage::Connecting | Stage::Lost => agent.configuration = configuration,
                // An agent in its set-up is asked again when it traces.
                _ => {}
            }
        }
        happened
    }

    /// Ends all connections and waits for the processes, for not so long if the user wants it `at_once`.
    pub(super) async fn end(self, at_once: bool) {
        let Self { agents, connecting, mut ending, received, .. } = self;
        // Readers of agents that nobody listens to end.
        drop(received);
        drop(connecting);
        join_all(agents.into_iter().filter_map(|agent| agent.link).map(|(_, link)| link.end(at_once))).await;
        while ending.join_next().await.is_some() {}
    }

    fn frame(&mut self, id: AgentId, frame: FromAgent, now: Instant, happened: &mut Vec<Happened>) {
        let (has_begun, agent) = (self.has_begun, &mut self.agents[id.0]);
        let before = agent.life.stage();
        let mut actions = agent.life.frame(&frame, now);
        if let FromAgent::Topology(topology) = &frame {
            self.via.extend(topology.own_addresses());
            if !has_begun && let Err(error) = check_pods(&agent.node.name, topology, &agent.configuration) {
                actions = agent.life.closed(Some(error), now);
            }
        }
        if agent.life.stage() == Stage::Lost {
            self.act(id, actions, now, happened);
            return;
        }
        let is_goodbye = matches!(frame, FromAgent::Goodbye { .. });
        match agent.number {
            Some(node) if before >= Stage::Tracing => {
                happened.push(Happened::Frame { agent: id, node, frame });
            }
            Some(node) => happened.push(Happened::SetUp { agent: id, node: Some(node), frame }),
            None => {
                agent.held.push(frame.clone());
                happened.push(Happened::SetUp { agent: id, node: None, frame });
            }
        }
        if is_goodbye && let Some(node) = agent.number.take() {
            happened.push(Happened::Left { agent: id, node, why: None });
        }
        self.act(id, actions, now, happened);
    }

    fn closed(&mut self, id: AgentId, error: Option<String>, now: Instant, happened: &mut Vec<Happened>) {
        let actions = self.agents[id.0].life.closed(error, now);
        self.act(id, actions, now, happened);
    }

    /// Does what follows for one agent.
    fn act(&mut self, id: AgentId, actions: Vec<Action>, now: Instant, happened: &mut Vec<Happened>) {
        for action in actions {
            let agent = &mut self.agents[id.0];
            let name = &agent.node.name;
            debug!("{name}: {action:?}");
            match action {
                Action::Configure => {
                    let configure = ToAgent::Configure(agent.configuration.clone());
                    self.send_to(id, configure, now, happened);
                }
                Action::AskClock => {
                    if let Some((_, link)) = &agent.link {
                        link.ask_clock();
                    }
                }
                Action::Start => self.start(id, now, happened),
                Action::Stop => self.send_to(id, ToAgent::Stop, now, happened),
                Action::Traced => {
                    if agent.retries > 0 {
                        info!("{name}: traced again");
                    }
                    if agent.number.is_none() {
                        let frames = std::mem::take(&mut agent.held);
                        happened.push(Happened::Joined { agent: id, frames });
                    }
                }
                Action::Quiet => {
                    warn!("{name}: {}; paths that may pass there wait for it", agent.life.silence(now));
                }
                Action::SpeaksAgain => info!("{name}: it speaks again"),
                Action::Lost(why) => self.lost(id, why, now, happened),
            }
        }
    }

    /// Lets an agent emit events. Those that do already learn the addresses of its node by this.
    fn start(&mut self, id: AgentId, now: Instant, happened: &mut Vec<Happened>) {
        let start = ToAgent::Start { via: self.via.iter().copied().collect() };
        self.send_to(id, start.clone(), now, happened);
        if !self.has_begun {
            return;
        }
        for at in (0..self.agents.len()).filter(|at| *at != id.0) {
            if self.agents[at].life.stage() == Stage::Tracing {
                self.send_to(AgentId(at), start.clone(), now, happened);
            }
        }
    }

    fn send_to(&mut self, id: AgentId, frame: ToAgent, now: Instant, happened: &mut Vec<Happened>) {
        let Some((_, link)) = &self.agents[id.0].link else { return };
        if !link.send(frame) {
            self.closed(id, Some("it does not read what it is sent".to_owned()), now, happened);
        }
    }

    fn lost(&mut self, id: AgentId, why: String, now: Instant, happened: &mut Vec<Happened>) {
        let agent = &mut self.agents[id.0];
        agent.held.clear();
        if let Some((_, link)) = agent.link.take() {
            self.ending.spawn(link.end(true));
        }
        let node = agent.number.take();
        let was_traced = self.has_begun && (node.is_some() || agent.retries > 0);
        if was_traced && !self.is_stopping {
            let wait = RETRY.saturating_mul(1 << agent.retries.min(8)).min(RETRY_AT_MOST);
            agent.retries += 1;
            agent.retry_at = Some(now + wait);
        }
        match node {
            Some(node) => happened.push(Happened::Left { agent: id, node, why: Some(why) }),
            None if was_traced => debug!("{}: not reached again: {why}", agent.node.name),
            None => happened.push(Happened::Failed { agent: id, why }),
        }
    }

    /// Lets agents go on that have waited for long enough.
    fn advance(&mut self, now: Instant, happened: &mut Vec<Happened>) {
        if self.is_stopping {
            return;
        }
        let first = self.agents.iter().map(|agent| agent.life.stage()).min();
        let first = first.filter(|_| !self.has_begun);
        for at in 0..self.agents.len() {
            let life = &mut self.agents[at].life;
            let actions = match life.stage() {
                Stage::Attached if first.is_none_or(|first| first >= Stage::Attached) => {
                    life.compare_clocks(now)
                }
                Stage::Compared if first.is_none_or(|first| first >= Stage::Compared) => life.start(now),
                _ => continue,
            };
            self.act(AgentId(at), actions, now, happened);
        }
        if first.is_some_and(|first| first == Stage::Tracing) {
            self.has_begun = true;
        }
    }
}

/// Whether an agent has to know: it traces something that it did not, or not that way. A pod that is gone is no news:
/// what of it is under way is better understood by what is known of it.
fn differs(before: &Configuration, now: &Configuration, recreated: &BTreeSet<String>) -> bool {
    let known: Vec<&PodAddresses> = tapped(before).collect();
    let is_new = |pod: &PodAddresses| !known.contains(&pod) || recreated.contains(&pod.pod);
    before.filter != now.filter || tapped(now).any(is_new)
}

/// The pods that are tapped: others do not matter to an agent.
fn tapped(configuration: &Configuration) -> impl Iterator<Item = &PodAddresses> {
    configuration.pods.iter().filter(|pod| configuration.tapped.contains(&pod.pod))
}

/// A pod to be traced whose veth is not there would be silence that looks like an answer.
fn check_pods(node: &str, topology: &Topology, configuration: &Configuration) -> Result<(), String> {
    let tapped = configuration.tapped.iter();
    let missing: Vec<_> =
        tapped.filter(|pod| topology.host_veth_of(pod).is_none()).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "no network namespace on {node} has the address of {}: is the inventory outdated, or the pod gone?",
        missing.join(", ")
    ))
}

/// Asks the agent of one node for its topology, and ends it. `each` sees every frame; `true` ends the asking.
pub(super) async fn ask(
    node: &Node,
    pods: Option<&AgentPods>,
    question: ToAgent,
    mut each: impl FnMut(FromAgent) -> bool,
) -> Result<()> {
    let (incoming, mut received) = mpsc::channel(INCOMING);
    let link = Link::begin(LinkId(0), connect(node, pods).await?, incoming);
    link.send(question);
    let mut life = Life::begin(Instant::now());
    life.connected(Instant::now());
    let mut looked = tokio::time::interval(Duration::from_millis(250));
    let result = loop {
        let actions = tokio::select! {
            received = received.recv() => match received.map(|(_, received)| received) {
                Some(Ok(Some(frame))) => {
                    let actions = life.frame(&frame, Instant::now());
                    if actions.is_empty() && each(frame) {
                        break Ok(());
                    }
                    actions
                }
                Some(Err(error)) => life.closed(Some(error), Instant::now()),
                Some(Ok(None)) | None => life.closed(None, Instant::now()),
            },
            _ = looked.tick() => life.tick(Instant::now(), false),
        };
        if let Some(Action::Lost(why)) = actions.into_iter().next() {
            break Err(anyhow::anyhow!(why));
        }
    };
    link.end(false).await;
    result.with_context(|| format!("asking the agent on {}", node.name))
}
