//! The agent itself: serves one node's hop events on stdin and stdout.
//!
//! It ends on a Stop frame, or when its input ends, as that of a killed tracer does. `stdio` is the streams, `changes` what
//! follows the node's networking, `symbols` the names of kernel functions.

mod changes;
mod stdio;
mod symbols;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::maps::{MapData, RingBuf};
use bytes::Bytes;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use self::changes::{look_again, next_change, read_rules, survey_for, tell_topology};
use self::stdio::{Output, input};
use self::symbols::LazySymbols;
use super::clock;
use super::conntrack;
use super::traffic;
use crate::capture::{self, Drained};
use crate::probe::{Settings, TcMode, Tracer};
use podtrace_protocol::frame::{
    Accounting, Configuration, Conntracked, FromAgent, Hello, PROTOCOL_VERSION, PodAddresses, ToAgent,
};
use podtrace_protocol::topology::Topology;
use podtrace_rules::Rules;

/// How often the ring is looked into when nothing wakes the agent.
const DRAIN_EVERY: Duration = Duration::from_millis(10);

/// How many drains make a heartbeat.
const HEARTBEAT_EVERY: u32 = 3;

/// How many drains until the kernel is asked anew how often it skipped a program: a file of each program has to be read.
const SKIPPED_EVERY: u32 = 30;

/// How long after an update the node's packet filter is read again: kube-proxy hears of it at the same time, and takes a
/// second to write it down.
const RULES_AFTER: Duration = Duration::from_secs(2);

/// How long after the first of several changes of the node's networking it is read again.
const SETTLED_AFTER: Duration = Duration::from_millis(50);
/// Reading takes this share of the time at most, as a divisor: on a node with many pods it takes long.
const READING_SHARE: u32 = 10;

/// Bytes of events in one frame, and frames drained before input is looked at again.
const BATCH: usize = 256 << 10;
const BATCHES: usize = 16;

/// Probes under way at most: each takes two threads.
const PROBES: usize = 16;

/// How often the last events are waited for, a millisecond each. What is missing after that shows in the counts.
const BALANCE_ROUNDS: u32 = 1000;

/// Serves until told to stop. What goes wrong is told to the tracer too.
///
/// # Errors
///
/// If the node cannot be traced, or the tracer cannot be reached.
pub fn serve() -> Result<()> {
    raise_open_files();
    let mut out = Output::stdout();
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the agent's event loop")?
        .block_on(run(&mut out));
    match result {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        Err(error) => {
            // Best effort: the tracer may be what is gone.
            let _ = out.send(&FromAgent::Failed { error: format!("{error:#}") });
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

/// Programs, maps and links are descriptors, some hundreds on a node with many pods. Failing to raise the limit shows when
/// it is reached.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

async fn run(out: &mut Output) -> Result<()> {
    let mut input = input();
    out.send(&FromAgent::Hello(hello()))?;
    let configuration = loop {
        match input.recv().await.transpose().context("reading from the tracer")? {
            Some(ToAgent::Configure(configuration)) => break configuration,
            Some(ToAgent::Look { pods }) => {
                tell_topology(out, pods).await?;
            }
            Some(ToAgent::Clock { sent_ns }) => out.send(&clock_answer(sent_ns))?,
            Some(ToAgent::Stop) | None => return Ok(()),
            Some(other) => bail!("protocol error: {other:?} received before Configure"),
        }
    };
    let symbols = LazySymbols::begin();
    let topology = tell_topology(out, configuration.pods.clone()).await?;
    let rules = read_rules(&topology);
    // The thread that reads ends with its input.
    let wanted = || !input.is_closed();
    let (tracer, ring, attached) = Tracer::attach(&settings(&configuration, &topology, &wanted))?;
    out.send(&FromAgent::Attached(attached))?;
    // SAFETY: the ring buffer owns its descriptor, keeps it for life, and is only ever reached through this.
    let ring = unsafe { AsyncFd::register(ring) }.context("waiting for the ring buffer")?;
    let conntracked = conntrack::read();
    if let Some(counters) = conntracked {
        out.send(&FromAgent::Conntracked(counters))?;
    }
    let named = BTreeSet::new();
    let sent_topology = topology.clone();
    let Configuration { pods, tapped, .. } = configuration;
    let mut serving = Serving {
        out,
        tracer,
        ring,
        sent: 0,
        missed: 0,
        symbols,
        named,
        conntracked,
        topology,
        sent_topology,
        pods,
        tapped,
    };
    serving.run(&mut input, rules).await
}

fn settings<'a>(
    configuration: &'a Configuration,
    topology: &'a Topology,
    wanted: &'a dyn Fn() -> bool,
) -> Settings<'a> {
    let Configuration { filter, pods: _, tapped, node_addresses } = configuration;
    Settings { filter, topology, tapped, node_addresses, mode: TcMode::from_env(), wanted }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

struct Serving<'a> {
    out: &'a mut Output,
    tracer: Tracer,
    ring: AsyncFd<RingBuf<MapData>>,
    sent: u64,
    /// How often the kernel had skipped a program when it was asked last.
    missed: u64,
    symbols: LazySymbols,
    named: BTreeSet<u64>,
    /// What was told last.
    conntracked: Option<Conntracked>,
    /// What the taps go by.
    topology: Topology,
    /// The node's networking as it was sent last.
    sent_topology: Topology,
    /// Pods on this node.
    pods: Vec<PodAddresses>,
    /// Full names of the pods whose veths are tapped.
    tapped: Vec<String>,
}

impl Serving<'_> {
    async fn run(
        &mut self,
        input: &mut mpsc::Receiver<io::Result<ToAgent>>,
        rules: oneshot::Receiver<Rules>,
    ) -> Result<()> {
        let mut rules = Some(rules);
        // No more frames than probes, and no more of those than PROBES.
        let (probed, mut probes) = mpsc::unbounded_channel();
        let mut probing = 0_usize;
        let (surveyed, mut surveys) = mpsc::unbounded_channel();
        let (mut surveying, mut next) = (false, None);
        let mut rules_at: Option<tokio::time::Instant> = None;
        let mut changes = self.listen();
        // Attaching took its time: what changed meanwhile was not listened for.
        let mut read_again = Some(tokio::time::Instant::now());
        let (looked, mut looks) = mpsc::unbounded_channel();
        // A reading under way is another change's as well.
        let (mut looking, mut earliest) = (false, tokio::time::Instant::now());
        let mut drain = tokio::time::interval(DRAIN_EVERY);
        drain.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0;
        let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .context("waiting for SIGTERM")?;
        // A Ctrl-C on the terminal reaches agents too; it is the tracer's to decide what it means.
        let mut interrupted = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
            .context("waiting for SIGINT")?;
        loop {
            tokio::select! {
                biased;
                frame = input.recv() => match frame.transpose().context("reading from the tracer")? {
                    Some(ToAgent::Start { via }) => {
                        self.tracer.add_via(&via)?;
                        self.tracer.enable(true)?;
                        self.out.send(&FromAgent::Started)?;
                    }
                    Some(ToAgent::Clock { sent_ns }) => self.out.send(&clock_answer(sent_ns))?,
                    Some(ToAgent::Probe(_)) if probing >= PROBES => {
                        let error = Some(format!("{PROBES} probes are under way already"));
                        self.out.send(&FromAgent::Probed { sent: 0, error })?;
                    }
                    Some(ToAgent::Probe(probe)) => {
                        probing += 1;
                        traffic::send(&probe, &self.topology, probed.clone());
                    }
                    Some(ToAgent::Update { at_ns, configuration }) => {
                        if surveying {
                            // Only the last one counts.
                            next = Some((at_ns, configuration));
                        } else {
                            surveying = true;
                            survey_for(at_ns, configuration, surveyed.clone());
                        }
                    }
                    Some(ToAgent::Configure(_) | ToAgent::Look { .. }) => {
                        bail!("protocol error: Configure received twice");
                    }
                    Some(ToAgent::Stop) | None => break,
                },
                // The thread ends without an answer only if it panicked, which stderr has then.
                read = async { rules.as_mut()?.await.ok() }, if rules.is_some() => {
                    rules = None;
                    if let Some(read) = read {
                        self.out.send(&FromAgent::Rules(read))?;
                    }
                }
                () = sleep_until(rules_at), if rules.is_none() => {
                    rules_at = None;
                    rules = Some(read_rules(&self.topology));
                }
                Some(frame) = probes.recv() => {
                    probing -= 1;
                    self.out.send(&frame)?;
                }
                Some((at_ns, configuration, reading)) = surveys.recv() => {
                    self.update(at_ns, &configuration, reading)?;
                    changes = self.listen();
                    rules_at = Some(tokio::time::Instant::now() + RULES_AFTER);
                    surveying = next.is_some();
                    if let Some((at_ns, configuration)) = next.take() {
                        survey_for(at_ns, configuration, surveyed.clone());
                    }
                }
                () = next_change(changes.as_mut()), if read_again.is_none() && !looking => {
                    read_again = Some(earliest.max(tokio::time::Instant::now() + SETTLED_AFTER));
                }
                () = sleep_until(read_again), if read_again.is_some() => {
                    read_again = None;
                    looking = true;
                    look_again(self.pods.clone(), looked.clone());
                }
                Some((took, reading)) = looks.recv() => {
                    looking = false;
                    earliest = tokio::time::Instant::now() + took * READING_SHARE;
                    self.changed(reading)?;
                }
                _ = drain.tick() => {
                    ticks += 1;
                    let until = self.drain()?;
                    if ticks % SKIPPED_EVERY == 0 {
                        self.missed = self.tracer.missed();
                    }
                    if ticks % HEARTBEAT_EVERY == 0 {
                        let counters = self.accounting()?;
                        self.out.send(&FromAgent::Heartbeat { now_ns: until, counters })?;
                    }
                }
                guard = self.ring.readable() => {
                    guard.context("waiting for the ring buffer")?.clear_ready();
                    self.drain()?;
                }
                _ = terminated.recv() => break,
                _ = interrupted.recv() => {}
            }
        }
        self.stop().await
    }

    /// Sends what the ring holds, up to a limit so that a hot node cannot keep the agent from listening.
    /// Returns the time before which everything was sent.
    fn drain(&mut self) -> Result<u64> {
        let now = clock::monotonic_ns();
        for _ in 0..BATCHES {
            let drained = capture::drain(self.ring.get_mut(), BATCH);
            let Drained { events, count, locations, last_ns, empty } = drained;
            self.name(&locations)?;
            if !locations.is_empty() {
                self.tell_conntracked()?;
            }
            if count > 0 {
                self.out.send(&FromAgent::Events(Bytes::from(events)))?;
                self.sent += count;
            }
            if empty {
                return Ok(now);
            }
            if let Some(last_ns) = last_ns
                && last_ns > now
            {
                return Ok(now);
            }
        }
        // Still not empty: nothing is promised about times near now.
        Ok(0)
    }

    /// Packets were dropped: tells what connection tracking has to do with it.
    fn tell_conntracked(&mut self) -> Result<()> {
        let now = conntrack::read();
        let dropped = |counters: Option<Conntracked>| {
            counters.map(|counters| (counters.drop, counters.early_drop, counters.insert_failed))
        };
        if let Some(counters) = now.filter(|_| dropped(now) != dropped(self.conntracked)) {
            self.out.send(&FromAgent::Conntracked(counters))?;
            self.conntracked = now;
        }
        Ok(())
    }

    /// Tells the names of kernel addresses that have not been told yet.
    fn name(&mut self, locations: &[u64]) -> Result<()> {
        let mut names = BTreeMap::new();
        for location in locations {
            if self.named.insert(*location)
                && let Some(name) = self.symbols.name(*location)
            {
                names.insert(*location, name.to_owned());
            }
        }
        if !names.is_empty() {
            self.out.send(&FromAgent::Symbols(names))?;
        }
        Ok(())
    }

    fn accounting(&self) -> Result<Accounting> {
        let counters = self.tracer.counters()?;
        Ok(Accounting {
            produced: counters.produced,
            sent: self.sent,
            lost_ring: counters.lost_ring,
            lost_map: counters.lost_map,
            missed_probes: self.missed,
        })
    }

    async fn stop(&mut self) -> Result<()> {
        self.tracer.enable(false)?;
        self.missed = self.tracer.missed();
        self.tracer.detach();
        // A program that was running when its link went may still be writing: it has counted its event by then.
        for _ in 0..BALANCE_ROUNDS {
            self.drain()?;
            let Accounting { produced, sent, lost_ring, .. } = self.accounting()?;
            if produced == sent + lost_ring {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let counters = self.accounting()?;
        self.out.send(&FromAgent::Goodbye { counters })
    }
}

fn clock_answer(sent_ns: u64) -> FromAgent {
    FromAgent::Clock { sent_ns, node_ns: clock::monotonic_ns(), received_ns: 0 }
}

fn hello() -> Hello {
    let kernel = nix::sys::utsname::uname().map(|uname| uname.release().to_string_lossy().into_owned());
    Hello {
        protocol: PROTOCOL_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: kernel.unwrap_or_default(),
        monotonic_ns: clock::monotonic_ns(),
        realtime_ns: clock::realtime_ns(),
    }
}
