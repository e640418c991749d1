//! A live trace.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracer_common::CAPTURE;
use tracing::{info, warn};

use super::Plan;
use super::changes::Changes;
use super::hooks;
use super::live::Live;
use super::nodes::Nodes;
use crate::agent::clock;
use podtrace_path::Context;
use podtrace_protocol::frame::{FromAgent, Probe, ToAgent};
use podtrace_protocol::topology::Topology;
use podtrace_report::filter::Choice;
use podtrace_report::output::Report;
use podtrace_report::recording::{Header, Recorder};
use podtrace_report::replay::{Outcome, Presenter};

/// How often clocks are compared while tracing.
const CLOCK_EVERY: Duration = Duration::from_millis(250);

/// Clock comparisons before the first packet: the quickest one counts.
const CLOCK_ROUNDS: u32 = 8;

/// Pause between two probe exchanges.
const PROBE_INTERVAL: Duration = Duration::from_millis(200);

/// How long after a probe its packets may take to be seen at all.
const PROBE_GRACE: Duration = Duration::from_millis(300);

/// How long agents may take to drain and say goodbye.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a trace stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Asked,
    Counted,
    TimedOut,
    Probed,
    AgentsEnded,
}

/// Traces until the plan's count, its timeout, the end of its probes or Ctrl-C. `watch` hears some times a second how far it is.
///
/// # Errors
///
/// If the trace cannot be set up, or its output not be written.
pub async fn trace(
    plan: &Plan,
    report: &mut dyn Report,
    watch: &mut dyn FnMut(&Progress),
) -> Result<Outcome> {
    let started = Instant::now();
    let result = match reach(plan).await {
        Ok(mut nodes) => {
            let result = run(plan, &mut nodes, report, watch, started).await;
            nodes.end().await;
            result
        }
        Err(error) => Err(error),
    };
    if let Some(pods) = &plan.pods {
        for left in pods.remove().await {
            warn!("{left}");
        }
    }
    result
}

/// Starts the agents. Where pods are made for them, Ctrl-C is waited for meanwhile: they are to be removed again.
async fn reach(plan: &Plan) -> Result<Nodes> {
    if plan.pods.is_none() {
        return Nodes::connect(plan).await;
    }
    tokio::select! {
        nodes = Nodes::connect(plan) => nodes,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("waiting for Ctrl-C")?;
            bail!("interrupted before all agents were ready")
        }
    }
}

/// How far a trace is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Paths told.
    pub paths: u64,
    /// Packets under way.
    pub under_way: u64,
    /// Hop events that the kernel programs set out to emit, as of the nodes' last heartbeats.
    pub events: u64,
    /// Events and identities lost, and runs of programs skipped, as of the same.
    pub lost: u64,
    /// Time since the nodes began to emit events.
    pub elapsed: Duration,
}

async fn run(
    plan: &Plan,
    nodes: &mut Nodes,
    report: &mut dyn Report,
    watch: &mut dyn FnMut(&Progress),
    started: Instant,
) -> Result<Outcome> {
    let context =
        Context { inventory: plan.inventory.clone(), nodes: nodes.names(), filter: plan.filter.clone() };
    let recorder = match &plan.write {
        Some(target) => Some(Recorder::create(
            target.clone(),
            Header {
                id: clock::realtime_ns(),
                title: plan.title.clone(),
                count: plan.count,
                filter: plan.choice.as_ref().map(ToString::to_string),
                snaplen: plan.snaplen.map_or(CAPTURE as u32, u32::from),
                ..Header::new(context.clone())
            },
        )?),
        None => None,
    };
    let presenter =
        Presenter::new(report, recorder, Choice::new(plan.choice.clone(), None), plan.count, &context);
    let mut live = Live::new(context, presenter, plan.snaplen);
    let names = nodes.names();
    let mut via: BTreeSet<IpAddr> =
        plan.inventory.nodes.iter().flat_map(|node| node.addresses.clone()).collect();
    let attached = nodes
        .configure(plan, |number, frame| {
            if let FromAgent::Topology(topology) = frame {
                via.extend(topology.own_addresses());
            }
            if let FromAgent::Warning { text } = frame {
                detail!("{}: {text}", names[number]);
            }
            if let FromAgent::Topology(Topology { cni: Some(cni), .. }) = frame {
                let (name, file) = (&names[number], &cni.told_by);
                detail!("{name}: CNI plugin: {cni} ({file})");
            }
            live.take(number, Some(frame))
        })
        .await?;
    for (name, attached) in names.iter().zip(&attached) {
        hooks::tell(name, attached);
    }
    let mut stop = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    // Listening from here on: one made anew for every wait would miss what comes between two of them.
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for Ctrl-C")?;
    for _ in 0..CLOCK_ROUNDS {
        nodes.compare_clocks(|number, frame| live.take(number, Some(frame))).await?;
    }
    nodes.start(via.iter().copied().collect(), |number, frame| live.take(number, Some(frame))).await?;
    let mut changes = Changes::begin(plan, &names, via);
    info!(
        "tracing {} on {} (ready in {:.1} s; Ctrl-C ends)",
        plan.title,
        names.join(", "),
        started.elapsed().as_secs_f64()
    );

    let ready = Instant::now();
    let deadline = plan.timeout.map(|timeout| ready + timeout);
    let mut clock = interval(CLOCK_EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut probing = Probing::begin(plan, nodes, &names).await;
    let why = loop {
        live.tell_gaps();
        tokio::select! {
            heard = nodes.next() => {
                let Some((number, frame)) = heard else { break Stop::AgentsEnded };
                let Some(node) = changes.traced(number) else {
                    changes.hear(number, frame, nodes, &mut live).await?;
                    continue;
                };
                match frame {
                    Ok(Some(frame)) => {
                        let name = changes.name(number);
                        match &frame {
                            FromAgent::Warning { text } => warn!("{name}: {text}"),
                            FromAgent::Failed { error } => warn!("{name}: {error}"),
                            FromAgent::Probed { sent, error } => probing.done(*sent, error.as_deref()),
                            _ => {}
                        }
                        live.take(node, Some(&frame))?;
                        if let FromAgent::Updated(updated) = &frame {
                            changes.updated(number, updated, &mut live)?;
                        }
                    }
                    Ok(None) | Err(_) => {
                        let reason = frame.err().unwrap_or_else(|| "its stream ended".to_owned());
                        warn!("lost {}: {reason}; its events are missing from here on", changes.name(number));
                        live.take(node, None)?;
                        if changes.ended(number) {
                            break Stop::AgentsEnded;
                        }
                    }
                }
                if live.presenter.is_full() {
                    break Stop::Counted;
                }
                if probing.is_over() && live.engine.under_way() == 0 {
                    break Stop::Probed;
                }
            }
            turn = changes.next() => changes.take(turn, nodes, &mut live).await?,
            _ = clock.tick() => {
                nodes.ask_clocks().await;
                watch(&live.progress(ready));
                changes.check_deadlines(&mut live)?;
                // A quiet wire brings no frames but heartbeats, so these conditions are looked at above in time.
            }
            () = until(deadline) => break Stop::TimedOut,
            _ = interrupt.recv() => break Stop::Asked,
            _ = stop.recv() => break Stop::Asked,
        }
    };
    detail!("stopping: {why:?}");
    goodbye(nodes, &mut live, &mut changes).await?;
    live.tell_gaps();
    let outcome = live.finish()?;
    Ok(Outcome { all_lost: why == Stop::AgentsEnded, ..outcome })
}

/// Asks the agents to end and takes what they still have.
async fn goodbye(nodes: &mut Nodes, live: &mut Live<'_>, changes: &mut Changes) -> Result<()> {
    nodes.send_all(&ToAgent::Stop).await;
    let deadline = Instant::now() + GOODBYE_TIMEOUT;
    while !changes.all_ended() {
        tokio::select! {
            heard = nodes.next() => {
                let Some((number, frame)) = heard else { break };
                let frame = frame.ok().flatten();
                if let Some(node) = changes.traced(number) {
                    live.take(node, frame.as_ref())?;
                }
                if frame.is_none() {
                    changes.ended(number);
                }
            }
            () = sleep_until(deadline) => {
                warn!("some agents did not stop in time; their last events are missing");
                break;
            }
        }
    }
    Ok(())
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The probe of a trace, if it has one.
struct Probing {
    over_at: Option<Instant>,
}

impl Probing {
    async fn begin(plan: &Plan, nodes: &mut Nodes, names: &[String]) -> Self {
        if let Some(probe) = &plan.probe
            && let Some(number) = names.iter().position(|name| *name == probe.node)
        {
            let frame = ToAgent::Probe(Probe {
                pod: probe.pod.clone(),
                destination: probe.destination,
                kind: probe.kind,
                count: probe.exchanges,
                interval_ms: u64::try_from(PROBE_INTERVAL.as_millis()).unwrap_or(u64::MAX),
            });
            nodes.send(number, &frame).await;
        }
        Self { over_at: None }
    }

    fn done(&mut self, sent: u32, error: Option<&str>) {
        if let Some(error) = error {
            warn!("the probe failed after {sent} requests: {error}");
        }
        self.over_at = Some(Instant::now() + PROBE_GRACE);
    }

    fn is_over(&self) -> bool {
        self.over_at.is_some_and(|at| Instant::now() >= at)
    }
}
