//! Frames in, finished paths out.
//!
//! 1. Frames that are not events update the model of the nodes ([`World`]): topology, hooks, symbols, rules, clocks.
//! 2. Events become observations and wait in their node's queue. Heartbeats are watermarks: an observation is released
//!    when all nodes have reported up to its time. Released observations are joined in the order of the common timeline,
//!    so the order in which nodes' frames arrive hardly matters.
//! 3. Completed paths are finished and reported, numbered in that order.
//!
//! No clock is read here: time advances by the timestamps in frames, so that a recording gives the same paths as the live
//! trace. A node that is alive and sends nothing holds everything back, up to a limit: then the oldest observations of
//! all nodes are discarded and counted, and paths that overlap the gap are reported as open.

mod limits;
mod periods;
mod queue;
mod window;

use std::collections::BTreeSet;
use std::sync::Arc;

use podtrace_protocol::frame::{Accounting, ConntrackStats, FilterSpec, FromAgent, HookState};
use podtrace_protocol::record::Records;
use podtrace_rules::Rules;

use crate::change::Update;
use crate::context::Context;
use crate::engine::limits::Limits;
use crate::engine::queue::NodeQueue;
use crate::engine::window::Window;
use crate::finish::{self, Ending, Numbers};
use crate::join::track::{Track, TrackId};
use crate::join::{Joiner, VANISH_TIMEOUT};
use crate::model::{EventCounts, Path, Sample, Summary, Unwatched, Verdict, VerdictCounts};
use crate::node::{NodeId, PerNode};
use crate::observation::Observation;
use crate::time::{Moment, NodeTime};
use crate::world::clock::Clocks;
use crate::world::devices::Devices;
use crate::world::directory::Directory;
use crate::world::rules::NodeRules;
use crate::world::{self, ConntrackCounters, World};

/// Reason of an open path that nodes may have missed, because they did not have the new filter yet.
const FILTER_CHANGED: &str = "the trace filter changed while it was in flight";

/// Observations joined between two looks at the memory.
const JOINED_AT_ONCE: u32 = 1024;

/// Builds paths from the frames of all nodes.
#[derive(Debug)]
pub struct Engine {
    world: World,
    joiner: Joiner,
    queues: PerNode<NodeQueue>,
    /// Paths reported.
    reported: u64,
    verdicts: VerdictCounts,
    /// Records that could be decoded.
    received: u64,
    /// Records that could not be decoded, or that no observation could be made of; the latter are in `received`, too.
    unusable: u64,
    filter: FilterSpec,
    /// Periods in which some node did not trace yet what it was asked for, or had not joined; oldest first.
    windows: Vec<Window>,
    /// Whether matching packets may have passed on nodes that are not traced.
    blind: bool,
    /// Taps that could not be attached. Kept even if they are attached later, because earlier packets were missed.
    unwatched: BTreeSet<Unwatched>,
    limits: Limits,
    /// Up to when observations were joined last.
    joined_until: Moment,
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
                nodes: names.into_iter().map(world::Node::new).collect(),
                events_lost: false,
            },
            joiner: Joiner::new(context.filter.clone()),
            queues: (0..count).map(|_| NodeQueue::default()).collect(),
            reported: 0,
            verdicts: VerdictCounts::default(),
            received: 0,
            unusable: 0,
            filter: context.filter,
            windows: Vec::new(),
            blind: false,
            unwatched: BTreeSet::new(),
            limits: Limits::new(context.memory),
            joined_until: Moment::ORIGIN,
        }
    }

    /// Sets the maximum number of observations that wait while a node is silent.
    pub fn hold_at_most(&mut self, observations: usize) {
        self.limits.waiting = observations;
    }

    /// Applies a change of the cluster, between two frames.
    pub fn update(&mut self, update: &Update) {
        let Update { at_ns, delta, filter, joined, blind, changes: _ } = update;
        let at = self.world.clocks.of_tracer(*at_ns);
        self.blind |= blind;
        self.windows.retain(|window| !window.is_over(at));
        self.world.directory.update(delta, at);
        if let Some(filter) = filter {
            let running = self.queues.iter().filter(|(_, queue)| !queue.ended).map(|(node, _)| node);
            self.windows.extend(Window::between((&self.filter, filter), *at_ns, at, running));
            self.filter.clone_from(filter);
            self.joiner.set_filter(filter.clone());
        }
        for name in joined {
            let name: Arc<str> = name.as_str().into();
            let addresses = self.world.directory.pod_addresses(&name).collect();
            self.windows.push(Window::of_new_node(addresses, at));
            self.world.add(&name);
            self.queues.push(NodeQueue::default());
        }
    }

    /// Processes the next frame of a node. `node` is its index in [`Context::nodes`]; nodes that joined follow these.
    /// Appends finished paths to `out`, in the order of their numbers. A frame of any other node is ignored.
    pub fn ingest(&mut self, node: usize, frame: &FromAgent, out: &mut Vec<Path>) {
        let Some(node) = self.queues.id(node) else { return };
        match frame {
            FromAgent::Hello(hello) => {
                let monotonic = NodeTime::from_nanos(hello.monotonic_ns);
                self.world.clocks.hello(node, monotonic, hello.realtime_ns);
            }
            FromAgent::Topology(topology) => {
                let World { directory, devices, nodes, .. } = &mut self.world;
                let name = &nodes[node].name;
                directory.learn(name, topology);
                devices.learn(node, topology, directory, name);
            }
            FromAgent::Attached(attached) => {
                self.world.nodes[node].kernel.learn(attached);
                self.note_unwatched(node, &attached.hooks);
            }
            FromAgent::Symbols(symbols) => {
                let symbols = symbols.iter().map(|(address, name)| (*address, name.clone()));
                self.world.nodes[node].kernel.symbols.extend(symbols);
            }
            FromAgent::Events(body) => {
                self.ingest_events(node, body);
                self.keep_to_limit();
                self.keep_to_memory(self.joined_until, out);
            }
            FromAgent::Heartbeat { now_ns, counters } => {
                let now = NodeTime::from_nanos(*now_ns);
                self.count_events(node, *counters, Some(now));
                self.queues[node].heartbeat(now);
                self.world.nodes[node].taps.heartbeat(now);
                self.advance(out);
            }
            FromAgent::Clock { sent_ns, node_ns, received_ns } => {
                let read = NodeTime::from_nanos(*node_ns);
                self.world.clocks.sample(node, *sent_ns, read, *received_ns);
            }
            FromAgent::Goodbye { counters } => {
                self.count_events(node, *counters, None);
                let queue = &mut self.queues[node];
                queue.goodbye = true;
                queue.end();
                self.advance(out);
            }
            FromAgent::ConntrackStats(counted) => self.set_conntrack_counters(node, *counted),
            FromAgent::Updated(updated) => {
                self.note_unwatched(node, &updated.hooks);
                if let Some(at) = self.world.clocks.common(node, NodeTime::from_nanos(updated.at_ns)) {
                    self.windows.iter_mut().for_each(|window| window.confirmed(node, updated.update_id, at));
                }
            }
            FromAgent::Rules(rules) => self.set_rules(node, rules),
            FromAgent::Started
            | FromAgent::NetworkChanging
            | FromAgent::NetworkUnchanged
            | FromAgent::NetworkChanged(_)
            | FromAgent::Probed { .. }
            | FromAgent::Warning { .. }
            | FromAgent::Stats(_)
            | FromAgent::Failed { .. } => {}
        }
    }

    fn ingest_events(&mut self, node: NodeId, body: &[u8]) {
        let queue = &mut self.queues[node];
        for record in Records::new(body) {
            let Ok(raw) = record else {
                self.unusable += 1;
                continue;
            };
            self.received += 1;
            let number = queue.records;
            queue.records += 1;
            match Observation::new(node, number, raw, &self.world) {
                Ok(observation) => queue.push(observation),
                Err(_) => self.unusable += 1,
            }
        }
    }

    /// Notes the taps that are attached, and those that could not be: the hooks that have a device. Other hooks only add detail.
    fn note_unwatched(&mut self, node: NodeId, hooks: &[HookState]) {
        self.world.nodes[node].taps.attached(hooks);
        let name = &self.world.nodes[node].name;
        self.unwatched.extend(hooks.iter().filter(|hook| hook.mechanism.is_none()).filter_map(|hook| {
            let device = hook.device.clone()?;
            Some(Unwatched { node: name.to_string(), device, point: hook.point.clone() })
        }));
    }

    fn set_conntrack_counters(&mut self, node: NodeId, last: ConntrackStats) {
        let counters = &mut self.world.nodes[node].conntrack;
        let first = counters.map_or(last, |counters| counters.first);
        *counters = Some(ConntrackCounters { first, last });
    }

    fn set_rules(&mut self, node: NodeId, rules: &Rules) {
        let known = &mut self.world.nodes[node].rules;
        *known = std::mem::take(known).replaced_by(rules);
        let inside = rules.inside.iter().map(|(pod, rules)| (pod.clone(), NodeRules::new(rules)));
        self.world.nodes[node].inside = inside.collect();
    }

    /// Takes a node's counters, read at `now` by its clock or at its end. Events that they say were lost belong to the time since
    /// the last watermark.
    fn count_events(&mut self, node: NodeId, counters: Accounting, now: Option<NodeTime>) {
        let queue = &mut self.queues[node];
        queue.counters = counters;
        let since = queue.watermark();
        if queue.has_lost() && now.is_none_or(|now| Some(now) > since) {
            self.note_lost(node, since, now);
        }
    }

    /// Ends a node's stream: its agent ended, with a goodbye or without.
    pub fn node_ended(&mut self, node: usize) {
        let Some(node) = self.queues.id(node) else { return };
        let queue = &mut self.queues[node];
        queue.end();
        self.world.nodes[node].agent_lost = !queue.goodbye;
        self.windows.iter_mut().for_each(|window| window.node_ended(node));
    }

    /// Ends the trace: reports the paths in flight, as open unless they timed out, and returns the summary.
    pub fn finish(mut self, out: &mut Vec<Path>) -> Summary {
        self.queues.values_mut().for_each(NodeQueue::release_all);
        self.world.clocks.settle();
        self.join_until(Moment::MAX, out);
        // The trace ends at the earliest time up to which all nodes have reported.
        let end = self.queues.ids().filter_map(|node| self.watermark(node)).min();
        if let Some(end) = end {
            self.report_until(end, out);
        }
        for track in self.joiner.rest(&self.world) {
            let last = self.joiner.track(track).map(|track| track.last);
            let timed_out = last.zip(end).is_some_and(|(last, end)| last + VANISH_TIMEOUT <= end);
            self.report(track, timed_out, out);
        }
        self.summary()
    }

    /// Number of packets in flight: paths not reported yet, and observations not joined yet.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.joiner.under_way() + self.waiting()
    }

    /// Number of observations that wait for other nodes.
    fn waiting(&self) -> usize {
        self.queues.values().map(NodeQueue::len).sum()
    }

    /// The counts so far.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let sum =
            |field: fn(&Accounting) -> u64| self.queues.values().map(|queue| field(&queue.counters)).sum();
        let (lost_ring, lost_map) = (sum(|of| of.lost_ring), sum(|of| of.lost_map));
        let events = EventCounts {
            produced: sum(|of| of.produced),
            delivered: self.received,
            lost_ring,
            lost_map,
            missed_probes: sum(|of| of.missed_probes),
            unmatched: self.joiner.unattributed.unmatched + self.unusable + self.limits.discarded,
        };
        let complete = !self.blind
            && self.unwatched.is_empty()
            && self.limits.shed.is_nothing()
            && self.queues.values().all(|queue| queue.goodbye)
            && events.produced == events.delivered
            && lost_ring + lost_map + events.missed_probes + events.unmatched == 0;
        let unwatched = self.unwatched.iter().cloned().collect();
        let sample = self
            .joiner
            .filter()
            .sample
            .map(|one_in| Sample { one_in, unsampled_events: sum(|of| of.unsampled) });
        Summary {
            paths: self.verdicts,
            events,
            complete,
            unwatched,
            shed: self.limits.shed,
            sample,
            drops: self.joiner.fates.finished(),
        }
    }

    /// Events that belong to no path and need none: flooded copies, harmless drops, and events of packets whose path had
    /// been reported.
    #[must_use]
    pub fn ignored_events(&self) -> u64 {
        self.joiner.unattributed.ignored
    }

    /// Drops so far that a healthy network has, too.
    #[must_use]
    pub fn harmless_drops(&self) -> u64 {
        self.joiner.fates.count_harmless()
    }

    /// Up to when a node has reported everything, on the common timeline.
    fn watermark(&self, node: NodeId) -> Option<Moment> {
        self.world.clocks.common(node, self.queues[node].watermark()?)
    }

    /// Time has passed on some node: joins what all nodes have reported up to the same moment, and reports paths that
    /// are over by then.
    fn advance(&mut self, out: &mut Vec<Path>) {
        let Some(until) = self.reported_by_all() else { return };
        self.world.clocks.advance(until);
        self.joined_until = until;
        self.join_until(until, out);
        self.report_until(until - self.world.clocks.worst_error(), out);
        self.keep_to_memory(until, out);
    }

    /// Up to when all live nodes have reported everything; `None` if that is not known of one, or if none is alive.
    fn reported_by_all(&self) -> Option<Moment> {
        let mut until = None;
        for (node, queue) in self.queues.iter() {
            if !queue.ended {
                let reported = self.watermark(node)?;
                until = Some(until.map_or(reported, |until: Moment| until.min(reported)));
            }
        }
        until
    }

    /// Joins the observations that were made before `until`, in the order of the common timeline.
    fn join_until(&mut self, until: Moment, out: &mut Vec<Path>) {
        let lost = |queue: &NodeQueue| queue.counters.lost_ring + queue.counters.lost_map > 0;
        if self.queues.values().any(lost) {
            self.joiner.note_lost_events();
            self.world.events_lost = true;
        }
        self.joiner.set_clock_error(self.world.clocks.worst_error());
        let mut joined = 0;
        while let Some(Turn { node, bound }) = self.next_turn(until) {
            // At least one, where two nodes are level.
            while let Some(observation) = self.queues[node].pop() {
                self.joiner.observe(&observation, &self.world);
                joined += 1;
                if joined % JOINED_AT_ONCE == 0 {
                    self.keep_to_memory(observation.moment(&self.world), out);
                }
                if self.next_moment(node).is_none_or(|next| next >= bound) {
                    break;
                }
            }
        }
    }

    /// When a node's next observation was made.
    fn next_moment(&self, node: NodeId) -> Option<Moment> {
        self.world.clocks.common(node, self.queues[node].next_time()?)
    }

    /// The node whose observation is the earliest before `until`; of several at the same moment the first node's.
    fn next_turn(&self, until: Moment) -> Option<Turn> {
        let (mut earliest, mut bound): (Option<(Moment, NodeId)>, _) = (None, until);
        for node in self.queues.ids() {
            let Some(moment) = self.next_moment(node) else { continue };
            match earliest {
                Some((other, _)) if other <= moment => bound = bound.min(moment),
                Some((other, _)) => {
                    bound = bound.min(other);
                    earliest = Some((moment, node));
                }
                None => earliest = Some((moment, node)),
            }
        }
        let (_, node) = earliest.filter(|(moment, _)| *moment < until || until == Moment::MAX)?;
        Some(Turn { node, bound })
    }

    /// Reports the paths that are over by `now`.
    fn report_until(&mut self, now: Moment, out: &mut Vec<Path>) {
        self.learn_crossings();
        while let Some(track) = self.joiner.next_due(now, &self.world) {
            self.report(track, true, out);
        }
    }

    /// Whatever has crossed from node to node narrows the clocks' bounds for all that is reported from here on: a request
    /// gains from its answer.
    fn learn_crossings(&mut self) {
        for id in self.joiner.take_arrived() {
            let Some(track) = self.joiner.track_mut(id) else { continue };
            track.sort();
            for (left, arrived) in track.crossings() {
                self.world.clocks.crossed(left, arrived);
            }
        }
    }

    fn report(&mut self, id: TrackId, timed_out: bool, out: &mut Vec<Path>) {
        let Some(mut track) = self.joiner.take(id) else { return };
        track.sort();
        let given_up = self.limits.cut(&track);
        let is_cut = self.is_cut(&track);
        let is_excluded = finish::excluded_start(&track, self.joiner.filter(), &self.world).is_some();
        let unattributed = &mut self.joiner.unattributed;
        match (track.start_seen, is_cut || is_excluded) {
            (true, _) => {}
            // When it started, it was not traced yet.
            (false, true) => unattributed.ignored += track.events,
            (false, false) => unattributed.unmatched += track.events,
        }
        self.reported += 1;
        let (flow, relative_sequence) = self.joiner.report(&track);
        let numbers = Numbers { path: self.reported, flow, relative_sequence };
        let ending = Ending { timed_out, filter: self.joiner.filter() };
        let mut path = finish::path(&track, numbers, ending, &self.world);
        let cut = given_up.or(is_cut.then_some(FILTER_CHANGED));
        if let Some(reason) = cut.filter(|_| path.verdict == Verdict::Vanished) {
            path.verdict = Verdict::Open;
            path.reason = Some(reason.to_owned());
        } else if path.verdict == Verdict::Open && path.reason.is_none() {
            path.reason = given_up.map(str::to_owned);
        }
        self.count(path.verdict);
        for seen in &track.sightings {
            if let Some(dropped) = &seen.drop {
                self.joiner.fates.settle(path.verdict, &dropped.drop, u64::from(seen.packets));
            }
        }
        out.push(path);
        self.joiner.recycle(track);
    }

    fn count(&mut self, verdict: Verdict) {
        let count = match verdict {
            Verdict::Delivered => &mut self.verdicts.delivered,
            Verdict::Dropped => &mut self.verdicts.dropped,
            Verdict::Vanished => &mut self.verdicts.vanished,
            Verdict::Rejected => &mut self.verdicts.rejected,
            Verdict::Open => &mut self.verdicts.open,
        };
        *count += 1;
    }

    /// Whether it may lack hops because the filter changed while it was under way.
    fn is_cut(&self, track: &Track) -> bool {
        if self.windows.is_empty() {
            return false;
        }
        std::iter::once(track.tuple()).chain(finish::last_tuple(track)).any(|tuple| {
            let ends = [tuple.src, tuple.dst];
            self.windows.iter().any(|window| window.may_truncate(ends, track.first, track.last))
        })
    }
}

/// Whose observations are joined next.
#[derive(Clone, Copy, Debug)]
struct Turn {
    node: NodeId,
    /// When another node's turn comes.
    bound: Moment,
}
