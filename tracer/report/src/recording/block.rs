//! Encodes blocks of a pcapng file.
//!
//! podtrace's own data uses a block type and an option code that the format reserves for local use. Other programs ignore
//! both.

use std::borrow::Cow;

use pcap_parser::{
    EnhancedPacketBlock, InterfaceDescriptionBlock, InterfaceStatisticsBlock, Linktype, OptionCode,
    PcapNGOption, SectionHeaderBlock, ToVec, UnknownBlock,
};

/// Type of the blocks that hold an [`super::entry::Entry`].
pub(super) const ENTRY: u32 = 0x8000_7074;
/// Code of the option of a packet block that holds an [`super::entry::Record`].
pub(super) const RECORD: OptionCode = OptionCode(0x8074);
/// The largest block that is read: an entry holds one frame.
pub(super) const LARGEST: u32 = podtrace_protocol::frame::MAX_FRAME + (1 << 16);

/// Packet flags and packet number, for which the crate has no constants.
const EPB_FLAGS: OptionCode = OptionCode(2);
const EPB_PACKETID: OptionCode = OptionCode(5);
/// Time resolution: 10⁻⁹ seconds.
const NANOSECONDS: u8 = 9;
/// Maximum length of an option's text.
const LONGEST: usize = 60_000;

/// Direction of a packet at its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
    Unknown,
}

/// Description of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InterfaceFacts {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) snaplen: u32,
    pub(super) os: Option<String>,
}

/// A packet block.
#[derive(Clone, Copy, Debug)]
pub(super) struct PacketFacts<'a> {
    pub(super) interface: u32,
    /// Nanoseconds since 1970.
    pub(super) at: u64,
    pub(super) bytes: &'a [u8],
    /// Length of the packet where it was seen.
    pub(super) length: u32,
    pub(super) way: Way,
    /// Number of its path.
    pub(super) path: Option<u64>,
    pub(super) comments: &'a [String],
    pub(super) record: &'a [u8],
}

pub(super) fn section(application: &str, comment: &str, out: &mut Vec<u8>) {
    let mut block = SectionHeaderBlock {
        block_type: 0,
        block_len1: 0,
        bom: 0,
        major_version: 1,
        minor_version: 0,
        section_len: -1,
        options: vec![text(OptionCode::Comment, comment), text(OptionCode::ShbUserAppl, application)],
        block_len2: 0,
    };
    append(&mut block, out);
}

pub(super) fn interface(facts: &InterfaceFacts, out: &mut Vec<u8>) {
    let mut options = vec![
        text(OptionCode::IfName, &facts.name),
        text(OptionCode::IfDescription, &facts.description),
        option(OptionCode::IfTsresol, vec![NANOSECONDS]),
        option(OptionCode::IfTsoffset, vec![0; 8]),
    ];
    options.extend(facts.os.as_deref().map(|os| text(OptionCode::IfOs, os)));
    let mut block = InterfaceDescriptionBlock {
        block_type: 0,
        block_len1: 0,
        // All have the same: tcpdump reads no file with several.
        linktype: Linktype::ETHERNET,
        reserved: 0,
        snaplen: facts.snaplen,
        options,
        block_len2: 0,
        if_tsresol: NANOSECONDS,
        if_tsoffset: 0,
    };
    append(&mut block, out);
}

pub(super) fn packet(facts: &PacketFacts<'_>, out: &mut Vec<u8>) {
    let flags: u32 = match facts.way {
        Way::Unknown => 0,
        Way::In => 1,
        Way::Out => 2,
    };
    let mut options: Vec<_> =
        facts.comments.iter().map(|comment| text(OptionCode::Comment, comment)).collect();
    options.push(option(EPB_FLAGS, flags.to_le_bytes().to_vec()));
    options.extend(facts.path.map(|path| option(EPB_PACKETID, path.to_le_bytes().to_vec())));
    options.push(option(RECORD, facts.record));
    let (ts_high, ts_low) = halves(facts.at);
    let captured = u32::try_from(facts.bytes.len()).unwrap_or(u32::MAX);
    let mut block = EnhancedPacketBlock {
        block_type: 0,
        block_len1: 0,
        if_id: facts.interface,
        ts_high,
        ts_low,
        caplen: captured,
        origlen: facts.length.max(captured),
        data: facts.bytes,
        options,
        block_len2: 0,
    };
    append(&mut block, out);
}

/// Number of packets of an interface, and the final comment.
pub(super) fn statistics(interface: u32, at: u64, received: u64, comment: &str, out: &mut Vec<u8>) {
    let (ts_high, ts_low) = halves(at);
    let mut block = InterfaceStatisticsBlock {
        block_type: 0,
        block_len1: 0,
        if_id: interface,
        ts_high,
        ts_low,
        options: vec![
            text(OptionCode::Comment, comment),
            option(OptionCode::IsbIfRecv, received.to_le_bytes().to_vec()),
        ],
        block_len2: 0,
    };
    append(&mut block, out);
}

pub(super) fn entry(body: &[u8], out: &mut Vec<u8>) {
    let mut block = UnknownBlock { block_type: ENTRY, block_len1: 0, data: body, block_len2: 0 };
    append(&mut block, out);
}

fn append(block: &mut impl ToVec, out: &mut Vec<u8>) {
    // Serializing to memory fails only if the buffer is too small, and this one grows.
    out.extend_from_slice(&block.to_vec().unwrap_or_default());
}

fn halves(nanoseconds: u64) -> (u32, u32) {
    let [low, high] = [nanoseconds & u64::from(u32::MAX), nanoseconds >> 32].map(|half| half as u32);
    (high, low)
}

fn text<'a>(code: OptionCode, value: &'a str) -> PcapNGOption<'a> {
    let mut end = value.len().min(LONGEST);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    option(code, &value.as_bytes()[..end])
}

fn option<'a>(code: OptionCode, value: impl Into<Cow<'a, [u8]>>) -> PcapNGOption<'a> {
    let value = value.into();
    PcapNGOption { code, len: u16::try_from(value.len()).unwrap_or(u16::MAX), value }
}
