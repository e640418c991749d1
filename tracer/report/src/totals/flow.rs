//! Flows: packets and bytes each way, losses, retransmissions, round trips.
//!
//! At most [`LISTED`] flows are kept one by one. Beyond that a new flow is only summed, unless its first packet failed: it
//! then takes the place of the oldest flow without a failure, which is summed instead.

use std::collections::{BTreeMap, VecDeque};

use tracer_common::wire::tcp_flag;

use super::exchange::{Progress, RoundTrip, round_trips};
use super::finished::{ExchangeKind, Flow, FlowRoundTrips, Way, all, count, failed};
use super::histogram::Histogram;
use super::numbers::{NumberSet, Stream};
use podtrace_path::{Direction, End, Path, Segment, Verdict, VerdictCounts};

/// How many flows are kept one by one.
pub(super) const LISTED: usize = 1 << 14;

/// All flows of a trace.
#[derive(Clone, Debug, Default)]
pub(super) struct Flows {
    listed: BTreeMap<u64, Known>,
    /// Listed flows, the oldest first, to find one that can give way.
    order: VecDeque<u64>,
    /// All flows ever seen.
    seen: NumberSet,
    unlisted: VerdictCounts,
    retransmitted: u64,
}

#[derive(Clone, Debug)]
struct Known {
    flow: Flow,
    /// Whether its ends are those of a request, which names what it asked for.
    by_request: bool,
    request: Stream,
    reply: Stream,
    /// Requests that have to be answered, and those that were.
    asked: u64,
    answered: u64,
    /// Round trips, by what.
    round_trips: Option<(ExchangeKind, Histogram)>,
}

impl Flows {
    /// Adds a path, and what it meant to its exchange.
    pub(super) fn add(&mut self, path: &Path, progress: Progress) {
        let id = path.flow.id;
        let is_new = self.seen.add(id);
        if !self.listed.contains_key(&id) {
            if !(is_new && self.has_room(path.verdict)) {
                count(path.verdict, &mut self.unlisted);
                return;
            }
            self.listed.insert(id, Known::new(path));
            self.order.push_back(id);
        }
        if let Some(known) = self.listed.get_mut(&id) {
            self.retransmitted += u64::from(known.add(path, progress));
        }
    }

    /// Whether another flow can be listed, makes room if it has to.
    fn has_room(&mut self, verdict: Verdict) -> bool {
        if self.listed.len() < LISTED {
            return true;
        }
        if !is_failure(verdict) {
            return false;
        }
        // Flows with failures leave the queue and stay listed: they can no longer give way.
        while let Some(id) = self.order.pop_front() {
            if self.listed.get(&id).is_some_and(|known| failed(&known.flow.paths) == 0)
                && let Some(known) = self.listed.remove(&id)
            {
                self.unlisted.delivered += known.flow.paths.delivered;
                self.unlisted.open += known.flow.paths.open;
                return true;
            }
        }
        false
    }

    /// Number of all flows.
    pub(super) fn count(&self) -> u64 {
        self.seen.count()
    }

    /// Paths of flows that are not listed.
    pub(super) fn unlisted(&self) -> VerdictCounts {
        self.unlisted
    }

    /// Number of segments that were sent again.
    pub(super) fn retransmitted(&self) -> u64 {
        self.retransmitted
    }

    /// The listed flows in the order of their numbers. Requests are only unanswered where every answer would have been seen.
    pub(super) fn finished(&self, are_answers_seen: bool) -> Vec<Flow> {
        let rtt = |known: &Known| {
            let (source, histogram) = known.round_trips.as_ref()?;
            Some(FlowRoundTrips { source: *source, rtt: round_trips(histogram)? })
        };
        let unanswered = |known: &Known| are_answers_seen.then(|| known.asked.saturating_sub(known.answered));
        self.listed
            .values()
            .map(|known| Flow { rtt: rtt(known), unanswered: unanswered(known), ..known.flow.clone() })
            .collect()
    }
}

impl Known {
    fn new(path: &Path) -> Self {
        let (from, to, endpoint) = ends(path);
        let flow = Flow {
            id: path.flow.id,
            proto: path.proto,
            from,
            to,
            endpoint,
            first_at: path.started_at,
            last_at: path.started_at,
            request: Way::default(),
            reply: Way::default(),
            paths: VerdictCounts::default(),
            unanswered: None,
            rtt: None,
        };
        Self {
            flow,
            by_request: path.flow.direction == Direction::Request,
            request: Stream::default(),
            reply: Stream::default(),
            asked: 0,
            answered: 0,
            round_trips: None,
        }
    }

    /// Adds a path; whether it is a retransmission.
    fn add(&mut self, path: &Path, progress: Progress) -> bool {
        let flow = &mut self.flow;
        let is_request = path.flow.direction == Direction::Request;
        if is_request && !(self.by_request && (flow.endpoint.is_some() || path.translated.is_none())) {
            // A reply may have shown the endpoint to which this request was not translated.
            let (from, to, endpoint) = ends(path);
            (flow.from, flow.to, flow.endpoint) = (from, to, endpoint.or(flow.endpoint.take()));
            self.by_request = true;
        }
        flow.first_at = flow.first_at.min(path.started_at);
        flow.last_at = flow.last_at.max(path.started_at.saturating_add_signed(path.duration_ns));
        count(path.verdict, &mut flow.paths);
        let (way, stream) = match path.flow.direction {
            Direction::Request => (&mut flow.request, &mut self.request),
            Direction::Reply => (&mut flow.reply, &mut self.reply),
        };
        way.packets += 1;
        way.bytes += u64::from(path.bytes);
        way.payload += u64::from(path.payload);
        way.lost += u64::from(is_failure(path.verdict));
        self.asked += u64::from(progress.asks);
        self.answered += u64::from(progress.answers);
        if let Some(RoundTrip { kind, ns }) = progress.round_trip {
            self.round_trips.get_or_insert_with(|| (kind, Histogram::default())).1.record(ns);
        }
        let again = is_again(path, stream);
        way.retransmitted += u64::from(again);
        again
    }
}

fn is_failure(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Dropped | Verdict::Vanished | Verdict::Rejected)
}

/// Whether a TCP segment has bytes that its stream had sent before.
fn is_again(path: &Path, stream: &mut Stream) -> bool {
    let Some(Segment::Tcp { seq, flags, .. }) = path.segment else { return false };
    // SYN and FIN take a number each; a segment with RST takes none.
    let marks = u32::from(flags & tcp_flag::SYN != 0) + u32::from(flags & tcp_flag::FIN != 0);
    flags & tcp_flag::RST == 0 && stream.is_again(seq, path.payload.saturating_add(marks))
}

/// The end that opened the flow, what it opened it to, and the end that translation chose.
fn ends(path: &Path) -> (End, End, Option<End>) {
    let translated = path.translated.as_deref();
    match path.flow.direction {
        Direction::Request => {
            let endpoint = translated.map(|translated| &translated.to).filter(|to| **to != path.to);
            (path.from.clone(), path.to.clone(), endpoint.cloned())
        }
        // A reply starts at the endpoint; after translation its source is the Service that was asked.
        Direction::Reply => {
            let (from, to) = translated.map_or((&path.from, &path.to), |ends| (&ends.from, &ends.to));
            let endpoint = (*from != path.from).then(|| path.from.clone());
            (to.clone(), from.clone(), endpoint)
        }
    }
}

/// Number of flows that are not listed.
pub(super) fn unlisted(flows: &Flows) -> u64 {
    flows.count().saturating_sub(flows.listed.len() as u64)
}

/// How many packets a flow has both ways.
#[must_use]
pub fn packets(flow: &Flow) -> u64 {
    all(&flow.paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;
    use podtrace_path::Translated;

    fn path(flow: u64, verdict: Verdict) -> Path {
        let mut path = samples::cross_node_request();
        (path.flow.id, path.verdict) = (flow, verdict);
        path
    }

    fn tcp(seq: u32, payload: u32, flags: u8) -> Path {
        Path { payload, segment: Some(Segment::Tcp { seq, ack: 0, flags }), ..path(1, Verdict::Delivered) }
    }

    #[test]
    fn segments_sent_again_are_counted() {
        let mut flows = Flows::default();
        for (seq, payload, flags) in [
            (0, 0, tcp_flag::SYN),
            (0, 0, tcp_flag::SYN),
            (1, 1_448, 0),
            (1_449, 1_448, 0),
            (1, 1_448, 0),
            (2_897, 0, tcp_flag::FIN),
            (2_898, 0, tcp_flag::RST),
        ] {
            flows.add(&tcp(seq, payload, flags), Progress::default());
        }
        let [flow] = flows.finished(true).try_into().unwrap();
        assert_eq!((flow.request.retransmitted, flow.request.packets, flow.request.payload), (2, 7, 4_344));
        assert_eq!(flows.retransmitted(), 2);
    }

    #[test]
    fn a_service_and_the_pod_behind_it_are_one_flow() {
        let request = samples::nat();
        let pod = request.translated.as_deref().map_or(request.to.clone(), |ends| ends.to.clone());
        let mut reply = Path {
            from: pod.clone(),
            to: request.from.clone(),
            translated: Some(Box::new(Translated { from: request.to.clone(), to: request.from.clone() })),
            ..request.clone()
        };
        reply.flow.direction = Direction::Reply;
        for order in [[&request, &reply], [&reply, &request]] {
            let mut flows = Flows::default();
            order.iter().for_each(|path| flows.add(path, Progress::default()));
            let [flow] = flows.finished(true).try_into().unwrap();
            assert_eq!((&flow.from, &flow.to), (&request.from, &request.to));
            assert_eq!((flow.request.packets, flow.reply.packets), (1, 1));
            assert_eq!(flow.endpoint, (pod != request.to).then(|| pod.clone()));
        }
    }

    #[test]
    fn beyond_the_bound_the_sums_are_exact_and_failures_listed() {
        let mut flows = Flows::default();
        let bound = LISTED as u64;
        for id in 1..=bound + 100 {
            flows.add(&path(id, Verdict::Delivered), Progress::default());
        }
        flows.add(&path(bound + 101, Verdict::Dropped), Progress::default());
        flows.add(&path(1, Verdict::Delivered), Progress::default());
        flows.add(&path(5, Verdict::Delivered), Progress::default());
        let listed = flows.finished(true);
        assert_eq!((listed.len(), flows.count(), unlisted(&flows)), (LISTED, bound + 101, 101));
        assert!(listed.iter().any(|flow| flow.id == bound + 101 && flow.paths.dropped == 1));
        assert_eq!(flows.unlisted().delivered, 102, "with the flow that gave way, and its second packet");
        let sum: u64 = listed.iter().map(packets).sum();
        assert_eq!(sum + all(&flows.unlisted()), bound + 103);
    }
}
