//! What is known besides packets: the nodes with their kernels, rules, devices and clocks, and who has which address.
//!
//! Input: the parts of the frames that are not events (topology, attached hooks, symbols, rules, clock answers) and the
//! inventory. Output: answers to what an event means. Nothing here knows of packets or paths.

pub(crate) mod clock;
pub(crate) mod devices;
pub(crate) mod directory;
pub(crate) mod rules;
pub(crate) mod taps;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use podtrace_protocol::frame::{Attached, ConntrackStats};

use crate::model::{Drop, Point};
use crate::node::{NodeId, PerNode};
use crate::world::clock::Clocks;
use crate::world::devices::Devices;
use crate::world::directory::Directory;
use crate::world::rules::NodeRules;
use crate::world::taps::Taps;

/// Everything that an event is understood by.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) nodes: PerNode<Node>,
    pub(crate) directory: Directory,
    pub(crate) devices: Devices,
    pub(crate) clocks: Clocks,
    /// Whether events were lost: where a packet was not seen, it may have been.
    pub(crate) events_lost: bool,
}

/// What is known of one node, apart from its devices and its clock.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: Arc<str>,
    pub(crate) kernel: Kernel,
    pub(crate) rules: NodeRules,
    pub(crate) taps: Taps,
    /// The rules inside its pods, by their full names.
    pub(crate) inside: FxHashMap<String, NodeRules>,
    pub(crate) conntrack: Option<ConntrackCounters>,
    /// Whether its agent ended without a goodbye.
    pub(crate) agent_lost: bool,
}

impl Node {
    pub(crate) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            kernel: Kernel::default(),
            rules: NodeRules::default(),
            taps: Taps::default(),
            inside: FxHashMap::default(),
            conntrack: None,
            agent_lost: false,
        }
    }
}

/// What connection tracking has counted on a node: when the trace began, and now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConntrackCounters {
    pub(crate) first: ConntrackStats,
    pub(crate) last: ConntrackStats,
}

/// Names that a node's kernel has.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) symbols: FxHashMap<u64, String>,
    reasons: FxHashMap<u32, String>,
    /// The hooks of its network stack that are attached, by number.
    stack: FxHashMap<u16, Point>,
}

impl Kernel {
    /// Takes what an agent said of its hooks.
    pub(crate) fn learn(&mut self, attached: &Attached) {
        let reasons = attached.drop_reasons.iter();
        self.reasons = reasons.map(|(number, name)| (*number, name.clone())).collect();
        // A point that this version does not know is no row of its table either.
        let points = attached.hooks.iter().filter(|hook| hook.mechanism.is_some());
        self.stack = points
            .filter_map(|hook| match hook.point.parse() {
                Ok(point @ Point::Stack(_, hook)) => Some((hook.number, point)),
                _ => None,
            })
            .collect();
    }

    /// Where a record was made, by its hook.
    pub(crate) fn point(&self, number: u16) -> Option<Point> {
        Point::of_hook(number).or_else(|| self.stack.get(&number).copied())
    }

    /// A drop by the numbers that a record has: its reason, and the address of the function that freed the packet.
    pub(crate) fn drop(&self, reason: u32, location: u64) -> Drop {
        // Number 0 is no reason at all, on kernels with reasons as on those without.
        let reason = (reason != 0).then(|| match self.reasons.get(&reason) {
            Some(name) => name.strip_prefix("SKB_DROP_REASON_").unwrap_or(name).to_owned(),
            None => format!("reason {reason}"),
        });
        let location = (location != 0).then(|| match self.symbols.get(&location) {
            Some(name) => name.clone(),
            None => format!("{location:#x}"),
        });
        Drop { reason, location, ..Drop::default() }
    }
}

impl World {
    /// Adds a node.
    pub(crate) fn add(&mut self, name: &Arc<str>) {
        let Self { nodes, directory, devices, clocks, events_lost: _ } = self;
        nodes.push(Node::new(name.clone()));
        directory.trace(name);
        devices.add();
        clocks.add();
    }

    /// Name of a node.
    pub(crate) fn name(&self, node: NodeId) -> &Arc<str> {
        &self.nodes[node].name
    }

    /// A node by its name: the last one, for a node whose agent was lost and started again has several numbers.
    pub(crate) fn node(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().filter(|(_, node)| &*node.name == name).map(|(id, _)| id).last()
    }
}
