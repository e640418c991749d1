//! A packet's first bytes, taken apart: addresses, ports, what tells one packet of a flow from another, and the
//! packet inside a tunnel.
//!
//! Every read is bounds-checked: captures are cut short and may hold anything.

#[cfg(test)]
mod tests;

use std::hash::{Hash as _, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustc_hash::FxHasher;

use crate::model::{Protocol, Tuple};

/// IP protocol numbers.
pub(crate) mod number {
    pub(crate) const ICMP: u8 = 1;
    pub(crate) const TCP: u8 = 6;
    pub(crate) const UDP: u8 = 17;
    pub(crate) const ICMPV6: u8 = 58;
    pub(crate) const SCTP: u8 = 132;
}

/// TCP flag bits.
pub(crate) mod tcp {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 2;
    pub(crate) const RST: u8 = 4;
    pub(crate) const PSH: u8 = 8;
    pub(crate) const ACK: u8 = 16;
}

/// Payload bytes kept to tell packets of equal headers apart.
const PREFIX: usize = 16;

/// What is known of one packet, inside any tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: u8,
    /// Identification; 0 for IPv6 without a fragment header.
    pub(crate) id: u32,
    pub(crate) fragment: Option<Fragment>,
    /// Length of the IP packet.
    pub(crate) length: u32,
    /// Bytes after the transport header; after the IP headers where there is no transport header.
    pub(crate) payload: u32,
    pub(crate) transport: Transport,
    prefix: [u8; PREFIX],
    prefix_length: u8,
}

/// A piece of a fragmented packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fragment {
    /// In bytes.
    pub(crate) offset: u32,
    pub(crate) more: bool,
}

/// The header above IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp {
        sport: u16,
        dport: u16,
        seq: u32,
        ack: u32,
        flags: u8,
        /// Digest of the options where they tell pure acknowledgements apart, else 0.
        options: u32,
    },
    Udp {
        sport: u16,
        dport: u16,
    },
    Sctp {
        sport: u16,
        dport: u16,
    },
    Icmp {
        kind: u8,
        code: u8,
        /// The four bytes after the checksum: identifier and sequence number of an echo.
        rest: u32,
        /// Of an error: boxed, because errors are rare and every buffered packet would pay for the room.
        quoted: Option<Box<Quoted>>,
    },
    /// Another protocol, a later fragment, or cut short before it.
    None,
}

/// The beginning of the packet that an ICMP error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quoted {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) id: u32,
    pub(crate) fragment: Option<Fragment>,
    pub(crate) sport: u16,
    pub(crate) dport: u16,
    /// TCP sequence number, or an echo's identifier and sequence number.
    pub(crate) word: u32,
}

/// A tunnel header around a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Encapsulation {
    pub(crate) vni: u32,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) sport: u16,
    pub(crate) dport: u16,
    /// From the outer IP header to the inner one.
    pub(crate) overhead: u32,
}

/// A parsed capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Headers {
    pub(crate) packet: Packet,
    pub(crate) outer: Option<Encapsulation>,
}

/// How a capture is to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    /// Whether it begins with an Ethernet header.
    pub(crate) ethernet: bool,
    /// Length on the device, from where the capture begins; `None` where the hook does not tell.
    pub(crate) length: Option<u32>,
    /// Whether it stands for several segments, so that lengths in headers may not be its own.
    pub(crate) segmented: bool,
    /// UDP destination ports of VXLAN.
    pub(crate) vxlan_ports: &'a [u16],
}

/// Takes a capture apart; `None` if there is no IP packet in it.
pub(crate) fn parse(bytes: &[u8], reading: Reading<'_>) -> Option<Headers> {
    let at = if reading.ethernet { ethernet(bytes, 0)? } else { 0 };
    let ip = Ip::read(bytes, at, &reading)?;
    match vxlan(bytes, &ip, &reading) {
        Some((inner, outer)) => Some(Headers { packet: inner.packet(bytes), outer: Some(outer) }),
        None => Some(Headers { packet: ip.packet(bytes), outer: None }),
    }
}

impl Packet {
    /// Addresses and ports.
    pub(crate) fn tuple(&self) -> Tuple {
        let (sport, dport) = self.ports().unzip();
        Tuple { src: self.src, dst: self.dst, proto: self.proto(), sport, dport }
    }

    /// The protocol as users read it.
    pub(crate) fn proto(&self) -> Protocol {
        Protocol::of_number(self.protocol)
    }

    pub(crate) fn ports(&self) -> Option<(u16, u16)> {
        match self.transport {
            Transport::Tcp { sport, dport, .. }
            | Transport::Udp { sport, dport }
            | Transport::Sctp { sport, dport } => Some((sport, dport)),
            Transport::Icmp { .. } | Transport::None => None,
        }
    }

    /// The same packet between other ends; an echo has its identifier for a port.
    pub(crate) fn between(&self, [from, to]: [(IpAddr, u16); 2]) -> Self {
        let mut packet = Self { src: from.0, dst: to.0, ..self.clone() };
        match &mut packet.transport {
            Transport::Tcp { sport, dport, .. }
            | Transport::Udp { sport, dport }
            | Transport::Sctp { sport, dport } => (*sport, *dport) = (from.1, to.1),
            Transport::Icmp { rest, .. } if self.echo().is_some() => {
                *rest = u32::from(from.1) << 16 | *rest & 0xffff;
            }
            Transport::Icmp { .. } | Transport::None => {}
        }
        packet
    }

    /// Whether it is a request (`Some(true)`) or a reply of an ICMP echo.
    pub(crate) fn echo(&self) -> Option<bool> {
        match (self.protocol, &self.transport) {
            (number::ICMP, Transport::Icmp { kind: 8, .. })
            | (number::ICMPV6, Transport::Icmp { kind: 128, .. }) => Some(true),
            (number::ICMP, Transport::Icmp { kind: 0, .. })
            | (number::ICMPV6, Transport::Icmp { kind: 129, .. }) => Some(false),
            _ => None,
        }
    }

    /// The packet that this ICMP error is about.
    pub(crate) fn quoted(&self) -> Option<&Quoted> {
        match &self.transport {
            Transport::Icmp { quoted, .. } => quoted.as_deref(),
            _ => None,
        }
    }

    /// First sequence number and number of the stream bytes it carries; `None` if it carries none.
    pub(crate) fn stream(&self) -> Option<(u32, u32)> {
        match self.transport {
            Transport::Tcp { seq, flags, .. } if self.payload > 0 && self.fragment.is_none() => {
                Some((seq.wrapping_add(u32::from(flags & tcp::SYN != 0)), self.payload))
            }
            _ => None,
        }
    }

    /// Whether both are the same packet of their flow at different places, all of it: equal in what forwarding and
    /// translation leave alone.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        // Captures are cut at different depths, so only what both have can be compared.
        let common = usize::from(self.prefix_length.min(other.prefix_length));
        (self.protocol, self.id, self.fragment, self.payload)
            == (other.protocol, other.id, other.fragment, other.payload)
            && self.lasting() == other.lasting()
            && self.prefix[..common] == other.prefix[..common]
    }

    /// Equal for packets that are [`Self::same_as`] one another on the same way of the same flow.
    pub(crate) fn content_hash(&self, flow: usize, forward: bool) -> u64 {
        let mut hasher = FxHasher::default();
        (flow, forward, self.id, self.fragment, self.payload, self.lasting()).hash(&mut hasher);
        hasher.finish()
    }

    /// What translation leaves alone of the transport header.
    fn lasting(&self) -> [u32; 4] {
        match &self.transport {
            Transport::Tcp { seq, ack, flags, options, .. } => [*seq, *ack, u32::from(*flags), *options],
            Transport::Icmp { kind, code, rest, quoted } => {
                let kind = u32::from(*kind) << 8 | u32::from(*code);
                match quoted {
                    // An identifier may be translated, what else is quoted not.
                    Some(quoted) => [kind, quoted.id, 0, 0],
                    None if self.echo().is_some() => [kind, rest & 0xffff, 0, 0],
                    None => [kind, *rest, 0, 0],
                }
            }
            Transport::Udp { .. } | Transport::Sctp { .. } | Transport::None => [0; 4],
        }
    }
}

/// An IP header and where its payload is.
struct Ip {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    id: u32,
    fragment: Option<Fragment>,
    /// Offset of the header.
    at: usize,
    /// Offset of what follows the headers.
    body: usize,
    /// Of header and payload, as sent.
    length: u32,
}

impl Ip {
    fn read(bytes: &[u8], at: usize, reading: &Reading<'_>) -> Option<Self> {
        let mut ip = match byte(bytes, at)? >> 4 {
            4 => Self::v4(bytes, at),
            6 => Self::v6(bytes, at),
            _ => None,
        }?;
        // Beyond 64 KiB the header's length is 0, and segments' headers need not tell the whole.
        if let Some(length) = reading.length
            && (reading.segmented || ip.length == 0)
        {
            ip.length = length.saturating_sub(u32::try_from(at).ok()?);
        }
        Some(ip)
    }

    fn v4(bytes: &[u8], at: usize) -> Option<Self> {
        let header: &[u8; 20] = bytes.get(at..)?.first_chunk()?;
        let header_length = usize::from(header[0] & 0xf) * 4;
        if header_length < 20 {
            return None;
        }
        let field = u16::from_be_bytes([header[6], header[7]]);
        let fragment = Fragment { offset: u32::from(field & 0x1fff) * 8, more: field & 0x2000 != 0 };
        Some(Self {
            src: v4_address(header[12..16].first_chunk()?),
            dst: v4_address(header[16..20].first_chunk()?),
            protocol: header[9],
            id: u32::from(u16::from_be_bytes([header[4], header[5]])),
            fragment: (fragment.offset > 0 || fragment.more).then_some(fragment),
            at,
            body: at + header_length,
            length: u32::from(u16::from_be_bytes([header[2], header[3]])),
        })
    }

    fn v6(bytes: &[u8], at: usize) -> Option<Self> {
        let header: &[u8; 40] = bytes.get(at..)?.first_chunk()?;
        let payload = u32::from(u16::from_be_bytes([header[4], header[5]]));
        let mut ip = Self {
            src: Ipv6Addr::from(*header[8..24].first_chunk::<16>()?).into(),
            dst: Ipv6Addr::from(*header[24..40].first_chunk::<16>()?).into(),
            protocol: header[6],
            id: 0,
            fragment: None,
            at,
            body: at + 40,
            length: if payload == 0 { 0 } else { payload + 40 },
        };
        // Each extension header is at least 8 bytes, so the capture bounds the loop.
        while let Some(extension) = bytes.get(ip.body..).and_then(<[u8]>::first_chunk::<8>) {
            let length = match ip.protocol {
                0 | 43 | 60 | 135 => (usize::from(extension[1]) + 1) * 8,
                51 => (usize::from(extension[1]) + 2) * 4,
                44 => {
                    let field = u16::from_be_bytes([extension[2], extension[3]]);
                    let fragment = Fragment { offset: u32::from(field & !7), more: field & 1 != 0 };
                    ip.id = u32::from_be_bytes([extension[4], extension[5], extension[6], extension[7]]);
                    ip.fragment = (fragment.offset > 0 || fragment.more).then_some(fragment);
                    8
                }
                _ => break,
            };
            ip.protocol = extension[0];
            ip.body += length;
            if ip.fragment.is_some_and(|fragment| fragment.offset > 0) {
                break;
            }
        }
        Some(ip)
    }

    /// Whether a transport header follows.
    fn has_transport(&self) -> bool {
        self.fragment.is_none_or(|fragment| fragment.offset == 0)
    }

    fn packet(self, bytes: &[u8]) -> Packet {
        let (transport, header) =
            if self.has_transport() { transport(bytes, &self) } else { (Transport::None, 0) };
        let begin = self.body + header;
        let payload =
            self.length.saturating_sub(u32::try_from(begin.saturating_sub(self.at)).unwrap_or(u32::MAX));
        let mut prefix = [0; PREFIX];
        // Not past the packet: Ethernet pads short frames, and only on some devices.
        let kept = bytes.get(begin..).unwrap_or_default();
        let kept = &kept[..kept.len().min(PREFIX).min(usize::try_from(payload).unwrap_or(PREFIX))];
        prefix[..kept.len()].copy_from_slice(kept);
        Packet {
            src: self.src,
            dst: self.dst,
            protocol: self.protocol,
            id: self.id,
            fragment: self.fragment,
            length: self.length,
            payload,
            transport,
            prefix,
            prefix_length: u8::try_from(kept.len()).unwrap_or(0),
        }
    }
}

/// The transport header and its length; no header if it is cut short.
fn transport(bytes: &[u8], ip: &Ip) -> (Transport, usize) {
    let body = bytes.get(ip.body..).unwrap_or_default();
    let read = match ip.protocol {
        number::TCP => tcp_header(body),
        number::UDP => body.first_chunk::<8>().map(|header| {
            let [sport, dport] = ports(header);
            (Transport::Udp { sport, dport }, 8)
        }),
        number::SCTP => body.first_chunk::<12>().map(|header| {
            let [sport, dport] = ports(&[
                header[0], header[1], header[2], header[3], header[4], header[5], header[6], header[7],
            ]);
            (Transport::Sctp { sport, dport }, 12)
        }),
        number::ICMP | number::ICMPV6 => body.first_chunk::<8>().map(|header| {
            let [kind, code, ..] = *header;
            let error = match ip.protocol {
                number::ICMP => matches!(kind, 3 | 4 | 5 | 11 | 12),
                _ => matches!(kind, 1..=4),
            };
            let rest = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            let quoted = if error { quoted(bytes, ip.body + 8).map(Box::new) } else { None };
            (Transport::Icmp { kind, code, rest, quoted }, 8)
        }),
        _ => None,
    };
    read.unwrap_or((Transport::None, 0))
}

fn tcp_header(body: &[u8]) -> Option<(Transport, usize)> {
    let header: &[u8; 20] = body.first_chunk()?;
    let [sport, dport] = ports(header.first_chunk()?);
    let length = usize::from(header[12] >> 4) * 4;
    if length < 20 {
        return None;
    }
    let flags = header[13];
    // Selective acknowledgements and timestamps tell IPv6's pure acknowledgements apart. Those of a SYN may be
    // changed on the way (maximum segment size), and data has its sequence numbers.
    let options = match body.get(20..length) {
        Some(options) if flags & tcp::SYN == 0 => {
            let mut hasher = FxHasher::default();
            hasher.write(options);
            (hasher.finish() >> 32) as u32
        }
        _ => 0,
    };
    let seq = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    let ack = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    Some((Transport::Tcp { sport, dport, seq, ack, flags, options }, length))
}

/// The packet quoted at `at`, of which an error need not hold more than 8 bytes above IP.
fn quoted(bytes: &[u8], at: usize) -> Option<Quoted> {
    let ip = match byte(bytes, at)? >> 4 {
        4 => Ip::v4(bytes, at),
        6 => Ip::v6(bytes, at),
        _ => None,
    }?;
    let body = bytes.get(ip.body..).unwrap_or_default().first_chunk::<8>().filter(|_| ip.has_transport());
    let (mut sport, mut dport, mut word) = (0, 0, 0);
    if let Some(body) = body {
        if matches!(ip.protocol, number::TCP | number::UDP | number::SCTP) {
            [sport, dport] = ports(body);
        }
        if matches!(ip.protocol, number::TCP | number::ICMP | number::ICMPV6) {
            word = u32::from_be_bytes([body[4], body[5], body[6], body[7]]);
        }
    }
    let Ip { src, dst, protocol, id, fragment, .. } = ip;
    Some(Quoted { src, dst, protocol, id, fragment, sport, dport, word })
}

/// The packet inside a VXLAN packet.
fn vxlan(bytes: &[u8], ip: &Ip, reading: &Reading<'_>) -> Option<(Ip, Encapsulation)> {
    if ip.protocol != number::UDP || ip.fragment.is_some() {
        return None;
    }
    let header: &[u8; 16] = bytes.get(ip.body..)?.first_chunk()?;
    let [sport, dport] = ports(header.first_chunk()?);
    // The flag says that there is a network identifier; without it this is no VXLAN.
    if !reading.vxlan_ports.contains(&dport) || header[8] & 0x08 == 0 {
        return None;
    }
    let vni = u32::from_be_bytes([0, header[12], header[13], header[14]]);
    let inner = Ip::read(bytes, ethernet(bytes, ip.body + 16)?, reading)?;
    let overhead = u32::try_from(inner.at - ip.at).ok()?;
    let outer = Encapsulation { vni, src: ip.src, dst: ip.dst, sport, dport, overhead };
    Some((inner, outer))
}

/// Offset of the IP header behind the Ethernet header at `at`, VLAN tags skipped.
fn ethernet(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 12;
    loop {
        let kind: &[u8; 2] = bytes.get(at..)?.first_chunk()?;
        match u16::from_be_bytes(*kind) {
            0x8100 | 0x88a8 | 0x9100 => at += 4,
            0x0800 | 0x86dd => return Some(at + 2),
            _ => return None,
        }
    }
}

fn byte(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

fn ports(header: &[u8; 8]) -> [u16; 2] {
    [u16::from_be_bytes([header[0], header[1]]), u16::from_be_bytes([header[2], header[3]])]
}

fn v4_address(bytes: &[u8; 4]) -> IpAddr {
    Ipv4Addr::from(*bytes).into()
}
