//! A finished path: what reports are made from. Serialised, this is the JSON that users rely on.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

mod fates;
mod forged;
mod identity;
mod point;
mod summary;
mod translation;

pub use fates::{DropFates, HarmlessDrop};
pub use forged::Forged;
pub use identity::{Reading, Segment};
pub use point::{Point, Via};
pub use summary::{EventCounts, Sample, Shed, Summary, Unwatched, VerdictCounts};
pub use translation::{ConnState, ConnectionSeen, Nat, NatKind, ServiceRef, Translated};

use podtrace_protocol::wire::Packet;
use podtrace_rules::Attribution;

/// All hops of one packet from its source to its end, across nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Path {
    /// Number within the trace, from 1, in the order in which paths are reported.
    pub id: u64,
    /// How it ended.
    pub verdict: Verdict,
    /// Why, where there is more to say than the verdict; for a drop the kernel's reason.
    pub reason: Option<String>,
    /// What to do about it, where that is no drop's advice: for a packet that vanished.
    #[serde(default)]
    pub advice: Option<String>,
    /// How sure the joins are: 1 if every one was the only possible one, less if others fitted too.
    pub confidence: f64,
    /// The flow it belongs to.
    pub flow: FlowRef,
    /// Where it came from.
    pub from: End,
    /// Where it went to.
    pub to: End,
    /// Both ends as they were when the packet was last seen, where a translation has changed them.
    #[serde(default)]
    pub translated: Option<Box<Translated>>,
    /// Protocol of the packet itself, not of a tunnel around it.
    pub proto: Protocol,
    /// What a reader calls this packet: `echo request id 7 seq 1`, `SYN`, `datagram`, …
    pub label: String,
    /// Length of the IP packet as the source sent it, in bytes.
    pub bytes: u32,
    /// Bytes of payload above TCP or UDP, or after the ICMP header.
    pub payload: u32,
    /// Wall clock of the first hop's node at the first hop, nanoseconds since 1970.
    #[serde(with = "timestamp")]
    pub started_at: u64,
    /// From the first hop to the last, in nanoseconds.
    pub duration_ns: i64,
    /// Bound of the error of `duration_ns`; 0 if both ends were timed by the same clock.
    pub duration_error_ns: u64,
    /// In the order in which the packet passed them.
    pub hops: Vec<Hop>,
    /// Set if its source address is another's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forged: Option<Box<Forged>>,
    /// What tells it from other packets of its flow; no part of the JSON.
    #[serde(skip)]
    pub segment: Option<Segment>,
    /// When it was seen first and last, by the clocks of the nodes where that was; no part of the JSON.
    #[serde(skip)]
    pub seen: Option<(Reading, Reading)>,
    /// Packets on the wire that it stands for, where GSO segments it; no part of the JSON.
    #[serde(skip, default = "one")]
    pub wire_packets: u32,
}

fn one() -> u32 {
    1
}

/// A flow and a packet's place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRef {
    /// Number within the trace, from 1.
    pub id: u64,
    /// Which way of the flow.
    pub direction: Direction,
}

/// The two ways of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The way of the packet that opened it.
    Request,
    /// The way back.
    Reply,
}

impl Direction {
    /// The other one.
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Request => Self::Reply,
            Self::Reply => Self::Request,
        }
    }
}

/// One end of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// `namespace/name` of the pod, where the address is one's.
    pub pod: Option<Arc<str>>,
    /// Address.
    pub ip: IpAddr,
    /// Port, for protocols that have them.
    pub port: Option<u16>,
    /// Name of the node it is on, where known.
    pub node: Option<Arc<str>>,
    /// `namespace/name` of the Service, where the address and port are one's.
    #[serde(default)]
    pub service: Option<Arc<str>>,
}

/// How a path ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Arrived.
    Delivered,
    /// The kernel said that it dropped the packet.
    Dropped,
    /// Left a point and was never seen at the next one.
    Vanished,
    /// Answered by a reset or an ICMP error.
    Rejected,
    /// Still under way when tracing stopped.
    Open,
}

/// One step of a packet as the user reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    /// From 0.
    pub index: u32,
    /// Name of the node.
    pub node: Arc<str>,
    /// Name of the device; `None` where there was none (some drops).
    pub device: Option<Arc<str>>,
    /// Where the observation was made; `None` if inferred.
    pub point: Option<Point>,
    /// What happened here.
    pub action: Action,
    /// Nanoseconds since the first hop; `None` if inferred. Negative only within the clocks' error.
    pub at_ns: Option<i64>,
    /// Bound of the error of `at_ns` by the difference of the nodes' clocks; 0 on the first hop's node.
    pub clock_error_ns: u64,
    /// Seen, or concluded from what was seen.
    pub evidence: Evidence,
    /// Addresses and ports of the packet here, inside any tunnel.
    pub tuple: Tuple,
    /// Length of the IP packet here, inside any tunnel; of all of them where there are several.
    pub bytes: u32,
    /// How many packets the one of the first hop is here, after GSO segmented it; 1 if it is whole.
    pub packets: u32,
    /// Whether it travels here within a packet that GRO put together with others' bytes.
    pub merged: bool,
    /// The tunnel header that it gets, has or loses here.
    pub outer: Option<Outer>,
    /// The translation that happened here.
    pub nat: Option<Nat>,
    /// What connection tracking says of the packet here, where it has been looked at.
    #[serde(default)]
    pub conntrack: Option<Box<ConnectionSeen>>,
    /// The route taken here.
    pub route: Option<RouteTaken>,
    /// The pod on the other side of this veth, or the one inside which the packet was dropped.
    pub pod: Option<Arc<str>>,
    /// The drop that happened here.
    pub drop: Option<Drop>,
    /// What came of looking up the next hop's link address, where that was seen.
    pub neighbour: Option<Neighbour>,
    /// How long the packet waited in the device's queue before it was sent, in nanoseconds; `None` if no wait was
    /// seen that is worth the name.
    pub queued_ns: Option<i64>,
    /// Whether a bridge sent copies to all its ports here, because it did not know the right one.
    pub flooded: bool,
    /// The observations that it was made of, in order of time; none if it is inferred.
    pub events: Vec<HopEvent>,
    /// The kernel records that it was made of, for who keeps packets; no part of the JSON.
    #[serde(skip)]
    pub sources: Vec<Source>,
}

/// One record of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The node's number in the [`Context`](crate::Context).
    pub node: usize,
    /// Number of the record among all that the node sent, from 0.
    pub number: u64,
}

/// One hop event: an observation that a hop was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HopEvent {
    /// Where it was made.
    pub point: Point,
    /// Name of the device that the packet was at.
    pub device: Option<Arc<str>>,
    /// Nanoseconds since the first hop, by the same clock as the hop's.
    pub at_ns: i64,
    /// Details: the netfilter hook, the neighbour's state.
    pub detail: Option<String>,
}

/// What came of looking up the link address of the next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The next hop.
    pub address: IpAddr,
    /// What came of it.
    pub outcome: Resolution,
    /// How long the packet waited for an answer, in nanoseconds; 0 if it did not have to.
    pub waited_ns: i64,
}

/// What came of looking up a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolution {
    /// Its link address was known; whether it is still right may have been asked on the side.
    Known,
    /// It was asked, and answered.
    Answered,
    /// It was asked, and the packet was not seen since.
    Asked,
    /// It was asked in vain: the packet was dropped for it.
    Failed,
}

/// What happened at a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Came out of a pod.
    PodEgress,
    /// Went into a pod.
    PodIngress,
    /// Was forwarded by a bridge.
    Bridge,
    /// Was routed.
    Route,
    /// Was for the node itself.
    LocalIn,
    /// Came from the node itself.
    LocalOut,
    /// Was translated.
    Nat,
    /// Was put into a tunnel.
    Encapsulate,
    /// Was taken out of a tunnel.
    Decapsulate,
    /// Left the node.
    NodeEgress,
    /// Arrived at the node.
    NodeIngress,
    /// Waited.
    Queue,
    /// Was dropped.
    Drop,
}

/// Seen, or concluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// A eBPF program saw it.
    Observed,
    /// Follows from the hops around it.
    Inferred,
}

/// Protocol of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
    /// ICMPv6.
    Icmpv6,
    /// SCTP.
    Sctp,
    /// Any other, by its number.
    #[serde(untagged)]
    Other(u8),
}

impl Protocol {
    /// Its number in IP headers.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Icmp => 1,
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmpv6 => 58,
            Self::Sctp => 132,
            Self::Other(other) => other,
        }
    }

    /// By its number in IP headers.
    #[must_use]
    pub fn of_number(number: u8) -> Self {
        match number {
            1 => Self::Icmp,
            6 => Self::Tcp,
            17 => Self::Udp,
            58 => Self::Icmpv6,
            132 => Self::Sctp,
            other => Self::Other(other),
        }
    }
}

/// Addresses and ports of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Protocol.
    pub proto: Protocol,
    /// Source port.
    pub sport: Option<u16>,
    /// Destination port.
    pub dport: Option<u16>,
}

impl Tuple {
    /// Of these headers.
    pub(crate) fn of(packet: &Packet) -> Self {
        let (sport, dport) = packet.ports().unzip();
        Self { src: packet.src, dst: packet.dst, proto: Protocol::of_number(packet.protocol), sport, dport }
    }
}

/// A tunnel header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outer {
    /// `vxlan`, …
    pub kind: Arc<str>,
    /// Network identifier.
    pub vni: Option<u32>,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port.
    pub sport: Option<u16>,
    /// Destination port.
    pub dport: Option<u16>,
    /// Bytes that the tunnel adds to the packet, link header of the inner frame included.
    pub overhead: u32,
}

/// The route a packet took at a hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTaken {
    /// Prefix of the route, from the node's table; `None` if no entry leads where the packet was seen to go.
    pub destination: Option<String>,
    /// Outgoing device, where the packet was seen next.
    pub device: Arc<str>,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Observed if the kernel reported the result of its lookup; inferred from the table and the next device else.
    pub evidence: Evidence,
}

/// A drop. By default one that nothing is known of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// The kernel's name for the reason; `None` on kernels that give none.
    pub reason: Option<String>,
    /// Kernel function that dropped the packet, or its address if it has no symbol.
    pub location: Option<String>,
    /// The netfilter hook whose rules dropped it, where that was seen: `FORWARD`, …
    #[serde(default)]
    pub netfilter: Option<String>,
    /// The rule that dropped it, where the node's rules name one.
    #[serde(default)]
    pub rule: Option<Arc<Attribution>>,
    /// What connection tracking has to do with it.
    #[serde(default)]
    pub cause: Option<DropCause>,
    /// What to do about it.
    pub advice: Option<String>,
}

/// Why connection tracking dropped a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropCause {
    /// Its table has no room for another connection.
    ConntrackTableFull {
        /// Connections in the table.
        count: Option<u64>,
        /// Connections that it may hold.
        max: Option<u64>,
    },
    /// Its table holds a connection with the same addresses and ports already.
    ConntrackClash,
}

/// RFC 3339 in UTC with nanoseconds.
pub(crate) mod timestamp {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(nanoseconds: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        let time =
            jiff::Timestamp::from_nanosecond(i128::from(*nanoseconds)).map_err(serde::ser::Error::custom)?;
        serializer.collect_str(&format_args!("{time:.9}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let time: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
        u64::try_from(time.as_nanosecond()).map_err(D::Error::custom)
    }
}
