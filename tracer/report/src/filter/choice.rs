//! Selects paths by a pcap filter and by endpoints.
//!
//! Input: every frame of every node, then finished paths. The conditions of the filter are evaluated once for each record, as
//! it arrives, and the answers are kept as bits. A path is selected by combining the answers of its records.

use std::collections::VecDeque;

use tracer_common::{Event, flag};

use super::ast::Filter;
use super::ends::Ends;
use super::layers::Layers;
use podtrace_path::{Path, Source};
use podtrace_protocol::frame::{FilterSpec, FromAgent, Side};
use podtrace_protocol::record::Records;
use podtrace_protocol::topology::{DeviceKind, Topology};

/// For how many records of a node the answers are kept: more than can arrive while a packet is in flight.
const MOST_KEPT: usize = 1 << 20;

/// Selects paths.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    filter: Option<Filter>,
    ends: Option<Ends>,
    nodes: Vec<Node>,
}

/// The answers for a node's records.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Answers from the record number `first` on.
    answers: VecDeque<Answers>,
    first: u64,
    vxlan_ports: Vec<u16>,
    /// Network namespace and interface index of devices without Ethernet headers.
    without_ethernet: Vec<(u32, u32)>,
}

/// Which conditions a packet matches.
#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    /// Bit n for condition n of the filter.
    conditions: u64,
    ends: bool,
}

impl Choice {
    /// Selects paths that match the filter, of traffic between these endpoints.
    #[must_use]
    pub fn new(filter: Option<Filter>, ends: Option<FilterSpec>) -> Self {
        let filter = filter.filter(|filter| filter.expression.is_some());
        Self { filter, ends: ends.map(Ends::new), ..Self::default() }
    }

    /// Selects paths that match the filter, of a trace with this filter of its own. The eBPF programs take a network for any
    /// address, so what is outside of it is left out here. They have looked at the other side already.
    #[must_use]
    pub fn of_trace(filter: Option<Filter>, spec: &FilterSpec) -> Self {
        let side = |side: &Side| if side.networks.is_empty() { Side::default() } else { side.clone() };
        let (from, to) = (side(&spec.from), side(&spec.to));
        let has_networks = !(from.networks.is_empty() && to.networks.is_empty());
        let networks = FilterSpec { from, to, protocol: None, ..spec.clone() };
        Self::new(filter, has_networks.then_some(networks))
    }

    /// Changes the endpoints from now on.
    pub fn widen(&mut self, ends: impl FnOnce(&FilterSpec) -> FilterSpec) {
        if let Some(known) = &mut self.ends {
            known.set(ends(known.spec()));
        }
    }

    /// Whether every path is selected.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.filter.is_none() && self.ends.is_none()
    }

    /// Handles a node's frame: evaluates the conditions for its records.
    pub fn handle_frame(&mut self, node: usize, frame: &FromAgent) {
        if self.is_all() {
            return;
        }
        if self.nodes.len() <= node {
            self.nodes.resize_with(node + 1, Node::default);
        }
        match frame {
            FromAgent::Topology(topology) => self.nodes[node].learn(topology),
            FromAgent::Events(body) => {
                for record in Records::new(body).flatten() {
                    let answers = self.ask(node, &record.event, record.bytes);
                    self.nodes[node].keep(answers);
                }
            }
            _ => {}
        }
    }

    fn ask(&mut self, node: usize, event: &Event, bytes: &[u8]) -> Answers {
        let node = &self.nodes[node];
        let ethernet = event.flags & flag::FROM_NETWORK == 0
            && !node.without_ethernet.contains(&(event.netns, event.ifindex));
        let layers = Layers::of(bytes, ethernet, &node.vxlan_ports);
        let conditions = self.filter.iter().flat_map(|filter| &filter.conditions);
        let conditions = conditions
            .enumerate()
            .fold(0, |held, (number, asked)| held | u64::from(layers.hold(asked, event.len)) << number);
        Answers { conditions, ends: self.ends.as_mut().is_some_and(|ends| ends.hold(&layers)) }
    }

    /// Whether a finished path is selected.
    #[must_use]
    pub fn selects(&self, path: &Path) -> bool {
        if self.is_all() {
            return true;
        }
        let mut all = Answers::default();
        for source in path.hops.iter().flat_map(|hop| &hop.sources) {
            let Answers { conditions, ends } = self.answers(*source);
            all.conditions |= conditions;
            all.ends |= ends;
        }
        let filter = self.filter.as_ref().and_then(|filter| filter.expression.as_ref());
        filter.is_none_or(|expression| expression.holds(all.conditions)) && (self.ends.is_none() || all.ends)
    }

    fn answers(&self, source: Source) -> Answers {
        let answers = || {
            let node = self.nodes.get(source.node)?;
            let at = usize::try_from(source.number.checked_sub(node.first)?).ok()?;
            node.answers.get(at).copied()
        };
        answers().unwrap_or_default()
    }
}

impl Node {
    fn keep(&mut self, answers: Answers) {
        if self.answers.len() >= MOST_KEPT {
            self.answers.pop_front();
            self.first += 1;
        }
        self.answers.push_back(answers);
    }

    fn learn(&mut self, topology: &Topology) {
        self.vxlan_ports.clear();
        self.without_ethernet.clear();
        for namespace in &topology.namespaces {
            for device in &namespace.devices {
                match &device.kind {
                    DeviceKind::Vxlan(vxlan) if namespace.pod.is_none() => {
                        self.vxlan_ports.push(vxlan.port);
                    }
                    _ => {}
                }
                if !device.ethernet {
                    self.without_ethernet.push((namespace.inode, device.index));
                }
            }
        }
    }
}
