//! The flows: those with failures first, then those without an answer, then those with the most bytes; or all of them as a table.

use super::{end, heading, more};
use crate::output::View;
use crate::output::layout::{Align, write_line, write_table};
use crate::output::phrase::{BAD, CHANGED, DIM, DOUBT, GOOD, NAME, PLAIN, Phrase};
use crate::output::timing::span;
use crate::output::words::{protocol, thousands};
use crate::totals::{Estimate, Finished, Flow, Totals, Way, failed, packets};
use podtrace_path::{Verdict, VerdictCounts};

const COLUMNS: [Align; 7] = [
    Align::Left,  // mark and number
    Align::Left,  // protocol
    Align::Right, // packets
    Align::Right, // bytes
    Align::Right, // round trip
    Align::Left,  // what failed, or was sent again
    Align::Left,  // ends
];

/// The section with at most so many lines; empty without a flow.
pub(super) fn section(finished: &Finished, width: usize, lines: usize) -> String {
    let Finished { flows, totals, .. } = finished;
    if flows.is_empty() {
        return String::new();
    }
    let mut order: Vec<_> = flows.iter().collect();
    order.sort_by_key(|flow| (std::cmp::Reverse((lost(flow), flow.unanswered, bytes(flow))), flow.id));
    let mut number = order.len().min(lines.saturating_sub(2)).max(1);
    loop {
        let mut text = String::new();
        write_rows(&order[..number], totals, width, &mut text);
        rest(&order[number..], totals, width, &mut text);
        // Ends may take two lines each.
        if text.lines().count() <= lines || number == 1 {
            return text;
        }
        number -= 1;
    }
}

/// All flows, those with failures first.
pub(super) fn table(finished: &Finished, view: &View) -> String {
    let Finished { flows, totals, .. } = finished;
    let wanted = |flow: &&Flow| {
        let VerdictCounts { delivered, dropped, vanished, rejected, open } = flow.paths;
        let counts = [
            (Verdict::Delivered, delivered),
            (Verdict::Dropped, dropped),
            (Verdict::Vanished, vanished),
            (Verdict::Rejected, rejected),
            (Verdict::Open, open),
        ];
        counts.iter().any(|(verdict, number)| *number > 0 && view.shows(*verdict))
    };
    let mut order: Vec<_> = flows.iter().filter(wanted).collect();
    order.sort_by_key(|flow| (lost(flow) == 0, flow.unanswered.unwrap_or(0) == 0, flow.id));
    let mut text = String::new();
    write_rows(&order, totals, view.width, &mut text);
    if totals.unlisted_flows > 0 {
        rest(&[], totals, view.width, &mut text);
    }
    text
}

fn write_rows(flows: &[&Flow], totals: &Totals, width: usize, text: &mut String) {
    let mut columns = "packets and bytes of request/reply, average round trip".to_owned();
    if let Some(Estimate { one_in, .. }) = totals.sample {
        columns.push_str(&format!("; of 1 in {} packets", thousands(u64::from(one_in.get()))));
    }
    write_line(&heading("FLOWS", &columns), 0, 2, width, text);
    let rows: Vec<_> = flows.iter().map(|flow| row(flow)).collect();
    write_table(&rows, &COLUMNS, width, text);
}

fn row(flow: &Flow) -> Vec<Phrase> {
    let Flow { id, proto, from, to, endpoint, request, reply, paths, unanswered, rtt, .. } = flow;
    let unanswered = unanswered.unwrap_or(0);
    let mut number = match (failed(paths), paths.open) {
        (0, 0) if unanswered > 0 => Phrase::new().with(DOUBT, "?"),
        (0, 0) => Phrase::new().with(GOOD, "✓"),
        (0, 1..) => Phrase::new().with(DOUBT, "…"),
        _ => Phrase::new().with(BAD, "✗"),
    };
    number.push(NAME, format!(" {id}"));
    let both = |request: String, reply: String| Phrase::new().with(PLAIN, format!("{request}/{reply}"));
    let mut notes = Phrase::new();
    for (number, name, style) in [
        (paths.dropped, "DROPPED", BAD),
        (paths.vanished, "VANISHED", BAD),
        (paths.rejected, "REFUSED", BAD),
        (paths.open, "open", DOUBT),
        (unanswered, "unanswered", DOUBT),
        (resent(flow), "resent", DOUBT),
    ] {
        if number > 0 {
            notes.push(PLAIN, if notes.is_empty() { "" } else { ", " });
            notes.push(style, format!("{} {name}", thousands(number)));
        }
    }
    let mut ends = end(from);
    ends.push(PLAIN, " → ");
    ends.join(end(to));
    if let Some(endpoint) = endpoint {
        ends.push(CHANGED, " ⇒ ");
        ends.join(end(endpoint));
    }
    let rtt = rtt.map_or_else(Phrase::new, |rtt| {
        let average = span(i64::try_from(rtt.rtt.avg_ns).unwrap_or(i64::MAX));
        Phrase::new().with(PLAIN, average)
    });
    vec![
        number,
        Phrase::new().with(PLAIN, protocol(*proto).trim_start_matches("ip ")),
        both(thousands(request.packets), thousands(reply.packets)),
        both(short(request.bytes), short(reply.bytes)).with(DIM, " B"),
        rtt,
        notes,
        ends,
    ]
}

/// The flows that are not shown.
fn rest(flows: &[&Flow], totals: &Totals, width: usize, text: &mut String) {
    let number = flows.len() as u64 + totals.unlisted_flows;
    if number == 0 {
        return;
    }
    let unlisted = &totals.unlisted_flow_paths;
    let failures: u64 = flows.iter().map(|flow| failed(&flow.paths)).sum::<u64>() + failed(unlisted);
    let open = flows.iter().map(|flow| flow.paths.open).sum::<u64>() + unlisted.open;
    let all = flows.iter().map(|flow| packets(flow)).sum::<u64>() + crate::totals::all(unlisted);
    let fate = match (failures, open) {
        (0, 0) => "all delivered".to_owned(),
        (0, open) => format!("{} open, all others delivered", thousands(open)),
        (failures, _) => format!("{} failed", thousands(failures)),
    };
    let flows = if number == 1 { "flow" } else { "flows" };
    let packets = if all == 1 { "packet" } else { "packets" };
    more(
        &format!("and {} more {flows} of {} {packets}, {fate}", thousands(number), thousands(all)),
        width,
        text,
    );
}

fn lost(flow: &Flow) -> u64 {
    failed(&flow.paths)
}

fn resent(flow: &Flow) -> u64 {
    flow.request.retransmitted + flow.reply.retransmitted
}

fn bytes(flow: &Flow) -> u64 {
    let Way { bytes: request, .. } = flow.request;
    request + flow.reply.bytes
}

/// A number of bytes in few characters: `640`, `12.3k`, `1.2G`.
#[expect(clippy::cast_precision_loss, reason = "for reading: three digits")]
pub(super) fn short(bytes: u64) -> String {
    let mut value = bytes as f64;
    if bytes < 10_000 {
        return bytes.to_string();
    }
    let mut unit = "";
    for next in ["k", "M", "G", "T", "P"] {
        if value < 999.5 {
            break;
        }
        value /= 1_000.0;
        unit = next;
    }
    if value < 99.95 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short() {
        for (bytes, text) in [
            (0, "0"),
            (9_999, "9999"),
            (12_345, "12.3k"),
            (999_999, "1.0M"),
            (95_000_000, "95.0M"),
            (u64::MAX, "18447P"),
        ] {
            assert_eq!(short(bytes), text);
        }
    }
}
