//! The agent: traces on one node. Frames from the tracer, which runs where the user is, arrive on stdin; the agent's own
//! go to stdout. A frame is a message of the protocol between the two.
//!
//! 1. It answers questions until it gets its configuration.
//! 2. It reads the node's networking, attaches the eBPF programs, and reports the hooks.
//! 3. One loop handles everything that happens: frames from the tracer, the ring buffer, results of probes, [`readings`]
//!    of the node's state, signals. Nothing in it waits but for a full stdout, and then nobody takes events anyway.
//! 4. On a Stop frame, SIGTERM, or the end of its input, it detaches, sends the last events, and says goodbye. A SIGTERM
//!    that comes while it attaches counts once it has attached.

mod changes;
mod probes;
mod readings;
mod signals;
mod stats;
mod stdio;
mod symbols;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::maps::{MapData, RingBuf};
use bytes::Bytes;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use self::changes::{send_rules, send_topology};
use self::probes::Probes;
use self::readings::{ChangeReadings, RulesReadings, UpdateReadings, networking};
use self::signals::Signals;
use self::stdio::{Output, input};
use self::symbols::LazySymbols;
use super::clock;
use super::conntrack;
use crate::capture::{self, Drained};
use crate::probe::{AttachedPrograms, Settings, TcMode};
use podtrace_protocol::frame::{
    Accounting, Configuration, ConntrackStats, FromAgent, Hello, PROTOCOL_VERSION, PodAddresses, ToAgent,
};
use podtrace_protocol::topology::Topology;

/// How often the ring buffer is read when nothing wakes the agent.
const DRAIN_EVERY: Duration = Duration::from_millis(10);

/// Ticks between heartbeats.
const HEARTBEAT_EVERY: u32 = 3;

/// Ticks between counts that are sent in place of events: a second.
const STATS_EVERY: u32 = 100;

/// Ticks between readings of the programs' recursion misses: each reads one file for every program.
const RECURSION_MISSES_EVERY: u32 = 30;

/// Maximum number of bytes of events in one frame.
const FRAME_BYTES: usize = 256 << 10;

/// Maximum number of frames of events before the loop turns to its other work. The next tick takes the rest.
const FRAMES_AT_ONCE: usize = 16;

/// At the end, the maximum number of waits of one millisecond for outstanding events. Events that are still missing then show
/// in the counters.
const FINAL_DRAIN_ROUNDS: u32 = 1000;

/// Serves until it is stopped. Errors are sent to the tracer, too.
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
            // Fails if the tracer is gone.
            let _ = out.send(&FromAgent::Failed { error: format!("{error:#}") });
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

/// Raises the limit of open files: programs, maps and links are descriptors, hundreds of them on a node with many pods. An
/// error is ignored: opening the file that is one too many would fail, and say so.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

async fn run(out: &mut Output) -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut input = input();
    out.send(&FromAgent::Hello(hello()))?;
    let configuration = loop {
        let frame = tokio::select! {
            frame = input.recv() => frame.transpose().context("reading from the tracer")?,
            () = signals.terminated() => return Ok(()),
        };
        match frame {
            Some(ToAgent::Configure(configuration)) => break configuration,
            Some(ToAgent::ReadTopology { pods, rules }) => {
                let topology = send_topology(out, pods).await?;
                if rules {
                    send_rules(out, &topology).await?;
                }
            }
            Some(ToAgent::Clock { sent_ns }) => out.send(&clock_answer(sent_ns))?,
            Some(ToAgent::Stop) | None => return Ok(()),
            Some(other) => bail!("protocol error: {other:?} received before Configure"),
        }
    };
    let symbols = LazySymbols::begin();
    let topology = send_topology(out, configuration.pods.clone()).await?;
    let rules = RulesReadings::begin(&topology, &configuration.tapped_pods);
    // At the end of the input, the thread that reads it exits and closes the channel.
    let session_is_open = || !input.is_closed();
    let settings = settings(&configuration, &topology, &session_is_open);
    let (programs, ring, attached) = AttachedPrograms::attach(&settings)?;
    let (counts, drop_reasons) = (configuration.filter.stats, attached.drop_reasons.clone());
    out.send(&FromAgent::Attached(attached))?;
    // SAFETY: `RingBuf` owns the descriptor and keeps it open until it is dropped; nothing else uses it.
    let ring = unsafe { AsyncFd::register(ring) }.context("waiting for the ring buffer")?;
    let conntracked = conntrack::read();
    if let Some(counters) = conntracked {
        out.send(&FromAgent::ConntrackStats(counters))?;
    }
    let sent_names = BTreeSet::new();
    let sent_topology = topology.clone();
    let Configuration { pods, tapped_pods: tapped, .. } = configuration;
    // Attaching takes seconds: read the state again at once, to see what changed meanwhile.
    let mut serving = Serving {
        rules,
        probes: Probes::new(),
        updates: UpdateReadings::new(),
        changes: ChangeReadings::begin(None),
        counts,
        drop_reasons,
        ticks: 0,
        out,
        programs,
        ring,
        buffer: Vec::new(),
        sent: 0,
        recursion_misses: 0,
        symbols,
        sent_names,
        conntracked,
        topology,
        sent_topology,
        pods,
        tapped,
    };
    let changes = serving.listen();
    serving.changes.set_changes(changes);
    serving.run(&mut input, &mut signals).await
}

fn settings<'a>(
    configuration: &'a Configuration,
    topology: &'a Topology,
    session_is_open: &'a dyn Fn() -> bool,
) -> Settings<'a> {
    let Configuration { filter, pods: _, tapped_pods: tapped, node_addresses } = configuration;
    Settings { filter, topology, tapped, node_addresses, mode: TcMode::from_env(), session_is_open }
}

/// An agent that traces.
struct Serving<'a> {
    out: &'a mut Output,
    programs: AttachedPrograms,
    ring: AsyncFd<RingBuf<MapData>>,
    rules: RulesReadings,
    probes: Probes,
    updates: UpdateReadings,
    changes: ChangeReadings,
    /// Whether packets are counted in place of being reported.
    counts: bool,
    /// Names of the kernel's drop reasons.
    drop_reasons: BTreeMap<u32, String>,
    /// Number of ticks so far.
    ticks: u32,
    /// Memory for events that are sent: used again, since hundreds of frames a second are sent at most.
    buffer: Vec<u8>,
    /// Number of events sent.
    sent: u64,
    /// Runs that the kernel skipped because the program was running on that CPU already, as last read.
    recursion_misses: u64,
    symbols: LazySymbols,
    /// Kernel addresses whose names were sent.
    sent_names: BTreeSet<u64>,
    /// The counters of connection tracking, as last sent.
    conntracked: Option<ConntrackStats>,
    /// The topology that was used to attach the taps.
    topology: Topology,
    /// The topology as last sent.
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
        signals: &mut Signals,
    ) -> Result<()> {
        let mut drain = tokio::time::interval(DRAIN_EVERY);
        drain.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let was_asked = loop {
            tokio::select! {
                biased;
                frame = input.recv() => match frame.transpose().context("reading from the tracer")? {
                    Some(ToAgent::Stop) => break true,
                    None => break false,
                    Some(frame) => self.handle(frame)?,
                },
                () = signals.terminated() => break false,
                rules = self.rules.next(&self.topology, &self.tapped) => {
                    self.out.send(&rules.map_or(FromAgent::NetworkChanging, FromAgent::Rules))?;
                }
                frame = self.probes.next() => self.out.send(&frame)?,
                (at_ns, configuration, reading) = self.updates.next() => {
                    self.update(at_ns, &configuration, reading)?;
                    let changes = self.listen();
                    self.changes.set_changes(changes);
                    self.rules.read_again(&self.topology, &self.tapped);
                }
                reading = self.changes.next(&self.pods) => match reading {
                    Some(reading) => self.changed(reading)?,
                    None => self.out.send(&FromAgent::NetworkChanging)?,
                },
                _ = drain.tick() => self.tick()?,
                guard = self.ring.readable() => {
                    guard.context("waiting for the ring buffer")?.clear_ready();
                    self.drain()?;
                }
            }
        };
        self.stop(was_asked).await
    }

    /// Handles a frame from the tracer other than Stop.
    fn handle(&mut self, frame: ToAgent) -> Result<()> {
        match frame {
            ToAgent::Start { nat_addresses } => {
                self.programs.add_nat_addresses(&nat_addresses)?;
                self.programs.enable(true)?;
                self.out.send(&FromAgent::Started)
            }
            ToAgent::Clock { sent_ns } => self.out.send(&clock_answer(sent_ns)),
            ToAgent::Probe(probe) => match self.probes.start(&probe, &self.topology) {
                Some(refusal) => self.out.send(&refusal),
                None => Ok(()),
            },
            ToAgent::Update { at_ns, configuration } => {
                self.updates.start(at_ns, configuration);
                Ok(())
            }
            ToAgent::Configure(_) => bail!("protocol error: Configure received twice"),
            ToAgent::ReadTopology { .. } => bail!("protocol error: ReadTopology received after Configure"),
            ToAgent::Stop => bail!("protocol error: Stop received twice"),
        }
    }

    /// What is done at each [`DRAIN_EVERY`].
    fn tick(&mut self) -> Result<()> {
        self.ticks = self.ticks.wrapping_add(1);
        let until = self.drain()?;
        if self.ticks.is_multiple_of(RECURSION_MISSES_EVERY) {
            self.recursion_misses = self.programs.recursion_misses();
        }
        if self.counts && self.ticks.is_multiple_of(STATS_EVERY) {
            self.send_stats()?;
        }
        if self.ticks.is_multiple_of(HEARTBEAT_EVERY) {
            let counters = self.accounting()?;
            self.out.send(&FromAgent::Heartbeat { now_ns: until, counters })?;
        }
        Ok(())
    }

    /// Sends what the ring buffer holds, and lets the programs wake the agent again. Returns the time up to which everything
    /// was sent.
    fn drain(&mut self) -> Result<u64> {
        let until = self.send_events()?;
        // Only now: an agent that is busy sending needs no wake-ups.
        self.programs.expect_wake_up()?;
        Ok(until)
    }

    /// Sends what the ring buffer holds, up to a limit, so that a flood cannot keep the agent from its other work. Returns the
    /// time up to which everything was sent.
    fn send_events(&mut self) -> Result<u64> {
        let now = clock::monotonic_ns();
        for _ in 0..FRAMES_AT_ONCE {
            let drained = capture::drain(self.ring.get_mut(), FRAME_BYTES, std::mem::take(&mut self.buffer));
            let Drained { events, count, locations, last_ns, empty } = drained;
            self.send_names(&locations)?;
            if !locations.is_empty() {
                self.send_conntracked()?;
            }
            let events = Bytes::from(events);
            if count > 0 {
                self.out.send(&FromAgent::Events(events.clone()))?;
                self.sent += count;
            }
            // The frame is gone, so this is the same memory again.
            self.buffer = events.into();
            if empty {
                return Ok(now);
            }
            if let Some(last_ns) = last_ns
                && last_ns > now
            {
                return Ok(now);
            }
        }
        // Not empty yet: no time can be promised.
        Ok(0)
    }

    /// Sends the counters of connection tracking if a drop changed them.
    fn send_conntracked(&mut self) -> Result<()> {
        let now = conntrack::read();
        let dropped = |counters: Option<ConntrackStats>| {
            counters.map(|counters| (counters.drop, counters.early_drop, counters.insert_failed))
        };
        if let Some(counters) = now.filter(|_| dropped(now) != dropped(self.conntracked)) {
            self.out.send(&FromAgent::ConntrackStats(counters))?;
            self.conntracked = now;
        }
        Ok(())
    }

    /// Sends the names of kernel addresses, each once.
    fn send_names(&mut self, locations: &[u64]) -> Result<()> {
        let mut names = BTreeMap::new();
        for location in locations {
            if self.sent_names.insert(*location)
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

    /// Sends what was counted in place of events.
    fn send_stats(&mut self) -> Result<()> {
        let counted = self.programs.stats()?;
        let stats = stats::named(counted, &self.topology, &self.drop_reasons, &mut self.symbols);
        self.out.send(&FromAgent::Stats(stats))
    }

    fn accounting(&self) -> Result<Accounting> {
        let counters = self.programs.counters()?;
        Ok(Accounting {
            produced: counters.produced,
            sent: self.sent,
            lost_ring: counters.lost_ring,
            lost_map: counters.lost_map,
            missed_probes: self.recursion_misses,
            unsampled: counters.unsampled,
        })
    }

    /// Detaches and says goodbye. Where a tracer asks for it that saw no packet, the node's state has to say why, and the kernel
    /// may have given up on a neighbour only now: it is read again.
    async fn stop(&mut self, was_asked: bool) -> Result<()> {
        self.programs.enable(false)?;
        self.recursion_misses = self.programs.recursion_misses();
        self.programs.detach();
        // A program that was running when it was detached may still be writing. It has counted its event already.
        for _ in 0..FINAL_DRAIN_ROUNDS {
            self.drain()?;
            let Accounting { produced, sent, lost_ring, .. } = self.accounting()?;
            if produced == sent + lost_ring {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if self.counts {
            self.send_stats()?;
        }
        let counters = self.accounting()?;
        if was_asked && counters.produced == 0 && !self.counts {
            let reading = networking(self.pods.clone()).await;
            self.changed(reading)?;
        }
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
