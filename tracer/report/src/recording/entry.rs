//! podtrace's own data in a recording: the agents' frames, and the kernel's record of each packet.
//!
//! An entry is a kind (`u8`), flags (`u8`), the index of its node (`u16`), the length of its content (`u32`), the number of
//! records that the node had sent before it (`u64`), and the content. Numbers are little-endian.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tracer_common::{Conntrack, Event};

use podtrace_path::{Context, Summary, Update};
use podtrace_protocol::codec::RawFrame;
use podtrace_protocol::frame::{FromAgent, KIND_EVENTS, KIND_JSON, PROTOCOL_VERSION};
use podtrace_protocol::record::{RawEvent, Records, encode};

/// Version of podtrace's own blocks and options.
const FORMAT: u32 = 1;

/// The oldest protocol version whose frames this version reads without loss.
const OLDEST_PROTOCOL: u32 = 3;

/// Flag of entries that an earlier part of the recording has, too.
const REPEATED: u8 = 1;

/// The first entry of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of podtrace's own blocks and options.
    pub format: u32,
    /// Protocol version of the frames.
    pub protocol: u32,
    /// Version of podtrace that wrote it.
    pub version: String,
    /// Start of the recording in nanoseconds since 1970; the same in all its parts.
    #[serde(default)]
    pub id: u64,
    /// Number of this part of the recording, from 1.
    #[serde(default)]
    pub part: u32,
    /// For each node, the number of the first record in this part.
    #[serde(default)]
    pub first: Vec<u64>,
    /// Title of the trace, such as `pod1 → pod3`.
    #[serde(default)]
    pub title: String,
    /// Maximum number of bytes captured of each packet.
    #[serde(default)]
    pub snaplen: u32,
    /// Input of the path engine.
    pub context: Context,
    /// `--count` of the trace.
    #[serde(default)]
    pub count: Option<u64>,
    /// `--filter` of the trace.
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

    /// A warning if another version wrote the recording and this one may not read all of it.
    #[must_use]
    pub fn foreign(&self) -> Option<String> {
        let known = self.format == FORMAT && (OLDEST_PROTOCOL..=PROTOCOL_VERSION).contains(&self.protocol);
        (!known).then(|| {
            format!(
                "it was written by podtrace {} (format {}, protocol {}); this version knows format {FORMAT} and protocol \
                 {PROTOCOL_VERSION}, and may skip parts of it",
                self.version, self.format, self.protocol
            )
        })
    }
}

/// An entry of a recording.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) node: usize,
    /// Number of records that the node had sent before.
    pub(super) records: u64,
    /// Whether an earlier part has it, too.
    pub(super) repeated: bool,
    pub(super) content: Content,
}

/// Content of an entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Header(Box<Header>),
    Frame(FromAgent),
    /// A record of a hook that captures no bytes, so that there is no packet block for it.
    Record(Record),
    /// The node's stream ended.
    NodeEnded,
    /// A cluster change, which belongs to no node.
    Update(Box<Update>),
    /// The trace ended with this summary.
    End(Summary),
}

mod kind {
    pub(super) const HEADER: u8 = 0;
    /// A frame as JSON.
    pub(super) const FRAME: u8 = 1;
    /// The part of an events frame that could not be decoded into records.
    pub(super) const EVENTS: u8 = 2;
    pub(super) const NODE_ENDED: u8 = 3;
    pub(super) const END: u8 = 4;
    pub(super) const RECORD: u8 = 5;
    pub(super) const UPDATE: u8 = 6;
}

impl Entry {
    pub(super) fn encode(&self) -> Vec<u8> {
        // Serialising these types to memory cannot fail: string keys or integer keys only, no maps of structs.
        let (kind, bytes) = match &self.content {
            Content::Header(header) => (kind::HEADER, serde_json::to_vec(header).unwrap_or_default().into()),
            Content::Frame(frame) => {
                let raw = frame.to_raw();
                (if raw.kind == KIND_EVENTS { kind::EVENTS } else { kind::FRAME }, raw.body)
            }
            Content::Record(record) => (kind::RECORD, record.encode().into()),
            Content::NodeEnded => (kind::NODE_ENDED, Bytes::new()),
            Content::Update(update) => (kind::UPDATE, serde_json::to_vec(update).unwrap_or_default().into()),
            Content::End(summary) => (kind::END, serde_json::to_vec(summary).unwrap_or_default().into()),
        };
        let mut out = Vec::with_capacity(16 + bytes.len());
        out.extend([kind, if self.repeated { REPEATED } else { 0 }]);
        out.extend(u16::try_from(self.node).unwrap_or(u16::MAX).to_le_bytes());
        out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(self.records.to_le_bytes());
        out.extend_from_slice(&bytes);
        out
    }

    /// `None` if this version cannot decode it.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<16>()?;
        let [kind, flags, ..] = *head;
        let node = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let length = u32::from_le_bytes(*head[4..].first_chunk()?);
        let records = u64::from_le_bytes(*head[8..].first_chunk()?);
        let body = rest.get(..length as usize)?;
        let frame = |kind| FromAgent::from_raw(RawFrame { kind, body: Bytes::copy_from_slice(body) });
        let content = match kind {
            kind::HEADER => Content::Header(serde_json::from_slice(body).ok()?),
            kind::FRAME => Content::Frame(frame(KIND_JSON).ok()?),
            kind::EVENTS => Content::Frame(frame(KIND_EVENTS).ok()?),
            kind::RECORD => Content::Record(Record::decode(body)?),
            kind::NODE_ENDED => Content::NodeEnded,
            kind::UPDATE => Content::Update(serde_json::from_slice(body).ok()?),
            kind::END => Content::End(serde_json::from_slice(body).ok()?),
            _ => return None,
        };
        Some(Self { node, records, repeated: flags & REPEATED != 0, content })
    }
}

/// Flags of a record.
const BORROWED: u8 = 1;
const ADDED_ETHERNET: u8 = 2;

/// The kernel's record of a packet, without the captured bytes, which are the packet's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) node: usize,
    /// Number of the record within its node.
    pub(super) number: u64,
    /// Whether the packet's bytes are those of another record of the same packet, because this one has none.
    pub(super) borrowed: bool,
    /// Whether the packet begins with an Ethernet header that the writer added, because the kernel captured none.
    pub(super) added_ethernet: bool,
    pub(super) event: Event,
    pub(super) conntrack: Option<Conntrack>,
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + size_of::<Event>());
        out.extend(u16::try_from(self.node).unwrap_or(u16::MAX).to_le_bytes());
        let borrowed = if self.borrowed { BORROWED } else { 0 };
        let added_ethernet = if self.added_ethernet { ADDED_ETHERNET } else { 0 };
        out.extend([borrowed | added_ethernet, 0, 0, 0, 0, 0]);
        out.extend(self.number.to_le_bytes());
        encode(&self.event, self.conntrack.as_ref(), &[], &mut out);
        out
    }

    /// `None` if this version cannot decode it.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<16>()?;
        let node = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let number = u64::from_le_bytes(*head[8..].first_chunk()?);
        match Records::new(rest).collect::<Vec<_>>().as_slice() {
            [Ok(RawEvent { event, conntrack, bytes: [] })] => {
                let [borrowed, added_ethernet] = [BORROWED, ADDED_ETHERNET].map(|flag| head[2] & flag != 0);
                Some(Self { node, number, borrowed, added_ethernet, event: *event, conntrack: *conntrack })
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
        let changes = vec![change];
        Update {
            at_ns: 7,
            filter,
            joined: vec!["node3".to_owned()],
            blind: true,
            changes,
            ..Update::default()
        }
    }

    fn entries() -> Vec<Entry> {
        let counters = Accounting { produced: 7, ..Accounting::default() };
        [
            Content::Header(Box::new(Header::new(Context::default()))),
            Content::Frame(FromAgent::Heartbeat { now_ns: u64::MAX, counters }),
            Content::Frame(FromAgent::Events(Bytes::from_static(&[1, 2, 3]))),
            Content::NodeEnded,
            Content::Update(Box::new(update())),
            Content::End(Summary { complete: true, ..Summary::default() }),
        ]
        .into_iter()
        .zip(0..)
        .map(|(content, node)| Entry { node, records: u64::MAX - 1, repeated: node % 2 == 1, content })
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
