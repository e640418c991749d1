//! The agent itself: serves one node's hop events on stdin and stdout.
//!
//! It ends when it is told to, or when its input ends, which is how a killed tracer tells it. Nothing else may
//! write to stdout.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufReader, BufWriter, Stdout, Write as _};
use std::os::fd::AsFd as _;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::maps::{MapData, RingBuf};
use bytes::Bytes;
use ipnet::IpNet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use super::clock;
use super::conntrack;
use super::traffic;
use crate::capture::{self, Drained};
use crate::node;
use crate::node::topology::Reading;
use crate::node::topology::changes::Changes;
use crate::probe::{Settings, Symbols, TcMode, Tracer, must_end_in_order};
use podtrace_protocol::codec::{read_raw, write_raw};
use podtrace_protocol::frame::{
    Accounting, Configuration, Conntracked, FromAgent, Hello, HookState, PROTOCOL_VERSION, PodAddresses,
    ToAgent, Updated,
};
use podtrace_protocol::topology::Topology;
use podtrace_rules::{self, Rules};

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

/// How often the last events are waited for, a millisecond each. What is missing after that shows in the counts.
const BALANCE_ROUNDS: u32 = 1000;

/// Serves until told to stop. What goes wrong is told to the tracer too.
///
/// # Errors
///
/// If the node cannot be traced, or the tracer cannot be reached.
pub fn serve() -> Result<()> {
    let mut out = Output(BufWriter::with_capacity(1 << 16, io::stdout()));
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

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

struct Output(BufWriter<Stdout>);

impl Output {
    fn send(&mut self, frame: &FromAgent) -> Result<()> {
        write_raw(&mut self.0, &frame.to_raw())?;
        self.0.flush()?;
        Ok(())
    }
}

/// Input by a thread of its own: stdin may be a pipe, a file or a terminal, and only a thread reads them all.
fn input() -> mpsc::UnboundedReceiver<io::Result<ToAgent>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut stdin = BufReader::new(io::stdin());
        loop {
            let frame = match read_raw(&mut stdin) {
                Ok(None) => {
                    if reader_is_gone() && !must_end_in_order() {
                        // The tracer was killed: nobody waits for a goodbye, and what the main thread is busy
                        // with may take long. The kernel detaches what this process holds.
                        std::process::exit(0);
                    }
                    return;
                }
                Ok(Some(raw)) => ToAgent::from_raw(&raw),
                Err(error) => Err(error),
            };
            let failed = frame.is_err();
            if sender.send(frame).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Whether nobody reads this process's output any more.
fn reader_is_gone() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    // A pipe without a reader is in error, whatever is asked for.
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
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

/// The node's packet filter, read while the programs are attached, and beyond that if it takes longer.
fn read_rules(topology: &Topology) -> oneshot::Receiver<Rules> {
    let (done, rules) = oneshot::channel();
    let own = topology.namespaces.first();
    let addresses = own.into_iter().flat_map(|own| &own.devices).flat_map(|device| &device.addresses);
    let local = addresses.map(IpNet::addr).collect();
    std::thread::spawn(move || {
        // Nobody waits for it if the trace is over.
        let _ = done.send(node::rules::read(local));
    });
    rules
}

async fn survey(pods: Vec<PodAddresses>) -> Result<Reading> {
    let reading = tokio::task::spawn_blocking(move || node::topology::read(&pods)).await;
    reading.context("reading the node's networking")?
}

/// The node's networking, read again, and how long that took.
type Looked = (Duration, Result<Reading>);

/// Reads the node's networking again, beside the ring.
fn look_again(pods: Vec<PodAddresses>, done: mpsc::UnboundedSender<Looked>) {
    tokio::spawn(async move {
        let started = tokio::time::Instant::now();
        let reading = survey(pods).await;
        // Nobody waits for it if the trace is over.
        let _ = done.send((started.elapsed(), reading));
    });
}

/// Waits for a change of the node's networking; for ever where nothing announces any.
async fn next_change(changes: Option<&mut Changes>) {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

type Surveyed = (u64, Configuration, Result<Reading>);

/// Looks at the node beside the ring, which is not to run full meanwhile.
fn survey_for(at_ns: u64, configuration: Configuration, done: mpsc::UnboundedSender<Surveyed>) {
    tokio::spawn(async move {
        let reading = survey(configuration.pods.clone()).await;
        // Nobody waits for it if the trace is over.
        let _ = done.send((at_ns, configuration, reading));
    });
}

async fn tell_topology(out: &mut Output, pods: Vec<PodAddresses>) -> Result<Topology> {
    let Reading { topology, warnings } = survey(pods).await?;
    for text in warnings {
        out.send(&FromAgent::Warning { text })?;
    }
    out.send(&FromAgent::Topology(topology.clone()))?;
    Ok(topology)
}

/// The kernel's symbols, read while the programs are attached: the first drop should not have to wait for them.
enum LazySymbols {
    Reading(JoinHandle<Symbols>),
    Read(Symbols),
}

impl LazySymbols {
    fn begin() -> Self {
        // Without symbols, drops show addresses.
        Self::Reading(std::thread::spawn(|| Symbols::read().unwrap_or_default()))
    }

    fn name(&mut self, address: u64) -> Option<&str> {
        if let Self::Reading(_) = self
            && let Self::Reading(thread) = std::mem::replace(self, Self::Read(Symbols::default()))
        {
            *self = Self::Read(thread.join().unwrap_or_default());
        }
        match self {
            Self::Read(symbols) => symbols.name(address),
            Self::Reading(_) => None,
        }
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
        input: &mut mpsc::UnboundedReceiver<io::Result<ToAgent>>,
        rules: oneshot::Receiver<Rules>,
    ) -> Result<()> {
        let mut rules = Some(rules);
        let (probed, mut probes) = mpsc::unbounded_channel();
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
                    Some(ToAgent::Probe(probe)) => traffic::send(&probe, &self.topology, probed.clone()),
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
                Some(frame) = probes.recv() => self.out.send(&frame)?,
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

    /// Traces what is to be traced from here on, and says what came of it.
    fn update(&mut self, of: u64, configuration: &Configuration, reading: Result<Reading>) -> Result<()> {
        let updated = reading.and_then(|reading| self.renew(configuration, reading.topology));
        let (hooks, error) = match updated {
            Ok(hooks) => (hooks, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        let is_missing = |pod: &&String| self.topology.host_veth_of(pod).is_none();
        let missing = configuration.tapped.iter().filter(is_missing).cloned().collect();
        let updated = Updated { of, at_ns: clock::monotonic_ns(), hooks, missing, error };
        self.out.send(&FromAgent::Updated(updated))
    }

    fn renew(&mut self, configuration: &Configuration, topology: Topology) -> Result<Vec<HookState>> {
        // What was seen so far was seen at the devices that were.
        self.drain()?;
        self.out.send(&FromAgent::Topology(topology.clone()))?;
        self.topology = topology.clone();
        self.sent_topology = topology;
        self.pods.clone_from(&configuration.pods);
        self.tapped.clone_from(&configuration.tapped);
        self.tracer.update(&settings(configuration, &self.topology, &|| true))
    }

    /// Listens for changes of the node's networking. Where that is impossible, explanations go by what was read at the
    /// start, and the tracer is warned.
    fn listen(&mut self) -> Option<Changes> {
        match Changes::listen(&self.topology, &self.tapped) {
            Ok(changes) => Some(changes),
            Err(error) => {
                let text = format!("changes of the node's networking are not noticed: {error:#}");
                // If the tracer is gone, the next frame finds out.
                let _ = self.out.send(&FromAgent::Warning { text });
                None
            }
        }
    }

    /// The node's networking was read again: sends it if anything in it is new.
    fn changed(&mut self, reading: Result<Reading>) -> Result<()> {
        // What cannot be read now is read at the next change; a pod that has just ended is no matter to warn of.
        let Ok(Reading { topology, warnings: _ }) = reading else { return Ok(()) };
        if topology == self.sent_topology {
            return Ok(());
        }
        self.drain()?;
        self.out.send(&FromAgent::NetworkChanged(topology.clone()))?;
        self.sent_topology = topology;
        Ok(())
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
