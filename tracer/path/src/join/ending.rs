//! When paths are over, and how they are taken out.

use super::{DROP_AFTER_REJECT_TIMEOUT, Joiner, LOCAL_FORWARD_TIMEOUT, VANISH_TIMEOUT, VERDICT_GRACE};
use crate::join::stream::Span;
use crate::join::timers::Look;
use crate::join::track::{Arrival, Track, TrackId};
use crate::time::Moment;
use crate::world::World;

/// When a path is reported, unless it is seen again before.
fn deadline(track: &Track, world: &World) -> Moment {
    let rules = |node| &world.nodes[node].rules;
    let patience = match track.arrival {
        // A rule sends it elsewhere: whether it gets there shows later.
        Some(Arrival::Local(node)) if !track.dropped && rules(node).redirects(track.last_tuple()) => {
            VANISH_TIMEOUT
        }
        Some(Arrival::Local(node)) if !track.dropped && rules(node).may_translate() => LOCAL_FORWARD_TIMEOUT,
        _ if track.is_over() => VERDICT_GRACE,
        _ => VANISH_TIMEOUT,
    };
    let due = track.last + patience;
    match &track.rejection {
        Some(rejection) if !track.dropped => due.max(rejection.at + DROP_AFTER_REJECT_TIMEOUT),
        _ => due,
    }
}

impl Joiner {
    /// The next path that is over by `now`, in the order in which paths are reported.
    pub(crate) fn next_due(&mut self, now: Moment, world: &World) -> Option<TrackId> {
        while let Some(look) = self.timers.pop_due(now) {
            match look {
                Look::Waiting(waiting) => self.give_up(waiting, world),
                Look::Track(id) => {
                    let Some(track) = self.tracks.get(id) else { continue };
                    // A path that it answers or rejects comes first.
                    let before = track.report_after.and_then(|before| self.tracks.get(before));
                    let due = deadline(track, world)
                        .max(before.map_or(Moment::MIN, |before| deadline(before, world)));
                    if due <= now {
                        return Some(id);
                    }
                    self.timers.set(due, look);
                }
            }
        }
        None
    }

    /// Ends every wait. Returns the paths that are left, in the order of their beginnings.
    pub(crate) fn rest(&mut self, world: &World) -> Vec<TrackId> {
        // A packet may wait again, for what GRO added to it on the way.
        while !self.waiting.is_empty() {
            for waiting in self.waiting.all() {
                self.give_up(waiting, world);
            }
        }
        let mut rest: Vec<(Moment, TrackId)> =
            self.tracks.iter().map(|(id, track)| (track.first, id)).collect();
        rest.sort_unstable();
        rest.into_iter().map(|(_, id)| id).collect()
    }

    /// Takes a path out of everything.
    pub(crate) fn take(&mut self, id: TrackId) -> Option<Track> {
        let track = self.tracks.remove(id)?;
        self.events_held -= track.events;
        for skb in &track.skb_ids {
            self.skbs.release(*skb, id);
        }
        let stream = self.flows.stream_mut(track.flow);
        stream.forget(id);
        match track.stream {
            Some(bytes) => stream.remove(Span { bytes, track: id }),
            None => self.equals.remove(track.content, id),
        }
        Some(track)
    }
}
