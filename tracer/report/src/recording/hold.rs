//! Packets that wait until their path is finished: for a bounded time, and for a bounded number of others.

use std::collections::VecDeque;

use pcap_parser::Linktype;
use tracer_common::{Conntrack, Event};

/// How long a packet waits, by its node's clock: longer than a path may stay out of sight, twice.
const PATIENCE_NS: u64 = 10_000_000_000;
/// How long a packet still waits whose first path is finished, where it may be part of others.
const SHARED_NS: u64 = 250_000_000;
/// A packet is written before so many others have come after it, of any node. So a reader that puts packets back
/// in order has no more than these to keep.
pub(super) const MOST: u64 = 1 << 17;

/// A packet that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) event: Event,
    /// Boxed: most packets have none.
    pub(super) conntrack: Option<Box<Conntrack>>,
    pub(super) bytes: Box<[u8]>,
    pub(super) told: Option<Told>,
    pub(super) lent: Option<Lent>,
    /// How many packets of all nodes had come before it.
    before: u64,
}

impl Held {
    pub(super) fn new(event: Event, conntrack: Option<Conntrack>, bytes: &[u8]) -> Self {
        Self {
            event,
            conntrack: conntrack.map(Box::new),
            bytes: bytes.into(),
            told: None,
            lent: None,
            before: 0,
        }
    }
}

/// What is known of a packet whose path is finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Number of the path.
    pub(super) path: u64,
    /// Nanoseconds since 1970.
    pub(super) at: u64,
    pub(super) comments: Vec<String>,
}

/// Bytes that a record without any has from another one of the same packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lent {
    pub(super) bytes: Box<[u8]>,
    pub(super) linktype: Linktype,
    /// How long the packet was.
    pub(super) length: u32,
}

/// The packets of one node that wait, by number.
#[derive(Debug, Default)]
struct Node {
    /// From the number `first` on; `None` where one has been taken.
    held: VecDeque<Option<Box<Held>>>,
    first: u64,
    /// Deadline and number of those that may be part of further paths.
    shared: VecDeque<(u64, u64)>,
    now: u64,
}

impl Node {
    fn index(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    fn take(&mut self, number: u64) -> Option<Held> {
        let index = self.index(number)?;
        let held = self.held.get_mut(index)?.take()?;
        while let Some(None) = self.held.front() {
            self.held.pop_front();
            self.first += 1;
        }
        Some(*held)
    }
}

/// The packets of all nodes that wait.
#[derive(Debug)]
pub(super) struct Hold {
    nodes: Vec<Node>,
    sent: u64,
}

impl Hold {
    pub(super) fn new(nodes: usize) -> Self {
        Self { nodes: (0..nodes).map(|_| Node::default()).collect(), sent: 0 }
    }

    /// One more node.
    pub(super) fn add(&mut self) {
        self.nodes.push(Node::default());
    }

    /// Takes the node's next packet in.
    pub(super) fn push(&mut self, node: usize, held: Held) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        node.held.push_back(Some(Box::new(Held { before: self.sent, ..held })));
        self.sent += 1;
    }

    /// How many packets the node has sent.
    pub(super) fn sent(&self, node: usize) -> u64 {
        self.nodes.get(node).map_or(0, |node| node.first + node.held.len() as u64)
    }

    pub(super) fn get_mut(&mut self, node: usize, number: u64) -> Option<&mut Held> {
        let node = self.nodes.get_mut(node)?;
        let index = node.index(number)?;
        node.held.get_mut(index)?.as_deref_mut()
    }

    /// Ends a packet's wait.
    pub(super) fn take(&mut self, node: usize, number: u64) -> Option<Held> {
        self.nodes.get_mut(node)?.take(number)
    }

    /// Lets a packet wait a little longer for further paths.
    pub(super) fn share(&mut self, node: usize, number: u64) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.shared.push_back((node.now.saturating_add(SHARED_NS), number));
        }
    }

    /// Lets the node's time pass.
    pub(super) fn pass(&mut self, node: usize, now: u64) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.now = node.now.max(now);
        }
    }

    /// The next packet that has waited long enough, or for which there is no room.
    pub(super) fn next_due(&mut self) -> Option<(usize, u64)> {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            while let Some((deadline, number)) = node.shared.front().copied() {
                if deadline > node.now {
                    break;
                }
                node.shared.pop_front();
                let at = node.index(number);
                if at.and_then(|at| node.held.get(at)).is_some_and(Option::is_some) {
                    return Some((index, number));
                }
            }
            if let Some(Some(held)) = node.held.front()
                && (held.event.at_ns.saturating_add(PATIENCE_NS) <= node.now
                    || held.before.saturating_add(MOST) < self.sent)
            {
                return Some((index, node.first));
            }
        }
        None
    }

    /// Number of the first packet that waits, or of the next one to come.
    pub(super) fn first(&self, node: usize) -> u64 {
        self.nodes.get(node).map_or(0, |node| node.first)
    }

    /// Any packet that waits.
    pub(super) fn next(&self) -> Option<(usize, u64)> {
        let waiting = self.nodes.iter().enumerate().find(|(_, node)| !node.held.is_empty());
        waiting.map(|(index, node)| (index, node.first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podtrace_protocol::record::Records;

    fn held(at_ns: u64) -> Held {
        let blank = [0; size_of::<Event>()];
        let event = Records::new(&blank).next().unwrap().unwrap().event;
        Held::new(Event { at_ns, ..event }, None, &[])
    }

    #[test]
    fn a_packet_is_taken_once_and_numbers_stay() {
        let mut hold = Hold::new(1);
        for at in 0..3 {
            hold.push(0, held(at));
        }
        assert_eq!(hold.take(0, 1).map(|held| held.event.at_ns), Some(1));
        assert_eq!(hold.take(0, 1), None);
        assert_eq!(hold.take(0, 0).map(|held| held.event.at_ns), Some(0));
        assert_eq!(hold.take(0, 2).map(|held| held.event.at_ns), Some(2));
        assert_eq!((hold.sent(0), hold.next()), (3, None));
        assert_eq!((hold.take(0, u64::MAX), hold.take(7, 0)), (None, None));
    }

    #[test]
    fn the_wait_ends_by_time() {
        let mut hold = Hold::new(2);
        hold.push(0, held(5));
        hold.push(1, held(5));
        hold.pass(0, 4 + PATIENCE_NS);
        assert_eq!(hold.next_due(), None);
        hold.pass(0, 5 + PATIENCE_NS);
        assert_eq!(hold.next_due(), Some((0, 0)));
    }

    #[test]
    fn what_may_be_shared_waits_a_little() {
        let mut hold = Hold::new(1);
        hold.push(0, held(0));
        hold.push(0, held(0));
        hold.pass(0, 10);
        hold.share(0, 1);
        assert_eq!(hold.next_due(), None);
        hold.pass(0, 10 + SHARED_NS);
        assert_eq!(hold.next_due(), Some((0, 1)));
        assert_eq!(hold.next_due(), None);
    }

    #[test]
    fn the_wait_ends_by_others_that_come() {
        let mut hold = Hold::new(2);
        hold.push(0, held(u64::MAX));
        for number in 0..MOST {
            assert_eq!(hold.next_due(), None);
            hold.push(1, held(u64::MAX));
            hold.take(1, number);
        }
        assert_eq!(hold.next_due(), Some((0, 0)));
        hold.take(0, 0);
        assert_eq!((hold.next_due(), hold.next()), (None, None));
    }
}
