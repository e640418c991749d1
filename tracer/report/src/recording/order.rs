//! Restores the order in which the agents sent the records and frames of a recording.
//!
//! A recording has packets in the order of finished paths. A frame has to wait until all records that its node had sent
//! before it were read. The memory for waiting is limited: a writer delays no packet by more than fits into it, so a record
//! that is still missing then is lost.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::entry::Record;
use podtrace_path::Update;
use podtrace_protocol::frame::FromAgent;
use podtrace_protocol::record::encode;

/// Maximum number of waiting bytes: more than a writer holds back.
const MOST_WAITING: usize = 96 << 20;
/// Approximate overhead of a record in bytes.
const OVERHEAD: usize = 64;
/// Maximum number of bytes of records in one frame.
const BATCH: usize = 1 << 20;

/// The next item of a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// A node's frame, or the end of its stream.
    Node(usize, Option<FromAgent>),
    /// A cluster change.
    Cluster(Box<Update>),
}

#[derive(Debug, Default)]
struct Node {
    /// Encoded records by number.
    records: BTreeMap<u64, Vec<u8>>,
    /// All records before this number were returned, or given up as lost.
    next: u64,
}

#[derive(Debug)]
struct Entry {
    node: usize,
    /// Number of records that the node had sent before it.
    records: u64,
    next: Next,
    /// Bytes that it takes in the file.
    size: usize,
}

/// What was read and waits for records that were not.
#[derive(Debug)]
pub(super) struct Order {
    nodes: Vec<Node>,
    entries: VecDeque<Entry>,
    waiting: usize,
    missing: u64,
}

impl Order {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes: (0..nodes).map(|_| Node::default()).collect(),
            entries: VecDeque::new(),
            waiting: 0,
            missing: 0,
        }
    }

    /// Sets the number of the node's first record.
    pub(super) fn begin_with(&mut self, node: usize, number: u64) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.next = number;
        }
    }

    pub(super) fn record(&mut self, record: &Record, bytes: &[u8]) {
        let Some(node) = self.nodes.get_mut(record.node) else { return };
        let bytes = if record.borrowed { &[] } else { bytes };
        let mut event = record.event;
        event.captured = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        let mut encoded = Vec::with_capacity(size_of_val(&event) + bytes.len());
        encode(&event, record.conntrack.as_ref(), bytes, &mut encoded);
        self.waiting += encoded.len() + OVERHEAD;
        if let Some(twice) = node.records.insert(record.number, encoded) {
            self.waiting -= twice.len() + OVERHEAD;
        }
    }

    /// Adds a frame, or the end of a node's stream; `size` is its number of bytes in the file.
    pub(super) fn frame(&mut self, node: usize, records: u64, frame: Option<FromAgent>, size: usize) {
        self.push(Entry { node, records, next: Next::Node(node, frame), size });
    }

    /// Adds a cluster change, which waits for earlier frames only.
    pub(super) fn update(&mut self, update: Box<Update>, size: usize) {
        let joined = update.joined.iter().map(|_| Node::default());
        self.nodes.extend(joined);
        self.push(Entry { node: 0, records: 0, next: Next::Cluster(update), size });
    }

    fn push(&mut self, entry: Entry) {
        let entry = Entry { size: entry.size + OVERHEAD, ..entry };
        self.waiting += entry.size;
        self.entries.push_back(entry);
    }

    /// Number of lost records so far.
    pub(super) fn missing(&self) -> u64 {
        self.missing
    }

    /// The next item, if it is available. `ended` means that nothing more will be read.
    pub(super) fn next(&mut self, ended: bool) -> Option<Next> {
        loop {
            let Some(entry) = self.entries.front() else {
                return if ended { self.leftovers() } else { None };
            };
            let (number, until) = (entry.node, entry.records);
            let node = self.nodes.get_mut(number)?;
            if node.next >= until {
                let Entry { next, size, .. } = self.entries.pop_front()?;
                self.waiting -= size;
                return Some(next);
            }
            if let Some(events) = self.take(number, until) {
                return Some(Next::Node(number, Some(events)));
            }
            if !ended && self.waiting <= MOST_WAITING {
                return None;
            }
            self.give_up(number, until);
        }
    }

    /// The node's next records, up to a gap.
    fn take(&mut self, number: usize, until: u64) -> Option<FromAgent> {
        let node = self.nodes.get_mut(number)?;
        let mut batch = Vec::new();
        while let Some(record) = node.records.first_entry()
            && *record.key() <= node.next
            && *record.key() < until
            && batch.len() < BATCH
        {
            if *record.key() == node.next {
                node.next += 1;
            } else {
                // It was given up, but was only late.
                self.missing = self.missing.saturating_sub(1);
            }
            let encoded = record.remove();
            self.waiting -= encoded.len() + OVERHEAD;
            batch.extend_from_slice(&encoded);
        }
        (!batch.is_empty()).then(|| FromAgent::Events(Bytes::from(batch)))
    }

    /// Gives up the node's next records as lost.
    fn give_up(&mut self, number: usize, until: u64) {
        let Some(node) = self.nodes.get_mut(number) else { return };
        let there = node.records.keys().next().copied().filter(|there| *there < until).unwrap_or(until);
        self.missing = self.missing.saturating_add(there.saturating_sub(node.next));
        node.next = node.next.max(there);
    }

    /// Returns the records after the last frame.
    fn leftovers(&mut self) -> Option<Next> {
        let number = self.nodes.iter().position(|node| !node.records.is_empty())?;
        self.give_up(number, u64::MAX);
        self.take(number, u64::MAX).map(|events| Next::Node(number, Some(events)))
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
        Record { node, number, borrowed: false, event: Event { at_ns: number, ..event }, conntrack: None }
    }

    fn beat(now_ns: u64) -> FromAgent {
        FromAgent::Heartbeat { now_ns, counters: Accounting::default() }
    }

    /// All items in short: `0:r5` is record 5 of node 0, `0:b7` its heartbeat at 7, `0:end` its end.
    fn all(order: &mut Order, ended: bool) -> Vec<String> {
        let mut items = Vec::new();
        while let Some(next) = order.next(ended) {
            let (node, frame) = match next {
                Next::Node(node, frame) => (node, frame),
                Next::Cluster(update) => {
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
        assert_eq!((order.missing(), order.waiting), (0, 0));
    }

    #[test]
    fn what_became_of_the_cluster_comes_between_the_frames_it_came_between() {
        let mut order = Order::new(1);
        order.frame(0, 1, Some(beat(1)), 0);
        order.update(Box::new(Update { at_ns: 5, joined: vec!["b".to_owned()], ..Update::default() }), 0);
        order.frame(1, 0, Some(beat(2)), 0);
        assert_eq!(all(&mut order, false), [""; 0]);
        order.record(&record(0, 0), &[]);
        assert_eq!(all(&mut order, false), ["0:r0", "0:b1", "u5", "1:b2"]);
        assert_eq!((order.missing(), order.waiting), (0, 0));
    }

    #[test]
    fn what_does_not_come_is_counted() {
        let mut order = Order::new(1);
        order.record(&record(0, 3), &[]);
        order.frame(0, 6, Some(beat(9)), 0);
        order.record(&record(0, 8), &[]);
        assert_eq!(all(&mut order, true), ["0:r3", "0:b9", "0:r8"]);
        assert_eq!((order.missing(), order.waiting), (3 + 2 + 2, 0));
    }

    #[test]
    fn a_gap_is_not_waited_for_at_any_price_and_what_was_late_still_counts() {
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
        assert_eq!((items[0].as_str(), order.missing()), ("0:b1", 1));
        order.record(&record(0, 0), &[]);
        assert_eq!(all(&mut order, true), ["0:r0"]);
        assert_eq!((order.missing(), order.waiting), (0, 0));
    }

    #[test]
    fn impossible_numbers_are_survived() {
        let mut order = Order::new(1);
        order.record(&record(0, u64::MAX), &[0; 500]);
        order.record(&record(9, 0), &[]);
        order.frame(0, u64::MAX, Some(beat(1)), 0);
        order.frame(0, 0, None, 0);
        assert_eq!(all(&mut order, true), ["0:b1", "0:end"]);
        assert!(order.missing() > 0);
    }
}
