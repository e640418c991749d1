//! Reads a recording: one or several files in, the agents' frames out, in the order in which they arrived live.
//!
//! What cannot be read is skipped, and [`Reader::damage`] lists it at the end.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use pcap_parser::{Block, EnhancedPacketBlock};

use super::block::{ENTRY, RECORD};
use super::blocks::{Blocks, Broken};
use super::entry::{Content, Entry, Header, Record};
use super::order::{Next, Order};
use podtrace_protocol::frame::FromAgent;

/// Opens a file once the previous one has been read.
type Source<'a> = Box<dyn FnOnce() -> Result<Box<dyn Read + 'a>> + 'a>;

/// What is damaged or missing in a recording.
#[derive(Debug, Default)]
struct Faults {
    /// Descriptions, in the order in which they were found.
    found: Vec<String>,
    /// Number of blocks that this version cannot decode.
    unknown: u64,
    /// Number of packets that podtrace did not write.
    foreign: u64,
}

/// Reads a recording, of one file or of all its parts in order.
pub struct Reader<'a> {
    header: Header,
    blocks: Blocks<Box<dyn Read + 'a>>,
    more: VecDeque<Source<'a>>,
    order: Order,
    faults: Faults,
    part: u32,
    /// Number of nodes so far.
    nodes: usize,
    /// Whether the trace's end was read.
    complete: bool,
    ended: bool,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("header", &self.header)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

/// Files of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files(pub Vec<PathBuf>);

impl Files {
    /// Opens the recording.
    ///
    /// # Errors
    ///
    /// If the first file cannot be read, or is not a recording.
    pub fn open(&self) -> Result<Reader<'static>> {
        let mut sources = self.0.iter().cloned().map(|path| -> Source<'static> {
            Box::new(move || {
                let file =
                    File::open(&path).with_context(|| format!("opening the recording {}", path.display()))?;
                Ok(Box::new(BufReader::new(file)) as Box<dyn Read>)
            })
        });
        let first = sources.next().context("no file to read was given")?;
        let name = self.0.first().map_or(Path::new(""), PathBuf::as_path).display();
        let mut reader = Reader::new(first()?).with_context(|| format!("reading the recording {name}"))?;
        reader.more = sources.collect();
        Ok(reader)
    }
}

impl<'a> Reader<'a> {
    /// Reads the header.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn new(source: impl Read + 'a) -> Result<Self> {
        let mut blocks = Blocks::new(Box::new(source) as Box<dyn Read + 'a>);
        let header = first_header(&mut blocks)?;
        let mut faults = Faults::default();
        faults.found.extend(header.foreign());
        let mut order = Order::new(header.context.nodes.len());
        for (node, first) in header.first.iter().enumerate() {
            order.begin_with(node, *first);
        }
        if header.part > 1 {
            faults.found.push(format!("it starts with part {} of the trace", header.part));
        }
        let (part, nodes) = (header.part, header.context.nodes.len());
        Ok(Self {
            header,
            blocks,
            more: VecDeque::new(),
            order,
            faults,
            part,
            nodes,
            complete: false,
            ended: false,
        })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next frame with the index of its node; `None` instead of a frame if the node's stream ended. Skips cluster changes.
    pub fn next_frame(&mut self) -> Option<(usize, Option<FromAgent>)> {
        loop {
            if let Next::Node(node, frame) = self.next_entry()? {
                return Some((node, frame));
            }
        }
    }

    /// The next frame or cluster change, in the order of the live trace.
    pub fn next_entry(&mut self) -> Option<Next> {
        loop {
            if let Some(next) = self.order.next(self.ended) {
                return Some(next);
            }
            if self.ended {
                return None;
            }
            self.read();
        }
    }

    /// What is damaged or missing, once all of the recording has been read; `None` if it is whole.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        let Faults { found, unknown, foreign } = &self.faults;
        let mut damage = found.clone();
        let mut count = |number: u64, blocks: &str| {
            if number > 0 {
                damage.push(format!("{number} {blocks}"));
            }
        };
        count(*unknown, "blocks unknown to this version of podtrace");
        count(*foreign, "packets not written by podtrace");
        count(self.order.missing(), "packets missing");
        if self.ended && !self.complete {
            damage.push("the end is missing: the tracer was killed, or the file was truncated".to_owned());
        }
        (!damage.is_empty()).then(|| damage.join("; "))
    }

    /// Reads the next block, from the next file at the end of one.
    fn read(&mut self) {
        let broken = match self.blocks.next() {
            Ok(Some(block)) => return self.handle_block(&block),
            Ok(None) => None,
            Err(Broken::Skipped { from, to }) => {
                self.faults.found.push(format!("bytes {from} to {to} are damaged"));
                return;
            }
            Err(Broken::Ends { at }) => Some(format!("it is truncated or damaged from byte {at} on")),
            Err(Broken::Unreadable { at, error }) => {
                Some(format!("it cannot be read from byte {at} on: {error}"))
            }
        };
        self.faults.found.extend(broken);
        match self.more.pop_front() {
            None => self.ended = true,
            Some(open) => match open() {
                Ok(source) => self.blocks = Blocks::new(source),
                Err(error) => self.faults.found.push(format!("{error:#}")),
            },
        }
    }

    fn handle_block(&mut self, bytes: &[u8]) {
        match parse(bytes) {
            Some(Block::EnhancedPacket(packet)) => self.packet(&packet),
            Some(Block::Unknown(block)) if block.block_type == ENTRY => match Entry::decode(block.data) {
                Some(entry) => self.entry(entry, block.data.len()),
                None => self.faults.unknown += 1,
            },
            // Interfaces and statistics are for other programs; the entries have the same information.
            Some(_) => {}
            None => self.faults.unknown += 1,
        }
    }

    fn packet(&mut self, packet: &EnhancedPacketBlock<'_>) {
        let Some(option) = packet.options.iter().find(|option| option.code == RECORD) else {
            self.faults.foreign += 1;
            return;
        };
        let record = option.as_bytes().ok().and_then(Record::decode);
        match (record, packet.data.get(..packet.caplen as usize)) {
            (Some(record), Some(bytes)) if record.node < self.nodes => {
                self.order.record(&record, bytes);
            }
            _ => self.faults.unknown += 1,
        }
    }

    fn entry(&mut self, entry: Entry, size: usize) {
        let Entry { node, records, repeated, content } = entry;
        if node >= self.nodes {
            self.faults.unknown += 1;
            return;
        }
        match content {
            Content::Header(header) => self.next_part(&header),
            Content::Frame(_) if repeated && self.part != self.header.part => {}
            Content::Frame(frame) => self.order.frame(node, records, Some(frame), size),
            Content::Record(record) if record.node < self.nodes => {
                self.order.record(&record, &[]);
            }
            Content::Record(_) => self.faults.unknown += 1,
            Content::NodeEnded => self.order.frame(node, records, None, size),
            Content::Update(update) => {
                self.nodes = self.nodes.saturating_add(update.joined.len()).min(usize::from(u16::MAX));
                self.order.update(update, size);
            }
            Content::End(_) => self.complete = true,
        }
    }

    fn next_part(&mut self, header: &Header) {
        if header.id != self.header.id {
            self.faults.found.push("one of the files belongs to another trace, and was ignored".to_owned());
            self.ended = true;
        } else if header.part != self.part.saturating_add(1) {
            let part = self.part;
            self.faults.found.push(format!("part {} follows part {part}", header.part));
        }
        self.part = header.part;
    }
}

fn first_header<R: Read>(blocks: &mut Blocks<R>) -> Result<Header> {
    let beginning = blocks.beginning().context("reading its first bytes")?;
    if beginning.starts_with(b"podtrace") {
        bail!("this is a recording of an older podtrace (--record); record again with --write FILE");
    }
    if !Blocks::<R>::is_section(beginning) {
        bail!("not a podtrace recording (made with --write FILE)");
    }
    for _ in 0..2 {
        let Ok(Some(block)) = blocks.next() else { bail!("the recording ends before its header") };
        if let Some(Block::Unknown(block)) = parse(&block)
            && block.block_type == ENTRY
        {
            return match Entry::decode(block.data) {
                Some(Entry { content: Content::Header(header), .. }) => Ok(*header),
                _ => bail!("this version of podtrace cannot read the recording's header"),
            };
        }
    }
    bail!("this pcapng file was not written by podtrace: it has packets, but no trace")
}

fn parse(bytes: &[u8]) -> Option<Block<'_>> {
    pcap_parser::parse_block_le(bytes).ok().map(|(_, block)| block)
}
