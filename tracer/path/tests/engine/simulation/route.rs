//! From which pod to which, and how connection tracking translates what goes there.

use std::net::IpAddr;

use tracer_common::{Conntrack, ConntrackTuple, status};

use super::network::{PodId, bridge_address, service};
use super::packet::{Kind, Packet};

/// The way of one direction of an exchange.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) from: PodId,
    pub(super) to: PodId,
    pub(super) translation: Option<Translation>,
}

/// Addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) ports: (u16, u16),
}

/// What the client's node makes of packets of one direction.
#[derive(Clone, Debug)]
pub(super) struct Translation {
    pub(super) node: usize,
    /// As they are sent, after the destination's translation, and after the source's.
    stages: [Ends; 3],
    tracked: Conntrack,
}

/// Where a packet is on its way through the node that translates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Sent,
    Routed,
    Received,
}

impl Ends {
    fn back(self) -> Self {
        Self { src: self.dst, dst: self.src, ports: (self.ports.1, self.ports.0) }
    }
}

impl Route {
    pub(super) fn direct(from: PodId, to: PodId) -> Self {
        Self { from, to, translation: None }
    }

    /// By the Service, for packets with these ports. A pod that reaches itself so sees its bridge's address as the sender.
    pub(super) fn by_service(from: PodId, to: PodId, protocol: u8, ports: (u16, u16), v6: bool) -> Self {
        let sent = Ends { src: from.address(v6), dst: service(v6), ports };
        let routed = Ends { dst: to.address(v6), ..sent };
        let is_hairpin = from == to;
        let received = if is_hairpin {
            Ends { src: bridge_address(from.node(), v6), ports: (ports.0 ^ 0x1000, ports.1), ..routed }
        } else {
            routed
        };
        let snat = if is_hairpin { status::SRC_NAT } else { 0 };
        let tracked = Conntrack {
            original: tuple(sent, protocol, 0),
            reply: tuple(received.back(), protocol, 1),
            status: status::DST_NAT | snat | status::CONFIRMED,
            ..Conntrack::default()
        };
        let translation = Translation { node: from.node(), stages: [sent, routed, received], tracked };
        Self { from, to, translation: Some(translation) }
    }

    /// The way back.
    pub(super) fn back(&self) -> Self {
        let translation = self.translation.as_ref().map(|there| {
            let [sent, routed, received] = there.stages;
            let stages = [received.back(), routed.back(), sent.back()];
            let tracked =
                Conntrack { info: 3, status: there.tracked.status | status::SEEN_REPLY, ..there.tracked };
            Translation { node: there.node, stages, tracked }
        });
        Self { from: self.to, to: self.from, translation }
    }

    /// What a packet looks like on this node at this stage of its way through it. Packets are made as their sender sends
    /// them.
    pub(super) fn seen(&self, packet: &Packet, node: usize, stage: Stage) -> Packet {
        let Some(translation) = &self.translation else { return packet.clone() };
        let by_other = node != translation.node;
        let was_before = self.from.node() == translation.node;
        let stage = match (by_other, was_before) {
            (false, _) => stage,
            // The other node sees what the translating one has made of it, or will get.
            (true, true) => Stage::Received,
            (true, false) => Stage::Sent,
        };
        let number = match stage {
            Stage::Sent => 0,
            Stage::Routed => 1,
            Stage::Received => 2,
        };
        let Ends { src, dst, ports } = translation.stages[number];
        let mut seen = Packet { src, dst, ..packet.clone() }.with_ports(ports);
        // What it quotes is translated as well.
        if packet.kind == Kind::Unreachable
            && number > 0
            && let Some(about) = &self.back().translation
        {
            requote(&mut seen.payload, about.stages[2 - number]);
        }
        seen
    }

    /// What connection tracking says of the packet there; nothing before it has looked at it.
    pub(super) fn tracked(&self, packet: &Packet, node: usize, stage: Stage) -> Option<Conntrack> {
        let translation = self.translation.as_ref().filter(|there| there.node == node)?;
        let info = if packet.kind == Kind::Unreachable { 4 } else { translation.tracked.info };
        (stage != Stage::Sent && packet.piece.is_none_or(|(from, ..)| from == 0))
            .then_some(Conntrack { info, ..translation.tracked })
    }

    /// The ends that packets are sent between.
    pub(super) fn ends(&self, v6: bool, ports: (u16, u16)) -> Ends {
        let direct = Ends { src: self.from.address(v6), dst: self.to.address(v6), ports };
        self.translation.as_ref().map_or(direct, |translation| translation.stages[0])
    }
}

/// Changes the addresses and ports of a packet that is quoted.
fn requote(quoted: &mut [u8], ends: Ends) {
    let (addresses, ports) = match (ends.src, ends.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => ([src.octets(), dst.octets()].concat(), 20),
        (IpAddr::V6(src), IpAddr::V6(dst)) => ([src.octets(), dst.octets()].concat(), 40),
        _ => unreachable!("a packet of two families"),
    };
    let at = ports - addresses.len();
    quoted[at..ports].copy_from_slice(&addresses);
    quoted[ports..ports + 2].copy_from_slice(&ends.ports.0.to_be_bytes());
    quoted[ports + 2..ports + 4].copy_from_slice(&ends.ports.1.to_be_bytes());
}

fn tuple(ends: Ends, protocol: u8, direction: u8) -> ConntrackTuple {
    let bytes = |address: IpAddr| match address {
        IpAddr::V6(v6) => v6.octets(),
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
    };
    ConntrackTuple {
        src: bytes(ends.src),
        sport: ends.ports.0.to_be_bytes(),
        family: if ends.src.is_ipv4() { 2 } else { 10 },
        dst: bytes(ends.dst),
        dport: ends.ports.1.to_be_bytes(),
        protocol,
        direction,
    }
}
