//! A packet's bytes as the headers that a filter asks: its own, those of the packet in its tunnel, and those of the
//! packet that an ICMP error is about.

use std::net::IpAddr;

use podtrace_protocol::wire::Ip;

use super::ast::{Condition, Protocol, Side, Test};

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
        let outer = if ethernet { Ip::in_frame(bytes) } else { Ip::new(bytes) };
        let inner = outer.and_then(|outer| outer.inner(vxlan_ports));
        let quoted = inner.or(outer).and_then(|innermost| innermost.quoted());
        let [outer, inner, quoted] = [outer, inner, quoted].map(|ip| ip.as_ref().map(Layer::of));
        Self { outer, inner, quoted }
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
    fn of(ip: &Ip<'_>) -> Self {
        let Ip { src, dst, protocol, id, fragment, .. } = *ip;
        let fragment = fragment.map(|fragment| (id, fragment.offset == 0));
        Self { src, dst, protocol, ports: ip.ports(), fragment }
    }

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
