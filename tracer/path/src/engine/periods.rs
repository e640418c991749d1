//! Times in which events were lost or given up, and whether a packet was in flight then.

use crate::join::VANISH_TIMEOUT;
use crate::join::track::Track;
use crate::time::Moment;

/// Maximum number of periods. Beyond it the two oldest become one, with the time between them.
const MOST: usize = 1024;

/// Periods in the order in which they were added, which is about that of time.
#[derive(Debug, Default)]
pub(super) struct Periods(Vec<(Moment, Moment)>);

impl Periods {
    /// Adds a period, to the latest one if a packet that overlaps one overlaps the other.
    pub(super) fn add(&mut self, from: Moment, until: Moment) {
        match self.0.last_mut() {
            Some(last) if from <= last.1 + VANISH_TIMEOUT && until + VANISH_TIMEOUT >= last.0 => {
                *last = (last.0.min(from), last.1.max(until));
            }
            _ => self.0.push((from, until)),
        }
        if self.0.len() > MOST {
            let (from, until) = self.0.remove(0);
            let next = &mut self.0[0];
            *next = (next.0.min(from), next.1.max(until));
        }
    }

    /// Whether a track may lack events of one of these periods: it was in flight then, or may have been.
    pub(super) fn overlap(&self, track: &Track) -> bool {
        self.0.iter().rev().any(|(from, until)| {
            track.first <= *until + VANISH_TIMEOUT && track.last + VANISH_TIMEOUT >= *from
        })
    }
}
