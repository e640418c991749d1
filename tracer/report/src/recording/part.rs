//! The frames that are repeated at the start of each part of a recording, so that a part can be read alone.

use std::collections::BTreeMap;

use podtrace_protocol::frame::FromAgent;

/// The latest frames in which a node described itself.
#[derive(Clone, Debug, Default)]
pub(super) struct LatestFrames {
    hello: Option<FromAgent>,
    topology: Option<FromAgent>,
    changed: Option<FromAgent>,
    rules: Option<FromAgent>,
    /// The first and last counters: their difference matters.
    conntracked: (Option<FromAgent>, Option<FromAgent>),
    attached: Option<FromAgent>,
    symbols: BTreeMap<u64, String>,
    /// The clock comparison with the shortest round trip, and the last one.
    clock: Option<(u64, FromAgent)>,
    last_clock: Option<FromAgent>,
}

impl LatestFrames {
    /// Remembers a frame, if it has to be repeated.
    pub(super) fn update(&mut self, frame: &FromAgent) {
        match frame {
            FromAgent::Hello(_) => self.hello = Some(frame.clone()),
            FromAgent::Topology(_) => {
                self.topology = Some(frame.clone());
                self.changed = None;
            }
            FromAgent::NetworkChanged(_) => self.changed = Some(frame.clone()),
            FromAgent::ConntrackStats(_) => {
                let counted = Some(frame.clone());
                if self.conntracked.0.is_none() {
                    self.conntracked.0 = counted;
                } else {
                    self.conntracked.1 = counted;
                }
            }
            FromAgent::Rules(_) => self.rules = Some(frame.clone()),
            FromAgent::Attached(_) => self.attached = Some(frame.clone()),
            FromAgent::Symbols(symbols) => {
                self.symbols.extend(symbols.iter().map(|(address, name)| (*address, name.clone())));
            }
            FromAgent::Clock { sent_ns, received_ns, .. } => {
                let took = received_ns.saturating_sub(*sent_ns);
                if self.clock.as_ref().is_none_or(|(shortest, _)| took < *shortest) {
                    self.clock = Some((took, frame.clone()));
                }
                self.last_clock = Some(frame.clone());
            }
            // Its hooks are on devices of an earlier topology.
            FromAgent::Updated(_)
            | FromAgent::Started
            | FromAgent::NetworkChanging
            | FromAgent::NetworkUnchanged
            | FromAgent::Events(_)
            | FromAgent::Heartbeat { .. }
            | FromAgent::Probed { .. }
            | FromAgent::Warning { .. }
            | FromAgent::Failed { .. }
            | FromAgent::Stats(_)
            | FromAgent::Goodbye { .. } => {}
        }
    }

    /// The frames to repeat.
    pub(super) fn frames(&self) -> Vec<FromAgent> {
        let symbols = (!self.symbols.is_empty()).then(|| FromAgent::Symbols(self.symbols.clone()));
        let (first, last) = &self.conntracked;
        [&self.hello, &self.topology, &self.changed, &self.rules, &self.attached, first, last]
            .into_iter()
            .flatten()
            .chain(self.clock.as_ref().map(|(_, clock)| clock))
            .chain(&self.last_clock)
            .cloned()
            .chain(symbols)
            .collect()
    }
}
