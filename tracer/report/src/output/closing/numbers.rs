//! Requests, answers and round trips, as ping ends with them; and what was sent again.

use crate::output::phrase::{BAD, DOUBT, GOOD, PLAIN, Phrase};
use crate::output::timing::Unit;
use crate::output::words::thousands;
use crate::totals::{Estimate, ExchangeKind, Exchanged, Finished, Flow, RoundTrips, Totals, failed};
use podtrace_path::Protocol;

/// One line for each kind of exchange.
pub(super) fn lines(finished: &Finished) -> Vec<Phrase> {
    let totals = &finished.totals;
    // Answers alone, as where a filter hides the requests, say nothing of what was answered.
    let asked = totals.exchanges.iter().filter(|exchanged| exchanged.asked > 0);
    let mut lines: Vec<_> = asked.map(|exchanged| exchange(exchanged, totals)).collect();
    lines.extend(unanswered(finished));
    lines.extend(totals.sample.filter(|sample| sample.estimated_paths > 0).map(estimate));
    if totals.retransmitted > 0 {
        let segments = if totals.retransmitted == 1 { "segment" } else { "segments" };
        let text = format!("{} TCP {segments} sent again", thousands(totals.retransmitted));
        lines.push(Phrase::new().with(DOUBT, text));
    }
    lines
}

/// `about 5,200 packets in all: an estimate by those sampled, 1 in 100`.
fn estimate(estimate: Estimate) -> Phrase {
    let Estimate { one_in, estimated_paths } = estimate;
    let about = format!("about {} packets in all", thousands(estimated_paths));
    let by = format!(": an estimate by those sampled, 1 in {}", thousands(u64::from(one_in.get())));
    Phrase::new().with(DOUBT, about).with(PLAIN, by)
}

/// Connection attempts that arrived and that nothing answered, with the likeliest cause: TCP drops a SYN without reporting it
/// where the queue of connections to accept is full. Only attempts that were sent again: the answer to another may have come
/// after the trace.
fn unanswered(finished: &Finished) -> Option<Phrase> {
    let is_so = |flow: &&Flow| {
        flow.proto == Protocol::Tcp
            && failed(&flow.paths) + flow.paths.open == 0
            && flow.reply.packets == 0
            && flow.request.retransmitted > 0
            && flow.unanswered.is_some_and(|unanswered| unanswered > 0)
    };
    let flows = || finished.flows.iter().filter(is_so);
    let first = flows().next()?;
    let to = first.endpoint.as_ref().unwrap_or(&first.to);
    let (pod, port) = (to.pod.as_deref()?, to.port?);
    let to_it = flows().filter(|flow| flow.endpoint.as_ref().unwrap_or(&flow.to) == to).count() as u64;
    let attempts = if to_it == 1 { "attempt" } else { "attempts" };
    Some(Phrase::new().with(
        DOUBT,
        format!(
            "{} {attempts} reached {pod} on port {port} and got no answer, not even a reset; possibly the program accepts \
             connections too slowly and its queue is full. In {pod}: `ss -lnt sport = :{port}` (Recv-Q against Send-Q)",
            thousands(to_it)
        ),
    ))
}

/// `10 echo requests, 10 answered, 0% unanswered · rtt min/avg/p99/max 68.1/74.0/90.2/90.2 µs`.
fn exchange(exchanged: &Exchanged, totals: &Totals) -> Phrase {
    let Exchanged { kind, asked, answered, rtt } = *exchanged;
    let (one, many, done) = match kind {
        ExchangeKind::Echo => ("echo request", "echo requests", "answered"),
        ExchangeKind::Handshake => ("TCP connection attempt", "TCP connection attempts", "accepted"),
        ExchangeKind::Datagram => ("UDP flow", "UDP flows", "with replies"),
    };
    let mut phrase =
        Phrase::new().with(PLAIN, format!("{} {}", thousands(asked), if asked == 1 { one } else { many }));
    if let Some(answered) = answered {
        // A UDP flow without a reply may never have expected one.
        let style = match kind {
            _ if answered >= asked => GOOD,
            _ if !totals.complete => DOUBT,
            ExchangeKind::Datagram => PLAIN,
            ExchangeKind::Echo | ExchangeKind::Handshake => BAD,
        };
        phrase.push(PLAIN, ", ");
        phrase.push(style, format!("{} {done}", thousands(answered)));
        if !totals.complete && answered < asked {
            phrase.push(style, " as far as events were seen: some are missing");
        } else if totals.limited && answered < asked {
            phrase.push(PLAIN, " before the trace ended (--count)");
        } else if kind == ExchangeKind::Echo {
            phrase.push(style, format!(", {}% unanswered", lost(asked, answered)));
        }
    }
    if answered.is_none() && asked > 0 {
        let why = match totals.sample {
            Some(_) if kind == ExchangeKind::Datagram => ", replies may be outside the sample",
            _ => ", answers were not traced",
        };
        phrase.push(PLAIN, why);
    }
    if let Some(rtt) = rtt {
        phrase.push(PLAIN, format!(" · rtt {}", figures(&rtt)));
    }
    phrase
}

fn figures(rtt: &RoundTrips) -> String {
    let RoundTrips { count, min_ns, avg_ns, p99_ns, max_ns } = *rtt;
    // Not in seconds, however long the longest is: the shortest is to be read as well.
    let unit =
        if Unit::for_up_to(max_ns) == Unit::Microseconds { Unit::Microseconds } else { Unit::Milliseconds };
    let number = |ns| unit.number(i64::try_from(ns).unwrap_or(i64::MAX));
    match count {
        1 => format!("{} {}", number(max_ns), unit.symbol()),
        _ => format!(
            "min/avg/p99/max {}/{}/{}/{} {}",
            number(min_ns),
            number(avg_ns),
            number(p99_ns),
            number(max_ns),
            unit.symbol()
        ),
    }
}

/// The share that was not answered, in percent: `0`, `0.4`, `12`. Never `0` if one was not.
fn lost(asked: u64, answered: u64) -> String {
    let missing = u128::from(asked.saturating_sub(answered));
    let per_mille = (missing * 1_000).div_ceil(u128::from(asked.max(1)));
    match (per_mille, per_mille % 10) {
        (0..100, tenths) if tenths > 0 => format!("{}.{tenths}", per_mille / 10),
        (per_mille, _) => (per_mille / 10).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use podtrace_path::{Direction, Path, Reading, Segment, Verdict};
    use tracer_common::wire::tcp_flag;

    use super::*;
    use crate::output::{plain::plain, samples};
    use crate::totals::{self, Collector};

    #[test]
    fn an_exchange_ends_like_ping() {
        let rtt = RoundTrips { count: 10, min_ns: 68_100, avg_ns: 74_000, p99_ns: 90_200, max_ns: 90_200 };
        let exchanged = Exchanged { kind: ExchangeKind::Echo, asked: 10, answered: Some(9), rtt: Some(rtt) };
        let whole = Totals { complete: true, ..Totals::default() };
        assert_eq!(
            plain(&exchange(&exchanged, &whole)),
            "10 echo requests, 9 answered, 10% unanswered · rtt min/avg/p99/max 68.1/74.0/90.2/90.2 µs"
        );
        let one = Exchanged { kind: ExchangeKind::Handshake, asked: 1, answered: Some(0), rtt: None };
        assert_eq!(plain(&exchange(&one, &whole)), "1 TCP connection attempt, 0 accepted");
        let ended = " before the trace ended (--count)";
        let limited = Totals { limited: true, ..whole.clone() };
        assert_eq!(plain(&exchange(&one, &limited)), format!("1 TCP connection attempt, 0 accepted{ended}"));
        let lossy = Totals { complete: false, ..whole.clone() };
        let missing = " as far as events were seen: some are missing";
        assert_eq!(plain(&exchange(&one, &lossy)), format!("1 TCP connection attempt, 0 accepted{missing}"));
        let one_way = Exchanged { answered: None, ..one };
        assert_eq!(plain(&exchange(&one_way, &whole)), "1 TCP connection attempt, answers were not traced");
    }

    #[test]
    fn a_sample_is_scaled_to_an_estimate() {
        let sample = Estimate { one_in: 100.try_into().unwrap(), estimated_paths: 5_200 };
        let totals = Totals { complete: true, sample: Some(sample), ..Totals::default() };
        let finished = Finished { totals: totals.clone(), ..Finished::default() };
        let lines: Vec<_> = lines(&finished).iter().map(plain).collect();
        assert_eq!(lines, ["about 5,200 packets in all: an estimate by those sampled, 1 in 100"]);
        let flow = Exchanged { kind: ExchangeKind::Datagram, asked: 1, answered: None, rtt: None };
        assert_eq!(plain(&exchange(&flow, &totals)), "1 UDP flow, replies may be outside the sample");
    }

    #[test]
    fn attempts_that_nothing_answered_are_named_where_they_arrived() {
        let syn = |flow: u64| {
            let mut path = samples::cross_node_request();
            (path.flow.id, path.proto, path.to.port) = (flow, Protocol::Tcp, Some(80));
            path.segment = Some(Segment::Tcp { seq: 7, ack: 0, flags: tcp_flag::SYN });
            let at = Reading { node: 0, at_ns: 0 };
            path.seen = Some((at, at));
            path
        };
        let said = |paths: &[Path], end: totals::End| {
            let mut collector = Collector::default();
            paths.iter().for_each(|path| collector.add(path));
            unanswered(&collector.finished(end)).map(|phrase| plain(&phrase))
        };
        let text = said(&[syn(1), syn(1), syn(2), syn(2)], totals::End::default()).unwrap();
        assert!(
            text.starts_with(
                "2 attempts reached default/pod3 on port 80 and got no answer, not even a reset"
            )
        );
        let mut reset =
            Path { segment: Some(Segment::Tcp { seq: 0, ack: 8, flags: tcp_flag::RST }), ..syn(1) };
        reset.flow.direction = Direction::Reply;
        assert_eq!(said(&[syn(1)], totals::End::default()), None, "its answer may have come later");
        assert_eq!(said(&[syn(1), syn(1), reset], totals::End::default()), None);
        assert_eq!(
            said(&[syn(1), Path { verdict: Verdict::Dropped, ..syn(1) }], totals::End::default()),
            None
        );
        let limited = totals::End { is_limited: true, ..totals::End::default() };
        assert_eq!(said(&[syn(1), syn(1)], limited), None);
    }

    #[test]
    fn a_loss_is_never_nothing() {
        for (asked, answered, text) in [
            (10, 10, "0"),
            (200, 198, "1"),
            (10_000, 9_999, "0.1"),
            (1_000, 985, "1.5"),
            (3, 0, "100"),
            (0, 0, "0"),
        ] {
            assert_eq!(lost(asked, answered), text);
        }
    }
}
