//! What a trace amounts to, as renderers get it. Serialised, these are JSON's `flow`, `route`, `cause` and `totals`.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use podtrace_path::{Action, Drop, End, NatKind, Path, Protocol, Verdict, VerdictCounts};

/// What a trace amounts to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finished {
    /// Causes of failures, the most frequent first.
    pub causes: Vec<Cause>,
    /// Ways of packets, the most frequent first.
    pub routes: Vec<Route>,
    /// Flows in the order of their numbers.
    pub flows: Vec<Flow>,
    /// The sums.
    pub totals: Totals,
}

/// Sums over all paths, also those of flows, routes and causes that are not listed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Paths by verdict.
    pub paths: VerdictCounts,
    /// Bytes of all packets' IP packets, as their sources sent them.
    pub bytes: u64,
    /// Segments with bytes that had been sent before, counted while their flow was listed, also if it gave way later.
    pub retransmitted: u64,
    /// Number of flows.
    pub flows: u64,
    /// Flows that are not listed, because there were more than are kept.
    pub unlisted_flows: u64,
    /// Paths of flows that are not listed, by verdict.
    pub unlisted_flow_paths: VerdictCounts,
    /// Paths of routes that are not listed.
    pub unlisted_route_paths: u64,
    /// Paths of causes that are not listed.
    pub unlisted_cause_paths: u64,
    /// Requests and their answers.
    pub exchanges: Vec<Exchanged>,
    /// Whether the trace ended at its number of paths: answers may have come later.
    pub limited: bool,
    /// What the sample stands for; `None` if all packets were traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<Estimate>,
    /// Whether no event is missing. The summary object says so in JSON.
    #[serde(skip)]
    pub complete: bool,
}

/// What a sample stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// One in so many packets on the wire was traced. All other numbers are of these.
    pub one_in: NonZeroU32,
    /// An estimate of how many paths there would be without sampling.
    pub estimated_paths: u64,
}

/// The packets of one connection or one ICMP exchange, both ways, through NAT.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flow {
    /// Number within the trace.
    pub id: u64,
    /// Protocol.
    pub proto: Protocol,
    /// The end that opened it.
    pub from: End,
    /// What it opened it to: a Service, for example.
    pub to: End,
    /// The end that translation chose, where there is one.
    pub endpoint: Option<End>,
    /// Start of the first packet, by its node's wall clock.
    #[serde(serialize_with = "timestamp")]
    pub first_at: u64,
    /// End of the last packet, by the wall clock of the node where it began.
    #[serde(serialize_with = "timestamp")]
    pub last_at: u64,
    /// From the end that opened it.
    pub request: Way,
    /// To that end.
    pub reply: Way,
    /// Paths by verdict.
    pub paths: VerdictCounts,
    /// Echo requests and connection attempts without an answer; `None` if answers may not have been traced, or events are
    /// missing.
    pub unanswered: Option<u64>,
    /// Round trips.
    pub rtt: Option<FlowRoundTrips>,
}

/// One way of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Way {
    /// Packets, as the source sent them: what GSO segments later is one.
    pub packets: u64,
    /// Their bytes with IP headers.
    pub bytes: u64,
    /// Their bytes above TCP or UDP, or after the ICMP header.
    pub payload: u64,
    /// Packets that were dropped, rejected, or vanished.
    pub lost: u64,
    /// Segments with bytes that had been sent before.
    pub retransmitted: u64,
}

/// What a round trip is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExchangeKind {
    /// An ICMP echo and its reply.
    Echo,
    /// A SYN and its SYN-ACK.
    Handshake,
    /// A UDP datagram and the next one back.
    Datagram,
}

/// Round trips of a flow, measured by one node's clock at the end that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FlowRoundTrips {
    /// By what.
    pub source: ExchangeKind,
    /// The figures.
    #[serde(flatten)]
    pub rtt: RoundTrips,
}

/// Figures of round trips, in nanoseconds. All but `p99_ns` are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RoundTrips {
    /// How many.
    pub count: u64,
    /// The shortest.
    pub min_ns: u64,
    /// The average.
    pub avg_ns: u64,
    /// 99 of 100 took no longer, to 1/32.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

/// Requests of one kind, and their answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Exchanged {
    /// Echoes, handshakes, or UDP flows.
    pub kind: ExchangeKind,
    /// Different requests; for UDP flows with a request.
    pub asked: u64,
    /// Those of which an answer was delivered; `None` if answers were not traced, or may not be in the sample.
    pub answered: Option<u64>,
    /// Round trips.
    pub rtt: Option<RoundTrips>,
}

/// Paths with equal sequences of hops.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// Number within the trace, from 1, in the order in which they were seen first.
    pub id: u64,
    /// The hops.
    pub hops: Vec<RouteHop>,
    /// Paths by verdict.
    pub paths: VerdictCounts,
    /// From the first hop to the last.
    pub latency: Latency,
    /// Number of the first path.
    pub example: u64,
}

/// One hop of a route.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteHop {
    /// Name of the node.
    pub node: Arc<str>,
    /// Name of the device.
    pub device: Option<Arc<str>>,
    /// What happened here.
    pub action: Action,
    /// The translation that happened here.
    pub nat: Option<NatKind>,
    /// The pod on the other side of the veth, or inside which packets were dropped.
    pub pod: Option<Arc<str>>,
    /// Since the previous hop that has a time; `None` for the first, and for inferred ones.
    pub latency: Option<Latency>,
}

/// A distribution of times, in nanoseconds: percentiles to 1/32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// The median.
    pub p50_ns: u64,
    /// 90 of 100 took no longer.
    pub p90_ns: u64,
    /// 99 of 100 took no longer.
    pub p99_ns: u64,
    /// The longest, exact.
    pub max_ns: u64,
    /// Largest bound of the error by the difference of two nodes' clocks; 0 if one clock measured both ends.
    pub clock_error_ns: u64,
}

/// Paths that failed at an equal place for an equal reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cause {
    /// Number within the trace, from 1, in the order in which they were seen first.
    pub id: u64,
    /// How the paths ended.
    pub verdict: Verdict,
    /// The node where they were dropped or seen last.
    pub node: Option<Arc<str>>,
    /// The device.
    pub device: Option<Arc<str>>,
    /// The pod in whose namespace they were dropped.
    pub pod: Option<Arc<str>>,
    /// The drop, of the first path.
    pub drop: Option<Drop>,
    /// The reason, of the first path.
    pub reason: Option<String>,
    /// The advice, of the first path.
    pub advice: Option<String>,
    /// Number of paths.
    pub count: u64,
    /// Number of flows that these belong to.
    pub flows: u64,
    /// Start of the first path.
    #[serde(serialize_with = "timestamp")]
    pub first_at: u64,
    /// Start of the last path.
    #[serde(serialize_with = "timestamp")]
    pub last_at: u64,
    /// Number of the first path.
    pub example: u64,
    /// Number of the first path's flow.
    pub example_flow: u64,
    /// Where the first path came from.
    pub from: End,
    /// Where the first path went to.
    pub to: End,
}

/// A cause with whom it hit, and one of its packets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Loss {
    /// The cause.
    #[serde(flatten)]
    pub cause: Cause,
    /// The ends of the packets, the most frequent first.
    pub pairs: Vec<Pair>,
    /// Packets between other ends.
    pub unlisted_pairs: u64,
    /// Its first packet.
    pub path: Path,
}

/// The two ends of packets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// Protocol.
    pub proto: Protocol,
    /// Where they came from, without a port.
    pub from: End,
    /// Where they were to go; the port is the first packet's.
    pub to: End,
    /// How many packets.
    pub count: u64,
}

/// RFC 3339 in UTC with nanoseconds.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn timestamp<S: Serializer>(nanoseconds: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    let time =
        jiff::Timestamp::from_nanosecond(i128::from(*nanoseconds)).map_err(serde::ser::Error::custom)?;
    serializer.collect_str(&format_args!("{time:.9}"))
}

/// How many paths were not delivered, and are not under way either.
#[must_use]
pub fn failed(paths: &VerdictCounts) -> u64 {
    paths.dropped + paths.vanished + paths.rejected
}

/// How many paths there are.
#[must_use]
pub fn all(paths: &VerdictCounts) -> u64 {
    failed(paths) + paths.delivered + paths.open
}

/// Counts a path.
pub(crate) fn count(verdict: Verdict, counts: &mut VerdictCounts) {
    *match verdict {
        Verdict::Delivered => &mut counts.delivered,
        Verdict::Dropped => &mut counts.dropped,
        Verdict::Vanished => &mut counts.vanished,
        Verdict::Rejected => &mut counts.rejected,
        Verdict::Open => &mut counts.open,
    } += 1;
}
