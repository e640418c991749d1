//! What is forgotten to stay within the memory limit: the oldest first.
//!
//! 1. Flows without a packet in flight. One that was idle for longer than [`IDLE_WHEN_SHORT`] is no loss; of a younger
//!    one the next packet may miss its translation, so that is counted.
//! 2. Packets that wait for their path: their events are counted.
//! 3. Tracks: they are reported as they stand.
//!
//! Each step takes an eighth, so that the work is in proportion to what is forgotten.

use super::Joiner;
use crate::join::timers::Look;
use crate::join::track::TrackId;
use crate::memory::{self, cost};
use crate::time::{Moment, Nanos};
use crate::world::World;

/// How long a flow without packets is remembered when memory is short.
const IDLE_WHEN_SHORT: Nanos = Nanos::from_secs(10);

/// What was forgotten in one step.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    /// Flows that may have more packets.
    pub(crate) flows: u64,
    /// Events of packets that waited for their path.
    pub(crate) events: u64,
    /// Tracks to be reported as they stand, oldest first.
    pub(crate) tracks: Vec<TrackId>,
}

impl Joiner {
    /// Estimated memory of all that is held, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        cost(memory::TRACK, self.tracks.len())
            + memory::EVENT * self.events_held
            + cost(memory::SKB, self.skbs.len())
            + cost(memory::TIMER, self.timers.len())
            + self.waiting.memory()
            + self.flows.memory()
    }

    /// Forgets an eighth of the oldest of what there is most reason to forget; `None` if nothing is held.
    pub(crate) fn forget_oldest(&mut self, now: Moment, world: &World) -> Option<Forgotten> {
        if self.timers.len() > 4 * (self.tracks.len() + self.waiting.len()) + 1024 {
            let Self { timers, tracks, waiting, .. } = self;
            timers.retain(|look| match look {
                Look::Track(id) => tracks.get(id).is_some(),
                Look::Waiting(id) => waiting.is_waiting(id),
            });
            return Some(Forgotten::default());
        }
        if let Some(flows) = self.flows.forget_oldest(now, IDLE_WHEN_SHORT) {
            return Some(Forgotten { flows, ..Forgotten::default() });
        }
        let waiting = eighth(self.waiting.all());
        let mut tracks: Vec<TrackId> = self.tracks.iter().map(|(id, _)| id).collect();
        tracks.sort_unstable();
        let tracks = eighth(tracks);
        if waiting.is_empty() && tracks.is_empty() {
            return None;
        }
        let events = waiting.into_iter().map(|id| self.forget_waiting(id, world)).sum();
        Some(Forgotten { flows: 0, events, tracks })
    }
}

/// The first eighth of what is in order, at least one.
fn eighth<T>(mut all: Vec<T>) -> Vec<T> {
    all.truncate(all.len().div_ceil(8));
    all
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use crate::join::flow::Flow;
    use crate::join::sighting::Sighting;
    use crate::join::skb::SkbState;
    use crate::join::track::Track;
    use crate::memory;
    use crate::observation::{Observation, SkbId};

    #[test]
    fn costs_are_at_least_sizes() {
        let sizes = [
            (memory::OBSERVATION, size_of::<Observation>()),
            (memory::TRACK, size_of::<Track>()),
            (memory::EVENT, size_of::<Sighting>()),
            (memory::SKB, size_of::<(SkbId, SkbState)>()),
            (memory::FLOW, size_of::<Flow>()),
        ];
        for (cost, size) in sizes {
            assert!(cost * 2 > 3 * size as u64 - 1 || cost >= size as u64 + 100, "{cost} for {size} bytes");
        }
    }
}
