//! Limits the number of paths and changes on a page, because a browser holds all of them at once.

use crate::output::phrase::{DOUBT, PLAIN, Phrase};
use crate::output::words::thousands;
use podtrace_path::Verdict;

/// How many paths a page has, whatever their verdict.
const FIRST: u64 = 20_000;
/// How many later paths that were not delivered it has, too: they are what users look for.
const TROUBLED: u64 = 20_000;

/// How many cluster changes a page has.
const CHANGES: u64 = 1_000;

/// The limits, and what was taken so far.
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

    /// Takes a path with this verdict; false if there is no room.
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

    /// Takes a cluster change; false if there is no room.
    pub(super) fn take_change(&mut self) -> bool {
        self.changes += 1;
        self.changes <= CHANGES
    }

    /// Notes about what is missing on the page.
    pub(super) fn notes(&self) -> impl Iterator<Item = Phrase> {
        let changes = self.changes.checked_sub(CHANGES).filter(|left_out| *left_out > 0).map(|left_out| {
            let text = format!("{} cluster changes are not on this page", thousands(left_out));
            Phrase::new().with(DOUBT, text)
        });
        self.note().into_iter().chain(changes)
    }

    /// Whether the last path was the first one without room.
    pub(super) fn is_just_full(&self) -> bool {
        self.left_out == 1
    }

    /// How many paths are missing, and where to find them; `None` if the page has all.
    fn note(&self) -> Option<Phrase> {
        let left_out = match self.left_out {
            0 => return None,
            1 => "1 path is not on this page".to_owned(),
            number => format!("{} paths are not on this page", thousands(number)),
        };
        let later = match self.troubled_taken {
            0 => String::new(),
            number => format!(", plus {} later ones that did not arrive", thousands(number)),
        };
        let instead = format!(
            ": it has the first {}{later}. `podtrace read` shows every path of a recording, and makes pages of \
             selected ones (--from, --to, --proto, --port, --filter)",
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
        let expected =
            "2 paths are not on this page: it has the first 2, plus 1 later ones that did not arrive.";
        assert!(note.starts_with(expected), "{note}");
    }
}
