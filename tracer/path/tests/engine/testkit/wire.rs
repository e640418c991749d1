//! Packets, composed.

use etherparse::PacketBuilder;

use super::{NODE1, POD1, POD3};

/// A packet as bytes from the IP header on, and how many segments it stands for.
#[derive(Clone, Debug)]
pub(in super::super) struct Wire {
    pub(in super::super) bytes: Vec<u8>,
    pub(in super::super) length: usize,
    pub(in super::super) segments: u16,
    pub(in super::super) size: u32,
}

impl Wire {
    /// The same from the other port to this one: an answer.
    pub(in super::super) fn back(mut self) -> Self {
        for at in 20..22 {
            self.bytes.swap(at, at + 2);
        }
        self
    }
}

fn wire(bytes: Vec<u8>) -> Wire {
    Wire { length: bytes.len(), bytes, segments: 1, size: 0 }
}

fn with_id(mut bytes: Vec<u8>, id: u16) -> Vec<u8> {
    bytes[4..6].copy_from_slice(&id.to_be_bytes());
    bytes
}

pub(in super::super) fn echo(src: [u8; 4], dst: [u8; 4], seq: u16, ip_id: u16) -> Wire {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(src, dst, 64)
        .icmpv4_echo_request(7, seq)
        .write(&mut bytes, &[seq as u8; 56])
        .unwrap();
    wire(with_id(bytes, ip_id))
}

pub(in super::super) fn echo_reply(src: [u8; 4], dst: [u8; 4], seq: u16, ip_id: u16) -> Wire {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(src, dst, 64).icmpv4_echo_reply(7, seq).write(&mut bytes, &[seq as u8; 56]).unwrap();
    wire(with_id(bytes, ip_id))
}

pub(in super::super) fn udp(src: [u8; 4], dst: [u8; 4], ip_id: u16, payload: &[u8]) -> Wire {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(src, dst, 64).udp(4000, 5000).write(&mut bytes, payload).unwrap();
    wire(with_id(bytes, ip_id))
}

/// An ICMP port unreachable that quotes `about`.
pub(in super::super) fn port_unreachable(src: [u8; 4], dst: [u8; 4], about: &Wire) -> Wire {
    let mut bytes = Vec::new();
    let header =
        etherparse::Icmpv4Type::DestinationUnreachable(etherparse::icmpv4::DestUnreachableHeader::Port);
    let quoted = &about.bytes[..about.bytes.len().min(28 + 20)];
    PacketBuilder::ipv4(src, dst, 64).icmpv4(header).write(&mut bytes, quoted).unwrap();
    wire(bytes)
}

/// A TCP segment from pod1's port 40000 or to it.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Tcp {
    pub(in super::super) src: [u8; 4],
    pub(in super::super) dst: [u8; 4],
    pub(in super::super) seq: u32,
    pub(in super::super) ack: u32,
    pub(in super::super) flags: &'static str,
    pub(in super::super) payload: usize,
    pub(in super::super) id: u16,
    pub(in super::super) segments: u16,
}

impl Tcp {
    pub(in super::super) fn data(seq: u32, payload: usize, id: u16) -> Self {
        Self { src: POD1, dst: POD3, seq, ack: 1, flags: "PA", payload, id, segments: 1 }
    }

    pub(in super::super) fn in_segments(self, segments: u16) -> Self {
        Self { segments, ..self }
    }

    pub(in super::super) fn wire(self) -> Wire {
        let (sport, dport) = if self.src == POD1 { (40_000, 80) } else { (80, 40_000) };
        let mut builder = PacketBuilder::ipv4(self.src, self.dst, 64).tcp(sport, dport, self.seq, 1000);
        for flag in self.flags.chars() {
            builder = match flag {
                'S' => builder.syn(),
                'A' => builder.ack(self.ack),
                'P' => builder.psh(),
                'F' => builder.fin(),
                'R' => builder.rst(),
                _ => unreachable!("unknown flag {flag}"),
            };
        }
        // A byte follows from its place in the stream, as in any real one.
        let payload: Vec<u8> = (0..self.payload).map(|at| (self.seq as usize + at) as u8).collect();
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &payload).unwrap();
        let size =
            if self.segments > 1 { self.payload.div_ceil(usize::from(self.segments)) as u32 } else { 0 };
        Wire { length: bytes.len(), bytes: with_id(bytes, self.id), segments: self.segments, size }
    }
}

/// A UDP datagram of 2,000 bytes as two fragments.
pub(in super::super) fn fragments(src: [u8; 4], dst: [u8; 4], id: u16) -> [Wire; 2] {
    let whole = udp(src, dst, id, &[5; 2000]).bytes;
    [(0, 1480, true), (1480, 2008, false)].map(|(from, to, more)| {
        let mut bytes = whole[..20].to_vec();
        bytes.extend_from_slice(&whole[20 + from..20 + to]);
        let length = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let field = (from as u16 / 8) | if more { 0x2000 } else { 0 };
        bytes[6..8].copy_from_slice(&field.to_be_bytes());
        wire(bytes)
    })
}

pub(in super::super) fn framed(ip: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2; 12];
    bytes.extend_from_slice(&[8, 0]);
    bytes.extend_from_slice(ip);
    bytes
}

/// A packet in a tunnel packet between these addresses.
pub(in super::super) fn in_tunnel_of(src: [u8; 4], dst: [u8; 4], inner: &Wire) -> Wire {
    wire(encapsulated(src, dst, &inner.bytes))
}

pub(super) fn in_vxlan(node: usize, ip: &[u8], inbound: bool) -> Vec<u8> {
    let (src, dst) = if (node == NODE1) == inbound { (12, 11) } else { (11, 12) };
    encapsulated([192, 168, 56, src], [192, 168, 56, dst], ip)
}

fn encapsulated(src: [u8; 4], dst: [u8; 4], ip: &[u8]) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0, 0, 0, 1, 0];
    payload.extend_from_slice(&framed(ip));
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(src, dst, 64).udp(51_234, 8472).write(&mut bytes, &payload).unwrap();
    bytes
}
