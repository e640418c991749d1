//! What is kept of a packet: addresses, ports, what tells one packet of a flow from another, and the tunnel around it.

use std::hash::Hasher as _;
use std::net::IpAddr;

use rustc_hash::FxHasher;
use tracer_common::wire::{icmp, icmpv6, protocol, tcp_flag};

use super::{Fragment, IcmpView, Ip, SctpView, TcpView, UdpView};

/// Payload bytes kept to tell packets of equal headers apart.
const PREFIX: usize = 16;

/// What is known of one packet, inside any tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Identification; 0 for IPv6 without a fragment header.
    pub id: u32,
    /// Which piece of a fragmented packet it is; `None` for a whole one.
    pub fragment: Option<Fragment>,
    /// Length of the IP packet.
    pub length: u32,
    /// Bytes after the transport header; after the IP headers where there is no transport header.
    pub payload: u32,
    /// The header above IP.
    pub transport: Transport,
    prefix: [u8; PREFIX],
    prefix_length: u8,
}

/// The header above IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment.
    Tcp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
        /// Sequence number.
        seq: u32,
        /// Acknowledgment number.
        ack: u32,
        /// Bits of [`tcp_flag`].
        flags: u8,
        /// Digest of the options where they tell pure acknowledgments apart, else 0.
        options: u32,
    },
    /// A UDP datagram.
    Udp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// An SCTP packet.
    Sctp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// An ICMP or ICMPv6 message.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
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
pub struct Quoted {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// Identification; 0 for IPv6 without a fragment header.
    pub id: u32,
    /// Which piece of a fragmented packet it is; `None` for a whole one.
    pub fragment: Option<Fragment>,
    /// Source port; 0 where there is none.
    pub sport: u16,
    /// Destination port; 0 where there is none.
    pub dport: u16,
    /// TCP sequence number, or an echo's identifier and sequence number.
    pub word: u32,
}

/// A tunnel header around a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encapsulation {
    /// VXLAN network identifier.
    pub vni: u32,
    /// Source address of the outer packet.
    pub src: IpAddr,
    /// Destination address of the outer packet.
    pub dst: IpAddr,
    /// Source port of the outer packet.
    pub sport: u16,
    /// Destination port of the outer packet.
    pub dport: u16,
    /// Bytes from the outer IP header to the inner one.
    pub overhead: u32,
}

/// A parsed capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// The innermost packet.
    pub packet: Packet,
    /// The tunnel header around it.
    pub outer: Option<Encapsulation>,
}

/// How a capture is read.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Whether it begins with an Ethernet header.
    pub ethernet: bool,
    /// Length on the device in bytes, from where the capture begins; `None` where the hook does not know it.
    pub length: Option<u32>,
    /// Whether it stands for several segments, so that lengths in headers may not be its own.
    pub segmented: bool,
    /// UDP destination ports of VXLAN.
    pub vxlan_ports: &'a [u16],
}

/// Takes a capture apart; `None` if there is no IP packet in it.
///
/// # Examples
///
/// ```
/// use podtrace_protocol::wire::{Reading, parse};
///
/// // IPv4 from 10.42.0.10 to 10.42.1.10, then UDP from port 40000 to 53.
/// let bytes = [
///     0x45, 0, 0, 28, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 42, 0, 10, 10, 42, 1, 10, //
///     0x9c, 0x40, 0, 53, 0, 8, 0, 0,
/// ];
/// let reading = Reading { ethernet: false, length: None, segmented: false, vxlan_ports: &[4789, 8472] };
/// let headers = parse(&bytes, reading).expect("an IP packet");
/// assert_eq!(headers.packet.ports(), Some((40_000, 53)));
/// assert_eq!(headers.outer, None);
/// assert_eq!(parse(&bytes[..19], reading), None);
/// ```
#[must_use]
pub fn parse(bytes: &[u8], reading: Reading<'_>) -> Option<Headers> {
    let ip = if reading.ethernet { Ip::in_frame(bytes) } else { Ip::new(bytes) }?;
    let begin = |ip: &Ip<'_>| bytes.len().saturating_sub(ip.bytes.len());
    if let Some((udp, vxlan)) = ip.vxlan(reading.vxlan_ports)
        && let Some(inner) = Ip::in_frame(vxlan.frame())
    {
        let overhead = begin(&inner).saturating_sub(begin(&ip));
        let outer = Encapsulation {
            vni: vxlan.vni(),
            src: ip.src,
            dst: ip.dst,
            sport: udp.source_port(),
            dport: udp.destination_port(),
            overhead: u32::try_from(overhead).ok()?,
        };
        let length = reading.length_of(&inner, begin(&inner))?;
        return Some(Headers { packet: Packet::new(&inner, length), outer: Some(outer) });
    }
    let length = reading.length_of(&ip, begin(&ip))?;
    Some(Headers { packet: Packet::new(&ip, length), outer: None })
}

impl Reading<'_> {
    /// Length of a packet that begins at byte `begin` of the capture.
    fn length_of(&self, ip: &Ip<'_>, begin: usize) -> Option<u32> {
        // Beyond 64 KiB the header's length is 0, and segments' headers may give that of one segment.
        match self.length {
            Some(length) if self.segmented || ip.length == 0 => {
                Some(length.saturating_sub(u32::try_from(begin).ok()?))
            }
            _ => Some(ip.length),
        }
    }
}

/// What forwarding and translation leave alone of a packet's headers: equal for one packet at different places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Content {
    protocol: u8,
    id: u32,
    fragment: Option<Fragment>,
    payload: u32,
    transport: [u32; 4],
}

impl Packet {
    fn new(ip: &Ip<'_>, length: u32) -> Self {
        let (transport, header) = if ip.has_transport() { transport(ip) } else { (Transport::None, 0) };
        let headers = u32::try_from(ip.header.saturating_add(header)).unwrap_or(u32::MAX);
        let payload = length.saturating_sub(headers);
        let mut prefix = [0; PREFIX];
        // Not past the packet: Ethernet pads short frames, and only on some devices.
        let kept = ip.body().get(header..).unwrap_or_default();
        let kept = &kept[..kept.len().min(PREFIX).min(usize::try_from(payload).unwrap_or(PREFIX))];
        prefix[..kept.len()].copy_from_slice(kept);
        let Ip { src, dst, protocol, id, fragment, length: _, header: _, bytes: _ } = *ip;
        let prefix_length = u8::try_from(kept.len()).unwrap_or(0);
        Self { src, dst, protocol, id, fragment, length, payload, transport, prefix, prefix_length }
    }

    /// Source and destination port.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.transport {
            Transport::Tcp { sport, dport, .. }
            | Transport::Udp { sport, dport }
            | Transport::Sctp { sport, dport } => Some((sport, dport)),
            Transport::Icmp { .. } | Transport::None => None,
        }
    }

    /// The same packet between other ends; an echo has its identifier for a port.
    #[must_use]
    pub fn between(&self, [from, to]: [(IpAddr, u16); 2]) -> Self {
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
    #[must_use]
    pub fn echo(&self) -> Option<bool> {
        let Transport::Icmp { kind, .. } = self.transport else { return None };
        match (self.protocol, kind) {
            (protocol::ICMP, icmp::ECHO_REQUEST) | (protocol::ICMPV6, icmpv6::ECHO_REQUEST) => Some(true),
            (protocol::ICMP, icmp::ECHO_REPLY) | (protocol::ICMPV6, icmpv6::ECHO_REPLY) => Some(false),
            _ => None,
        }
    }

    /// Whether something in its headers tells it from packets that carry the same: an identification, which IPv6 and some of
    /// IPv4's packets do not have, an echo's sequence number, or the timestamps of an acknowledgment.
    #[must_use]
    pub fn is_numbered(&self) -> bool {
        let by_options = matches!(self.transport, Transport::Tcp { options, .. } if options != 0);
        self.id != 0 || self.echo().is_some() || (by_options && self.payload == 0)
    }

    /// The packet that this ICMP error is about.
    #[must_use]
    pub fn quoted(&self) -> Option<&Quoted> {
        match &self.transport {
            Transport::Icmp { quoted, .. } => quoted.as_deref(),
            _ => None,
        }
    }

    /// First sequence number and number of the stream bytes it carries; `None` if it carries none.
    #[must_use]
    pub fn stream(&self) -> Option<(u32, u32)> {
        match self.transport {
            Transport::Tcp { seq, flags, .. } if self.payload > 0 && self.fragment.is_none() => {
                Some((seq.wrapping_add(u32::from(flags & tcp_flag::SYN != 0)), self.payload))
            }
            _ => None,
        }
    }

    /// Whether both are the same packet of their flow at different places, all of it: equal in what forwarding and
    /// translation leave alone.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        // Captures are cut at different depths, so only what both have can be compared.
        let common = usize::from(self.prefix_length.min(other.prefix_length));
        self.content() == other.content() && self.prefix[..common] == other.prefix[..common]
    }

    /// The payload's first bytes, at most 16; `None` if the capture ends before them.
    #[must_use]
    pub fn payload_start(&self) -> Option<&[u8]> {
        let start = &self.prefix[..usize::from(self.prefix_length)];
        let expected = usize::try_from(self.payload).map_or(PREFIX, |payload| payload.min(PREFIX));
        (start.len() == expected).then_some(start)
    }

    /// What forwarding and translation leave alone; equal for packets that are [`Self::same_as`] one another.
    #[must_use]
    pub fn content(&self) -> Content {
        let transport = match &self.transport {
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
        };
        let Self { protocol, id, fragment, payload, .. } = *self;
        Content { protocol, id, fragment, payload, transport }
    }
}

/// The transport header and its length; no header if it is cut short.
fn transport(ip: &Ip<'_>) -> (Transport, usize) {
    let read = match ip.protocol {
        protocol::TCP => TcpView::new(ip.body()).map(|tcp| (of_tcp(&tcp), tcp.header_length())),
        protocol::UDP => UdpView::new(ip.body()).map(|udp| {
            let (sport, dport) = (udp.source_port(), udp.destination_port());
            (Transport::Udp { sport, dport }, UdpView::HEADER)
        }),
        protocol::SCTP => SctpView::new(ip.body()).map(|sctp| {
            let (sport, dport) = (sctp.source_port(), sctp.destination_port());
            (Transport::Sctp { sport, dport }, SctpView::HEADER)
        }),
        protocol::ICMP | protocol::ICMPV6 => IcmpView::new(ip.protocol, ip.body()).map(|icmp| {
            let quoted = icmp.quoted().and_then(Ip::new).map(|ip| Box::new(Quoted::new(&ip)));
            let (kind, code, rest) = (icmp.kind(), icmp.code(), icmp.rest());
            (Transport::Icmp { kind, code, rest, quoted }, IcmpView::HEADER)
        }),
        _ => None,
    };
    read.unwrap_or((Transport::None, 0))
}

fn of_tcp(tcp: &TcpView<'_>) -> Transport {
    // Selective acknowledgments and timestamps tell IPv6's pure acknowledgments apart. Those of a SYN may be changed on
    // the way (maximum segment size), and data has its sequence numbers.
    let options = match tcp.options() {
        Some(options) if tcp.flags() & tcp_flag::SYN == 0 => {
            let mut hasher = FxHasher::default();
            hasher.write(options);
            (hasher.finish() >> 32) as u32
        }
        _ => 0,
    };
    Transport::Tcp {
        sport: tcp.source_port(),
        dport: tcp.destination_port(),
        seq: tcp.sequence(),
        ack: tcp.acknowledgment(),
        flags: tcp.flags(),
        options,
    }
}

impl Quoted {
    /// An error need not quote more than 8 bytes above IP (RFC 792).
    fn new(ip: &Ip<'_>) -> Self {
        let (sport, dport) = ip.ports().unwrap_or((0, 0));
        let has_word = matches!(ip.protocol, protocol::TCP | protocol::ICMP | protocol::ICMPV6);
        let word = match ip.body().first_chunk() {
            Some([_, _, _, _, a, b, c, d]) if has_word && ip.has_transport() => {
                u32::from_be_bytes([*a, *b, *c, *d])
            }
            _ => 0,
        };
        let Ip { src, dst, protocol, id, fragment, .. } = *ip;
        Self { src, dst, protocol, id, fragment, sport, dport, word }
    }
}
