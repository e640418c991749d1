//! Which of the packets that match are traced with `--sample 1/N`: the same ones at every hop of every node.
//!
//! A packet is taken if the hash of its key is below [`SAMPLE`]. The key is made of what forwarding, NAT and tunnels leave
//! alone, and it is the same for a request and its answer where the two can be known to belong together:
//!
//! | of | key | why |
//! | --- | --- | --- |
//! | TCP | sequence and acknowledgment number | |
//! | SYN; SYN-ACK and RST-ACK | the sequence number that the answer acknowledges | an attempt and its answer are both taken or neither |
//! | UDP, and IPv4 may not fragment it | length, first payload bytes, bytes 16 to 24 of it | the first bytes of QUIC are the connection's |
//! | ICMP echo | sequence number, first payload bytes | request and reply have these in common; NAT changes the identifier |
//! | ICMP error | the key of the packet it quotes | a packet and its rejection are both taken or neither |
//! | other ICMP | type, code, first bytes | |
//! | SCTP | first chunk's type, length and number | |
//! | fragment, or IPv4 packet of UDP that may become fragments | identification | later fragments have nothing else |
//! | other | first bytes | |
//!
//! GSO and GRO: one sk_buff stands for several segments on the wire, and is taken if one of them is. So the sk_buffs that
//! carry a segment are taken at every hop, however it is merged and split on its way. A large sk_buff is taken more often
//! than one in N; user space knows its number of segments and accounts for that.
//!
//! Limits: the first [`SAMPLED_SEGMENTS`] segments count. Of datagrams that GSO splits, the first one alone decides. Datagrams of
//! one length and content are all taken or none. What connection tracking makes of IPv6 fragments, and of fragments of
//! ICMP, has another key than they.

use tracer_common::wire::{ICMP_HEADER, SAMPLED_SEGMENTS, UDP_HEADER, protocol, tcp_flag};

use crate::{
    globals::SAMPLE,
    header::{Plain, veiled},
    reader::{Reader, Segments},
};

/// Whether a packet is in the sample; all are where there is none.
#[inline(always)]
pub(crate) fn takes<R: Reader>(packet: &Plain, reader: &R) -> bool {
    let below = SAMPLE.load();
    if below == 0 {
        return true;
    }
    if packet.protocol == protocol::TCP && !packet.fragment.is_any() {
        return takes_segment(packet, reader, below);
    }
    let key = if packet.is_icmp_error(reader) {
        // Of one that quotes too little there is no better key than its own.
        match Plain::read(reader, packet.transport + ICMP_HEADER) {
            Some(quoted) => key(&quoted, 0, reader),
            None => 0,
        }
    } else {
        key(packet, reader.segments().size, reader)
    };
    hash(key) < below
}

/// Whether one of a TCP packet's segments is in the sample.
#[inline(always)]
fn takes_segment<R: Reader>(packet: &Plain, reader: &R, below: u32) -> bool {
    let Some((mut sequence, acknowledged)) = tcp_key(packet, reader) else { return false };
    let unknown = packet.unknown;
    let key = |sequence: u32| u64::from(sequence) << 32 | u64::from(acknowledged);
    let segments = reader.segments();
    if segments.number <= 1 {
        return veiled(hash(key(sequence)), unknown) < below;
    }
    // VERIFIER: without a branch and always to the end, for it would follow each way out of the loop through the rest of
    // the program. And apart from the number that goes into the record, of which it would learn more each time.
    let segments = Segments { number: veiled(segments.number, unknown), ..segments };
    let mut taken = 0;
    for number in 0..SAMPLED_SEGMENTS {
        taken |= is_less(hash(key(sequence)), below) & is_less(number, segments.number);
        sequence = sequence.wrapping_add(segments.size);
    }
    veiled(taken as u32, unknown) != 0
}

/// 1 if `one` is less than `other`, else 0. VERIFIER: written out, for the compiler would make a branch of it.
#[inline(always)]
fn is_less(one: u32, other: u32) -> u64 {
    let mut difference = u64::from(one);
    // SAFETY: arithmetic on registers.
    #[cfg(target_arch = "bpf")]
    unsafe {
        core::arch::asm!("{0} -= {1}", "{0} >>= 63", inout(reg) difference, in(reg) u64::from(other));
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        difference = u64::from(difference < u64::from(other));
    }
    difference
}

/// Sequence and acknowledgment number; what an answer to a SYN has in common with it stands in their place.
#[inline(always)]
fn tcp_key<R: Reader>(packet: &Plain, reader: &R) -> Option<(u32, u32)> {
    let [a, b, c, d, e, f, g, h]: [u8; 8] = reader.load(packet.transport + 4)?;
    let (sequence, acknowledged) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
    // What an ICMP error quotes may end before the flags.
    let flags: u8 = reader.load(packet.transport + 13).unwrap_or(0);
    let answers = flags & tcp_flag::ACK != 0 && flags & (tcp_flag::SYN | tcp_flag::RST) != 0;
    let asks = flags & tcp_flag::SYN != 0 && flags & tcp_flag::ACK == 0;
    let unknown = packet.unknown;
    let (sequence, acknowledged) = if answers {
        (acknowledged, 0)
    } else if asks {
        (sequence.wrapping_add(1), 0)
    } else {
        (sequence, acknowledged)
    };
    Some((veiled(sequence, unknown), veiled(acknowledged, unknown)))
}

/// What all hops of a packet have in common, and of some its answer.
#[inline(always)]
fn key<R: Reader>(packet: &Plain, segment_size: u32, reader: &R) -> u64 {
    let Plain { transport, ip_id, protocol, fragment, unknown } = *packet;
    let content = |offset: u32| reader.load::<u64>(transport + offset).unwrap_or(0);
    if fragment.is_any() || (protocol == protocol::UDP && fragment.is_divisible()) {
        return u64::from(ip_id) << 8 | u64::from(protocol);
    }
    if protocol == protocol::TCP {
        let (sequence, acknowledged) = tcp_key(packet, reader).unwrap_or_default();
        return u64::from(sequence) << 32 | u64::from(acknowledged);
    }
    if protocol == protocol::UDP {
        let length = reader.load(transport + 4).map_or(0, u16::from_be_bytes);
        let length = if segment_size == 0 { u32::from(length) } else { UDP_HEADER + segment_size };
        // Ethernet pads what is shorter, and only on some devices.
        let first = if length >= UDP_HEADER + 8 { content(UDP_HEADER) } else { 0 };
        let later = if length >= UDP_HEADER + 24 { content(UDP_HEADER + 16) } else { 0 };
        return mixed(u64::from(veiled(length, unknown)) ^ mixed(first) ^ mixed(later).rotate_left(17));
    }
    if protocol::is_icmp(protocol) {
        let [kind, code, _, _, _, _, a, b]: [u8; 8] = reader.load(transport).unwrap_or_default();
        let head = if tracer_common::wire::is_echo(protocol, kind) {
            u32::from_be_bytes([0, 0, a, b])
        } else {
            u32::from_be_bytes([kind, code, a, b])
        };
        return mixed(content(ICMP_HEADER)) ^ u64::from(veiled(head, unknown));
    }
    if protocol == protocol::SCTP {
        return content(12);
    }
    content(0)
}

/// A number in the place of another: near ones get far apart. By multiplication and shift, as MurmurHash3 ends.
#[inline(always)]
fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let value = (value ^ (value >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

#[inline(always)]
fn hash(key: u64) -> u32 {
    (mixed(key) >> 32) as u32
}
