//! When to look at what: paths under way, and packets that wait for the beginning of theirs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::join::VERDICT_GRACE;
use crate::join::track::{Track, TrackId};
use crate::join::waiting::WaitingId;
use crate::time::{Moment, Nanos};

/// When a path is first looked at after its beginning: most are over by then.
const FIRST_LOOK: Nanos = Nanos::from_millis(22);

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    Waiting(WaitingId),
    Track(TrackId),
}

/// By time, then by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    due: Moment,
    serial: u64,
    look: Look,
}

/// All timers. One for an entry that is gone by then does no harm: its key finds nothing.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
}

impl Timers {
    pub(crate) fn set(&mut self, due: Moment, look: Look) {
        let serial = match look {
            Look::Waiting(waiting) => waiting.serial(),
            Look::Track(track) => track.serial(),
        };
        self.heap.push(Reverse(Timer { due, serial, look }));
    }

    /// A path has begun.
    pub(crate) fn look_first(&mut self, id: TrackId, begun: Moment) {
        self.set(begun + FIRST_LOOK, Look::Track(id));
    }

    /// A path has ended. If it was looked at before, the next look would be at the end of its patience only, long after
    /// others that began later.
    pub(crate) fn reschedule(&mut self, track: &Track, id: TrackId, now: Moment) {
        if now > track.first + FIRST_LOOK {
            self.set(now + VERDICT_GRACE, Look::Track(id));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Forgets the timers of what is gone.
    pub(crate) fn retain(&mut self, is_left: impl Fn(Look) -> bool) {
        self.heap.retain(|Reverse(timer)| is_left(timer.look));
        self.heap.shrink_to(2 * self.heap.len());
    }

    /// Takes the next one that is due by `now`.
    pub(crate) fn pop_due(&mut self, now: Moment) -> Option<Look> {
        self.heap.peek().filter(|Reverse(timer)| timer.due <= now)?;
        self.heap.pop().map(|Reverse(timer)| timer.look)
    }
}
