//! As much of a packet's headers as the filter and the identity need.

use network_types::{
    icmp::Icmpv4Type,
    ip::{IpProto, Ipv4Hdr, Ipv6Hdr},
};
use tracer_common::Address;

use crate::reader::Reader;

/// Extension headers that are skipped at most; more make a packet unreadable.
const EXTENSIONS: usize = 4;

/// ICMP type 11 (RFC 792), which network-types lacks.
const TIME_EXCEEDED: u8 = 11;

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

/// Which part of a fragmented packet this is.
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
        if self.fragment == Fragment::LATER || !has_ports(self.protocol) {
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
        if self.fragment == Fragment::LATER {
            return ([0; 2], [0; 2]);
        }
        if self.protocol == IpProto::Icmp as u8 || self.protocol == IpProto::Ipv6Icmp as u8 {
            let [kind, code, _, _, high, low]: [u8; 6] = reader.load(self.transport).unwrap_or_default();
            return ([high, low], [kind, code]);
        }
        if !has_ports(self.protocol) {
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
            fragment: Fragment::of(fragment & 0x1fff != 0, fragment & 0x2000 != 0),
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
            if header.protocol == IpProto::Ipv6Frag as u8 {
                let extension: [u8; 8] = reader.load(header.transport)?;
                let offset = u16::from_be_bytes([extension[2], extension[3]]);
                header.fragment = Fragment::of(offset & 0xfff8 != 0, offset & 1 != 0);
                header.ip_id = u32::from_be_bytes([extension[4], extension[5], extension[6], extension[7]]);
                header.protocol = extension[0];
                header.transport += 8;
                if header.fragment == Fragment::LATER {
                    break;
                }
            } else if is_extension(header.protocol) {
                let extension: [u8; 2] = reader.load(header.transport)?;
                header.protocol = extension[0];
                header.transport += (u32::from(extension[1]) + 1) * 8;
            } else {
                break;
            }
        }
        Some(header)
    }

    /// Whether this is an ICMP error, which quotes the packet it is about.
    #[inline(always)]
    pub(crate) fn is_icmp_error<R: Reader>(&self, reader: &R) -> bool {
        let v4 = self.protocol == IpProto::Icmp as u8;
        if self.fragment == Fragment::LATER || !(v4 || self.protocol == IpProto::Ipv6Icmp as u8) {
            return false;
        }
        let kind: Option<u8> = reader.load(self.transport);
        let Some(kind) = kind else { return false };
        if v4 {
            kind == Icmpv4Type::DestinationUnreachable as u8
                || kind == Icmpv4Type::Redirect as u8
                || kind == TIME_EXCEEDED
                || kind == Icmpv4Type::ParameterProblem as u8
        } else {
            // ICMPv6 keeps the first bit for informational messages (RFC 4443, section 2.1).
            kind < 128
        }
    }

    /// What stays the same about a packet while one sk_buff carries it, through NAT and tunnels: enough to tell
    /// that the sk_buff's memory was not reused for another packet.
    #[inline(always)]
    pub(crate) fn fingerprint<R: Reader>(&self, reader: &R) -> u64 {
        let later = self.fragment == Fragment::LATER;
        Plain { transport: self.transport, ip_id: self.ip_id, protocol: self.protocol, later }
            .fingerprint(reader)
    }
}

/// As much of a packet as tells one from another, of headers that are where they are expected.
pub(crate) struct Plain {
    /// Offset of the transport header.
    pub(crate) transport: u32,
    ip_id: u32,
    protocol: u8,
    /// Whether it is a later fragment, which has no transport header.
    later: bool,
}

impl Plain {
    /// Reads the headers of the packet that begins at `base`; `None` for IPv6 with extension headers.
    #[inline(always)]
    pub(crate) fn read<R: Reader>(reader: &R, base: u32) -> Option<Self> {
        let ip: Ipv4Hdr = reader.load(base)?;
        if ip.vihl >> 4 == 4 {
            return Some(Self {
                transport: base + u32::from(ip.vihl & 0xf) * 4,
                ip_id: u32::from(u16::from_be_bytes(ip.id)),
                protocol: ip.proto,
                later: u16::from_be_bytes(ip.frags) & 0x1fff != 0,
            });
        }
        // The next header stands in an IPv6 header where the fragment does in one of IPv4.
        let [protocol, _] = ip.frags;
        if ip.vihl >> 4 != 6 || is_extension(protocol) || protocol == IpProto::Ipv6Frag as u8 {
            return None;
        }
        Some(Self { transport: base + size_of::<Ipv6Hdr>() as u32, ip_id: 0, protocol, later: false })
    }

    /// Whether it is a UDP datagram to this port.
    #[inline(always)]
    pub(crate) fn is_udp_to<R: Reader>(&self, port: u16, reader: &R) -> bool {
        if self.protocol != IpProto::Udp as u8 || self.later {
            return false;
        }
        let found: Option<[u8; 2]> = reader.load(self.transport + 2);
        found.is_some_and(|found| u16::from_be_bytes(found) == port)
    }

    /// See [`Header::fingerprint`].
    #[inline(always)]
    pub(crate) fn fingerprint<R: Reader>(&self, reader: &R) -> u64 {
        let word: u32 = if self.later {
            0
        } else if self.protocol == IpProto::Tcp as u8 {
            // Sequence number. Lengths are left out: GRO makes an sk_buff grow.
            reader.load(self.transport + 4).unwrap_or(0)
        } else if self.protocol == IpProto::Icmp as u8 || self.protocol == IpProto::Ipv6Icmp as u8 {
            // Sequence number; the identifier may be translated.
            let sequence: u16 = reader.load(self.transport + 6).unwrap_or(0);
            u32::from(sequence)
        } else {
            0
        };
        (u64::from(word) << 32) | u64::from((self.ip_id & 0xff_ffff) << 8) | u64::from(self.protocol)
    }
}

impl Fragment {
    /// Not fragmented.
    pub(crate) const WHOLE: Self = Self(0);
    /// The first one, with the transport header.
    pub(crate) const FIRST: Self = Self(1);
    /// A later one, without.
    pub(crate) const LATER: Self = Self(2);

    #[inline(always)]
    fn of(offset: bool, more: bool) -> Self {
        match (offset, more) {
            (true, _) => Self::LATER,
            (false, true) => Self::FIRST,
            (false, false) => Self::WHOLE,
        }
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

#[inline(always)]
fn has_ports(protocol: u8) -> bool {
    protocol == IpProto::Tcp as u8 || protocol == IpProto::Udp as u8 || protocol == IpProto::Sctp as u8
}

#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    protocol == IpProto::HopOpt as u8
        || protocol == IpProto::Ipv6Route as u8
        || protocol == IpProto::Ipv6Opts as u8
}
