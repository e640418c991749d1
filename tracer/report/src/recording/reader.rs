//! Reads a recording: one file or several in, the agents' frames out, in the order in which they arrived live.
//!
//! A *record* is what an agent reported of one packet; it is kept with the packet, in an option of its block. An *entry*
//! is everything else: headers, frames, cluster changes, the end. Entries are blocks of podtrace's own type. [`Order`]
//! merges both.
//!
//! Damaged parts are skipped, and [`Reader::damage`] lists them at the end.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use pcap_parser::{Block, EnhancedPacketBlock};

use super::block::{ENTRY, RECORD};
use super::blocks::{Blocks, Broken};
use super::entry::{Content, Entry, Header, Record};
use super::order::{Item, Order};
use super::writer::ETHERNET_LENGTH;
use podtrace_protocol::frame::FromAgent;

/// A file that is opened once the previous one has been read.
struct NextFile<'a> {
    name: String,
    open: Box<dyn FnOnce() -> Result<Box<dyn Read + 'a>> + 'a>,
}

/// What is damaged or missing in a recording.
#[derive(Debug, Default)]
struct Damage {
    /// Descriptions, in the order in which they were found.
    found: Vec<String>,
    /// The file that is being read, if there are several.
    file: Option<String>,
    /// Number of blocks that this version cannot decode.
    undecodable: u64,
    /// Number of packets that podtrace did not write.
    foreign: u64,
}

impl Damage {
    fn add(&mut self, what: impl std::fmt::Display) {
        self.found.push(match &self.file {
            Some(file) => format!("{file}: {what}"),
            None => what.to_string(),
        });
    }
}

/// Reads a recording, of one file or of all its parts in order.
pub struct Reader<'a> {
    header: Header,
    blocks: Blocks<Box<dyn Read + 'a>>,
    next_files: VecDeque<NextFile<'a>>,
    order: Order,
    damage: Damage,
    current_part: u32,
    /// Number of nodes: those of the header, and those that joined so far.
    nodes: usize,
    /// Whether the entry for the trace's end was read.
    is_complete: bool,
    /// Whether all files were read.
    at_end: bool,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("header", &self.header)
            .field("damage", &self.damage)
            .finish_non_exhaustive()
    }
}

/// Files of a recording; `-` is stdin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files(pub Vec<PathBuf>);

impl Files {
    /// Opens the recording.
    ///
    /// # Errors
    ///
    /// If the first file cannot be read, or is not a recording.
    pub fn open(&self) -> Result<Reader<'static>> {
        let mut files = self.0.iter().cloned().map(|path| NextFile::<'static> {
            name: if path.as_os_str() == "-" { "from stdin".to_owned() } else { path.display().to_string() },
            open: Box::new(move || {
                if path.as_os_str() == "-" {
                    return Ok(Box::new(io::stdin().lock()) as Box<dyn Read>);
                }
                let file = File::open(&path).context("opening it")?;
                Ok(Box::new(BufReader::new(file)) as Box<dyn Read>)
            }),
        });
        let NextFile { name, open } = files.next().context("no file to read was given")?;
        let opened = open().and_then(Reader::new);
        let mut reader = opened.with_context(|| format!("reading the recording {name}"))?;
        reader.next_files = files.collect();
        reader.damage.file = Some(name).filter(|_| !reader.next_files.is_empty());
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
        let mut damage = Damage::default();
        damage.found.extend(header.foreign());
        let mut order = Order::new(header.context.nodes.len());
        for (node, first) in header.first.iter().enumerate() {
            order.set_first_number(node, *first);
        }
        if header.part > 1 {
            damage.add(missing_parts(1, header.part - 1));
        }
        let (current_part, nodes) = (header.part, header.context.nodes.len());
        Ok(Self {
            header,
            blocks,
            next_files: VecDeque::new(),
            order,
            damage,
            current_part,
            nodes,
            is_complete: false,
            at_end: false,
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
            if let Item::Node(node, frame) = self.next_entry()? {
                return Some((node, frame));
            }
        }
    }

    /// The next frame or cluster change, in the order of the live trace.
    pub fn next_entry(&mut self) -> Option<Item> {
        loop {
            if let Some(next) = self.order.next(self.at_end) {
                return Some(next);
            }
            if self.at_end {
                return None;
            }
            self.read_block();
        }
    }

    /// What is damaged or missing, once all of the recording has been read; `None` if it is intact.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        let Damage { found, file: _, undecodable, foreign } = &self.damage;
        let mut damage = found.clone();
        let mut count = |number: u64, blocks: &str| {
            if number > 0 {
                damage.push(format!("{number} {blocks}"));
            }
        };
        count(*undecodable, "blocks unknown to this version of podtrace");
        count(*foreign, "packets not written by podtrace");
        count(self.order.lost(), "packets missing");
        if self.at_end && !self.is_complete {
            damage.push("the end is missing: the tracer was killed, or the file was truncated".to_owned());
        }
        (!damage.is_empty()).then(|| damage.join("; "))
    }

    /// Reads the next block. At the end of a file, opens the next one.
    fn read_block(&mut self) {
        let rest = match self.blocks.next() {
            Ok(Some(block)) => return self.handle_block(&block),
            Ok(None) => None,
            Err(Broken::Skipped { from, to }) => {
                self.damage.add(format_args!("bytes {from} to {to} are damaged"));
                return;
            }
            Err(Broken::Ends { at }) => Some(format!("it is truncated or damaged from byte {at} on")),
            Err(Broken::Unreadable { at, error }) => {
                Some(format!("it cannot be read from byte {at} on: {error}"))
            }
        };
        if let Some(rest) = rest {
            self.damage.add(rest);
        }
        self.open_next();
    }

    fn open_next(&mut self) {
        let Some(NextFile { name, open }) = self.next_files.pop_front() else {
            self.at_end = true;
            return;
        };
        self.damage.file = Some(name);
        let source = open().unwrap_or_else(|error| {
            self.damage.add(format_args!("{error:#}"));
            Box::new(io::empty())
        });
        self.blocks = Blocks::new(source);
    }

    fn handle_block(&mut self, bytes: &[u8]) {
        match parse(bytes) {
            Some(Block::EnhancedPacket(packet)) => self.packet(&packet),
            Some(Block::Unknown(block)) if block.block_type == ENTRY => match Entry::decode(block.data) {
                Some(entry) => self.entry(entry, block.data.len()),
                None => self.damage.undecodable += 1,
            },
            // Interface and statistics blocks are for Wireshark; the entries have the same information.
            Some(_) => {}
            None => self.damage.undecodable += 1,
        }
    }

    fn packet(&mut self, packet: &EnhancedPacketBlock<'_>) {
        let Some(option) = packet.options.iter().find(|option| option.code == RECORD) else {
            self.damage.foreign += 1;
            return;
        };
        let record = option.as_bytes().ok().and_then(Record::decode);
        match (record, packet.data.get(..packet.caplen as usize)) {
            (Some(record), Some(bytes)) if record.node < self.nodes => {
                let added = if record.added_ethernet { ETHERNET_LENGTH as usize } else { 0 };
                self.order.record(&record, bytes.get(added..).unwrap_or_default());
            }
            _ => self.damage.undecodable += 1,
        }
    }

    fn entry(&mut self, entry: Entry, size: usize) {
        let Entry { node, records, repeated, content } = entry;
        if node >= self.nodes {
            self.damage.undecodable += 1;
            return;
        }
        match content {
            Content::Header(header) => self.begin_part(&header),
            // Each part repeats the frames that describe its nodes, so that it can be read alone.
            Content::Frame(_) if repeated && self.current_part != self.header.part => {}
            Content::Frame(frame) => self.order.frame(node, records, Some(frame), size),
            Content::Record(record) if record.node < self.nodes => {
                // A record of which no packet bytes were captured.
                self.order.record(&record, &[]);
            }
            Content::Record(_) => self.damage.undecodable += 1,
            Content::NodeEnded => self.order.frame(node, records, None, size),
            Content::Update(update) => {
                // A node's number has 16 bits in the format.
                self.nodes = self.nodes.saturating_add(update.joined.len()).min(usize::from(u16::MAX));
                self.order.update(update, size);
            }
            Content::End(_) => self.is_complete = true,
        }
    }

    fn begin_part(&mut self, header: &Header) {
        if header.id != self.header.id {
            self.damage.add("it belongs to another trace, and was ignored");
            self.open_next();
            return;
        }
        let expected = self.current_part.saturating_add(1);
        if header.part > expected {
            self.damage.add(missing_parts(expected, header.part - 1));
        } else if header.part < expected {
            self.damage.add(format_args!("part {} comes after part {}", header.part, self.current_part));
        }
        self.current_part = header.part;
    }
}

fn missing_parts(first: u32, last: u32) -> String {
    match first == last {
        true => format!("part {first}, which comes before it, is missing"),
        false => format!("parts {first} to {last}, which come before it, are missing"),
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
    // The section header and interfaces come before podtrace's header, and blocks that others have added may.
    loop {
        let Ok(Some(block)) = blocks.next() else { bail!("the recording ends before its header") };
        match parse(&block) {
            Some(Block::Unknown(block)) if block.block_type == ENTRY => {
                return match Entry::decode(block.data) {
                    Some(Entry { content: Content::Header(header), .. }) => Ok(*header),
                    _ => bail!("this version of podtrace cannot read the recording's header"),
                };
            }
            Some(Block::EnhancedPacket(_) | Block::SimplePacket(_)) => {
                bail!("this pcapng file was not written by podtrace: it has packets, but no trace")
            }
            _ => {}
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Block<'_>> {
    pcap_parser::parse_block_le(bytes).ok().map(|(_, block)| block)
}
