//! What is on the screen: rows of finished values. Names are as they came: who draws escapes them.

use std::cmp::Reverse;

use podtrace_path::{Action, Direction, End, Protocol, Verdict, VerdictCounts};

use super::trail::{Trail, TrailHop, name};
use crate::output::words::{address, drop_reason, endpoint_name, kind_of_nat, protocol};
use crate::totals::{Finished, Flow, Loss, failed, packets};

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tab {
    /// The ways of packets, hop by hop.
    #[default]
    Routes,
    /// The flows.
    Flows,
    /// The causes of losses.
    Causes,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// What was seen first.
    Seen,
    /// The most losses.
    #[default]
    Lost,
    /// The most packets.
    Packets,
    /// The longest time.
    Slowest,
}

/// What is shown at one moment.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    /// What is looked at.
    pub tab: Tab,
    /// In which order.
    pub sort: Sort,
    /// Only rows with this text.
    pub filter: String,
    /// All packets by verdict.
    pub paths: VerdictCounts,
    /// How many causes there are.
    pub causes: usize,
    /// Packets of routes that are not kept.
    pub other_packets: u64,
    /// The rows.
    pub rows: Vec<Row>,
}

/// A row that can be selected.
#[derive(Clone, Debug)]
pub enum Row {
    /// A route with its hops.
    Trail(TrailRow),
    /// A flow.
    Flow(FlowRow),
    /// A cause.
    Cause(CauseRow),
}

/// A route.
#[derive(Clone, Debug)]
pub struct TrailRow {
    /// `→ default/pod1 → default/pod3 icmp`.
    pub title: String,
    /// Packets that were sent, lost, and are under way.
    pub sent: u64,
    /// Those that were lost.
    pub lost: u64,
    /// From the first hop to the last, of packets that arrived.
    pub whole: Latencies,
    /// The hops.
    pub hops: Vec<HopRow>,
    /// The packet to open: the last one that was lost, else the last one.
    pub packet: u64,
}

/// A hop of a route.
#[derive(Clone, Debug)]
pub struct HopRow {
    /// Name of the node.
    pub node: String,
    /// Name of the device.
    pub device: String,
    /// What happens there.
    pub what: String,
    /// Whether it was never observed.
    pub inferred: bool,
    /// Packets that reached it.
    pub packets: u64,
    /// Lost of those that were sent, before this hop, in thousandths.
    pub loss: u64,
    /// Packets that were lost after it, and why the last one was.
    pub lost_here: u64,
    /// See [`Self::lost_here`].
    pub why: Option<String>,
    /// Since the hop before.
    pub times: Latencies,
}

/// Times in nanoseconds; all 0 without any.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// How many.
    pub count: u64,
    /// The last one.
    pub last: u64,
    /// The shortest.
    pub best: u64,
    /// The average.
    pub average: u64,
    /// The longest.
    pub worst: u64,
    /// Largest bound of the error by two clocks' difference.
    pub error: u64,
    /// The last ones, the oldest first.
    pub samples: Vec<u64>,
}

/// A flow.
#[derive(Clone, Debug)]
pub struct FlowRow {
    /// Its number.
    pub id: u64,
    /// Its protocol.
    pub proto: String,
    /// Its ends, with ports.
    pub ends: String,
    /// Packets of request and reply.
    pub packets: (u64, u64),
    /// Bytes of both.
    pub bytes: u64,
    /// Packets that failed.
    pub lost: u64,
    /// Segments that were sent again.
    pub resent: u64,
    /// Average round trip.
    pub rtt: Option<u64>,
}

/// A cause.
#[derive(Clone, Debug)]
pub struct CauseRow {
    /// How many packets.
    pub count: u64,
    /// Of how many flows.
    pub flows: u64,
    /// `DROPPED`, `VANISHED` or `REFUSED`.
    pub verdict: &'static str,
    /// Where.
    pub place: String,
    /// Why.
    pub why: String,
    /// The ends of most of them.
    pub ends: String,
    /// What to do.
    pub advice: Option<String>,
    /// The packet to open.
    pub packet: u64,
}

impl Row {
    /// The packet that opens; a flow's has to be looked for.
    #[must_use]
    pub fn packet(&self) -> Option<u64> {
        match self {
            Self::Trail(trail) => Some(trail.packet),
            Self::Cause(cause) => Some(cause.packet),
            Self::Flow(_) => None,
        }
    }

    /// Whether it has this text.
    fn has(&self, text: &str) -> bool {
        let has = |own: &str| own.to_lowercase().contains(text);
        match self {
            Self::Trail(TrailRow { title, hops, .. }) => {
                has(title) || hops.iter().any(|hop| has(&hop.node) || has(&hop.device) || has(&hop.what))
            }
            Self::Flow(FlowRow { proto, ends, .. }) => has(ends) || has(proto),
            Self::Cause(CauseRow { verdict, place, why, ends, advice, .. }) => {
                has(verdict) || has(place) || has(why) || has(ends) || advice.as_deref().is_some_and(has)
            }
        }
    }

    /// What it is sorted by: losses, packets, time.
    fn numbers(&self) -> (u64, u64, u64) {
        match self {
            Self::Trail(trail) => (trail.lost, trail.sent, trail.whole.worst),
            Self::Flow(flow) => (flow.lost, flow.packets.0 + flow.packets.1, flow.rtt.unwrap_or(0)),
            Self::Cause(cause) => (cause.count, cause.count, 0),
        }
    }
}

impl Sort {
    /// The next one.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Seen => Self::Lost,
            Self::Lost => Self::Packets,
            Self::Packets => Self::Slowest,
            Self::Slowest => Self::Seen,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Seen => "as seen",
            Self::Lost => "by loss",
            Self::Packets => "by packets",
            Self::Slowest => "by time",
        }
    }
}

/// The rows of a tab.
pub(super) fn rows(
    tab: Tab,
    sort: Sort,
    filter: &str,
    trails: &[Trail],
    finished: Option<&Finished>,
    losses: &[Loss],
) -> Vec<Row> {
    let mut rows: Vec<Row> = match tab {
        Tab::Routes => trails.iter().map(|trail| Row::Trail(trail_row(trail))).collect(),
        Tab::Flows => {
            let flows = finished.map(|finished| finished.flows.as_slice()).unwrap_or_default();
            flows.iter().map(|flow| Row::Flow(flow_row(flow))).collect()
        }
        Tab::Causes => losses.iter().map(|loss| Row::Cause(cause_row(loss))).collect(),
    };
    let filter = filter.to_lowercase();
    rows.retain(|row| filter.is_empty() || row.has(&filter));
    // Stable: what is equal stays as it was seen.
    match sort {
        Sort::Seen => {}
        Sort::Lost => rows.sort_by_key(|row| Reverse(row.numbers().0)),
        Sort::Packets => rows.sort_by_key(|row| Reverse(row.numbers().1)),
        Sort::Slowest => rows.sort_by_key(|row| Reverse(row.numbers().2)),
    }
    rows
}

fn trail_row(trail: &Trail) -> TrailRow {
    let arrow = match trail.direction {
        Direction::Request => "request",
        Direction::Reply => "reply",
    };
    let (from, to) = (name(&trail.from), with_port(&trail.to, trail.direction));
    TrailRow {
        title: format!("{from} → {to}  {} {arrow}", protocol(trail.proto)),
        sent: trail.sent,
        lost: trail.lost,
        whole: latencies(&trail.whole),
        hops: trail.hops.iter().map(|hop| hop_row(hop, trail.sent)).collect(),
        packet: trail.newest_lost.unwrap_or(trail.newest),
    }
}

/// A request's port is a service's; a reply's is one connection's.
fn with_port(end: &End, direction: Direction) -> String {
    match (end.port, direction) {
        (Some(port), Direction::Request) if end.service.is_none() && end.pod.is_none() => {
            address(end.ip, Some(port))
        }
        (Some(port), Direction::Request) => format!("{}:{port}", name(end)),
        _ => name(end),
    }
}

fn latencies(times: &super::trail::Times) -> Latencies {
    Latencies {
        count: times.count,
        last: times.last,
        best: times.best,
        average: times.average(),
        worst: times.worst,
        error: times.error,
        samples: times.samples.iter().copied().collect(),
    }
}

fn hop_row(hop: &TrailHop, sent: u64) -> HopRow {
    let pod = hop.pod.as_deref().map(|pod| pod.rsplit_once('/').map_or(pod, |(_, name)| name));
    HopRow {
        node: hop.key.node.to_string(),
        device: hop.key.device.as_deref().unwrap_or("–").to_owned(),
        what: match (hop.key.nat, pod) {
            (Some(kind), _) => kind_of_nat(kind).to_owned(),
            (None, pod) => what(hop.key.action, pod),
        },
        inferred: hop.inferred,
        packets: hop.packets,
        loss: sent.saturating_sub(hop.packets).saturating_mul(1_000) / sent.max(1),
        lost_here: hop.lost_here,
        why: hop.why.clone(),
        times: latencies(&hop.times),
    }
}

fn what(action: Action, pod: Option<&str>) -> String {
    match (action, pod) {
        (Action::PodEgress, Some(pod)) => format!("from {pod}"),
        (Action::PodEgress, None) => "from a pod".to_owned(),
        (Action::PodIngress, Some(pod)) => format!("to {pod}"),
        (Action::PodIngress, None) => "to a pod".to_owned(),
        (Action::Bridge, _) => "bridged".to_owned(),
        (Action::Route, _) => "routed".to_owned(),
        (Action::LocalIn, _) => "to the node".to_owned(),
        (Action::LocalOut, _) => "from the node".to_owned(),
        (Action::Nat, _) => "translated".to_owned(),
        (Action::Encapsulate, _) => "encapsulated".to_owned(),
        (Action::Decapsulate, _) => "decapsulated".to_owned(),
        (Action::NodeEgress, _) => "left".to_owned(),
        (Action::NodeIngress, _) => "arrived".to_owned(),
        (Action::Queue, _) => "queued".to_owned(),
        (Action::Drop, _) => "dropped".to_owned(),
    }
}

fn end(end: &End) -> String {
    match (endpoint_name(end), end.port) {
        (Some(name), Some(port)) => format!("{name}:{port}"),
        (Some(name), None) => name,
        (None, port) => address(end.ip, port),
    }
}

fn flow_row(flow: &Flow) -> FlowRow {
    FlowRow {
        id: flow.id,
        proto: protocol(flow.proto),
        ends: format!("{} → {}", end(&flow.from), end(&flow.to)),
        packets: (flow.request.packets, flow.reply.packets),
        bytes: flow.request.bytes + flow.reply.bytes,
        lost: failed(&flow.paths).min(packets(flow)),
        resent: flow.request.retransmitted + flow.reply.retransmitted,
        rtt: flow.rtt.map(|rtt| rtt.rtt.avg_ns),
    }
}

fn cause_row(loss: &Loss) -> CauseRow {
    let Loss { cause, pairs, .. } = loss;
    let proto = |proto: Protocol| protocol(proto);
    let place = match (&cause.pod, &cause.node, &cause.device) {
        (Some(pod), Some(node), _) => format!("inside {pod} on {node}"),
        (None, Some(node), Some(device)) => format!("{node} {device}"),
        (_, Some(node), None) => node.to_string(),
        (_, None, _) => "?".to_owned(),
    };
    CauseRow {
        count: cause.count,
        flows: cause.flows,
        verdict: match cause.verdict {
            Verdict::Vanished => "VANISHED",
            Verdict::Rejected => "REFUSED",
            Verdict::Dropped | Verdict::Delivered | Verdict::Open => "DROPPED",
        },
        place,
        why: match (&cause.drop, &cause.reason) {
            (Some(drop), _) if cause.verdict == Verdict::Dropped => drop_reason(drop),
            (_, Some(reason)) => reason.clone(),
            (Some(drop), None) => drop_reason(drop),
            (None, None) => String::new(),
        },
        ends: pairs.first().map_or_else(String::new, |pair| {
            format!("{} → {} {}", end(&pair.from), end(&pair.to), proto(pair.proto))
        }),
        advice: cause.advice.clone(),
        packet: cause.example,
    }
}
