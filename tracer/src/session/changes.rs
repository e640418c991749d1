//! What becomes of the cluster while it is traced: told to the agents, the engine and the reports, and agents started
//! where packets of interest pass now.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::follow::{Following, Moment};
use super::live::Live;
use super::nodes::{Nodes, SETUP_TIMEOUT};
use super::{Plan, hooks};
use crate::agent::clock;
use crate::agent::transport::{AgentPods, Connection, connect};
use crate::cluster::kube::{News, Watching};
use podtrace_path::{Change, ChangeKind, Update};
use podtrace_protocol::frame::{
    Attached, Configuration, FromAgent, PROTOCOL_VERSION, PodAddresses, ToAgent, Updated,
};

/// Clock comparisons of a node that joins.
const CLOCK_ROUNDS: u32 = 8;

/// Something that happened.
pub(super) enum Turn {
    /// What the API told; `None` if it tells no more.
    News(Option<News>),
    /// Addresses have left.
    Expired,
    /// An agent was started, or was not.
    Connected(String, Result<Connection>),
}

/// An agent.
struct Member {
    name: String,
    state: State,
    /// What it was told last, as far as it matters.
    told: Option<Configuration>,
}

enum State {
    /// Its frames are those of the engine's node of this number.
    Traced(usize),
    /// It is being set up.
    Coming(Coming),
    /// Nothing more comes of it.
    Ended,
}

/// An agent that is being set up.
struct Coming {
    /// What it has said, for the engine.
    frames: Vec<FromAgent>,
    /// Clock comparisons so far.
    clocks: u32,
    deadline: Instant,
}

/// The agents of a trace, and what becomes of its cluster.
pub(super) struct Changes {
    watching: Option<Watching>,
    following: Option<Following>,
    members: Vec<Member>,
    /// Nodes that the engine has.
    traced: usize,
    connecting: JoinSet<(String, Result<Connection>)>,
    /// Nodes that an agent was or is being started on.
    reached: BTreeSet<String>,
    /// Nodes that packets of interest pass and that are not traced, and why.
    unreached: BTreeMap<String, String>,
    pods: Option<Arc<AgentPods>>,
    via: BTreeSet<IpAddr>,
}

impl Changes {
    /// From the moment on at which all agents of the plan are ready. `via` are addresses of nodes.
    pub(super) fn begin(plan: &Plan, names: &[String], via: BTreeSet<IpAddr>) -> Self {
        let members = names.iter().enumerate().map(|(number, name)| {
            let node = plan.inventory.nodes.iter().find(|node| node.name == *name);
            let told = node.map(|node| essence(plan.configuration(node)));
            Member { name: name.clone(), state: State::Traced(number), told }
        });
        let following = plan.following.as_ref().map(|followed| {
            let ends = (followed.from.clone(), followed.to.clone());
            Following::new(
                followed.aim.clone(),
                plan.inventory.clone(),
                ends,
                plan.filter.clone(),
                plan.tapped.clone(),
            )
        });
        Self {
            watching: plan.following.as_ref().map(|followed| followed.watch.clone().begin()),
            following,
            members: members.collect(),
            traced: names.len(),
            connecting: JoinSet::new(),
            reached: names.iter().cloned().collect(),
            unreached: BTreeMap::new(),
            pods: plan.pods.clone(),
            via,
        }
    }

    /// The engine's number of an agent's node; `None` for one that is no part of the trace.
    pub(super) fn traced(&self, number: usize) -> Option<usize> {
        match self.members.get(number)?.state {
            State::Traced(node) => Some(node),
            State::Coming(_) | State::Ended => None,
        }
    }

    /// Name of an agent's node.
    pub(super) fn name(&self, number: usize) -> &str {
        self.members.get(number).map_or("?", |member| &member.name)
    }

    /// Nothing more comes of an agent. Tells whether nothing comes of any.
    pub(super) fn ended(&mut self, number: usize) -> bool {
        if let Some(member) = self.members.get_mut(number) {
            member.state = State::Ended;
            self.unreached.insert(member.name.clone(), "its agent was lost".to_owned());
        }
        self.all_ended()
    }

    /// Whether nothing more comes of any agent.
    pub(super) fn all_ended(&self) -> bool {
        self.members.iter().all(|member| matches!(member.state, State::Ended))
    }

    /// What happens next. Cancelling this loses nothing.
    pub(super) async fn next(&mut self) -> Turn {
        let Self { watching, following, connecting, .. } = self;
        let expiry = following.as_ref().and_then(Following::next_expiry);
        loop {
            tokio::select! {
                news = next_news(watching) => return Turn::News(news),
                () = until(expiry) => return Turn::Expired,
                // `None` is told at once where there is none, and then waits for the others.
                Some(connected) = connecting.join_next() => {
                    // One that panicked has said so on stderr.
                    let Ok((name, connection)) = connected else { continue };
                    return Turn::Connected(name, connection);
                }
            }
        }
    }

    /// Takes what happened.
    pub(super) async fn take(&mut self, turn: Turn, nodes: &mut Nodes, live: &mut Live<'_>) -> Result<()> {
        match turn {
            Turn::News(Some(News::Cluster { inventory, recreated })) => {
                let Some(following) = &mut self.following else { return Ok(()) };
                let update = following.take(*inventory, &recreated, now());
                if let Some(mut update) = update {
                    self.add_untraced(&mut update);
                    live.update(&update)?;
                    self.tell_agents(nodes, update.at_ns, &recreated).await;
                    self.reach_nodes(live)?;
                }
            }
            Turn::News(Some(News::Lost(why))) => warn!(
                "{why}; tracing continues, and cluster changes are reported once the connection is back"
            ),
            Turn::News(Some(News::Back)) => {
                info!("the Kubernetes API is back: watching cluster changes again");
            }
            Turn::News(Some(News::Denied(why))) => {
                warn!("cluster changes are not watched: {why}");
                self.watching = None;
            }
            Turn::News(None) => self.watching = None,
            Turn::Expired => {
                let update = self.following.as_mut().and_then(|following| following.expire(now()));
                if let Some(update) = update {
                    live.update(&update)?;
                    self.tell_agents(nodes, update.at_ns, &BTreeSet::new()).await;
                }
            }
            Turn::Connected(name, Ok(connection)) => self.set_up(name, connection, nodes).await,
            Turn::Connected(name, Err(error)) => self.fail(&name, &format!("{error:#}"), live)?,
        }
        Ok(())
    }

    /// Takes what an agent that is part of the trace said of an update.
    pub(super) fn updated(&mut self, number: usize, updated: &Updated, live: &mut Live<'_>) -> Result<()> {
        let Some(name) = self.members.get(number).map(|member| member.name.clone()) else { return Ok(()) };
        let Updated { of: _, at_ns: _, hooks, missing, error } = updated;
        hooks::tell(&name, &Attached { hooks: hooks.clone(), ..Attached::default() });
        detail!("{name}: trace filter updated");
        let why = |pod: &String| match error {
            Some(error) => Some(error.clone()),
            None if missing.contains(pod) => Some(format!("no network namespace on {name} has its address")),
            None => None,
        };
        let pods = self.following.as_ref().map(|following| following.on_node(&name)).unwrap_or_default();
        let now = now();
        let told: Vec<_> = pods
            .into_iter()
            .filter_map(|(pod, place)| {
                let detail = Some(why(&pod)?);
                let change = Change::of(now.realtime_ns, pod, ChangeKind::Untraced);
                Some(Change { now: Some(place), detail, ..change })
            })
            .collect();
        if let Some(error) = error {
            warn!("{name}: could not update the trace filter: {error}");
        }
        if told.is_empty() && error.is_none() {
            return Ok(());
        }
        live.update(&Update { at_ns: now.monotonic_ns, blind: true, changes: told, ..Update::default() })
    }

    /// Takes what an agent said that is being set up, or that its stream ended.
    pub(super) async fn hear(
        &mut self,
        number: usize,
        frame: Result<Option<FromAgent>, String>,
        nodes: &mut Nodes,
        live: &mut Live<'_>,
    ) -> Result<()> {
        let Some(Member { name, state: State::Coming(coming), .. }) = self.members.get_mut(number) else {
            return Ok(());
        };
        let name = name.clone();
        let frame = match frame {
            Ok(Some(frame)) => frame,
            Ok(None) => return self.abandon(number, "its agent exited before it was ready", live),
            Err(error) => return self.abandon(number, &error, live),
        };
        let mut is_compared = false;
        match &frame {
            FromAgent::Hello(hello) if hello.protocol != PROTOCOL_VERSION => {
                let why = format!(
                    "protocol mismatch: podtrace {} there speaks version {}, this one version {PROTOCOL_VERSION}",
                    hello.version, hello.protocol
                );
                return self.abandon(number, &why, live);
            }
            FromAgent::Failed { error } => return self.abandon(number, error, live),
            FromAgent::Warning { text } => detail!("{name}: {text}"),
            FromAgent::Topology(topology) => self.via.extend(topology.own_addresses()),
            FromAgent::Attached(attached) => {
                hooks::tell(&name, attached);
                nodes.ask_clock(number).await;
            }
            FromAgent::Clock { .. } => {
                coming.clocks += 1;
                if coming.clocks < CLOCK_ROUNDS {
                    nodes.ask_clock(number).await;
                }
                is_compared = coming.clocks == CLOCK_ROUNDS;
            }
            _ => {}
        }
        let is_ready = frame == FromAgent::Started;
        coming.frames.push(frame);
        if is_compared {
            self.start(number, nodes).await;
        }
        if is_ready { self.join(number, nodes, live).await } else { Ok(()) }
    }

    /// Lets an agent emit events. Those that do already learn the addresses of its node by this.
    async fn start(&self, number: usize, nodes: &mut Nodes) {
        let start = ToAgent::Start { via: self.via.iter().copied().collect() };
        for (other, member) in self.members.iter().enumerate() {
            if other == number || matches!(member.state, State::Traced(_)) {
                nodes.send(other, &start).await;
            }
        }
    }

    /// Gives up agents that take too long to be set up.
    pub(super) fn check_deadlines(&mut self, live: &mut Live<'_>) -> Result<()> {
        let is_late = |member: &Member| match &member.state {
            State::Coming(coming) => coming.deadline <= Instant::now(),
            _ => false,
        };
        let late: Vec<_> = (0..self.members.len()).filter(|number| is_late(&self.members[*number])).collect();
        for number in late {
            let why = format!("it was not ready within {} s", SETUP_TIMEOUT.as_secs());
            self.abandon(number, &why, live)?;
        }
        Ok(())
    }

    /// Tells the agents what they are to look for now, where that is something else than before.
    async fn tell_agents(&mut self, nodes: &mut Nodes, at_ns: u64, renewed: &BTreeSet<String>) {
        let Some(following) = &self.following else { return };
        for (number, member) in self.members.iter_mut().enumerate() {
            let State::Traced(_) = member.state else { continue };
            let Some(configuration) = following.configuration(&member.name) else { continue };
            let matters = essence(configuration.clone());
            let told = member.told.replace(matters.clone()).unwrap_or_default();
            // A pod that is gone is no news: what of it is under way is better understood by what is known of it.
            let is_new = |pod: &PodAddresses| !told.pods.contains(pod) || renewed.contains(&pod.pod);
            if matters.filter != told.filter || matters.pods.iter().any(is_new) {
                nodes.send(number, &ToAgent::Update { at_ns, configuration }).await;
            }
        }
    }

    /// Starts agents on nodes that packets of interest pass now and did not before.
    fn reach_nodes(&mut self, live: &mut Live<'_>) -> Result<()> {
        let Some(following) = &self.following else { return Ok(()) };
        let mut refused = Vec::new();
        for name in following.nodes() {
            if !self.reached.insert(name.clone()) {
                continue;
            }
            let Some(node) = following.inventory().nodes.iter().find(|node| node.name == name) else {
                continue;
            };
            if node.run.is_local() && !nix::unistd::geteuid().is_root() {
                refused.push((name, "tracing this machine needs root".to_owned()));
                continue;
            }
            info!("{name}: starting an agent, as traced traffic now passes this node");
            let (node, pods) = (node.clone(), self.pods.clone());
            self.connecting.spawn(async move {
                let connection = connect(&node, pods.as_deref()).await;
                (name, connection)
            });
        }
        for (name, why) in refused {
            self.fail(&name, &why, live)?;
        }
        Ok(())
    }

    async fn set_up(&mut self, name: String, connection: Connection, nodes: &mut Nodes) {
        let configuration = self.following.as_ref().and_then(|following| following.configuration(&name));
        let number = nodes.add(&name, connection);
        let deadline = Instant::now() + SETUP_TIMEOUT;
        let coming = Coming { frames: Vec::new(), clocks: 0, deadline };
        let configuration = configuration.unwrap_or_default();
        let told = Some(essence(configuration.clone()));
        self.members.push(Member { name, state: State::Coming(coming), told });
        nodes.send(number, &ToAgent::Configure(configuration)).await;
    }

    /// An agent is ready: what it sees is part of the trace from here on.
    async fn join(&mut self, number: usize, nodes: &mut Nodes, live: &mut Live<'_>) -> Result<()> {
        let Some(member) = self.members.get_mut(number) else { return Ok(()) };
        let node = self.traced;
        self.traced += 1;
        let State::Coming(coming) = std::mem::replace(&mut member.state, State::Traced(node)) else {
            return Ok(());
        };
        self.unreached.remove(&member.name);
        let now = now();
        let told = vec![Change::of(now.realtime_ns, format!("node/{}", member.name), ChangeKind::Traced)];
        let joined = vec![member.name.clone()];
        live.update(&Update { at_ns: now.monotonic_ns, joined, changes: told, ..Update::default() })?;
        for frame in &coming.frames {
            live.take(node, Some(frame))?;
        }
        // Much may have become of the cluster since it was told.
        self.tell_agents(nodes, now.monotonic_ns, &BTreeSet::new()).await;
        Ok(())
    }

    /// An agent that was being set up is of no use.
    fn abandon(&mut self, number: usize, why: &str, live: &mut Live<'_>) -> Result<()> {
        let Some(member) = self.members.get_mut(number) else { return Ok(()) };
        member.state = State::Ended;
        let name = member.name.clone();
        self.fail(&name, why, live)
    }

    /// A node that packets of interest pass is not traced.
    fn fail(&mut self, node: &str, why: &str, live: &mut Live<'_>) -> Result<()> {
        self.unreached.insert(node.to_owned(), why.to_owned());
        let now = now();
        let pods = self.following.as_ref().map(|following| following.on_node(node)).unwrap_or_default();
        let mut told: Vec<_> = pods
            .into_iter()
            .map(|(pod, place)| {
                let change = Change::of(now.realtime_ns, pod, ChangeKind::Untraced);
                Change { now: Some(place), detail: Some(why.to_owned()), ..change }
            })
            .collect();
        if told.is_empty() {
            let change = Change::of(now.realtime_ns, format!("node/{node}"), ChangeKind::Untraced);
            told.push(Change { detail: Some(why.to_owned()), ..change });
        }
        live.update(&Update { at_ns: now.monotonic_ns, blind: true, changes: told, ..Update::default() })
    }

    /// Says of pods that came to a node which is not traced that this is so.
    fn add_untraced(&self, update: &mut Update) {
        let Some(following) = &self.following else { return };
        for (node, why) in &self.unreached {
            for (pod, place) in following.on_node(node) {
                let came = update.changes.iter().any(|change| {
                    matches!(change.kind, ChangeKind::Moved | ChangeKind::Back) && change.about == pod
                        || change.added.contains(&pod)
                });
                if came {
                    let at = now().realtime_ns;
                    let change = Change::of(at, pod, ChangeKind::Untraced);
                    update.changes.push(Change { now: Some(place), detail: Some(why.clone()), ..change });
                    update.blind = true;
                }
            }
        }
    }
}

async fn next_news(watching: &mut Option<Watching>) -> Option<News> {
    match watching {
        Some(watching) => watching.next().await,
        None => std::future::pending().await,
    }
}

async fn until(monotonic_ns: Option<u64>) {
    match monotonic_ns {
        Some(at) => sleep(Duration::from_nanos(at.saturating_sub(clock::monotonic_ns()))).await,
        None => std::future::pending().await,
    }
}

fn now() -> Moment {
    Moment { monotonic_ns: clock::monotonic_ns(), realtime_ns: clock::realtime_ns() }
}

/// What of a configuration is worth telling an agent for: pods that are not tapped are of no interest to it.
fn essence(mut configuration: Configuration) -> Configuration {
    let Configuration { filter: _, pods, tapped, node_addresses: _ } = &mut configuration;
    pods.retain(|pod| tapped.contains(&pod.pod));
    configuration
}
