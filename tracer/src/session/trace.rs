//! A live trace, from the start of its agents to its summary.
//!
//! [`Session::run`] is a loop over events of the agents, the cluster, timers and the user. Handling one never waits, so
//! that an agent or API server that hangs cannot keep the trace from going on or ending.
//!
//! 1. *Setting up*: the agents get ready. One that fails ends the trace with an error.
//! 2. *Tracing*: frames go into the engine, finished paths to the report, until the count is reached, the time is over,
//!    the probe is answered, no agent is left, or the user wants it to end.
//! 3. *Stopping*: the agents send what they still have and say goodbye, each within a limit.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Result, bail};
use podtrace_path::Context;
use podtrace_protocol::frame::{FromAgent, Probe, ToAgent};
use podtrace_protocol::topology::Topology;
use podtrace_report::filter::Choice;
use podtrace_report::output::Report;
use podtrace_report::recording::Header;
use podtrace_report::replay::{Outcome, Presenter};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};
use tracer_common::CAPTURE;
use tracing::{info, trace as log, warn};

use super::agents::{AgentId, Agents, Notification};
use super::changes::Changes;
use super::interrupts::Interrupts;
use super::live::Live;
use super::{Plan, agents, changes, claims, hooks};
use crate::agent::clock;
use crate::files;

/// How often clocks are compared, progress is shown and limits are looked at.
const TICK: Duration = Duration::from_millis(250);

/// Time between two ticks that shows that this process stalled: it was suspended, or nobody read its output.
const STALL: Duration = Duration::from_secs(1);

/// Pause between two probe exchanges.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);

/// How long after a probe's end its packets may still be reported.
const PROBE_GRACE: Duration = Duration::from_millis(300);

/// Time limit for deleting the pods that were created for agents.
const REMOVE: Duration = Duration::from_secs(20);

/// Progress of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Paths reported.
    pub paths: u64,
    /// Packets in flight.
    pub under_way: u64,
    /// Hop events produced by the eBPF programs, as of the nodes' last heartbeats.
    pub events: u64,
    /// Observations of packets outside the sample, as of the same.
    pub unsampled: u64,
    /// Events and identities lost, and program runs that the kernel skipped, as of the same.
    pub lost: u64,
    /// Drops that a healthy network has, too.
    pub harmless: u64,
    /// Time since all agents traced.
    pub elapsed: Duration,
}

/// Traces until the plan's count, its timeout, the end of its probes or Ctrl-C. `watch` gets its progress some times a
/// second, and may end it as Ctrl-C does.
///
/// # Errors
///
/// If the trace cannot be set up, or its output not be written.
pub async fn trace(plan: &Plan, report: &mut dyn Report, watch: Watch<'_>) -> Result<Outcome> {
    let mut interrupts = Interrupts::listen()?;
    let mut session = Session::begin(plan, report, watch)?;
    let result = session.run(&mut interrupts).await;
    let Session { agents, live, phase, is_urgent, .. } = session;
    let outcome = match (result, phase) {
        (Ok(()), Phase::Over(why)) => {
            live.finish().map(|outcome| Outcome { all_lost: why == Stop::AgentsEnded, ..outcome })
        }
        (Ok(()), _) => live.finish(),
        (Err(error), Phase::SettingUp) => Err(error),
        (Err(error), _) => {
            if let Some(summary) = live.fail() {
                warn!("{summary}");
            }
            Err(error)
        }
    };
    // What is dropped is killed.
    let _ = interrupts.unless(agents.end(is_urgent)).await;
    if let Some(pods) = &plan.pods {
        match interrupts.unless(timeout(REMOVE, pods.remove())).await {
            Some(Ok(left)) => left.iter().for_each(|left| warn!("{left}")),
            Some(Err(_)) | None => {
                warn!(
                    "pods that were made for agents are left on the cluster, and end by themselves within a minute"
                );
            }
        }
    }
    outcome
}

/// Looks at a trace while it runs.
pub type Watch<'a> = &'a mut dyn FnMut(&Progress) -> ControlFlow<()>;

/// Why a trace stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Asked,
    Counted,
    TimedOut,
    Probed,
    AgentsEnded,
}

/// Phase of a session.
#[derive(Clone, Copy, Debug)]
enum Phase {
    SettingUp,
    Tracing,
    Stopping(Stop),
    Over(Stop),
}

/// An event that a session handles.
enum Event {
    Agents(agents::Event),
    Cluster(changes::Event),
    Tick,
    Deadline,
    Interrupt,
}

/// A running trace.
struct Session<'a> {
    plan: &'a Plan,
    agents: Agents,
    changes: Changes,
    live: Live<'a>,
    watch: Watch<'a>,
    phase: Phase,
    /// Whether the user wants it to end at once.
    is_urgent: bool,
    probing: Probing,
    /// What nodes have in common, until it is reported.
    notes: hooks::Notes,
    ticks: Interval,
    ticked_at: Instant,
    started_at: Instant,
    /// When all agents traced.
    ready_at: Instant,
    deadline: Option<Instant>,
}

impl<'a> Session<'a> {
    /// Begins with the agents of a plan.
    fn begin(plan: &'a Plan, report: &'a mut dyn Report, watch: Watch<'a>) -> Result<Self> {
        let now = Instant::now();
        let nodes = plan.asked().map(|node| (node.clone(), plan.configuration(node)));
        let addresses: BTreeSet<_> =
            plan.inventory.nodes.iter().flat_map(|node| node.addresses.clone()).collect();
        let names = plan.asked().map(|node| node.name.clone()).collect();
        let live = live(plan, report, names)?;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            plan,
            agents: Agents::begin(nodes, plan.pods.clone(), addresses, now),
            changes: Changes::of(plan),
            live,
            watch,
            phase: Phase::SettingUp,
            is_urgent: false,
            probing: Probing::default(),
            notes: hooks::Notes::default(),
            ticks,
            ticked_at: now,
            started_at: now,
            ready_at: now,
            deadline: None,
        })
    }

    /// Handles events until the trace is over.
    async fn run(&mut self, interrupts: &mut Interrupts) -> Result<()> {
        while !matches!(self.phase, Phase::Over(_)) {
            let event = self.next(interrupts).await;
            self.handle(event)?;
            self.go_on()?;
        }
        Ok(())
    }

    async fn next(&mut self, interrupts: &mut Interrupts) -> Event {
        tokio::select! {
            event = self.agents.next() => Event::Agents(event),
            event = self.changes.next() => Event::Cluster(event),
            _ = self.ticks.tick() => Event::Tick,
            () = until(self.deadline) => Event::Deadline,
            () = interrupts.next() => Event::Interrupt,
        }
    }

    fn handle(&mut self, event: Event) -> Result<()> {
        let now = Instant::now();
        match event {
            Event::Agents(event) => {
                let notifications = self.agents.handle(event, now);
                self.notified(notifications)
            }
            Event::Cluster(event) => {
                let notifications = self.changes.handle(event, &mut self.agents, &mut self.live)?;
                self.notified(notifications)
            }
            Event::Tick => {
                let stalled = now.duration_since(self.ticked_at) > STALL;
                self.ticked_at = now;
                let notifications = self.agents.tick(now, stalled);
                self.notified(notifications)?;
                if matches!(self.phase, Phase::Tracing)
                    && (self.watch)(&self.live.progress(self.ready_at)).is_break()
                {
                    return self.stop(Stop::Asked);
                }
                Ok(())
            }
            Event::Deadline => self.stop(Stop::TimedOut),
            Event::Interrupt => self.interrupt(),
        }
    }

    /// Enters the next phase if its time has come.
    fn go_on(&mut self) -> Result<()> {
        match self.phase {
            Phase::SettingUp if self.agents.has_begun() => self.begin_tracing(),
            Phase::Tracing if self.agents.no_agent_traces() => self.stop(Stop::AgentsEnded),
            Phase::Tracing if self.live.presenter.is_full() => self.stop(Stop::Counted),
            // A quiet wire brings no frames but heartbeats, after each of which this is looked at.
            Phase::Tracing if self.probing.is_over() && self.live.engine.under_way() == 0 => {
                self.stop(Stop::Probed)
            }
            Phase::Stopping(why) if self.agents.no_agent_traces() => {
                self.phase = Phase::Over(why);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin_tracing(&mut self) -> Result<()> {
        self.phase = Phase::Tracing;
        self.notes.report();
        self.ready_at = Instant::now();
        self.deadline = self.plan.timeout.map(|timeout| self.ready_at + timeout);
        self.changes.watch(self.plan);
        let names: Vec<_> = self.plan.asked().map(|node| node.name.as_str()).collect();
        info!(
            "tracing {} on {} (ready in {:.1} s; Ctrl-C ends)",
            self.plan.title,
            names.join(", "),
            self.started_at.elapsed().as_secs_f64()
        );
        let Some(probe) = &self.plan.probe else { return Ok(()) };
        let Some(agent) = self.agents.tracing_agent_on(&probe.node) else { return Ok(()) };
        self.probing.agent = Some(agent);
        let frame = ToAgent::Probe(Probe {
            pod: probe.pod.clone(),
            destination: probe.destination,
            kind: probe.kind,
            count: probe.exchanges,
            interval_ms: u64::try_from(PROBE_INTERVAL.as_millis()).unwrap_or(u64::MAX),
        });
        let notifications = self.agents.send(agent, frame, self.ready_at);
        self.notified(notifications)
    }

    fn stop(&mut self, why: Stop) -> Result<()> {
        detail!("stopping: {why:?}");
        self.phase = Phase::Stopping(why);
        self.deadline = None;
        let notifications = self.agents.stop(Instant::now());
        self.notified(notifications)
    }

    fn interrupt(&mut self) -> Result<()> {
        match self.phase {
            Phase::SettingUp => {
                bail!("interrupted before all agents were ready")
            }
            Phase::Tracing => self.stop(Stop::Asked),
            Phase::Stopping(why) => {
                warn!("some agents have not stopped; their last events are missing");
                self.is_urgent = true;
                self.phase = Phase::Over(why);
                Ok(())
            }
            Phase::Over(_) => Ok(()),
        }
    }

    /// Handles what the agents' side reports.
    fn notified(&mut self, notifications: Vec<Notification>) -> Result<()> {
        for notification in notifications {
            match notification {
                Notification::SetUp { agent, node, frame } => self.set_up(agent, node, &frame)?,
                Notification::Frame { agent, node, frame } => self.frame(agent, node, &frame)?,
                Notification::Joined { agent, frames } => self.joined(agent, &frames)?,
                Notification::Left { agent, node, why } => self.left(agent, node, why)?,
                Notification::Failed { agent, why } => {
                    let name = self.agents.name(agent).to_owned();
                    if matches!(self.phase, Phase::SettingUp) {
                        bail!("{name}: {why}");
                    }
                    self.changes.failed(&name, &why, &mut self.live)?;
                }
            }
        }
        Ok(())
    }

    /// Handles a frame of an agent that is being set up.
    fn set_up(&mut self, agent: AgentId, node: Option<usize>, frame: &FromAgent) -> Result<()> {
        let name = self.agents.name(agent);
        match frame {
            FromAgent::Warning { text } => detail!("{name}: {text}"),
            FromAgent::Topology(Topology { cni: Some(cni), .. }) => {
                detail!("{name}: CNI plugin: {cni} ({})", cni.config_file);
            }
            FromAgent::Attached(attached) => {
                hooks::report(name, attached, &mut self.notes);
                if !matches!(self.phase, Phase::SettingUp) {
                    self.notes.report();
                }
            }
            _ => {}
        }
        if let FromAgent::Topology(topology) = frame {
            claims::warnings(topology).iter().for_each(|warning| warn!("{name}: {warning}"));
        }
        match node {
            Some(node) => self.live.take(node, Some(frame)),
            None => Ok(()),
        }
    }

    /// Handles a frame of an agent that traces.
    fn frame(&mut self, agent: AgentId, node: usize, frame: &FromAgent) -> Result<()> {
        let name = self.agents.name(agent);
        match frame {
            FromAgent::Events(body) => log!("{name}: {} bytes of events", body.len()),
            FromAgent::Warning { text } => warn!("{name}: {text}"),
            FromAgent::Failed { error } => warn!("{name}: {error}"),
            FromAgent::Probed { sent, error } => self.probing.done(*sent, error.as_deref()),
            frame => log!("{name}: {frame:?}"),
        }
        self.live.take(node, Some(frame))?;
        if let FromAgent::Updated(updated) = frame {
            self.changes.updated(name, updated, &mut self.live)?;
        }
        Ok(())
    }

    /// An agent started to trace another node.
    fn joined(&mut self, agent: AgentId, frames: &[FromAgent]) -> Result<()> {
        let node = self.live.nodes();
        self.agents.set_node(agent, node);
        self.changes.joined(self.agents.name(agent), &mut self.live)?;
        for frame in frames {
            self.live.take(node, Some(frame))?;
        }
        // Much may have happened to the cluster since the agent got its configuration.
        let notifications = self.changes.configure(&mut self.agents, clock::monotonic_ns(), &BTreeSet::new());
        self.notified(notifications)
    }

    /// An agent ended.
    fn left(&mut self, agent: AgentId, node: usize, why: Option<String>) -> Result<()> {
        let name = self.agents.name(agent).to_owned();
        self.live.take(node, None)?;
        let Some(why) = why else { return Ok(()) };
        match self.phase {
            Phase::SettingUp => bail!("{name}: {why}"),
            Phase::Tracing => {
                warn!("lost {name}: {why}; its events are missing from here on");
                self.changes.lost(&name);
                self.probing.lost(agent);
            }
            Phase::Stopping(_) | Phase::Over(_) => {
                warn!("{name}: {why}; the last events of its agent are missing");
            }
        }
        Ok(())
    }
}

/// The engine and the outputs of a plan.
fn live<'a>(plan: &Plan, report: &'a mut dyn Report, nodes: Vec<String>) -> Result<Live<'a>> {
    let context = Context {
        inventory: plan.inventory.clone(),
        nodes,
        filter: plan.filter.clone(),
        memory: Some(plan.memory),
    };
    let recorder = match &plan.write {
        Some(target) => Some(files::recorder(
            target.clone(),
            Header {
                id: clock::realtime_ns(),
                title: plan.title.clone(),
                count: plan.count,
                filter: plan.choice.as_ref().map(ToString::to_string),
                snaplen: plan.snaplen.map_or(CAPTURE as u32, u32::from),
                ..Header::new(context.clone())
            },
            plan.inputs.clone(),
        )?),
        None => None,
    };
    let presenter = Presenter::new(
        report,
        recorder,
        Choice::of_trace(plan.choice.clone(), &plan.filter),
        plan.count,
        &context,
    );
    Ok(Live::new(context, presenter, plan.snaplen))
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The probe of a trace, if it has one.
#[derive(Debug, Default)]
struct Probing {
    /// The agent that sends.
    agent: Option<AgentId>,
    over_at: Option<Instant>,
}

impl Probing {
    fn done(&mut self, sent: u32, error: Option<&str>) {
        if let Some(error) = error {
            warn!("the probe failed after {sent} requests: {error}");
        }
        self.over_at = Some(Instant::now() + PROBE_GRACE);
    }

    /// An agent is lost: if it is the one that probes, the probe is over.
    fn lost(&mut self, agent: AgentId) {
        if self.agent == Some(agent) {
            self.over_at.get_or_insert(Instant::now() + PROBE_GRACE);
        }
    }

    fn is_over(&self) -> bool {
        self.over_at.is_some_and(|at| Instant::now() >= at)
    }
}
