//! A packet's bytes as the headers that a filter asks: its own, those of the packet in its tunnel, and those of the
//! packet that an ICMP error is about.

use std::net::IpAddr;

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

use super::ast::{Condition, Protocol, Side, Test};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
/// VXLAN's own header.
const VXLAN: usize = 8;
/// What precedes the packet that an ICMP error quotes.
const ERROR: usize = 8;

/// The headers of one packet: addresses, protocol, ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) protocol: u8,
    /// Source and destination port; a fragment that is not the first has none.
    pub(super) ports: Option<(u16, u16)>,
    /// What fragments of one packet have in common, and whether this is the first of them.
    pub(super) fragment: Option<(u32, bool)>,
}

/// The headers of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Layers {
    /// As it is on its device.
    pub(super) outer: Option<Layer>,
    /// Inside its tunnel.
    pub(super) inner: Option<Layer>,
    /// What the innermost one is about, if that is an ICMP error.
    pub(super) quoted: Option<Layer>,
}

impl Layers {
    /// Takes a capture apart. It may be cut short and may hold anything.
    pub(super) fn of(bytes: &[u8], ethernet: bool, vxlan_ports: &[u16]) -> Self {
        let Some((outer, body)) = packet(bytes, ethernet) else { return Self::default() };
        let mut layers = Self { outer: Some(outer), ..Self::default() };
        let mut innermost = (outer, body);
        if outer.protocol == UDP
            && outer.ports.is_some_and(|(_, to)| vxlan_ports.contains(&to))
            && let Some(frame) = body.get(8 + VXLAN..)
            && let Some((inner, body)) = packet(frame, true)
        {
            layers.inner = Some(inner);
            innermost = (inner, body);
        }
        let (layer, body) = innermost;
        let error = match (layer.protocol, body.first()) {
            (ICMP, Some(kind)) => matches!(kind, 3 | 4 | 5 | 11 | 12),
            (ICMPV6, Some(kind)) => *kind < 128,
            _ => false,
        };
        if error && let Some(quoted) = body.get(ERROR..) {
            layers.quoted = packet(quoted, false).map(|(layer, _)| layer);
        }
        layers
    }

    /// Whether the packet, or the one in its tunnel, is as the condition says.
    pub(super) fn hold(&self, condition: &Condition, length: u32) -> bool {
        if let Test::Length(range) = &condition.test {
            return range.contains(&length);
        }
        self.outer.iter().chain(&self.inner).any(|layer| layer.holds(condition))
    }
}

impl Layer {
    fn holds(&self, condition: &Condition) -> bool {
        let Condition { protocol, side, test } = condition;
        let of_protocol = match protocol {
            None => true,
            Some(Protocol::V4) => self.src.is_ipv4(),
            Some(Protocol::V6) => self.src.is_ipv6(),
            Some(Protocol::Number(number)) => self.protocol == *number,
        };
        let sides = |src: bool, dst: bool| match side {
            Side::Either => src || dst,
            Side::Both => src && dst,
            Side::Source => src,
            Side::Destination => dst,
        };
        of_protocol
            && match test {
                Test::Anything => true,
                Test::Host(host) => sides(self.src == *host, self.dst == *host),
                Test::Net(net) => sides(net.contains(&self.src), net.contains(&self.dst)),
                Test::Ports(range) => {
                    self.ports.is_some_and(|(from, to)| sides(range.contains(&from), range.contains(&to)))
                }
                Test::Length(_) => false,
            }
    }
}

/// The IP header of a packet, and what follows it.
fn packet(bytes: &[u8], ethernet: bool) -> Option<(Layer, &[u8])> {
    let sliced = if ethernet {
        LaxSlicedPacket::from_ethernet(bytes).ok()?
    } else {
        LaxSlicedPacket::from_ip(bytes).ok()?
    };
    let (src, dst, id, first, body) = match sliced.net? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let first = header.fragments_offset().value() == 0;
            let ends = (header.source_addr().into(), header.destination_addr().into());
            (ends.0, ends.1, u32::from(header.identification()), first, ip.payload().clone())
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let ends = (header.source_addr().into(), header.destination_addr().into());
            let body = ip.payload().clone();
            // Where a transport header was read, it is there.
            let first = !body.fragmented || sliced.transport.is_some();
            (ends.0, ends.1, 0, first, body)
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let protocol = body.ip_number.0;
    let ports = match (&sliced.transport, protocol) {
        (Some(TransportSlice::Tcp(tcp)), _) => Some((tcp.source_port(), tcp.destination_port())),
        (Some(TransportSlice::Udp(udp)), _) => Some((udp.source_port(), udp.destination_port())),
        // Cut short after the ports, as in what an ICMP error quotes, or of a protocol that is not taken apart.
        (_, TCP | UDP | SCTP) if first => body.payload.first_chunk::<4>().map(|ports| {
            let [a, b, c, d] = *ports;
            (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
        }),
        _ => None,
    };
    let fragment = body.fragmented.then_some((id, first));
    Some((Layer { src, dst, protocol, ports, fragment }, body.payload))
}
