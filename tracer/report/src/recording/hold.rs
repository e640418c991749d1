//! Holds packets until their path is finished, for a limited time and a limited number of other packets.

use std::collections::VecDeque;

use tracer_common::{Conntrack, Event};

/// How long a packet is held, by its node's clock: more than twice the time that a path may go unobserved.
const PATIENCE_NS: u64 = 10_000_000_000;
/// How long a packet is still held after its first path is finished, if it may belong to further paths.
const SHARED_NS: u64 = 250_000_000;
/// How many later packets of any node may arrive while a packet is held. This limits the memory that a reader needs to
/// restore the order.
pub(super) const MOST: u64 = 1 << 17;

/// A held packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) event: Event,
    /// Boxed: most packets have none.
    pub(super) conntrack: Option<Box<Conntrack>>,
    pub(super) bytes: Box<[u8]>,
    pub(super) annotation: Option<Annotation>,
    pub(super) lent: Option<Lent>,
    /// Number of packets of all nodes before it.
    before: u64,
}

impl Held {
    pub(super) fn new(event: Event, conntrack: Option<Conntrack>, bytes: &[u8]) -> Self {
        Self {
            event,
            conntrack: conntrack.map(Box::new),
            bytes: bytes.into(),
            annotation: None,
            lent: None,
            before: 0,
        }
    }
}

/// What a finished path adds to its packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Annotation {
    /// Number of the path.
    pub(super) path: u64,
    /// Nanoseconds since 1970.
    pub(super) at: u64,
    pub(super) comments: Vec<String>,
}

/// Bytes of another record of the same packet, for a record without any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lent {
    /// With an Ethernet header.
    pub(super) bytes: Box<[u8]>,
    /// Length of the packet.
    pub(super) length: u32,
}

/// The held packets of one node, by number.
#[derive(Debug, Default)]
struct Node {
    /// Packets from the number `first` on; `None` if already taken.
    held: VecDeque<Option<Box<Held>>>,
    first: u64,
    /// Deadline and number of packets that may belong to further paths.
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

/// The held packets of all nodes.
#[derive(Debug)]
pub(super) struct Hold {
    nodes: Vec<Node>,
    sent: u64,
}

impl Hold {
    pub(super) fn new(nodes: usize) -> Self {
        Self { nodes: (0..nodes).map(|_| Node::default()).collect(), sent: 0 }
    }

    /// Adds a node.
    pub(super) fn add(&mut self) {
        self.nodes.push(Node::default());
    }

    /// Adds the node's next packet.
    pub(super) fn push(&mut self, node: usize, held: Held) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        node.held.push_back(Some(Box::new(Held { before: self.sent, ..held })));
        self.sent += 1;
    }

    /// Number of packets that the node has sent.
    pub(super) fn sent(&self, node: usize) -> u64 {
        self.nodes.get(node).map_or(0, |node| node.first + node.held.len() as u64)
    }

    pub(super) fn get_mut(&mut self, node: usize, number: u64) -> Option<&mut Held> {
        let node = self.nodes.get_mut(node)?;
        let index = node.index(number)?;
        node.held.get_mut(index)?.as_deref_mut()
    }

    /// Removes a packet.
    pub(super) fn take(&mut self, node: usize, number: u64) -> Option<Held> {
        self.nodes.get_mut(node)?.take(number)
    }

    /// Holds a packet a little longer for further paths.
    pub(super) fn share(&mut self, node: usize, number: u64) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.shared.push_back((node.now.saturating_add(SHARED_NS), number));
        }
    }

    /// Advances the node's clock.
    pub(super) fn pass(&mut self, node: usize, now: u64) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.now = node.now.max(now);
        }
    }

    /// The next packet to write: its time is over, or there are too many.
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

    /// Number of the first held packet, or of the next one.
    pub(super) fn first(&self, node: usize) -> u64 {
        self.nodes.get(node).map_or(0, |node| node.first)
    }

    /// Any held packet.
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
