//! What connection tracking says of a packet: which connection it belongs to, and how that is translated.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tracer_common::{Conntrack, ConntrackTuple, status};

use podtrace_protocol::wire::{Packet, protocol};

use crate::model::{ConnState, ConnectionSeen, Direction, Protocol, Tuple};
use crate::observation::key::{DirectedKey, Endpoint};

/// `AF_INET` and `AF_INET6`.
const V4: u16 = 2;
const V6: u16 = 10;

/// `IP_CT_NEW` of the kernel's `enum ip_conntrack_info`: higher values are of the reply direction.
const LAST_ORIGINAL: u16 = 2;

/// A tracked connection, and the packet's state in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    original: Ends,
    reply: Ends,
    status: u32,
    mark: u32,
    zone: u16,
    info: u16,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    src: Endpoint,
    dst: Endpoint,
    protocol: u8,
}

impl Ends {
    fn read(tuple: &ConntrackTuple) -> Option<Self> {
        let address = |bytes: &[u8; 16]| match tuple.family {
            V4 => bytes.first_chunk::<4>().map(|bytes| IpAddr::from(Ipv4Addr::from(*bytes))),
            V6 => Some(IpAddr::from(Ipv6Addr::from(*bytes))),
            _ => None,
        };
        let (src, dst) = (address(&tuple.src)?, address(&tuple.dst)?);
        let (sport, dport) = (u16::from_be_bytes(tuple.sport), u16::from_be_bytes(tuple.dport));
        // An ICMP echo has its identifier for a port, at both ends.
        let dport = if is_icmp(tuple.protocol) { sport } else { dport };
        Some(Self { src: (src, sport), dst: (dst, dport), protocol: tuple.protocol })
    }

    fn key(&self) -> DirectedKey {
        DirectedKey::new(self.src, self.dst, self.protocol)
    }

    fn back(&self) -> Self {
        Self { src: self.dst, dst: self.src, ..*self }
    }

    fn tuple(&self) -> Tuple {
        let ports = matches!(self.protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
        Tuple {
            src: self.src.0,
            dst: self.dst.0,
            proto: Protocol::of_number(self.protocol),
            sport: ports.then_some(self.src.1),
            dport: ports.then_some(self.dst.1),
        }
    }
}

impl Connection {
    /// The connection of this packet; `None` if it is another's: of the tunnel around it, say.
    pub(crate) fn of(packet: &Packet, seen: &Conntrack) -> Option<Self> {
        let connection = Self {
            original: Ends::read(&seen.original)?,
            reply: Ends::read(&seen.reply)?,
            status: seen.status,
            mark: seen.mark,
            zone: seen.zone,
            info: seen.info,
        };
        let key = DirectedKey::of(packet).key;
        // Between two translations it has the source of one and the destination of the other.
        let forms = [connection.original, connection.reply, connection.halfway()];
        forms.iter().any(|ends| ends.key().key == key).then_some(connection)
    }

    /// After the destination's translation, before the source's.
    fn halfway(&self) -> Ends {
        Ends { dst: self.reply.src, ..self.original }
    }

    /// Source and destination of the packet as it was sent.
    pub(crate) fn sent(&self) -> [Endpoint; 2] {
        let ends = if self.is_reply() { self.reply } else { self.original };
        [ends.src, ends.dst]
    }

    /// How its packets are addressed before translation, halfway and after: source and destination.
    pub(crate) fn addressed(&self) -> [[Endpoint; 2]; 3] {
        [self.original, self.halfway(), self.reply.back()].map(|ends| [ends.src, ends.dst])
    }

    /// Whether its packets are translated.
    pub(crate) fn is_translated(&self) -> bool {
        self.status & (status::SRC_NAT | status::DST_NAT) != 0
    }

    pub(crate) fn is_reply(&self) -> bool {
        self.info > LAST_ORIGINAL
    }

    /// Which direction of the connection the packet goes.
    pub(crate) fn direction(&self) -> Direction {
        if self.is_reply() { Direction::Reply } else { Direction::Request }
    }

    /// The keys of its packets in the original direction: before translation, halfway and after.
    pub(crate) fn keys(&self) -> [DirectedKey; 3] {
        [self.original.key(), self.halfway().key(), self.reply.back().key()]
    }

    /// As reports show it.
    pub(crate) fn report(&self) -> ConnectionSeen {
        let words = [
            (status::SEEN_REPLY, "seen-reply"),
            (status::ASSURED, "assured"),
            (status::CONFIRMED, "confirmed"),
            (status::SRC_NAT, "snat"),
            (status::DST_NAT, "dnat"),
        ];
        ConnectionSeen {
            state: match self.info % (LAST_ORIGINAL + 1) {
                0 => ConnState::Established,
                1 => ConnState::Related,
                _ => ConnState::New,
            },
            direction: self.direction(),
            status: words
                .iter()
                .filter(|(bit, _)| self.status & bit != 0)
                .map(|(_, word)| (*word).to_owned())
                .collect(),
            original: self.original.tuple(),
            reply: self.reply.tuple(),
            zone: self.zone,
            mark: self.mark,
        }
    }
}

fn is_icmp(protocol: u8) -> bool {
    protocol == protocol::ICMP || protocol == protocol::ICMPV6
}
