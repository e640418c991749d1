//! Writes a recording: frames and finished paths in, bytes of a pcapng file out. No I/O.

use tracer_common::{Event, flag};

use super::block::{self, PacketFacts};
use super::entry::{Content, Entry, Header, Record};
use super::hold::{Annotation, Held, Hold, Lent};
use super::interface::{Interfaces, way};
use super::part::LatestFrames;
use super::remark::{WITHOUT_PATH, remarks};
use crate::output::plain;
use podtrace_path::{Path, Source, Summary, Update};
use podtrace_protocol::frame::FromAgent;
use podtrace_protocol::record::Records;

/// The section's comment: how to read the file, and the option that tshark needs.
const HINT: &str = "Packet comments name the path and hop of each packet; `podtrace read` shows the paths. \
                    Interfaces are named NODE/DEVICE POINT. To decode VXLAN on a port other than 4789, such as \
                    flannel's: tshark -d udp.port==8472,vxlan";

/// Length of the Ethernet header that is added where the kernel captured none.
pub(super) const ETHERNET_LENGTH: u32 = 14;

/// Produces the bytes of a recording.
#[derive(Debug)]
pub struct Writer {
    header: Header,
    out: Vec<u8>,
    hold: Hold,
    interfaces: Interfaces,
    nodes: Vec<Node>,
    /// Time of the last packet written, in nanoseconds since 1970.
    last: u64,
}

/// State of a node.
#[derive(Debug, Default)]
struct Node {
    latest: LatestFrames,
    /// Its monotonic and wall clock at the same moment.
    clocks: (u64, u64),
}

impl Writer {
    /// Starts a recording.
    #[must_use]
    pub fn new(header: Header) -> Self {
        let count = header.context.nodes.len();
        let mut writer = Self {
            out: Vec::new(),
            hold: Hold::new(count),
            interfaces: Interfaces::new(&header.context.nodes, header.snaplen + ETHERNET_LENGTH),
            nodes: (0..count).map(|_| Node::default()).collect(),
            last: 0,
            header,
        };
        writer.begin();
        writer
    }

    /// Returns the bytes to append to the file: complete blocks.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Number of bytes to append to the file.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.out.len()
    }

    /// Starts a new file, which can be read alone.
    pub fn next_part(&mut self) {
        self.header.part += 1;
        self.header.first = (0..self.nodes.len()).map(|node| self.hold.first(node)).collect();
        self.interfaces.forget();
        self.begin();
        for node in 0..self.nodes.len() {
            for frame in self.nodes[node].latest.frames() {
                self.entry(&Entry { node, records: 0, repeated: true, content: Content::Frame(frame) });
            }
        }
    }

    /// Number of the current file, from 1.
    #[must_use]
    pub fn part(&self) -> u32 {
        self.header.part
    }

    fn begin(&mut self) {
        let application = format!("podtrace {}", self.header.version);
        let title = podtrace_escape::escape(&self.header.title);
        let comment = if title.is_empty() { HINT.to_owned() } else { format!("{title}. {HINT}") };
        block::section(&application, &comment, &mut self.out);
        for interface in self.interfaces.all() {
            block::interface(&interface.facts, &mut self.out);
        }
        let header = Content::Header(Box::new(self.header.clone()));
        self.entry(&Entry { node: 0, records: 0, repeated: false, content: header });
    }

    fn entry(&mut self, entry: &Entry) {
        block::entry(&entry.encode(), &mut self.out);
    }

    /// Adds a node's next frame, or the end of its stream.
    pub fn frame(&mut self, node: usize, frame: Option<&FromAgent>) {
        let Some(state) = self.nodes.get_mut(node) else { return };
        let content = match frame {
            Some(FromAgent::Events(body)) => {
                for record in Records::new(body) {
                    match record {
                        Ok(raw) => self.hold.push(node, Held::new(raw.event, raw.conntrack, raw.bytes)),
                        Err(malformed) => {
                            let rest = body.slice(body.len() - malformed.rest..);
                            let content = Content::Frame(FromAgent::Events(rest));
                            let records = self.hold.sent(node);
                            self.entry(&Entry { node, records, repeated: false, content });
                        }
                    }
                }
                return self.write_due();
            }
            Some(frame) => {
                state.latest.update(frame);
                match frame {
                    FromAgent::Hello(hello) => {
                        state.clocks = (hello.monotonic_ns, hello.realtime_ns);
                        self.interfaces.hello(node, hello);
                    }
                    FromAgent::Topology(topology) => self.interfaces.learn(node, topology),
                    FromAgent::Heartbeat { now_ns, .. } => self.hold.pass(node, *now_ns),
                    _ => {}
                }
                Content::Frame(frame.clone())
            }
            None => Content::NodeEnded,
        };
        self.entry(&Entry { node, records: self.hold.sent(node), repeated: false, content });
        self.write_due();
    }

    /// Adds a cluster change, between two frames.
    pub fn update(&mut self, update: &Update) {
        self.entry(&Entry {
            node: 0,
            records: 0,
            repeated: false,
            content: Content::Update(Box::new(update.clone())),
        });
        // So that later parts can be read without this one.
        self.header.context.apply(update);
        for name in &update.joined {
            self.hold.add();
            self.interfaces.add(name);
            self.nodes.push(Node::default());
        }
    }

    /// Adds a finished path, whose packets can now be written.
    pub fn path(&mut self, path: &Path) {
        let remarks = remarks(path);
        self.lend(path);
        for (hop, source, comments) in remarks {
            let at = path.started_at.saturating_add_signed(hop.at_ns.unwrap_or(0));
            // A hop's time is that of the first of its packets.
            let first = hop
                .sources
                .iter()
                .filter_map(|other| Some(self.hold.get_mut(other.node, other.number)?.event.at_ns))
                .min();
            let Some(held) = self.hold.get_mut(source.node, source.number) else { continue };
            let after = held.event.at_ns.saturating_sub(first.unwrap_or(held.event.at_ns));
            let annotation = held.annotation.get_or_insert_with(|| Annotation {
                path: path.id,
                at: at.saturating_add(after),
                comments: Vec::new(),
            });
            annotation.comments.extend(comments);
            if hop.merged {
                self.hold.share(source.node, source.number);
            } else {
                self.write(source.node, source.number);
            }
        }
    }

    /// Hooks of the network stack capture no bytes. A hop observed only there still gets a packet, with the bytes of the
    /// previous or the next hop.
    fn lend(&mut self, path: &Path) {
        let mut lender = None;
        let mut without = Vec::new();
        for hop in &path.hops {
            let here = hop.sources.iter().find_map(|source| {
                let held = self.hold.get_mut(source.node, source.number)?;
                (!held.bytes.is_empty()).then(|| (held.event, held.bytes.clone(), source.node))
            });
            match (here, hop.sources.first()) {
                (Some(found), _) => {
                    for borrower in without.drain(..) {
                        self.lend_to(borrower, &found);
                    }
                    lender = Some(found);
                }
                (None, Some(first)) => match &lender {
                    Some(found) => self.lend_to(*first, found),
                    None => without.push(*first),
                },
                (None, None) => {}
            }
        }
    }

    fn lend_to(&mut self, borrower: Source, (event, bytes, node): &(Event, Box<[u8]>, usize)) {
        let lent = match self.interfaces.has_ethernet(*node, event) {
            true => Lent { bytes: bytes.clone(), length: length(event, bytes) },
            false => Lent { bytes: with_ethernet(bytes), length: length(event, bytes) + ETHERNET_LENGTH },
        };
        if let Some(held) = self.hold.get_mut(borrower.node, borrower.number) {
            held.lent = Some(lent);
        }
    }

    /// Ends the recording: writes the held packets and the summary.
    pub fn end(&mut self, summary: &Summary) {
        while let Some((node, number)) = self.hold.next() {
            self.write(node, number);
        }
        let comment = plain::summary(summary);
        for (number, interface) in (0..).zip(self.interfaces.all()) {
            block::statistics(number, self.last, interface.packets, &comment, &mut self.out);
        }
        self.entry(&Entry { node: 0, records: 0, repeated: false, content: Content::End(summary.clone()) });
    }

    fn write_due(&mut self) {
        while let Some((node, number)) = self.hold.next_due() {
            self.write(node, number);
        }
    }

    fn write(&mut self, node: usize, number: u64) {
        let Some(held) = self.hold.take(node, number) else { return };
        let event = held.event;
        let conntrack = held.conntrack.map(|of| *of);
        let mut record = Record { node, number, borrowed: false, added_ethernet: false, event, conntrack };
        let (bytes, length) = match held.lent {
            Some(Lent { bytes, length }) => {
                record.borrowed = true;
                (bytes, length)
            }
            None if held.bytes.is_empty() => {
                let content = Content::Record(record);
                return self.entry(&Entry { node, records: 0, repeated: false, content });
            }
            None if self.interfaces.has_ethernet(node, &event) => {
                let length = length(&event, &held.bytes);
                (held.bytes, length)
            }
            None => {
                record.added_ethernet = true;
                (with_ethernet(&held.bytes), length(&event, &held.bytes) + ETHERNET_LENGTH)
            }
        };
        let (interface, new) = self.interfaces.count(node, &event);
        if let Some(facts) = new {
            block::interface(facts, &mut self.out);
        }
        let (path, at, comments) = match held.annotation {
            Some(annotation) => (Some(annotation.path), annotation.at, annotation.comments),
            None => (None, self.wall(node, event.at_ns), vec![WITHOUT_PATH.to_owned()]),
        };
        self.last = self.last.max(at);
        let record = record.encode();
        let facts = PacketFacts {
            interface,
            at,
            bytes: &bytes,
            length,
            way: way(&event),
            path,
            comments: &comments,
            record: &record,
        };
        block::packet(&facts, &mut self.out);
    }

    /// Converts a node's monotonic time to nanoseconds since 1970, by its own wall clock.
    fn wall(&self, node: usize, at: u64) -> u64 {
        let (monotonic, realtime) = self.nodes.get(node).map_or((0, 0), |node| node.clocks);
        // In this order, nothing of it is negative unless the packet is older than 1970.
        realtime.saturating_add(at).saturating_sub(monotonic)
    }
}

/// Bytes with an Ethernet header before them, for a packet that was captured at its network header. Its addresses are zero.
fn with_ethernet(bytes: &[u8]) -> Box<[u8]> {
    let ethertype: [u8; 2] = match bytes.first().map(|first| first >> 4) {
        Some(4) => [0x08, 0x00],
        Some(6) => [0x86, 0xdd],
        // Reserved: nothing decodes what follows.
        _ => [0xff, 0xff],
    };
    [&[0; 12], &ethertype[..], bytes].concat().into()
}

/// Length of a packet where it was seen. At tracepoints the kernel's length depends on where its data pointer is, so the
/// IP header's length is used.
fn length(event: &Event, bytes: &[u8]) -> u32 {
    if event.flags & flag::FROM_NETWORK == 0 {
        return event.len;
    }
    let by_header = match bytes {
        [first, _, high, low, ..] if first >> 4 == 4 => u32::from(u16::from_be_bytes([*high, *low])),
        [first, _, _, _, high, low, ..] if first >> 4 == 6 => {
            40 + u32::from(u16::from_be_bytes([*high, *low]))
        }
        _ => 0,
    };
    if by_header == 0 { event.len } else { by_header }
}
