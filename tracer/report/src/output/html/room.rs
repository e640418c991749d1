//! How many paths and changes a page has: a browser holds all of them at once.

use crate::output::phrase::{DOUBT, PLAIN, Phrase};
use crate::output::words::thousands;
use podtrace_path::Verdict;

/// So many paths are on a page, whatever became of them.
const FIRST: u64 = 20_000;
/// And so many of the later ones that were not delivered: they are what people look for.
const TROUBLED: u64 = 20_000;

/// So many changes of the cluster.
const CHANGES: u64 = 1_000;

/// What there is room for.
#[derive(Debug)]
pub(super) struct Room {
    first: u64,
    troubled: u64,
    taken: u64,
    troubled_taken: u64,
    left_out: u64,
    changes: u64,
}

impl Default for Room {
    fn default() -> Self {
        Self::for_paths(FIRST, TROUBLED)
    }
}

impl Room {
    pub(super) fn for_paths(first: u64, troubled: u64) -> Self {
        Self { first, troubled, taken: 0, troubled_taken: 0, left_out: 0, changes: 0 }
    }

    /// Whether there is room for one more path that ended so.
    pub(super) fn take(&mut self, verdict: Verdict) -> bool {
        let taken = if self.taken < self.first {
            &mut self.taken
        } else if verdict != Verdict::Delivered && self.troubled_taken < self.troubled {
            &mut self.troubled_taken
        } else {
            self.left_out += 1;
            return false;
        };
        *taken += 1;
        true
    }

    /// Whether there is room for one more change of the cluster.
    pub(super) fn take_change(&mut self) -> bool {
        self.changes += 1;
        self.changes <= CHANGES
    }

    /// What the page has instead of all.
    pub(super) fn notes(&self) -> impl Iterator<Item = Phrase> {
        let changes = self.changes.checked_sub(CHANGES).filter(|left_out| *left_out > 0).map(|left_out| {
            let text = format!("{} changes of the cluster are not on this page", thousands(left_out));
            Phrase::new().with(DOUBT, text)
        });
        self.note().into_iter().chain(changes)
    }

    /// Whether the path that was asked about last is the first one without room.
    pub(super) fn is_just_full(&self) -> bool {
        self.left_out == 1
    }

    /// What the page has instead of all paths; `None` if it has all.
    fn note(&self) -> Option<Phrase> {
        let left_out = match self.left_out {
            0 => return None,
            1 => "1 path is not on this page".to_owned(),
            number => format!("{} paths are not on this page", thousands(number)),
        };
        let later = match self.troubled_taken {
            0 => String::new(),
            number => format!(", and {} of those after them that did not arrive", thousands(number)),
        };
        let instead = format!(
            ": it has the first {}{later}. `podtrace read` tells all of a recording, and makes a page of some of it \
             (--from, --to, --proto, --port, --filter)",
            thousands(self.first)
        );
        Some(Phrase::new().with(DOUBT, left_out).with(PLAIN, instead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_have_room_and_some_that_did_not_arrive() {
        let mut room = Room::for_paths(2, 1);
        assert!(room.take(Verdict::Delivered) && room.take(Verdict::Dropped));
        assert!(room.note().is_none());
        assert!(!room.take(Verdict::Delivered) && room.is_just_full());
        assert!(room.take(Verdict::Vanished));
        assert!(!room.take(Verdict::Open) && !room.is_just_full());
        let note: String = room.note().unwrap().pieces().map(|piece| piece.1.to_owned()).collect();
        let expected = "2 paths are not on this page: it has the first 2, and 1 of those after them that did not arrive.";
        assert!(note.starts_with(expected), "{note}");
    }
}
