//! As much of a packet's headers as the filter and the identity need. What they mean stands in [`tracer_common::wire`],
//! for user space reads the same packets.
//!
//! A fingerprint tells whether an sk_buff still carries the packet it was entered for: where its freeing was not seen,
//! its memory may have become another packet. It covers what forwarding, NAT and tunnels leave alone, and what GRO and
//! offloads do not rewrite while one sk_buff carries the packet:
//!
//! | of | headers | content (8 bytes) | left out, and why |
//! | --- | --- | --- | --- |
//! | IPv4 | identification | | more-fragments, length: reassembly changes them |
//! | IPv6 | of a later fragment: identification | | of the first: reassembly removes the header |
//! | TCP | sequence and acknowledgment number | timestamps, or early data | length, FIN, PSH: GRO merges; maximum segment size: clamped |
//! | UDP | length | first payload bytes | checksum: NAT and offload |
//! | ICMP, ICMPv6 | type, code, last two bytes (sequence number) | first payload bytes, or first bytes of the quoted packet | identifier, quoted addresses: NAT |
//! | SCTP | first chunk's type, length and number | | checksum: NAT and offload |
//! | other, later fragment | | first bytes | |
//!
//! An sk_buff's bytes are read by helper in tc programs, and elsewhere only where they are linear. So the content counts
//! only where both could read it.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use tracer_common::{
    Address,
    wire::{self, ICMP_HEADER, UDP_HEADER, protocol, v4_fragment, v6_fragment},
};

use crate::{globals::Fingerprint, reader::Reader};

/// Extension headers that are skipped at most; more make a packet unreadable.
const EXTENSIONS: usize = 4;

/// Spreads a number's bits: odd, so that different ones stay different.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// An offset beyond any packet, where there is nothing to read.
const NOWHERE: u32 = 0xffff;

/// The headers of one IP packet.
pub(crate) struct Header {
    pub(crate) src: Address,
    pub(crate) dst: Address,
    /// Offset of the transport header from the network header the reader counts from.
    pub(crate) transport: u32,
    pub(crate) ip_id: u32,
    pub(crate) protocol: u8,
    pub(crate) fragment: Fragment,
}

/// Which part of a fragmented packet this is. A byte: with the offset the compiler has no room on the stack any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment(u8);

impl Header {
    /// Reads the headers of the packet that begins at `base`.
    #[inline(always)]
    pub(crate) fn read<R: Reader>(reader: &R, base: u32) -> Option<Self> {
        // Most packets are IPv4, so its header is read at once and the version looked up in it. No IPv6 packet is
        // shorter.
        let ip: Ipv4Hdr = reader.load(base)?;
        let mut header = match ip.vihl >> 4 {
            4 => Self::of_v4(&ip, base),
            6 => Self::read_v6(reader, base)?,
            _ => return None,
        };
        header.veil(u32::from_ne_bytes(ip.src_addr));
        Some(header)
    }

    /// VERIFIER: lets it forget by which of the ways above the header was read. It would go through the rest of the
    /// program once for each: with tunnels and quoted packets, once for each of their products.
    #[inline(always)]
    fn veil(&mut self, unknown: u32) {
        self.transport = veiled(self.transport, unknown);
        self.ip_id = veiled(self.ip_id, unknown);
        self.protocol = veiled(u32::from(self.protocol), unknown) as u8;
        self.fragment = Fragment(veiled(u32::from(self.fragment.0), unknown) as u8);
    }

    /// Source and destination port in host order; 0 where the packet has none.
    #[inline(always)]
    pub(crate) fn ports<R: Reader>(&self, reader: &R) -> (u16, u16) {
        if self.fragment.is_later() || !protocol::has_ports(self.protocol) {
            return (0, 0);
        }
        // Cut off before its ports, it has none; its addresses may still be of interest.
        let ports: [u8; 4] = reader.load(self.transport).unwrap_or_default();
        (u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]]))
    }

    /// A word of which the verifier knows nothing.
    #[inline(always)]
    pub(crate) fn unknown(&self) -> u32 {
        u32::from_ne_bytes([self.src[12], self.src[13], self.src[14], self.src[15]])
    }

    /// Whether it is an IPv4 packet.
    #[inline(always)]
    pub(crate) fn is_v4(&self) -> bool {
        self.src[10] == 0xff && self.src[11] == 0xff && self.src[0] == 0
    }

    /// What connection tracking has for ports, in network order: of ICMP the identifier, and type and code.
    #[inline(always)]
    pub(crate) fn conntrack_ports<R: Reader>(&self, reader: &R) -> ([u8; 2], [u8; 2]) {
        if self.fragment.is_later() {
            return ([0; 2], [0; 2]);
        }
        if protocol::is_icmp(self.protocol) {
            let [kind, code, _, _, high, low]: [u8; 6] = reader.load(self.transport).unwrap_or_default();
            return ([high, low], [kind, code]);
        }
        if !protocol::has_ports(self.protocol) {
            return ([0; 2], [0; 2]);
        }
        let [a, b, c, d]: [u8; 4] = reader.load(self.transport).unwrap_or_default();
        ([a, b], [c, d])
    }

    #[inline(always)]
    fn of_v4(ip: &Ipv4Hdr, base: u32) -> Self {
        let fragment = u16::from_be_bytes(ip.frags);
        Self {
            src: mapped(ip.src_addr),
            dst: mapped(ip.dst_addr),
            transport: base + u32::from(ip.vihl & 0xf) * 4,
            ip_id: u32::from(u16::from_be_bytes(ip.id)),
            protocol: ip.proto,
            fragment: Fragment::of_v4(fragment),
        }
    }

    #[inline(always)]
    fn read_v6<R: Reader>(reader: &R, base: u32) -> Option<Self> {
        let ip: Ipv6Hdr = reader.load(base)?;
        let mut header = Self {
            src: ip.src_addr,
            dst: ip.dst_addr,
            transport: base + size_of::<Ipv6Hdr>() as u32,
            ip_id: 0,
            protocol: ip.next_hdr,
            fragment: Fragment::WHOLE,
        };
        for _ in 0..EXTENSIONS {
            if header.protocol == protocol::FRAGMENT {
                let extension: [u8; 8] = reader.load(header.transport)?;
                let offset = u16::from_be_bytes([extension[2], extension[3]]);
                header.fragment = Fragment::of_v6(offset);
                header.ip_id = u32::from_be_bytes([extension[4], extension[5], extension[6], extension[7]]);
                header.protocol = extension[0];
                header.transport += 8;
                if header.fragment.is_later() {
                    break;
                }
            } else if wire::is_extension(header.protocol) {
                let extension: [u8; 2] = reader.load(header.transport)?;
                header.transport += wire::extension_length(extension[1]);
                header.protocol = extension[0];
            } else {
                break;
            }
        }
        Some(header)
    }

    /// What tells it from another packet. VERIFIER: the rest has no room on the stack for long.
    #[inline(always)]
    pub(crate) fn plain(&self) -> Plain {
        let unknown = self.unknown();
        let (transport, protocol, fragment) = (self.transport, self.protocol, self.fragment);
        Plain { transport, ip_id: self.ip_id, protocol, fragment, unknown }
    }
}

/// As much of a packet as tells one from another, of headers that are where they are expected.
#[derive(Clone, Copy)]
pub(crate) struct Plain {
    /// Offset of the transport header.
    pub(crate) transport: u32,
    /// Of IPv6, that of the fragment header; 0 without one.
    pub(crate) ip_id: u32,
    pub(crate) protocol: u8,
    pub(crate) fragment: Fragment,
    /// A word of which the verifier knows nothing.
    pub(crate) unknown: u32,
}

impl Plain {
    /// Reads the headers of the packet that begins at `base`; `None` for IPv6 with extension headers.
    #[inline(always)]
    pub(crate) fn read<R: Reader>(reader: &R, base: u32) -> Option<Self> {
        let ip: Ipv4Hdr = reader.load(base)?;
        let unknown = u32::from_ne_bytes(ip.src_addr);
        let (transport, ip_id, protocol, fragment) = if ip.vihl >> 4 == 4 {
            let fragment = Fragment::of_v4(u16::from_be_bytes(ip.frags));
            (base + u32::from(ip.vihl & 0xf) * 4, u32::from(u16::from_be_bytes(ip.id)), ip.proto, fragment)
        } else {
            // The next header stands in an IPv6 header where the fragment does in one of IPv4.
            let [protocol, _] = ip.frags;
            if ip.vihl >> 4 != 6 || wire::is_extension(protocol) || protocol == protocol::FRAGMENT {
                return None;
            }
            (base + size_of::<Ipv6Hdr>() as u32, 0, protocol, Fragment::WHOLE)
        };
        // VERIFIER: as in `Header::veil`.
        Some(Self {
            transport: veiled(transport, unknown),
            ip_id: veiled(ip_id, unknown),
            protocol: veiled(u32::from(protocol), unknown) as u8,
            fragment: Fragment(veiled(u32::from(fragment.0), unknown) as u8),
            unknown,
        })
    }

    /// The port that it is for, if it is a UDP datagram.
    #[inline(always)]
    pub(crate) fn udp_destination<R: Reader>(&self, reader: &R) -> Option<u16> {
        if self.protocol != protocol::UDP || self.fragment.is_later() {
            return None;
        }
        reader.load(self.transport + 2).map(u16::from_be_bytes)
    }

    /// Whether this is an ICMP error, which quotes the packet it is about.
    #[inline(always)]
    pub(crate) fn is_icmp_error<R: Reader>(&self, reader: &R) -> bool {
        if self.fragment.is_later() || !protocol::is_icmp(self.protocol) {
            return false;
        }
        let kind: Option<u8> = reader.load(self.transport);
        kind.is_some_and(|kind| wire::is_icmp_error(self.protocol, kind))
    }

    /// What tells it from another packet that the same sk_buff carries later, see the module.
    #[inline(always)]
    pub(crate) fn fingerprint<R: Reader>(&self, reader: &R) -> Fingerprint {
        let (transport, content_at) = self.transport_fingerprint(reader);
        // VERIFIER: lets it forget which protocol it was.
        let transport = veiled(transport, self.unknown);
        let content_at = veiled(content_at, self.unknown);
        let content: u64 = reader.load(self.transport + content_at).unwrap_or(0);
        let ip_id = if self.fragment.is_first_of_v6() { 0 } else { self.ip_id };
        let network = u64::from(veiled(ip_id, self.unknown)) << 8 | u64::from(self.protocol);
        Fingerprint { headers: folded(network) ^ transport, content: folded(content) }
    }

    /// Of the transport header, and where the content begins behind its start.
    #[inline(always)]
    fn transport_fingerprint<R: Reader>(&self, reader: &R) -> (u32, u32) {
        if self.fragment.is_later() {
            (0, 0)
        } else if self.protocol == protocol::TCP {
            // Behind the maximum segment size, which is a SYN's first option, are timestamps.
            (folded(reader.load(self.transport + 4).unwrap_or(0)), 24)
        } else if self.protocol == protocol::UDP {
            let length = reader.load(self.transport + 4).map_or(0, u16::from_be_bytes);
            // Ethernet pads what is shorter, and only on some devices.
            let has_content = u32::from(length) >= UDP_HEADER + size_of::<u64>() as u32;
            (u32::from(length), if has_content { UDP_HEADER } else { NOWHERE })
        } else if protocol::is_icmp(self.protocol) {
            // What an error quotes begins with what translation leaves alone.
            let [kind, code, _, _, _, _, a, b]: [u8; 8] = reader.load(self.transport).unwrap_or_default();
            (u32::from_be_bytes([kind, code, a, b]), ICMP_HEADER)
        } else if self.protocol == protocol::SCTP {
            (folded(reader.load(self.transport + 12).unwrap_or(0)), NOWHERE)
        } else {
            (0, 0)
        }
    }
}

/// Half as many bits; of 0, 0.
#[inline(always)]
fn folded(value: u64) -> u32 {
    (value.wrapping_mul(MIX) >> 32) as u32
}

impl Fingerprint {
    /// Whether both can be of one packet.
    #[inline(always)]
    pub(crate) fn fits(self, other: Self) -> bool {
        self.headers == other.headers
            && (self.content == other.content || self.content == 0 || other.content == 0)
    }
}

impl Fragment {
    const WHOLE: Self = Self(0);
    const FIRST: Self = Self(1);
    const LATER: Self = Self(2);
    /// The first of several of IPv6, where it has a header that the whole has not.
    const FIRST_OF_V6: Self = Self(3);
    /// Whole so far: a router may fragment it.
    const DIVISIBLE: Self = Self(4);

    /// Of IPv4's flags and offset.
    #[inline(always)]
    fn of_v4(field: u16) -> Self {
        if field & v4_fragment::OFFSET != 0 {
            Self::LATER
        } else if field & v4_fragment::MORE != 0 {
            Self::FIRST
        } else {
            const { assert!(v4_fragment::DO_NOT >> 12 == Self::DIVISIBLE.0 as u16) };
            Self(((field & v4_fragment::DO_NOT) >> 12) as u8 ^ Self::DIVISIBLE.0)
        }
    }

    /// Of the offset and flags of IPv6's fragment header.
    #[inline(always)]
    fn of_v6(field: u16) -> Self {
        match (field & v6_fragment::OFFSET != 0, field & v6_fragment::MORE != 0) {
            (true, _) => Self::LATER,
            (false, true) => Self::FIRST_OF_V6,
            (false, false) => Self::WHOLE,
        }
    }

    /// The first of several, with the transport header.
    #[inline(always)]
    pub(crate) fn is_first(self) -> bool {
        // One of the two odd ones.
        self.0 & 1 != 0
    }

    /// Not the first one, so without the transport header.
    #[inline(always)]
    pub(crate) fn is_later(self) -> bool {
        self == Self::LATER
    }

    /// One of several.
    #[inline(always)]
    pub(crate) fn is_any(self) -> bool {
        self.is_first() || self.is_later()
    }

    /// Whether a router may make fragments of it.
    #[inline(always)]
    pub(crate) fn is_divisible(self) -> bool {
        self == Self::DIVISIBLE
    }

    /// Whether it has an identification that goes when it is put together.
    #[inline(always)]
    fn is_first_of_v6(self) -> bool {
        self == Self::FIRST_OF_V6
    }
}

/// The same value, of which the verifier knows no more than of `unknown`.
#[inline(always)]
pub(crate) fn veiled(value: u32, unknown: u32) -> u32 {
    let mut value = u64::from(value);
    // SAFETY: arithmetic on one register. Written out, for the compiler would see that it comes to nothing.
    #[cfg(target_arch = "bpf")]
    unsafe {
        core::arch::asm!("{0} ^= {1}", "{0} ^= {1}", inout(reg) value, in(reg) u64::from(unknown));
    }
    #[cfg(not(target_arch = "bpf"))]
    let _ = (&mut value, unknown);
    value as u32
}

/// An IPv4 address mapped into IPv6.
#[inline(always)]
fn mapped(v4: [u8; 4]) -> Address {
    // VERIFIER: veiled, as an address that was read from a packet would be.
    let unknown = u32::from_ne_bytes(v4);
    let words = [veiled(0, unknown), veiled(0, unknown), veiled(0xffff_u32.to_be(), unknown), unknown];
    // SAFETY: both are sixteen bytes, of which any are an address.
    unsafe { core::mem::transmute(words) }
}
