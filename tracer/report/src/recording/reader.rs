//! A recording's file in, the agents' frames out, in the order in which they came. What cannot be read is passed
//! over and named at the end.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use pcap_parser::{Block, EnhancedPacketBlock};

use super::block::{ENTRY, RECORD};
use super::blocks::{Blocks, Broken};
use super::entry::{Entry, Header, Record, What};
use super::order::{Next, Order};
use podtrace_protocol::frame::FromAgent;

/// A file that is opened when its turn comes.
type Source<'a> = Box<dyn FnOnce() -> Result<Box<dyn Read + 'a>> + 'a>;

/// What a recording lacks.
#[derive(Debug, Default)]
struct Faults {
    /// Whole sentences' worth, in the order in which they were found.
    found: Vec<String>,
    /// Blocks whose content says nothing to this version.
    unknown: u64,
    /// Packets that podtrace did not write.
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
    /// How many there are so far.
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
    /// If the first file cannot be read, or is no recording.
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
            faults.found.push(format!("it begins with part {} of the trace", header.part));
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

    /// The next frame with the number of its node; the node's end if there is no frame. What became of the cluster is
    /// passed over.
    pub fn next_frame(&mut self) -> Option<(usize, Option<FromAgent>)> {
        loop {
            if let Next::Node(node, frame) = self.next_entry()? {
                return Some((node, frame));
            }
        }
    }

    /// What comes next, in the order in which it came live.
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

    /// What the recording lacks, once all of it has been read.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        let Faults { found, unknown, foreign } = &self.faults;
        let mut said = found.clone();
        let mut count = |number: u64, what: &str| {
            if number > 0 {
                said.push(format!("{number} {what}"));
            }
        };
        count(*unknown, "of its blocks say nothing to this version of podtrace");
        count(*foreign, "of its packets are not podtrace's");
        count(self.order.missing(), "of its packets are missing");
        if self.ended && !self.complete {
            said.push(
                "it ends before the trace did: the tracer was killed, or the file was cut off".to_owned(),
            );
        }
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// Reads the next block, of the next file where one ends.
    fn read(&mut self) {
        let broken = match self.blocks.next() {
            Ok(Some(block)) => return self.take(&block),
            Ok(None) => None,
            Err(Broken::Skipped { from, to }) => {
                self.faults.found.push(format!("bytes {from} to {to} are damaged"));
                return;
            }
            Err(Broken::Ends { at }) => Some(format!("it is cut off or damaged from byte {at} on")),
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

    fn take(&mut self, bytes: &[u8]) {
        match parse(bytes) {
            Some(Block::EnhancedPacket(packet)) => self.packet(&packet),
            Some(Block::Unknown(block)) if block.block_type == ENTRY => match Entry::decode(block.data) {
                Some(entry) => self.entry(entry, block.data.len()),
                None => self.faults.unknown += 1,
            },
            // Interfaces and statistics are for others; what is in them is in the entries, too.
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
        let Entry { node, records, repeated, what } = entry;
        if node >= self.nodes {
            self.faults.unknown += 1;
            return;
        }
        match what {
            What::Header(header) => self.next_part(&header),
            What::Frame(_) if repeated && self.part != self.header.part => {}
            What::Frame(frame) => self.order.frame(node, records, Some(frame), size),
            What::Record(record) if record.node < self.nodes => {
                self.order.record(&record, &[]);
            }
            What::Record(_) => self.faults.unknown += 1,
            What::NodeEnded => self.order.frame(node, records, None, size),
            What::Update(update) => {
                self.nodes = self.nodes.saturating_add(update.joined.len()).min(usize::from(u16::MAX));
                self.order.update(update, size);
            }
            What::End(_) => self.complete = true,
        }
    }

    fn next_part(&mut self, header: &Header) {
        if header.id != self.header.id {
            self.faults.found.push("a part of another trace is among its files, and was left out".to_owned());
            self.ended = true;
        } else if header.part != self.part.saturating_add(1) {
            let part = self.part;
            self.faults.found.push(format!("part {} follows on part {part}", header.part));
        }
        self.part = header.part;
    }
}

fn first_header<R: Read>(blocks: &mut Blocks<R>) -> Result<Header> {
    let beginning = blocks.beginning().context("reading its first bytes")?;
    if beginning.starts_with(b"podtrace") {
        bail!("this is what --record of an older podtrace wrote; trace anew with --write FILE");
    }
    if !Blocks::<R>::is_section(beginning) {
        bail!("this is no recording of podtrace's (made by --write FILE)");
    }
    for _ in 0..2 {
        let Ok(Some(block)) = blocks.next() else { bail!("the recording ends before its header") };
        if let Some(Block::Unknown(block)) = parse(&block)
            && block.block_type == ENTRY
        {
            return match Entry::decode(block.data) {
                Some(Entry { what: What::Header(header), .. }) => Ok(*header),
                _ => bail!("the recording's header says nothing to this version of podtrace"),
            };
        }
    }
    bail!("this is a pcapng file, but not of podtrace's making: there is no trace in it, only packets")
}

fn parse(bytes: &[u8]) -> Option<Block<'_>> {
    pcap_parser::parse_block_le(bytes).ok().map(|(_, block)| block)
}
