//! What every part of a recording begins with, so that it can be read without those before it.

use std::collections::BTreeMap;

use podtrace_protocol::frame::FromAgent;

/// The latest that a node said of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    hello: Option<FromAgent>,
    topology: Option<FromAgent>,
    changed: Option<FromAgent>,
    rules: Option<FromAgent>,
    /// What was counted first and last: the difference matters.
    conntracked: (Option<FromAgent>, Option<FromAgent>),
    attached: Option<FromAgent>,
    symbols: BTreeMap<u64, String>,
    /// The answered question about its clock that took the shortest time, and the last one.
    clock: Option<(u64, FromAgent)>,
    last_clock: Option<FromAgent>,
}

impl Said {
    pub(super) fn note(&mut self, frame: &FromAgent) {
        match frame {
            FromAgent::Hello(_) => self.hello = Some(frame.clone()),
            FromAgent::Topology(_) => {
                self.topology = Some(frame.clone());
                self.changed = None;
            }
            FromAgent::NetworkChanged(_) => self.changed = Some(frame.clone()),
            FromAgent::Conntracked(_) => {
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
            // Its hooks are at devices of a topology that was told before it.
            FromAgent::Updated(_)
            | FromAgent::Started
            | FromAgent::Events(_)
            | FromAgent::Heartbeat { .. }
            | FromAgent::Probed { .. }
            | FromAgent::Warning { .. }
            | FromAgent::Failed { .. }
            | FromAgent::Goodbye { .. } => {}
        }
    }

    /// It all again.
    pub(super) fn again(&self) -> Vec<FromAgent> {
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
