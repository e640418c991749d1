//! What of a packet tells it from others of its flow, for who counts retransmissions and pairs answers with requests.

use podtrace_protocol::wire::{Packet, Transport, protocol};
use tracer_common::wire::{icmp, icmpv6};

/// What of a packet's transport header tells it from others of its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Of a TCP segment.
    Tcp {
        /// Sequence number.
        seq: u32,
        /// Acknowledgment number.
        ack: u32,
        /// Bits of [`tracer_common::wire::tcp_flag`].
        flags: u8,
    },
    /// Of an ICMP or ICMPv6 echo.
    Echo {
        /// Whether it is the reply.
        reply: bool,
        /// Sequence number.
        seq: u16,
    },
}

impl Segment {
    /// Of these headers; `None` for other protocols, and for later fragments.
    pub(crate) fn of(packet: &Packet) -> Option<Self> {
        match packet.transport {
            Transport::Tcp { seq, ack, flags, .. } => Some(Self::Tcp { seq, ack, flags }),
            Transport::Icmp { kind, rest, .. } => {
                let (request, answer) = if packet.protocol == protocol::ICMP {
                    (icmp::ECHO_REQUEST, icmp::ECHO_REPLY)
                } else {
                    (icmpv6::ECHO_REQUEST, icmpv6::ECHO_REPLY)
                };
                let [.., high, low] = rest.to_be_bytes();
                let seq = u16::from_be_bytes([high, low]);
                (kind == request || kind == answer).then_some(Self::Echo { reply: kind == answer, seq })
            }
            Transport::Udp { .. } | Transport::Sctp { .. } | Transport::None => None,
        }
    }
}

/// What one node's monotonic clock read when a packet was seen there. Readings of different nodes do not compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The node's number in the [`Context`](crate::Context).
    pub node: usize,
    /// Nanoseconds.
    pub at_ns: i64,
}
