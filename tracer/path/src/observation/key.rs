//! Which flow a packet belongs to by its headers.

use std::net::IpAddr;

use podtrace_protocol::wire::{Packet, Transport};

/// An address and a port. An ICMP echo has its identifier for a port, at both ends.
pub(crate) type Endpoint = (IpAddr, u16);

/// Both ends of a flow, whichever direction a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowKey {
    low: Endpoint,
    high: Endpoint,
    protocol: u8,
}

/// A key, and which end the packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DirectedKey {
    pub(crate) key: FlowKey,
    /// Whether the packet goes from the low end to the high one.
    pub(crate) ascending: bool,
}

impl FlowKey {
    pub(crate) fn protocol(&self) -> u8 {
        self.protocol
    }
}

impl DirectedKey {
    pub(crate) fn new(src: Endpoint, dst: Endpoint, protocol: u8) -> Self {
        let ascending = src <= dst;
        let (low, high) = if ascending { (src, dst) } else { (dst, src) };
        Self { key: FlowKey { low, high, protocol }, ascending }
    }

    /// The key of a packet. An ICMP error belongs to the flow of the packet that it quotes, in the other direction.
    pub(crate) fn of(packet: &Packet) -> Self {
        if let Some(quoted) = packet.quoted() {
            let identifier = (quoted.word >> 16) as u16;
            let (sport, dport) = match (quoted.sport, quoted.dport) {
                (0, 0) => (identifier, identifier),
                ports => ports,
            };
            let quoted = Self::new((quoted.src, sport), (quoted.dst, dport), quoted.protocol);
            return Self { ascending: !quoted.ascending, ..quoted };
        }
        let (sport, dport) = match (&packet.transport, packet.echo()) {
            (Transport::Icmp { rest, .. }, Some(_)) => ((rest >> 16) as u16, (rest >> 16) as u16),
            _ => packet.ports().unwrap_or_default(),
        };
        Self::new((packet.src, sport), (packet.dst, dport), packet.protocol)
    }
}
