//! Which taps a node has, and since when.

use rustc_hash::FxHashMap;

use podtrace_protocol::frame::HookState;

use crate::model::Point;
use crate::time::{Nanos, NodeTime};

/// Packets may be between two devices when the programs begin to report.
const SETTLED: Nanos = Nanos::from_millis(100);

/// The taps of one node, by device and direction.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    since: FxHashMap<(String, bool), NodeTime>,
    /// Attached after the last heartbeat.
    pending: Vec<(String, bool)>,
}

impl Taps {
    /// Takes what an agent said of its hooks.
    pub(crate) fn attached(&mut self, hooks: &[HookState]) {
        let taps = hooks.iter().filter(|hook| hook.mechanism.is_some());
        self.pending.extend(taps.filter_map(|hook| match hook.point.parse().ok()? {
            Point::TcIngress => Some((hook.device.clone()?, true)),
            Point::TcEgress => Some((hook.device.clone()?, false)),
            _ => None,
        }));
    }

    /// The agent has reported everything before this time: what it has attached reports from there on.
    pub(crate) fn heartbeat(&mut self, now: NodeTime) {
        for tap in self.pending.drain(..) {
            self.since.entry(tap).or_insert(now);
        }
    }

    /// Whether all packets that passed the device before this time, by ingress or egress, were seen.
    pub(crate) fn watch(&self, device: &str, is_ingress: bool, time: NodeTime) -> bool {
        let since = self.since.iter().find(|((name, ingress), _)| name == device && *ingress == is_ingress);
        since.is_some_and(|(_, since)| time - *since >= SETTLED)
    }
}
