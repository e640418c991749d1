//! Frames in, finished paths out.
//!
//! Observations are held back until every node has told all up to the same moment (its heartbeats say so), and
//! taken in the order of a common timeline; so it hardly matters whose frames come first. Nothing here asks what
//! time it is: time passes by what nodes say, so that a recording gives the same paths as the live trace.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use podtrace_protocol::frame::{Accounting, FilterSpec, FromAgent};
use podtrace_protocol::inventory::Inventory;
use podtrace_protocol::record::Records;

use crate::change::Update;
use crate::finish::hops::{crossings, hops};
use crate::finish::label::label;
use crate::finish::translate;
use crate::finish::verdict::verdict;
use crate::join::track::Track;
use crate::join::{Joiner, PATIENCE_NS};
use crate::model::{Direction, EventCounts, FlowRef, Path, Summary, Translated, Verdict, VerdictCounts};
use crate::observation::Observation;
use crate::wire::packet::{PacketExt as _, Transport};
use crate::world::clock::Clocks;
use crate::world::devices::Devices;
use crate::world::directory::Directory;
use crate::world::rule::NodeRules;
use crate::world::window::Window;
use crate::world::{Kernel, World};

/// Why a path is open that would have vanished, had all nodes looked for it.
const CUT: &str = "what is traced changed while it was under way";

/// What has to be known besides the frames; saved with them in a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Pods and nodes.
    pub inventory: Inventory,
    /// Names of the traced nodes; a frame's node is an index into this.
    pub nodes: Vec<String>,
    /// What is traced.
    pub filter: FilterSpec,
}

/// Makes paths of the frames of all nodes.
#[derive(Debug)]
pub struct Engine {
    world: World,
    joiner: Joiner,
    nodes: Vec<Node>,
    told: u64,
    verdicts: VerdictCounts,
    received: u64,
    unusable: u64,
    /// Every wait is over: the clocks have told what they will.
    finishing: bool,
    filter: FilterSpec,
    /// Times in which what is traced changed, oldest first.
    windows: Vec<Window>,
    /// Whether packets of interest may have passed where nobody looked.
    blind: bool,
}

/// What one node has told.
#[derive(Debug, Default)]
struct Node {
    /// Observations in the order of their frames.
    incoming: Vec<Observation>,
    /// In order of time, up to the last heartbeat.
    ready: VecDeque<Observation>,
    /// All before this moment has been told; the node's clock.
    told_until: Option<u64>,
    /// Records it has sent, unusable ones included.
    received: u64,
    counters: Accounting,
    goodbye: bool,
    ended: bool,
}

impl Node {
    /// Makes all before `until` ready.
    fn release(&mut self, until: u64) {
        if self.incoming.is_empty() {
            return;
        }
        // Stable, so that events of one moment stay as they were drained; and quick, for they nearly are in order.
        self.incoming.sort_by_key(|observation| observation.at);
        let count = self.incoming.partition_point(|observation| observation.at < until);
        self.ready.extend(self.incoming.drain(..count));
    }
}

impl Engine {
    /// An engine that has seen nothing yet.
    #[must_use]
    pub fn new(context: Context) -> Self {
        let names: Vec<Arc<str>> = context.nodes.iter().map(|name| name.as_str().into()).collect();
        let count = names.len();
        Self {
            world: World {
                directory: Directory::new(&context.inventory, &names),
                devices: Devices::new(count),
                clocks: Clocks::new(count),
                rules: (0..count).map(|_| NodeRules::default()).collect(),
                conntracked: vec![None; count],
                kernels: (0..count).map(|_| Kernel::default()).collect(),
                lost: vec![false; count],
                names,
            },
            joiner: Joiner::new(context.filter.clone()),
            nodes: (0..count).map(|_| Node::default()).collect(),
            told: 0,
            verdicts: VerdictCounts::default(),
            received: 0,
            unusable: 0,
            finishing: false,
            filter: context.filter,
            windows: Vec::new(),
            blind: false,
        }
    }

    /// Takes what became of the cluster, between two frames.
    pub fn update(&mut self, update: &Update) {
        let Update { at_ns, delta, filter, joined, blind, changes: _ } = update;
        let at = self.world.clocks.tracers(*at_ns);
        self.blind |= blind;
        self.windows.retain(|window| !window.is_over(at));
        self.world.directory.update(delta, at);
        if let Some(filter) = filter {
            let nodes = self.nodes.iter().enumerate();
            let waiting = nodes.filter(|(_, node)| !node.ended).map(|(number, _)| number);
            self.windows.extend(Window::between((&self.filter, filter), *at_ns, at, waiting));
            self.filter.clone_from(filter);
            self.joiner.flows.set_filter(filter.clone());
        }
        for name in joined {
            let name: Arc<str> = name.as_str().into();
            self.windows.push(Window::of_node(self.world.directory.at_home(&name).collect(), at));
            self.world.add(&name);
            self.nodes.push(Node::default());
        }
    }

    /// Takes the next frame of a node; finished paths are appended to `out`, numbered in the order told.
    /// A frame of a node that is not in the context is ignored.
    pub fn ingest(&mut self, node: usize, frame: &FromAgent, out: &mut Vec<Path>) {
        let Some(state) = self.nodes.get_mut(node) else { return };
        match frame {
            FromAgent::Hello(hello) => {
                self.world.clocks.hello(node, hello.monotonic_ns, hello.realtime_ns);
            }
            FromAgent::Topology(topology) => {
                let World { directory, devices, names, .. } = &mut self.world;
                directory.learn(&names[node], topology);
                devices.learn(node, topology, directory, &names[node]);
            }
            FromAgent::Attached(attached) => {
                self.world.kernels[node].learn(attached);
            }
            FromAgent::Symbols(symbols) => {
                let symbols = symbols.iter().map(|(address, name)| (*address, name.clone()));
                self.world.kernels[node].symbols.extend(symbols);
            }
            FromAgent::Events(body) => {
                for record in Records::new(body) {
                    let Ok(raw) = record else {
                        self.unusable += 1;
                        continue;
                    };
                    self.received += 1;
                    let number = state.received;
                    state.received += 1;
                    match Observation::new(node, number, raw, &self.world) {
                        Ok(observation) => state.incoming.push(observation),
                        Err(_) => self.unusable += 1,
                    }
                }
            }
            FromAgent::Heartbeat { now_ns, counters } => {
                state.counters = *counters;
                state.told_until = state.told_until.max(Some(*now_ns));
                state.release(*now_ns);
                self.advance(out);
            }
            FromAgent::Clock { sent_ns, node_ns, received_ns } => {
                self.world.clocks.sample(node, *sent_ns, *node_ns, *received_ns);
            }
            FromAgent::Goodbye { counters } => {
                state.counters = *counters;
                state.goodbye = true;
                state.ended = true;
                state.release(u64::MAX);
                self.advance(out);
            }
            FromAgent::Conntracked(counted) => {
                let first = self.world.conntracked[node].map_or(*counted, |(first, _)| first);
                self.world.conntracked[node] = Some((first, *counted));
            }
            FromAgent::Updated(updated) => {
                if let Some(at) = self.world.clocks.common(node, updated.at_ns) {
                    self.windows.iter_mut().for_each(|window| window.confirmed(node, updated.of, at));
                }
            }
            FromAgent::Rules(rules) => {
                let known = std::mem::take(&mut self.world.rules[node]);
                self.world.rules[node] = known.renewed(rules);
            }
            FromAgent::Started
            | FromAgent::NetworkChanged(_)
            | FromAgent::Probed { .. }
            | FromAgent::Warning { .. }
            | FromAgent::Failed { .. } => {}
        }
    }

    /// No more frames of this node come: its agent ended, with or without a goodbye.
    pub fn node_ended(&mut self, node: usize) {
        let Some(state) = self.nodes.get_mut(node) else { return };
        state.ended = true;
        state.release(u64::MAX);
        self.world.lost[node] = !state.goodbye;
        self.windows.iter_mut().for_each(|window| window.ended(node));
    }

    /// Tracing is over: what is still under way is told, as open unless it had its time, with the summary.
    pub fn finish(mut self, out: &mut Vec<Path>) -> Summary {
        for node in &mut self.nodes {
            node.release(u64::MAX);
        }
        self.finishing = true;
        self.world.clocks.settle();
        self.consume(i64::MAX);
        // What the nodes told all of; the one that fell silent first sets the end.
        let known = (0..self.nodes.len()).filter_map(|node| self.told_until(node)).min();
        if let Some(now) = known {
            self.tell_until(now, out);
        }
        for at in self.joiner.rest(&self.world) {
            let had_its_time =
                known.is_some_and(|now| self.joiner.tracks[at].last.saturating_add(PATIENCE_NS) <= now);
            self.tell(at, had_its_time, out);
        }
        self.summary()
    }

    /// How many packets are under way: seen, and not told yet.
    #[must_use]
    pub fn under_way(&self) -> usize {
        let held: usize = self.nodes.iter().map(|node| node.incoming.len() + node.ready.len()).sum();
        self.joiner.tracks.len() + held
    }

    /// What the trace amounts to so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let sum = |field: fn(&Accounting) -> u64| self.nodes.iter().map(|node| field(&node.counters)).sum();
        let (lost_ring, lost_map) = (sum(|of| of.lost_ring), sum(|of| of.lost_map));
        let events = EventCounts {
            produced: sum(|of| of.produced),
            delivered: self.received,
            lost_ring,
            lost_map,
            missed_probes: sum(|of| of.missed_probes),
            unmatched: self.joiner.apart.unmatched + self.unusable,
        };
        let complete = !self.blind
            && self.nodes.iter().all(|node| node.goodbye)
            && events.produced == events.delivered
            && lost_ring + lost_map + events.missed_probes + events.unmatched == 0;
        Summary { paths: self.verdicts, events, complete }
    }

    /// Events that are part of no path and need not be: flooded copies, drops of packets that had served, and
    /// drops of packets whose path had been told.
    #[must_use]
    pub fn aside(&self) -> u64 {
        self.joiner.apart.aside
    }

    /// Until when a node has told all, on the common timeline.
    fn told_until(&self, node: usize) -> Option<i64> {
        self.world.clocks.common(node, self.nodes[node].told_until?)
    }

    /// Time has passed on some node: takes what all nodes have told up to the same moment, and tells what is
    /// over by then.
    fn advance(&mut self, out: &mut Vec<Path>) {
        let mut until = i64::MAX;
        for node in 0..self.nodes.len() {
            // A live node whose time is unknown holds everything back.
            match (self.nodes[node].ended, self.told_until(node)) {
                (true, _) => {}
                (false, Some(told)) => until = until.min(told),
                (false, None) => return,
            }
        }
        if until == i64::MAX {
            // Nobody's time passes any more: the rest is for `finish`.
            return;
        }
        self.world.clocks.advance(until);
        self.consume(until);
        self.tell_until(until.saturating_sub(self.world.clocks.worst_error()), out);
    }

    /// Takes what is ready before `until`, in the order of the common timeline.
    fn consume(&mut self, until: i64) {
        self.joiner.set_clock_error(self.world.clocks.worst_error());
        loop {
            let (mut next, mut bound) = (None, until);
            for (number, node) in self.nodes.iter().enumerate() {
                let Some(front) = node.ready.front() else { continue };
                let Some(at) = self.world.clocks.common(number, front.at) else { continue };
                match next {
                    Some((earliest, _)) if earliest <= at => bound = bound.min(at),
                    Some((earliest, _)) => {
                        bound = bound.min(earliest);
                        next = Some((at, number));
                    }
                    None => next = Some((at, number)),
                }
            }
            let Some((at, number)) = next.filter(|(at, _)| *at < until || until == i64::MAX) else { return };
            // A node goes on until another's turn comes; at least by one, where they are level.
            let mut at = Some(at);
            let mut first = true;
            while at.is_some_and(|at| at < bound || first) {
                first = false;
                let Some(observation) = self.nodes[number].ready.pop_front() else { break };
                self.joiner.observe(&observation, &self.world);
                at = self.nodes[number]
                    .ready
                    .front()
                    .and_then(|front| self.world.clocks.common(number, front.at));
            }
        }
    }

    fn tell_until(&mut self, now: i64, out: &mut Vec<Path>) {
        // Whatever has crossed by now narrows the clocks' bounds for all that is told from here on: a request
        // gains from its answer.
        for at in std::mem::take(&mut self.joiner.arrived) {
            if let Some(track) = self.joiner.tracks.get_mut(at) {
                track.sort();
                for (left, arrived) in crossings(track) {
                    self.world.clocks.crossed(left, arrived);
                }
            }
        }
        while let Some(at) = self.joiner.next_due(now, &self.world) {
            self.tell(at, true, out);
        }
    }

    fn tell(&mut self, at: usize, had_its_time: bool, out: &mut Vec<Path>) {
        let mut track = self.joiner.take(at);
        track.sort();
        let is_cut = self.is_cut(&track);
        match (track.whole, is_cut) {
            (true, _) => {}
            // Its beginning was nobody's to see yet.
            (false, true) => self.joiner.apart.aside += track.events,
            (false, false) => self.joiner.apart.unmatched += track.events,
        }
        let mut path = self.path(&track, had_its_time);
        if is_cut && path.verdict == Verdict::Vanished {
            path.verdict = Verdict::Open;
            path.reason = Some(CUT.to_owned());
        }
        let count = match path.verdict {
            Verdict::Delivered => &mut self.verdicts.delivered,
            Verdict::Dropped => &mut self.verdicts.dropped,
            Verdict::Vanished => &mut self.verdicts.vanished,
            Verdict::Rejected => &mut self.verdicts.rejected,
            Verdict::Open => &mut self.verdicts.open,
        };
        *count += 1;
        out.push(path);
        self.joiner.recycle(track);
    }

    /// Whether it may lack hops because what is traced changed meanwhile.
    fn is_cut(&self, track: &Track) -> bool {
        let tuples = std::iter::once(track.packet.tuple())
            .chain(track.sightings.last().map(|last| translate::tuple(track, last)));
        !self.windows.is_empty()
            && tuples.into_iter().any(|tuple| {
                let ends = [tuple.src, tuple.dst];
                self.windows.iter().any(|window| window.cuts(ends, track.first, track.last))
            })
    }

    fn path(&mut self, track: &Track, had_its_time: bool) -> Path {
        self.told += 1;
        let number = self.joiner.flows.path_told(track.flow);
        let flow = self.joiner.flows.get(track.flow);
        let relative = match (track.span, &track.packet.transport) {
            (Some((start, _)), Transport::Tcp { .. }) => flow.way(track.forward).relative(start),
            _ => 0,
        };
        let (verdict, reason) = verdict(track, had_its_time, &self.world);
        let forward_is_request = flow.direction(true) == Direction::Request;
        let made = hops(track, forward_is_request, &self.world);
        let (from, to) = self.world.directory.ends(&track.packet.tuple(), track.first);
        let last = track.sightings.last().map(|last| translate::tuple(track, last));
        let translated = last.filter(|last| *last != track.packet.tuple()).map(|last| {
            let (from, to) = self.world.directory.ends(&last, track.first);
            Box::new(Translated { from, to })
        });
        let confidence = 1.0 / f64::from(track.ambiguity.max(1));
        Path {
            id: self.told,
            verdict,
            reason,
            advice: None,
            // Where the beginning was not seen, as much speaks for another one as for none.
            confidence: if track.whole { confidence } else { confidence / 2.0 },
            flow: FlowRef { id: number, direction: flow.direction(track.forward) },
            from,
            to,
            translated,
            proto: track.packet.proto(),
            label: label(&track.packet, relative),
            bytes: track.packet.length,
            payload: track.packet.payload,
            started_at: track
                .sightings
                .first()
                .map_or(0, |first| self.world.clocks.wall(first.node, first.at)),
            duration_ns: made.duration_ns,
            duration_error_ns: made.error_ns,
            hops: made.hops,
        }
    }
}
