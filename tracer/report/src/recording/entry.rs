//! What podtrace writes for itself: what the agents said, and the kernel's record of each packet.
//!
//! All numbers are little-endian. An entry is a kind, flags, the number of its node (`u16`), the length of its
//! content (`u32`), how many records its node had sent before it (`u64`), and the content.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tracer_common::{Conntrack, Event};

use podtrace_path::{Context, Summary, Update};
use podtrace_protocol::codec::RawFrame;
use podtrace_protocol::frame::{FromAgent, KIND_EVENTS, KIND_JSON, PROTOCOL_VERSION};
use podtrace_protocol::record::{RawEvent, Records, encode};

/// Version of the blocks and options in which podtrace writes for itself.
const FORMAT: u32 = 1;

/// The oldest version of the frames of which nothing is other than in this one.
const OLDEST_PROTOCOL: u32 = 3;

/// Set on what an earlier part of the recording has, too.
const REPEATED: u8 = 1;

/// What a recording begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of what podtrace writes for itself.
    pub format: u32,
    /// Version of the frames.
    pub protocol: u32,
    /// Version of podtrace that wrote it.
    pub version: String,
    /// Equal in all parts of one recording: when it began, in nanoseconds since 1970.
    #[serde(default)]
    pub id: u64,
    /// Number of this part of the recording, from 1.
    #[serde(default)]
    pub part: u32,
    /// By node, the number of the first record that this part may have.
    #[serde(default)]
    pub first: Vec<u64>,
    /// What is traced, in words.
    #[serde(default)]
    pub title: String,
    /// Bytes kept of each packet at most.
    #[serde(default)]
    pub snaplen: u32,
    /// What the path engine has to know.
    pub context: Context,
    /// How many paths were asked for.
    #[serde(default)]
    pub count: Option<u64>,
    /// The `--filter` by which paths were chosen.
    #[serde(default)]
    pub filter: Option<String>,
}

impl Header {
    /// A header of this version.
    #[must_use]
    pub fn new(context: Context) -> Self {
        Self {
            format: FORMAT,
            protocol: PROTOCOL_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            id: 0,
            part: 1,
            first: Vec::new(),
            title: String::new(),
            snaplen: u32::try_from(tracer_common::CAPTURE).unwrap_or(u32::MAX),
            context,
            count: None,
            filter: None,
        }
    }

    /// What there is to say of a recording that another version wrote.
    #[must_use]
    pub fn foreign(&self) -> Option<String> {
        let known = self.format == FORMAT && (OLDEST_PROTOCOL..=PROTOCOL_VERSION).contains(&self.protocol);
        (!known).then(|| {
            format!(
                "it was written by podtrace {} (format {}, frames of version {}); this one knows format {FORMAT} and \
                 frames of version {PROTOCOL_VERSION}, and reads of it what it can",
                self.version, self.format, self.protocol
            )
        })
    }
}

/// One thing that podtrace wrote for itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) node: usize,
    /// How many records the node had sent before this.
    pub(super) records: u64,
    /// Whether an earlier part has it, too.
    pub(super) repeated: bool,
    pub(super) what: What,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    Header(Box<Header>),
    Frame(FromAgent),
    /// A record of a hook that captures no bytes: nothing for others to see.
    Record(Record),
    /// The node's stream ended.
    NodeEnded,
    /// What became of the cluster; of no node in particular.
    Update(Box<Update>),
    /// The trace ended, and amounted to this.
    End(Summary),
}

mod kind {
    pub(super) const HEADER: u8 = 0;
    /// A frame as JSON.
    pub(super) const FRAME: u8 = 1;
    /// What of an events frame could not be taken apart into records.
    pub(super) const EVENTS: u8 = 2;
    pub(super) const NODE_ENDED: u8 = 3;
    pub(super) const END: u8 = 4;
    pub(super) const RECORD: u8 = 5;
    pub(super) const UPDATE: u8 = 6;
}

impl Entry {
    pub(super) fn encode(&self) -> Vec<u8> {
        // Serialising these types to memory cannot fail: string keys or integer keys only, no maps of structs.
        let (kind, content) = match &self.what {
            What::Header(header) => (kind::HEADER, serde_json::to_vec(header).unwrap_or_default().into()),
            What::Frame(frame) => {
                let raw = frame.to_raw();
                (if raw.kind == KIND_EVENTS { kind::EVENTS } else { kind::FRAME }, raw.body)
            }
            What::Record(record) => (kind::RECORD, record.encode().into()),
            What::NodeEnded => (kind::NODE_ENDED, Bytes::new()),
            What::Update(update) => (kind::UPDATE, serde_json::to_vec(update).unwrap_or_default().into()),
            What::End(summary) => (kind::END, serde_json::to_vec(summary).unwrap_or_default().into()),
        };
        let mut out = Vec::with_capacity(16 + content.len());
        out.extend([kind, if self.repeated { REPEATED } else { 0 }]);
        out.extend(u16::try_from(self.node).unwrap_or(u16::MAX).to_le_bytes());
        out.extend(u32::try_from(content.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(self.records.to_le_bytes());
        out.extend_from_slice(&content);
        out
    }

    /// `None` for what this version does not understand.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<16>()?;
        let [kind, flags, ..] = *head;
        let node = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let length = u32::from_le_bytes(*head[4..].first_chunk()?);
        let records = u64::from_le_bytes(*head[8..].first_chunk()?);
        let content = rest.get(..length as usize)?;
        let frame = |kind| FromAgent::from_raw(RawFrame { kind, body: Bytes::copy_from_slice(content) });
        let what = match kind {
            kind::HEADER => What::Header(serde_json::from_slice(content).ok()?),
            kind::FRAME => What::Frame(frame(KIND_JSON).ok()?),
            kind::EVENTS => What::Frame(frame(KIND_EVENTS).ok()?),
            kind::RECORD => What::Record(Record::decode(content)?),
            kind::NODE_ENDED => What::NodeEnded,
            kind::UPDATE => What::Update(serde_json::from_slice(content).ok()?),
            kind::END => What::End(serde_json::from_slice(content).ok()?),
            _ => return None,
        };
        Some(Self { node, records, repeated: flags & REPEATED != 0, what })
    }
}

/// The kernel's record of a packet, but for its bytes, which are the packet's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) node: usize,
    /// Its number among all that its node sent.
    pub(super) number: u64,
    /// Whether the packet's bytes are another record's of the same packet: this one has none.
    pub(super) borrowed: bool,
    pub(super) event: Event,
    pub(super) conntrack: Option<Conntrack>,
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + size_of::<Event>());
        out.extend(u16::try_from(self.node).unwrap_or(u16::MAX).to_le_bytes());
        out.extend([u8::from(self.borrowed), 0, 0, 0, 0, 0]);
        out.extend(self.number.to_le_bytes());
        encode(&self.event, self.conntrack.as_ref(), &[], &mut out);
        out
    }

    /// `None` for what this version does not understand.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<16>()?;
        let node = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let number = u64::from_le_bytes(*head[8..].first_chunk()?);
        match Records::new(rest).collect::<Vec<_>>().as_slice() {
            [Ok(RawEvent { event, conntrack, bytes: [] })] => {
                Some(Self { node, number, borrowed: head[2] != 0, event: *event, conntrack: *conntrack })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podtrace_path::{Change, ChangeKind, Place};
    use podtrace_protocol::frame::{Accounting, FilterSpec};

    fn update() -> Update {
        let change = Change {
            now: Some(Place { ips: vec!["10.42.0.17".parse().unwrap()], node: Some("node1".to_owned()) }),
            ..Change::of(1_800_000_000_000_000_001, "default/pod1", ChangeKind::Moved)
        };
        let filter = Some(FilterSpec { one_way: true, ..FilterSpec::default() });
        let told = vec![change];
        Update {
            at_ns: 7,
            filter,
            joined: vec!["node3".to_owned()],
            blind: true,
            changes: told,
            ..Update::default()
        }
    }

    fn entries() -> Vec<Entry> {
        let counters = Accounting { produced: 7, ..Accounting::default() };
        [
            What::Header(Box::new(Header::new(Context::default()))),
            What::Frame(FromAgent::Heartbeat { now_ns: u64::MAX, counters }),
            What::Frame(FromAgent::Events(Bytes::from_static(&[1, 2, 3]))),
            What::NodeEnded,
            What::Update(Box::new(update())),
            What::End(Summary { complete: true, ..Summary::default() }),
        ]
        .into_iter()
        .zip(0..)
        .map(|(what, node)| Entry { node, records: u64::MAX - 1, repeated: node % 2 == 1, what })
        .collect()
    }

    #[test]
    fn what_was_encoded_is_decoded_and_padding_does_not_matter() {
        for entry in entries() {
            let mut bytes = entry.encode();
            assert_eq!(Entry::decode(&bytes), Some(entry.clone()));
            bytes.extend([0; 3]);
            assert_eq!(Entry::decode(&bytes), Some(entry));
        }
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_nothing() {
        for entry in entries() {
            let bytes = entry.encode();
            for cut in 0..bytes.len() {
                assert_eq!(Entry::decode(&bytes[..cut]), None, "cut at {cut}: {entry:?}");
            }
            let unknown = [&[99], &bytes[1..]].concat();
            assert_eq!(Entry::decode(&unknown), None);
        }
    }
}
