//! Paths under way whose packets are equal in all that forwarding and translation leave alone.
//!
//! A ping with the same identifier and sequence number, a retransmitted SYN, or ten thousand equal datagrams a second
//! (an unconnected UDP socket sends them with DF and identification 0): content does not tell them apart, order does. So
//! equal paths stand in a queue, and a point that sees such a packet takes the oldest path that it has not seen yet.
//!
//! 1. Few equals ([`MOST_COMPARED`]) are all looked at: how many fit says how sure the choice is.
//! 2. Of more than that, each point remembers up to where it has seen all, and looks at a window behind that. So the
//!    work for one packet is bounded, however many equal ones there are.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::join::content::ContentHash;
use crate::join::track::{TrackId, Tracks};
use crate::observation::Spot;

/// Most equal paths that one packet is compared with.
pub(crate) const MOST_COMPARED: usize = 64;

/// Paths by the hashes of their packets' content.
#[derive(Debug, Default)]
pub(crate) struct EqualTracks {
    by_hash: FxHashMap<u64, Equals>,
}

#[derive(Debug)]
enum Equals {
    /// The usual case.
    One(TrackId),
    Many(Box<Queue>),
}

#[derive(Debug)]
struct Queue {
    /// By age.
    tracks: VecDeque<TrackId>,
    /// The newest path up to which a point has seen all, where it was asked for.
    seen_up_to: Vec<(Spot, TrackId)>,
}

impl EqualTracks {
    /// Adds a path, newer than all others.
    pub(crate) fn add(&mut self, content: ContentHash, track: TrackId) {
        content.each().for_each(|hash| self.add_by(hash, track));
    }

    pub(crate) fn remove(&mut self, content: ContentHash, track: TrackId) {
        content.each().for_each(|hash| self.remove_by(hash, track));
    }

    fn add_by(&mut self, hash: u64, track: TrackId) {
        self.by_hash
            .entry(hash)
            .and_modify(|equals| match equals {
                Equals::One(first) => {
                    let queue = Queue { tracks: VecDeque::from([*first, track]), seen_up_to: Vec::new() };
                    *equals = Equals::Many(Box::new(queue));
                }
                Equals::Many(queue) => queue.tracks.push_back(track),
            })
            .or_insert(Equals::One(track));
    }

    fn remove_by(&mut self, hash: u64, track: TrackId) {
        let Some(equals) = self.by_hash.get_mut(&hash) else { return };
        let is_empty = match equals {
            Equals::One(only) => *only == track,
            Equals::Many(queue) => {
                if let Ok(place) = queue.tracks.binary_search(&track) {
                    queue.tracks.remove(place);
                }
                queue.tracks.is_empty()
            }
        };
        if is_empty {
            self.by_hash.remove(&hash);
        }
    }

    /// The newest paths of this hash.
    pub(crate) fn newest(&self, hash: u64) -> impl Iterator<Item = TrackId> {
        let (one, many) = match self.by_hash.get(&hash) {
            None => (None, None),
            Some(Equals::One(track)) => (Some(*track), None),
            Some(Equals::Many(queue)) => (None, Some(queue.tracks.iter().rev().take(MOST_COMPARED))),
        };
        one.into_iter().chain(many.into_iter().flatten().copied())
    }

    /// The paths of this hash that a packet at this spot may be, oldest first.
    pub(crate) fn candidates(&mut self, hash: u64, spot: Spot, tracks: &Tracks) -> Candidates<'_> {
        match self.by_hash.get_mut(&hash) {
            None => Candidates::None,
            Some(Equals::One(track)) => Candidates::One(*track),
            Some(Equals::Many(queue)) => {
                let from =
                    if queue.tracks.len() > MOST_COMPARED { queue.unseen_from(spot, tracks) } else { 0 };
                Candidates::Many(queue.tracks.range(from..))
            }
        }
    }
}

impl Queue {
    /// Place of the oldest path that the spot has not seen all of, minus one: the path before it says whether the
    /// choices before were sure.
    fn unseen_from(&mut self, spot: Spot, tracks: &Tracks) -> usize {
        let known = self.seen_up_to.iter().position(|(other, _)| *other == spot);
        let start = known.map_or(0, |known| {
            let (_, newest) = self.seen_up_to[known];
            self.tracks.partition_point(|track| *track <= newest)
        });
        let seen = self.tracks.range(start..).take_while(|track| tracks[**track].is_covered_at(spot)).count();
        let unseen = start + seen;
        if let Some(newest) = unseen.checked_sub(1).map(|last| self.tracks[last]) {
            match known {
                Some(known) => self.seen_up_to[known].1 = newest,
                None => self.seen_up_to.push((spot, newest)),
            }
        }
        unseen.saturating_sub(1)
    }
}

/// Iterates over paths without an allocation.
pub(crate) enum Candidates<'a> {
    None,
    One(TrackId),
    Many(std::collections::vec_deque::Iter<'a, TrackId>),
}

impl Iterator for Candidates<'_> {
    type Item = TrackId;

    fn next(&mut self) -> Option<TrackId> {
        match self {
            Self::None => None,
            Self::One(track) => {
                let track = *track;
                *self = Self::None;
                Some(track)
            }
            Self::Many(tracks) => tracks.next().copied(),
        }
    }
}
