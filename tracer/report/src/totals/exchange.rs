//! Pairs answers with what they answer, and measures round trips.
//!
//! 1. An echo request is answered by the reply of its sequence number; a SYN by the SYN-ACK that acknowledges it; the
//!    datagrams of a UDP flow by any of its replies.
//! 2. A request counts once, however often it is sent, and is answered once a reply was delivered.
//! 3. A round trip is from the request's first observation to the reply's last, if one node's clock read both: it then has no
//!    clock error. The round trip of a request that was sent twice is unknown (Karn's rule).
//!
//! Limits: the newest [`KEPT`] exchanges are remembered.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use tracer_common::wire::tcp_flag;

use super::finished::{ExchangeKind, Exchanged, RoundTrips};
use super::histogram::Histogram;
use podtrace_path::{Direction, Path, Protocol, Reading, Segment, Verdict};

/// How many exchanges wait for an answer, or are remembered to recognise a repetition: fewer than there are sequence numbers of
/// echo requests, which begin again in a long ping.
const KEPT: usize = 1 << 15;

/// All exchanges of a trace.
#[derive(Clone, Debug, Default)]
pub(super) struct Exchanges {
    known: FxHashMap<Key, Exchange>,
    /// The oldest first.
    order: VecDeque<Key>,
    counts: [Counts; 3],
}

/// An exchange: its flow, its kind, and what tells it from others of the flow.
type Key = (u64, ExchangeKind, u32);

#[derive(Clone, Copy, Debug, Default)]
struct Exchange {
    asked: Option<Reading>,
    /// Requests that no reply has answered yet.
    requests: u32,
    answered: bool,
    /// A reply that was reported before its request.
    early: Option<Reading>,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    asked: u64,
    answered: u64,
    round_trips: Histogram,
}

/// A round trip that was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RoundTrip {
    pub(super) kind: ExchangeKind,
    pub(super) ns: i64,
}

/// What a path adds to the exchange that it is part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Whether it is a request that has to be answered, sent for the first time: of UDP it is unknown which have.
    pub(super) asks: bool,
    /// Whether it is the first answer to such a request.
    pub(super) answers: bool,
    /// The round trip that it completes.
    pub(super) round_trip: Option<RoundTrip>,
}

impl Exchanges {
    /// Adds a path.
    pub(super) fn add(&mut self, path: &Path) -> Progress {
        let Some((kind, number, is_reply)) = part(path) else { return Progress::default() };
        let key = (path.flow.id, kind, number);
        if !self.known.contains_key(&key) {
            if self.order.len() >= KEPT
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
            self.order.push_back(key);
        }
        let exchange = self.known.entry(key).or_default();
        let counts = &mut self.counts[kind as usize];
        let (asked, answered) = (counts.asked, counts.answered);
        let ns = match path.seen {
            Some((_, last)) if is_reply && path.verdict == Verdict::Delivered => exchange.reply(last, counts),
            Some((first, _)) if !is_reply => exchange.request(first, counts),
            _ => None,
        };
        if let Some(ns) = ns {
            counts.round_trips.record(ns);
        }
        let has_to_be_answered = kind != ExchangeKind::Datagram;
        Progress {
            // A reset or an ICMP error is an answer, too.
            asks: has_to_be_answered && counts.asked > asked && path.verdict != Verdict::Rejected,
            answers: has_to_be_answered && counts.answered > answered,
            round_trip: ns.map(|ns| RoundTrip { kind, ns }),
        }
    }

    /// What there was of each kind. If answers may not have been traced, their number is unknown rather than 0. A sample has
    /// echoes and handshakes whole, since the same number decides of request and answer; datagrams have none in common.
    pub(super) fn finished(&self, are_answers_traced: bool, is_sampled: bool) -> Vec<Exchanged> {
        let is_known = |kind, counts: &Counts| {
            let may_be_left_out = is_sampled && kind == ExchangeKind::Datagram;
            !may_be_left_out && (are_answers_traced || counts.answered > 0)
        };
        let kinds = [ExchangeKind::Echo, ExchangeKind::Handshake, ExchangeKind::Datagram];
        let finished = kinds.into_iter().zip(&self.counts).map(|(kind, counts)| Exchanged {
            kind,
            asked: counts.asked,
            answered: is_known(kind, counts).then_some(counts.answered),
            rtt: round_trips(&counts.round_trips),
        });
        finished
            .filter(|exchanged| {
                exchanged.asked > 0 || exchanged.answered.is_some_and(|answered| answered > 0)
            })
            .collect()
    }
}

/// The figures of round trips; `None` without one.
pub(super) fn round_trips(histogram: &Histogram) -> Option<RoundTrips> {
    (histogram.count() > 0).then(|| RoundTrips {
        count: histogram.count(),
        min_ns: histogram.min(),
        avg_ns: histogram.average(),
        p99_ns: histogram.percentile(99),
        max_ns: histogram.max(),
    })
}

impl Exchange {
    fn request(&mut self, at: Reading, counts: &mut Counts) -> Option<i64> {
        if self.asked.is_none() {
            counts.asked += 1;
        }
        self.requests += 1;
        self.asked = Some(at);
        let early = self.early.take()?;
        self.requests = 0;
        between(at, early)
    }

    fn reply(&mut self, at: Reading, counts: &mut Counts) -> Option<i64> {
        if !std::mem::replace(&mut self.answered, true) {
            counts.answered += 1;
        }
        let Some(asked) = self.asked else {
            self.early = Some(at);
            return None;
        };
        // Which of several requests it answers is unknown.
        let is_only_one = self.requests == 1;
        self.requests = self.requests.saturating_sub(1);
        if is_only_one { between(asked, at) } else { None }
    }
}

/// The time between two readings of one clock.
fn between(request: Reading, reply: Reading) -> Option<i64> {
    let ns = reply.at_ns.checked_sub(request.at_ns)?;
    (request.node == reply.node && ns >= 0).then_some(ns)
}

/// Which exchange a packet is part of, and whether it is the reply.
fn part(path: &Path) -> Option<(ExchangeKind, u32, bool)> {
    let is_reply = path.flow.direction == Direction::Reply;
    match path.segment {
        Some(Segment::Echo { reply, seq }) => Some((ExchangeKind::Echo, u32::from(seq), reply)),
        Some(Segment::Tcp { seq, ack, flags }) => {
            match (flags & tcp_flag::SYN != 0, flags & tcp_flag::ACK != 0) {
                (true, false) => Some((ExchangeKind::Handshake, seq, false)),
                (true, true) => Some((ExchangeKind::Handshake, ack.wrapping_sub(1), true)),
                (false, _) => None,
            }
        }
        None => (path.proto == Protocol::Udp).then_some((ExchangeKind::Datagram, 0, is_reply)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    fn echo(flow: u64, seq: u16, reply: bool, at_ns: i64) -> Path {
        let mut path = if reply { samples::cross_node_reply() } else { samples::cross_node_request() };
        path.flow.id = flow;
        path.segment = Some(Segment::Echo { reply, seq });
        let far = Reading { node: 1, at_ns: 1_000_000 };
        let near = Reading { node: 0, at_ns };
        path.seen = Some(if reply { (far, near) } else { (near, far) });
        path
    }

    fn tcp(seq: u32, ack: u32, flags: u8, at_ns: i64) -> Path {
        let reply = flags & tcp_flag::ACK != 0;
        Path { segment: Some(Segment::Tcp { seq, ack, flags }), ..echo(1, 0, reply, at_ns) }
    }

    fn ns(progress: Progress) -> Option<i64> {
        progress.round_trip.map(|round_trip| round_trip.ns)
    }

    #[test]
    fn echoes_pair_by_sequence_number_in_either_order() {
        let mut exchanges = Exchanges::default();
        assert_eq!(ns(exchanges.add(&echo(1, 1, false, 100))), None);
        assert_eq!(ns(exchanges.add(&echo(1, 2, false, 200))), None);
        assert_eq!(ns(exchanges.add(&echo(1, 2, true, 260))), Some(60));
        assert_eq!(ns(exchanges.add(&echo(2, 1, true, 900))), None, "of another flow");
        assert_eq!(ns(exchanges.add(&echo(2, 1, false, 850))), Some(50));
        let [finished] = exchanges.finished(true, false).try_into().unwrap();
        assert_eq!((finished.kind, finished.asked, finished.answered), (ExchangeKind::Echo, 3, Some(2)));
        let rtt = finished.rtt.unwrap();
        assert_eq!((rtt.count, rtt.min_ns, rtt.avg_ns, rtt.max_ns), (2, 50, 55, 60));
    }

    #[test]
    fn readings_of_two_clocks_make_no_round_trip() {
        let mut exchanges = Exchanges::default();
        exchanges.add(&echo(1, 1, false, 100));
        let mut reply = echo(1, 1, true, 200);
        reply.seen = reply.seen.map(|(first, _)| (first, first));
        assert_eq!(ns(exchanges.add(&reply)), None);
        assert_eq!(exchanges.finished(true, false)[0].answered, Some(1));
    }

    #[test]
    fn a_handshake_sent_twice_is_one_without_a_time() {
        let mut exchanges = Exchanges::default();
        exchanges.add(&tcp(7, 0, tcp_flag::SYN, 0));
        assert_eq!(ns(exchanges.add(&tcp(90, 8, tcp_flag::SYN | tcp_flag::ACK, 70))), Some(70));
        exchanges.add(&tcp(1_000, 0, tcp_flag::SYN, 100));
        exchanges.add(&tcp(1_000, 0, tcp_flag::SYN, 1_100));
        assert_eq!(ns(exchanges.add(&tcp(90, 1_001, tcp_flag::SYN | tcp_flag::ACK, 1_170))), None);
        assert_eq!(ns(exchanges.add(&tcp(8, 91, tcp_flag::ACK, 80))), None);
        assert_eq!(
            (exchanges.finished(true, false)[0].asked, exchanges.finished(true, false)[0].answered),
            (2, Some(2))
        );
    }

    #[test]
    fn a_reply_that_did_not_arrive_is_no_answer() {
        let mut exchanges = Exchanges::default();
        exchanges.add(&echo(1, 1, false, 100));
        exchanges.add(&Path { verdict: Verdict::Dropped, ..echo(1, 1, true, 200) });
        let finished = &exchanges.finished(true, false)[0];
        assert_eq!((finished.asked, finished.answered, finished.rtt), (1, Some(0), None));
        assert_eq!(exchanges.finished(false, false)[0].answered, None, "answers are not traced");
    }

    #[test]
    fn datagrams_are_an_exchange_a_flow() {
        let mut exchanges = Exchanges::default();
        let datagram =
            |reply, at_ns| Path { proto: Protocol::Udp, segment: None, ..echo(1, 0, reply, at_ns) };
        exchanges.add(&datagram(false, 0));
        assert_eq!(ns(exchanges.add(&datagram(true, 30))), Some(30));
        exchanges.add(&datagram(false, 100));
        exchanges.add(&datagram(false, 101));
        assert_eq!(ns(exchanges.add(&datagram(true, 140))), None, "which one it answers is unknown");
        exchanges.add(&datagram(false, 200));
        assert_eq!(ns(exchanges.add(&datagram(true, 240))), None, "one was open before");
        assert_eq!(ns(exchanges.add(&datagram(true, 260))), Some(60));
        let [finished] = exchanges.finished(true, false).try_into().unwrap();
        assert_eq!((finished.kind, finished.asked, finished.answered), (ExchangeKind::Datagram, 1, Some(1)));
    }

    #[test]
    fn a_sample_has_answers_of_echoes_and_says_nothing_of_those_of_datagrams() {
        let mut exchanges = Exchanges::default();
        exchanges.add(&echo(1, 1, false, 100));
        let datagram = |reply| Path { proto: Protocol::Udp, segment: None, ..echo(2, 0, reply, 0) };
        exchanges.add(&datagram(false));
        exchanges.add(&datagram(true));
        let [echo, datagram] = exchanges.finished(true, true).try_into().unwrap();
        assert_eq!((echo.asked, echo.answered), (1, Some(0)));
        assert_eq!((datagram.asked, datagram.answered), (1, None));
    }
}
