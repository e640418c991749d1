//! Restores the order in which the agents sent the records and frames of a recording.
//!
//! A *record* is one encoded packet event, a *frame* one message of an agent; each node numbers its records. A recording has
//! frames as they came, but each packet's records only where its path was finished, so later than they came.
//!
//! 1. Records wait by node and number, frames and cluster changes in one queue, in the order of the file.
//! 2. The queue's first item leaves once all records that its node had sent before it have left. Records leave in batches, in
//!    the order of their numbers.
//! 3. A writer holds back less than [`MAX_BUFFERED`]. When more is waiting here, or at the end of the file, records that are
//!    still missing are counted as lost and skipped. If one of them still comes, it leaves late, and is no longer counted.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::entry::Record;
use podtrace_path::Update;
use podtrace_protocol::frame::FromAgent;
use podtrace_protocol::record::encode;

/// Maximum number of bytes that wait: more than a writer holds back.
const MAX_BUFFERED: usize = 96 << 20;
/// Approximate overhead of a record in bytes.
const OVERHEAD: usize = 64;
/// Maximum number of bytes of records in one frame.
const BATCH: usize = 1 << 20;

/// An item of a recording, in the order in which it came.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A node's frame, or the end of its stream.
    Node(usize, Option<FromAgent>),
    /// A cluster change.
    Cluster(Box<Update>),
}

/// The records of one node that wait.
#[derive(Debug, Default)]
struct NodeRecords {
    /// Encoded records by number.
    waiting: BTreeMap<u64, Vec<u8>>,
    /// All records before this number have left, or were given up as lost.
    next_number: u64,
}

/// A frame or a cluster change that waits.
#[derive(Debug)]
struct Entry {
    item: Item,
    /// Leaves after the records before this number of this node; a cluster change after none.
    after: Option<(usize, u64)>,
    /// Bytes that it takes in the file.
    size: usize,
}

/// Items that were read, but wait for records that were not.
#[derive(Debug)]
pub(super) struct Order {
    nodes: Vec<NodeRecords>,
    entries: VecDeque<Entry>,
    /// Bytes that wait.
    buffered: usize,
    lost: u64,
}

impl Order {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes: (0..nodes).map(|_| NodeRecords::default()).collect(),
            entries: VecDeque::new(),
            buffered: 0,
            lost: 0,
        }
    }

    /// Sets the number of the node's first record.
    pub(super) fn set_first_number(&mut self, node: usize, number: u64) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.next_number = number;
        }
    }

    /// Adds a record. `bytes` are its packet's; they are ignored if the record borrows those of another record.
    pub(super) fn record(&mut self, record: &Record, bytes: &[u8]) {
        let Some(node) = self.nodes.get_mut(record.node) else { return };
        let bytes = if record.borrowed { &[] } else { bytes };
        // Only a damaged file has more bytes than a record can say.
        let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
        let mut event = record.event;
        event.captured = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        let mut encoded = Vec::with_capacity(size_of_val(&event) + bytes.len());
        encode(&event, record.conntrack.as_ref(), bytes, &mut encoded);
        self.buffered += encoded.len() + OVERHEAD;
        if let Some(replaced) = node.waiting.insert(record.number, encoded) {
            self.buffered -= replaced.len() + OVERHEAD;
        }
    }

    /// Adds a frame, or the end of a node's stream; `size` is its number of bytes in the file.
    pub(super) fn frame(&mut self, node: usize, records: u64, frame: Option<FromAgent>, size: usize) {
        self.push(Entry { item: Item::Node(node, frame), after: Some((node, records)), size });
    }

    /// Adds a cluster change, which waits for earlier frames only.
    pub(super) fn update(&mut self, update: Box<Update>, size: usize) {
        let new_nodes = update.joined.iter().map(|_| NodeRecords::default());
        self.nodes.extend(new_nodes);
        self.push(Entry { item: Item::Cluster(update), after: None, size });
    }

    fn push(&mut self, entry: Entry) {
        let entry = Entry { size: entry.size + OVERHEAD, ..entry };
        self.buffered += entry.size;
        self.entries.push_back(entry);
    }

    /// Number of lost records so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// The next item, if it is available. `ended` means that nothing more will be read.
    pub(super) fn next(&mut self, ended: bool) -> Option<Item> {
        loop {
            let Some(entry) = self.entries.front() else {
                return if ended || self.buffered > MAX_BUFFERED { self.leftovers() } else { None };
            };
            let Some((node, until)) = entry.after.filter(|(node, until)| self.waits_for(*node, *until))
            else {
                let Entry { item, size, .. } = self.entries.pop_front()?;
                self.buffered -= size;
                return Some(item);
            };
            if let Some(events) = self.take(node, until) {
                return Some(Item::Node(node, Some(events)));
            }
            if !ended && self.buffered <= MAX_BUFFERED {
                return None;
            }
            self.give_up(node, until);
        }
    }

    /// Whether records of the node before number `until` have not left yet. A node that the recording does not name has none.
    fn waits_for(&self, node: usize, until: u64) -> bool {
        self.nodes.get(node).is_some_and(|node| node.next_number < until)
    }

    /// The node's next records before number `until`, up to a gap.
    fn take(&mut self, node: usize, until: u64) -> Option<FromAgent> {
        let node = self.nodes.get_mut(node)?;
        let mut batch = Vec::new();
        while let Some(record) = node.waiting.first_entry()
            && *record.key() <= node.next_number
            && *record.key() < until
            && batch.len() < BATCH
        {
            if *record.key() == node.next_number {
                node.next_number += 1;
            } else {
                // Counted as lost already, but it was only late.
                self.lost = self.lost.saturating_sub(1);
            }
            let encoded = record.remove();
            self.buffered -= encoded.len() + OVERHEAD;
            batch.extend_from_slice(&encoded);
        }
        (!batch.is_empty()).then(|| FromAgent::Events(Bytes::from(batch)))
    }

    /// Gives up the node's missing records before number `until`, up to the first that is there.
    fn give_up(&mut self, node: usize, until: u64) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        let first = node.waiting.keys().next().copied();
        let available = first.filter(|number| *number < until).unwrap_or(until);
        self.lost = self.lost.saturating_add(available.saturating_sub(node.next_number));
        node.next_number = node.next_number.max(available);
    }

    /// Returns the records after the last frame.
    fn leftovers(&mut self) -> Option<Item> {
        let node = self.nodes.iter().position(|node| !node.waiting.is_empty())?;
        self.give_up(node, u64::MAX);
        self.take(node, u64::MAX).map(|events| Item::Node(node, Some(events)))
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::Event;

    use super::*;
    use podtrace_protocol::frame::Accounting;
    use podtrace_protocol::record::Records;

    fn record(node: usize, number: u64) -> Record {
        let blank = [0; size_of::<Event>()];
        let event = Records::new(&blank).next().unwrap().unwrap().event;
        Record {
            node,
            number,
            borrowed: false,
            added_ethernet: false,
            event: Event { at_ns: number, ..event },
            conntrack: None,
        }
    }

    fn beat(now_ns: u64) -> FromAgent {
        FromAgent::Heartbeat { now_ns, counters: Accounting::default() }
    }

    /// All items in short: `0:r5` is record 5 of node 0, `0:b7` its heartbeat at 7, `0:end` its end.
    fn all(order: &mut Order, ended: bool) -> Vec<String> {
        let mut items = Vec::new();
        while let Some(next) = order.next(ended) {
            let (node, frame) = match next {
                Item::Node(node, frame) => (node, frame),
                Item::Cluster(update) => {
                    items.push(format!("u{}", update.at_ns));
                    continue;
                }
            };
            match frame {
                Some(FromAgent::Events(body)) => items.extend(
                    Records::new(&body).map(|record| format!("{node}:r{}", record.unwrap().event.at_ns)),
                ),
                Some(FromAgent::Heartbeat { now_ns, .. }) => items.push(format!("{node}:b{now_ns}")),
                Some(other) => panic!("{other:?}"),
                None => items.push(format!("{node}:end")),
            }
        }
        items
    }

    #[test]
    fn a_frame_waits_for_the_records_before_it() {
        let mut order = Order::new(2);
        order.frame(0, 2, Some(beat(9)), 0);
        order.frame(1, 1, None, 0);
        order.record(&record(1, 0), &[]);
        order.record(&record(0, 1), &[]);
        assert_eq!(all(&mut order, false), [""; 0]);
        order.record(&record(0, 0), &[]);
        assert_eq!(all(&mut order, false), ["0:r0", "0:r1", "0:b9", "1:r0", "1:end"]);
        assert_eq!((order.lost(), order.buffered), (0, 0));
    }

    #[test]
    fn a_cluster_change_keeps_its_place_between_frames() {
        let mut order = Order::new(1);
        order.frame(0, 1, Some(beat(1)), 0);
        order.update(Box::new(Update { at_ns: 5, joined: vec!["b".to_owned()], ..Update::default() }), 0);
        order.frame(1, 0, Some(beat(2)), 0);
        assert_eq!(all(&mut order, false), [""; 0]);
        order.record(&record(0, 0), &[]);
        assert_eq!(all(&mut order, false), ["0:r0", "0:b1", "u5", "1:b2"]);
        assert_eq!((order.lost(), order.buffered), (0, 0));
    }

    #[test]
    fn records_that_never_come_are_counted() {
        let mut order = Order::new(1);
        order.record(&record(0, 3), &[]);
        order.frame(0, 6, Some(beat(9)), 0);
        order.record(&record(0, 8), &[]);
        assert_eq!(all(&mut order, true), ["0:r3", "0:b9", "0:r8"]);
        assert_eq!((order.lost(), order.buffered), (3 + 2 + 2, 0));
    }

    #[test]
    fn a_gap_is_given_up_when_too_much_waits_and_a_late_record_is_taken_all_the_same() {
        let mut order = Order::new(1);
        order.frame(0, 1, Some(beat(1)), 0);
        let mut items = Vec::new();
        for at in 2.. {
            order.frame(0, 1, Some(beat(at)), 1 << 20);
            items = all(&mut order, false);
            if !items.is_empty() {
                break;
            }
        }
        assert_eq!((items[0].as_str(), order.lost()), ("0:b1", 1));
        order.record(&record(0, 0), &[]);
        assert_eq!(all(&mut order, true), ["0:r0"]);
        assert_eq!((order.lost(), order.buffered), (0, 0));
    }

    #[test]
    fn impossible_numbers_do_no_harm() {
        let mut order = Order::new(1);
        order.record(&record(0, u64::MAX), &[0; 500]);
        order.record(&record(9, 0), &[]);
        order.frame(0, u64::MAX, Some(beat(1)), 0);
        order.frame(9, 5, Some(beat(2)), 0);
        order.frame(0, 0, None, 0);
        assert_eq!(all(&mut order, true), ["0:b1", "9:b2", "0:end"]);
        assert!(order.lost() > 0);
    }
}
