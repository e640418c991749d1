//! When paths are over, and taking them out of everything.

use std::cmp::Reverse;

use super::{GRACE_NS, Joiner, LOCAL_NS, Look, PATIENCE_NS, REFUSED_NS, Timer};
use crate::join::flow::Span;
use crate::join::track::{Arrival, Track};
use crate::world::World;

/// When a path is told, unless it is seen again before.
fn told_at(track: &Track, world: &World) -> i64 {
    let stays = |node: usize| !world.rules[node].may_translate();
    let patience = match track.arrival {
        Some(Arrival::Local(node)) if !track.dropped && !stays(node) => LOCAL_NS,
        _ if track.is_over() => GRACE_NS,
        _ => PATIENCE_NS,
    };
    let due = track.last.saturating_add(patience);
    match track.rejected_at {
        Some(at) if !track.dropped => due.max(at.saturating_add(REFUSED_NS)),
        _ => due,
    }
}

impl Joiner {
    /// The next path that is over by `now`, in the order in which paths are told.
    pub(crate) fn next_due(&mut self, now: i64, world: &World) -> Option<usize> {
        while let Some(Reverse(timer)) = self.timers.peek().copied() {
            if timer.due > now {
                return None;
            }
            self.timers.pop();
            match timer.what {
                Look::Waiting(at) => {
                    if self.waiting.get(at).is_some_and(|waiting| waiting.serial == timer.serial) {
                        self.give_up(at, world);
                    }
                }
                Look::Track(at) => {
                    let Some(track) = self.tracks.get(at).filter(|track| track.serial == timer.serial) else {
                        continue;
                    };
                    // What is refused or answered is told before.
                    let before = track.after.and_then(|(at, serial)| {
                        self.tracks.get(at).filter(|before| before.serial == serial)
                    });
                    let due =
                        told_at(track, world).max(before.map_or(i64::MIN, |before| told_at(before, world)));
                    if due <= now {
                        return Some(at);
                    }
                    self.timers.push(Reverse(Timer { due, ..timer }));
                }
            }
        }
        None
    }

    /// Ends every wait, and gives what is still under way, in order of beginning.
    pub(crate) fn rest(&mut self, world: &World) -> Vec<usize> {
        let mut left: Vec<(u64, usize)> =
            self.waiting.iter().map(|(at, waiting)| (waiting.serial, at)).collect();
        while !left.is_empty() {
            left.sort_unstable();
            for (serial, at) in left {
                if self.waiting.get(at).is_some_and(|waiting| waiting.serial == serial) {
                    self.give_up(at, world);
                }
            }
            // A journey may wait again for what GRO added to it on the way.
            left = self.waiting.iter().map(|(at, waiting)| (waiting.serial, at)).collect();
        }
        let mut rest: Vec<(i64, u64, usize)> =
            self.tracks.iter().map(|(at, track)| (track.first, track.serial, at)).collect();
        rest.sort_unstable();
        rest.into_iter().map(|(_, _, at)| at).collect()
    }

    /// Takes a path that is told out of everything.
    pub(crate) fn take(&mut self, at: usize) -> Track {
        let track = self.tracks.remove(at);
        for key in &track.journeys {
            self.journeys.release(*key, at);
        }
        let way = self.flows.get_mut(track.flow).way_mut(track.forward);
        way.forget(at);
        match track.span {
            Some((start, end)) => way.remove(Span { start, end, track: at }),
            None => self.unlink(at, &track),
        }
        track
    }

    fn unlink(&mut self, at: usize, track: &Track) {
        let Some((first, last)) = self.same.get(&track.hash).copied() else { return };
        if first == at {
            match track.next_same {
                Some(next) => self.same.insert(track.hash, (next, last)),
                None => self.same.remove(&track.hash),
            };
            return;
        }
        let mut before = first;
        while let Some(next) = self.tracks[before].next_same {
            if next == at {
                self.tracks[before].next_same = track.next_same;
                if last == at {
                    self.same.insert(track.hash, (first, before));
                }
                return;
            }
            before = next;
        }
    }

    /// Takes a told path's memory back.
    pub(crate) fn recycle(&mut self, track: Track) {
        if self.spare.len() < 4096 {
            self.spare.push(track);
        }
    }
}
