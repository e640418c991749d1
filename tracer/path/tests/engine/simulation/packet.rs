//! Packets: as their sender made them, as translation leaves them, as bytes, and what kernel programs remember of them.

use std::net::IpAddr;

use etherparse::PacketBuilder;

use crate::testkit::framed;

/// A packet inside any tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    /// Identification; 0 over IPv6.
    pub(super) id: u16,
    pub(super) kind: Kind,
    pub(super) payload: Vec<u8>,
    /// The piece of the packet's body that this is: first byte, end, whether more follow.
    pub(super) piece: Option<(usize, usize, bool)>,
    /// Segments that GSO will make of it, or that GRO has put together.
    pub(super) segments: u16,
}

/// The header above IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Echo {
        reply: bool,
        ident: u16,
        seq: u16,
    },
    Udp {
        sport: u16,
        dport: u16,
    },
    Tcp {
        sport: u16,
        dport: u16,
        seq: u32,
        ack: u32,
        flags: &'static str,
    },
    /// Port unreachable; the payload is what it quotes.
    Unreachable,
}

/// Payload bytes of a segment.
pub(super) const SEGMENT: usize = 60;

/// What the kernel programs remember of a packet, so that they notice another one in the same memory: headers and
/// the payload's beginning; 0 for a beginning that was not captured, or is too short. See `fingerprint` of the eBPF programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    headers: (u16, u8, u64),
    content: u64,
}

impl Fingerprint {
    pub(super) fn fits(self, other: Self) -> bool {
        self.headers == other.headers
            && (self.content == other.content || self.content == 0 || other.content == 0)
    }
}

impl Packet {
    pub(super) fn new(src: IpAddr, dst: IpAddr, id: u16, kind: Kind, payload: Vec<u8>) -> Self {
        let id = if src.is_ipv4() { id } else { 0 };
        Self { src, dst, id, kind, payload, piece: None, segments: 1 }
    }

    pub(super) fn protocol(&self) -> u8 {
        match self.kind {
            Kind::Echo { .. } | Kind::Unreachable if self.src.is_ipv4() => 1,
            Kind::Echo { .. } | Kind::Unreachable => 58,
            Kind::Udp { .. } => 17,
            Kind::Tcp { .. } => 6,
        }
    }

    /// Source and destination port; an echo has its identifier and its type for them, as connection tracking says it.
    pub(super) fn ports(&self) -> (u16, u16) {
        match self.kind {
            Kind::Udp { sport, dport } | Kind::Tcp { sport, dport, .. } => (sport, dport),
            Kind::Echo { ident, .. } => (ident, 0x0800),
            Kind::Unreachable => (0, 0),
        }
    }

    /// The same with other ports.
    pub(super) fn with_ports(mut self, ports: (u16, u16)) -> Self {
        if let Kind::Udp { sport, dport } | Kind::Tcp { sport, dport, .. } = &mut self.kind {
            (*sport, *dport) = ports;
        }
        self
    }

    /// Whether two packets have the same addresses and content: nothing in them tells which is which.
    pub(super) fn looks_like(&self, other: &Self) -> bool {
        self == other
    }

    /// From the IP header on.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                self.composed(PacketBuilder::ipv4(src.octets(), dst.octets(), 64))
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                self.composed(PacketBuilder::ipv6(src.octets(), dst.octets(), 64))
            }
            _ => unreachable!("a packet of two families"),
        };
        if self.src.is_ipv4() {
            bytes[4..6].copy_from_slice(&self.id.to_be_bytes());
        }
        let Some((from, to, more)) = self.piece else { return bytes };
        let mut piece = bytes[..20].to_vec();
        piece.extend_from_slice(&bytes[20 + from..20 + to]);
        let length = piece.len() as u16;
        piece[2..4].copy_from_slice(&length.to_be_bytes());
        let field = (from as u16 / 8) | if more { 0x2000 } else { 0 };
        piece[6..8].copy_from_slice(&field.to_be_bytes());
        piece
    }

    fn composed(&self, ip: etherparse::PacketBuilderStep<etherparse::IpHeaders>) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = match self.kind {
            Kind::Echo { reply, ident, seq } => match (self.src.is_ipv4(), reply) {
                (true, false) => ip.icmpv4_echo_request(ident, seq).write(&mut bytes, &self.payload),
                (true, true) => ip.icmpv4_echo_reply(ident, seq).write(&mut bytes, &self.payload),
                (false, false) => ip.icmpv6_echo_request(ident, seq).write(&mut bytes, &self.payload),
                (false, true) => ip.icmpv6_echo_reply(ident, seq).write(&mut bytes, &self.payload),
            },
            Kind::Unreachable if self.src.is_ipv4() => {
                let port = etherparse::icmpv4::DestUnreachableHeader::Port;
                ip.icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(port))
                    .write(&mut bytes, &self.payload)
            }
            Kind::Unreachable => {
                let port = etherparse::icmpv6::DestUnreachableCode::Port;
                ip.icmpv6(etherparse::Icmpv6Type::DestinationUnreachable(port))
                    .write(&mut bytes, &self.payload)
            }
            Kind::Udp { sport, dport } => ip.udp(sport, dport).write(&mut bytes, &self.payload),
            Kind::Tcp { sport, dport, seq, ack, flags } => {
                let mut tcp = ip.tcp(sport, dport, seq, 1000);
                for flag in flags.chars() {
                    tcp = match flag {
                        'S' => tcp.syn(),
                        'P' => tcp.psh(),
                        'F' => tcp.fin(),
                        'R' => tcp.rst(),
                        _ => tcp.ack(ack),
                    };
                }
                tcp.write(&mut bytes, &self.payload)
            }
        };
        written.unwrap();
        bytes
    }

    /// As a tunnel between two nodes carries it, from the outer IP header on.
    pub(super) fn in_tunnel(&self, from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
        let mut payload = vec![8, 0, 0, 0, 0, 0, 1, 0];
        payload.extend_from_slice(&framed(&self.bytes()));
        let mut bytes = Vec::new();
        PacketBuilder::ipv4(from, to, 64).udp(51_234, 8472).write(&mut bytes, &payload).unwrap();
        bytes
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        let start = |from: usize| {
            let bytes = self.payload.get(from..from + 8).map(|bytes| bytes.try_into().unwrap());
            bytes.map_or(0, u64::from_be_bytes)
        };
        let (transport, content) = match self.kind {
            _ if self.piece.is_some_and(|(from, ..)| from > 0) => {
                let (from, ..) = self.piece.unwrap_or_default();
                (0, start(from - 8))
            }
            Kind::Echo { reply, seq, .. } => (u64::from(reply) << 16 | u64::from(seq), start(0)),
            Kind::Unreachable => (3 << 32, start(0)),
            Kind::Udp { .. } => (self.payload.len() as u64 + 8, start(0)),
            Kind::Tcp { seq, ack, .. } => (u64::from(seq) << 32 | u64::from(ack), start(4)),
        };
        Fingerprint { headers: (self.id, self.protocol(), transport), content }
    }

    /// The segments that GSO makes of it.
    pub(super) fn split(&self) -> Vec<Self> {
        let Kind::Tcp { sport, dport, seq, ack, flags } = self.kind else { return vec![self.clone()] };
        if self.segments == 1 {
            return vec![self.clone()];
        }
        let chunks = self.payload.chunks(SEGMENT).enumerate();
        let segment = |(number, payload): (usize, &[u8])| Self {
            id: if self.src.is_ipv4() { self.id.wrapping_add(number as u16) } else { 0 },
            kind: Kind::Tcp { sport, dport, seq: seq.wrapping_add((number * SEGMENT) as u32), ack, flags },
            payload: payload.to_vec(),
            segments: 1,
            ..self.clone()
        };
        chunks.map(segment).collect()
    }

    /// Puts the next segment of the stream behind it, as GRO does. Returns whether it fitted.
    pub(super) fn merge(&mut self, next: &Self) -> bool {
        let (Kind::Tcp { seq, ack, .. }, Kind::Tcp { seq: next_seq, ack: next_ack, .. }) =
            (&self.kind, &next.kind)
        else {
            return false;
        };
        // GRO puts segments together up to one that is shorter than the others, and those of one connection only.
        let is_full = self.payload.len() == SEGMENT * usize::from(self.segments);
        let ends = |packet: &Self| (packet.src, packet.dst, packet.ports());
        let fits = is_full
            && !next.payload.is_empty()
            && ends(self) == ends(next)
            && ack == next_ack
            && seq.wrapping_add(self.payload.len() as u32) == *next_seq;
        if fits {
            self.payload.extend_from_slice(&next.payload);
            self.segments += next.segments;
        }
        fits
    }
}
