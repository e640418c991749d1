//! What is known besides packets: nodes, their devices, clocks and names.

pub(crate) mod clock;
pub(crate) mod devices;
pub(crate) mod directory;
pub(crate) mod rule;
pub(crate) mod window;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use podtrace_protocol::frame::{Attached, Conntracked};

use crate::model::{Drop, Point};
use crate::observation::Observation;
use crate::world::clock::Clocks;
use crate::world::devices::Devices;
use crate::world::directory::Directory;
use crate::world::rule::NodeRules;

/// Everything an observation is understood by.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) names: Vec<Arc<str>>,
    pub(crate) directory: Directory,
    pub(crate) devices: Devices,
    pub(crate) clocks: Clocks,
    pub(crate) kernels: Vec<Kernel>,
    /// What connection tracking counted on the nodes: first, and last.
    pub(crate) conntracked: Vec<Option<(Conntracked, Conntracked)>>,
    /// What the nodes' rules say.
    pub(crate) rules: Vec<NodeRules>,
    /// Nodes whose agent ended without a goodbye.
    pub(crate) lost: Vec<bool>,
}

/// Names that a node's kernel has.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) symbols: FxHashMap<u64, String>,
    pub(crate) reasons: FxHashMap<u32, String>,
    /// The hooks of its network stack that are attached, by number.
    pub(crate) stack: FxHashMap<u16, Point>,
}

impl Kernel {
    /// Takes what an agent said of its hooks.
    pub(crate) fn learn(&mut self, attached: &Attached) {
        let reasons = attached.drop_reasons.iter();
        self.reasons = reasons.map(|(number, name)| (*number, name.clone())).collect();
        // A point that this version does not know is no row of its table either.
        let points = attached.hooks.iter().filter(|hook| hook.how.is_some());
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
}

impl World {
    /// One more node.
    pub(crate) fn add(&mut self, name: &Arc<str>) {
        let Self { names, directory, devices, clocks, kernels, conntracked, rules, lost } = self;
        names.push(name.clone());
        directory.trace(name);
        devices.add();
        clocks.add();
        kernels.push(Kernel::default());
        conntracked.push(None);
        rules.push(NodeRules::default());
        lost.push(false);
    }

    /// An observation's moment on the common timeline.
    pub(crate) fn moment(&self, observation: &Observation) -> i64 {
        self.clocks.common(observation.node, observation.at).unwrap_or_default()
    }

    /// What the kernel said of a drop.
    pub(crate) fn drop(&self, observation: &Observation) -> Drop {
        let kernel = &self.kernels[observation.node];
        // Number 0 is no reason at all, on kernels with reasons as on those without.
        let reason = (observation.reason != 0).then(|| match kernel.reasons.get(&observation.reason) {
            Some(name) => name.strip_prefix("SKB_DROP_REASON_").unwrap_or(name).to_owned(),
            None => format!("reason {}", observation.reason),
        });
        let location = (observation.location != 0).then(|| match kernel.symbols.get(&observation.location) {
            Some(name) => name.clone(),
            None => format!("{:#x}", observation.location),
        });
        Drop { reason, location, netfilter: None, rule: None, cause: None, advice: None }
    }

    /// A node's number by its name.
    pub(crate) fn node(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|other| &**other == name)
    }
}
