//! What is kept of a trace that is looked at while it runs.

use std::collections::VecDeque;

use super::screen::{Screen, Sort, Tab, rows};
use super::trail::Trail;
use crate::output::plain::path_lines;
use crate::totals::{Collector, Losses};
use podtrace_path::{Path, VerdictCounts};

/// Trails that are kept.
const TRAILS: usize = 64;

/// Packets that are kept to be opened.
const PACKETS: usize = 512;

/// The numbers of a trace so far.
#[derive(Clone, Debug, Default)]
pub struct Board {
    trails: Vec<Trail>,
    /// Packets beyond the bound.
    other: u64,
    totals: Collector,
    losses: Losses,
    /// The newest last.
    packets: VecDeque<Path>,
}

/// A packet that is shown in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What was opened.
    pub title: String,
    /// Its lines, safe to show.
    pub lines: Vec<String>,
}

impl Board {
    /// Adds a finished path with its advice.
    pub fn add(&mut self, path: &Path) {
        self.totals.add(path);
        self.losses.add(path);
        if self.packets.len() == PACKETS {
            self.packets.pop_front();
        }
        self.packets.push_back(path.clone());
        let at = match self.trails.iter().position(|trail| trail.agrees(path)) {
            Some(at) => at,
            None if self.trails.len() >= TRAILS => {
                self.other += 1;
                return;
            }
            None => {
                self.trails.push(Trail::new(path));
                self.trails.len() - 1
            }
        };
        self.trails[at].add(path);
    }

    /// Paths by verdict.
    #[must_use]
    pub fn paths(&self) -> VerdictCounts {
        self.totals.paths()
    }

    /// What there is to show on a tab, sorted, of what has this text in it.
    #[must_use]
    pub fn screen(&self, tab: Tab, sort: Sort, filter: &str) -> Screen {
        let finished = match tab {
            Tab::Flows => Some(self.totals.finished(crate::totals::End::default())),
            Tab::Routes | Tab::Causes => None,
        };
        let losses = if tab == Tab::Causes { self.losses.finished() } else { Vec::new() };
        Screen {
            tab,
            sort,
            filter: filter.to_owned(),
            paths: self.paths(),
            causes: self.losses.causes(),
            other_packets: self.other,
            rows: rows(tab, sort, filter, &self.trails, finished.as_ref(), &losses),
        }
    }

    /// A packet in full, in so many columns: the newest of a trail or flow, the first of a cause.
    #[must_use]
    pub fn open(&self, packet: u64, width: usize) -> Opened {
        let kept = self.packets.iter().rev().find(|path| path.id == packet);
        let first = || self.losses.example(packet);
        match kept.or_else(first) {
            Some(path) => Opened { title: format!("packet #{packet}"), lines: path_lines(path, width) },
            None => Opened {
                title: format!("packet #{packet}"),
                lines: vec![format!("It is no longer kept: only the last {PACKETS} packets are.")],
            },
        }
    }

    /// The newest packet of a flow that is still kept.
    #[must_use]
    pub fn newest_of_flow(&self, flow: u64) -> Option<u64> {
        self.packets.iter().rev().find(|path| path.flow.id == flow).map(|path| path.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn memory_is_bounded_and_the_rest_is_counted() {
        let mut board = Board::default();
        for number in 0..TRAILS + PACKETS {
            let mut path = samples::same_node();
            path.id = number as u64 + 1;
            path.hops[0].device = Some(format!("veth{number}").into());
            board.add(&path);
        }
        let screen = board.screen(Tab::Routes, Sort::Packets, "");
        assert_eq!((screen.rows.len(), screen.other_packets), (TRAILS, PACKETS as u64));
        assert_eq!(screen.paths.delivered, (TRAILS + PACKETS) as u64);
        assert!(board.open(1, 80).lines[0].contains("no longer kept"));
        assert!(board.open((TRAILS + PACKETS) as u64, 80).lines.len() > 2);
    }

    #[test]
    fn a_cause_opens_its_first_packet_however_old() {
        let mut board = Board::default();
        board.add(&Path { id: 1, ..samples::dropped() });
        (2..PACKETS as u64 + 9).for_each(|id| board.add(&Path { id, ..samples::same_node() }));
        let screen = board.screen(Tab::Causes, Sort::Packets, "");
        assert_eq!((screen.rows.len(), screen.rows[0].packet()), (1, Some(1)));
        assert!(board.open(1, 80).lines.iter().any(|line| line.contains("DROPPED")));
    }
}
