//! `--stats`: the nodes' counts as tables. On a terminal they are drawn again with each snapshot; at the end they stand.
//!
//! Input: snapshots, of which the newest of each node counts. Output: for each node what passed its devices, one line for
//! each side and way, and what its kernel dropped.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::Report;
use super::layout::{Align, write_line, write_table};
use super::phrase::{BAD, DIM, DOUBT, NAME, PLAIN, Phrase};
use super::summary::{losses, sample};
use super::timing::span;
use super::words::thousands;
use podtrace_path::{Path, Summary};
use podtrace_protocol::stats::{DropStats, Stats, TapStats, Way};

/// Lines of drops of a node at most; the rest is counted.
const DROPS: usize = 12;

const TAP_COLUMNS: [Align; 6] = [
    Align::Left,  // device and side
    Align::Left,  // way
    Align::Right, // packets
    Align::Right, // on the wire
    Align::Right, // bytes
    Align::Left,  // times
];

const DROP_COLUMNS: [Align; 3] = [Align::Right, Align::Left, Align::Left];

/// The tables.
#[derive(Debug)]
pub struct StatsTable<W> {
    out: W,
    width: usize,
    /// Whether they are drawn again with each snapshot.
    is_live: bool,
    /// Lines on the terminal.
    drawn: usize,
    nodes: BTreeMap<String, Stats>,
}

impl<W: Write> StatsTable<W> {
    /// Writes to `out`, of so many columns. `is_live` if that is a terminal whose cursor can be moved.
    pub fn new(out: W, width: usize, is_live: bool) -> Self {
        Self { out, width, is_live, drawn: 0, nodes: BTreeMap::new() }
    }

    fn draw(&mut self, text: &str) -> io::Result<()> {
        if self.drawn > 0 {
            // To the first line that was drawn, and everything from there on erased.
            write!(self.out, "\x1b[{}A\x1b[J", self.drawn)?;
        }
        self.drawn = text.lines().count();
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn tables(&self) -> String {
        let mut text = String::new();
        for (name, stats) in &self.nodes {
            node(name, stats, self.width, &mut text);
        }
        text
    }
}

impl<W: Write> Report for StatsTable<W> {
    /// There are none.
    fn path(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn stats(&mut self, node: &str, stats: &Stats) -> io::Result<()> {
        self.nodes.insert(node.to_owned(), stats.clone());
        if self.is_live { self.draw(&self.tables()) } else { Ok(()) }
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let mut text = self.tables();
        let mut lines = Vec::new();
        if let Some(sampled) = summary.sample {
            lines.push(sample(&sampled));
        }
        if let Some(losses) = losses(summary) {
            lines.push(Phrase::new().with(BAD, losses));
        }
        lines.push(Phrase::new().with(
            DIM,
            "counted in the kernel, at each device by itself: a packet counts where it passes, on every node",
        ));
        for line in lines {
            write_line(&line, 0, 2, self.width, &mut text);
        }
        self.draw(&text)
    }
}

fn node(name: &str, stats: &Stats, width: usize, text: &mut String) {
    let about = "  packets, on the wire, bytes; time since first seen on the node";
    write_line(&Phrase::new().with(NAME, name).with(DIM, about), 0, 2, width, text);
    if stats.taps.is_empty() {
        write_line(&Phrase::new().with(DIM, "no packet passed"), 2, 2, width, text);
    }
    let rows: Vec<_> = stats.taps.iter().map(tap).collect();
    write_table(&rows, &TAP_COLUMNS, width, text);
    if !stats.drops.is_empty() {
        let about = "freed by the kernel as drops, by reason and place; not each is a loss";
        write_line(&Phrase::new().with(PLAIN, about), 2, 2, width, text);
    }
    let mut drops: Vec<_> = stats.drops.iter().collect();
    drops.sort_by_key(|drop| std::cmp::Reverse(drop.packets));
    let rows: Vec<_> = drops.iter().take(DROPS).map(|drop| dropped(drop)).collect();
    write_table(&rows, &DROP_COLUMNS, width, text);
    let rest: u64 = drops.iter().skip(DROPS).map(|drop| drop.packets).sum();
    if rest > 0 {
        let more = format!("and {} packets at {} more places", thousands(rest), drops.len() - DROPS);
        write_line(&Phrase::new().with(DIM, more), 2, 2, width, text);
    }
    text.push('\n');
}

fn tap(tap: &TapStats) -> Vec<Phrase> {
    let TapStats { device, point, way, packets, wire_packets, bytes, times } = tap;
    let side = if point == "tc:ingress" { "in" } else { "out" };
    let way = match way {
        Way::Request => "request",
        Way::Reply => "reply",
        Way::Unknown => "either way",
    };
    let number = |number: u64| Phrase::new().with(PLAIN, thousands(number));
    let on_the_wire = if wire_packets == packets { Phrase::new() } else { number(*wire_packets) };
    let short = |percent| times.percentile(percent).map_or("25 ms or more".to_owned(), time);
    let times = match times.count() {
        0 => Phrase::new(),
        _ => Phrase::new().with(PLAIN, format!("p50 {} p90 {} p99 {}", short(50), short(90), short(99))),
    };
    vec![
        Phrase::new().with(NAME, device.as_str()).with(PLAIN, format!(" {side}")),
        Phrase::new().with(PLAIN, way),
        number(*packets),
        on_the_wire,
        number(*bytes).with(DIM, " B"),
        times,
    ]
}

fn time(ns: u64) -> String {
    span(i64::try_from(ns).unwrap_or(i64::MAX))
}

fn dropped(drop: &DropStats) -> Vec<Phrase> {
    let DropStats { reason, location, pod, packets, bytes: _ } = drop;
    let place = match pod {
        Some(pod) => format!("in {location}, inside {pod}"),
        None => format!("in {location}"),
    };
    vec![
        Phrase::new().with(PLAIN, thousands(*packets)),
        Phrase::new().with(DOUBT, reason.as_deref().unwrap_or("no reason given")),
        Phrase::new().with(PLAIN, place),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use podtrace_protocol::stats::Times;

    fn stats(packets: u64) -> Stats {
        let tap = |device: &str, point: &str, buckets: Vec<(Option<u64>, u64)>| TapStats {
            device: device.to_owned(),
            point: point.to_owned(),
            way: Way::Request,
            packets,
            wire_packets: if device == "eth0" { 45 * packets } else { packets },
            bytes: 98 * packets,
            times: Times { sum_ns: 0, buckets },
        };
        let drop = DropStats {
            reason: Some("NO_SOCKET\u{1b}[2J".to_owned()),
            location: "icmp_rcv".to_owned(),
            pod: Some("default/pod1".to_owned()),
            packets: 7,
            bytes: 98,
        };
        let buckets = vec![(Some(14_335), packets - 1), (None, 1)];
        let taps = vec![tap("veth63febee9", "tc:ingress", vec![]), tap("eth0", "tc:egress", buckets)];
        Stats { now_ns: 0, taps, drops: vec![drop] }
    }

    fn shown(is_live: bool) -> String {
        let mut out = Vec::new();
        let mut table = StatsTable::new(&mut out, 80, is_live);
        table.stats("node1", &stats(1_000)).unwrap();
        table.stats("node1", &stats(1_234_567)).unwrap();
        table.summary(&Summary { complete: true, ..Summary::default() }).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_last_snapshot_stands_at_the_end() {
        let text = anstream::adapter::strip_str(&shown(false)).to_string();
        assert_eq!(
            text,
            "node1  packets, on the wire, bytes; time since first seen on the node\n  \
             veth63febee9 in  request  1,234,567              120,987,566 B\n  \
             eth0 out         request  1,234,567  55,555,515  120,987,566 B  p50 14.3 µs\n  \
             \u{20}                                                               p90 14.3 µs\n  \
             \u{20}                                                               p99 14.3 µs\n  \
             freed by the kernel as drops, by reason and place; not each is a loss\n  \
             7  NO_SOCKET\\u{1b}[2J  in icmp_rcv, inside default/pod1\n\
             \n\
             counted in the kernel, at each device by itself: a packet counts where it\n  passes, on every node\n"
        );
    }

    #[test]
    fn a_terminal_sees_each_snapshot_in_the_place_of_the_one_before() {
        let text = shown(true);
        assert_eq!(text.matches("\u{1b}[J").count(), 2);
        assert!(text.contains("1,000") && !shown(false).contains("1,000 "), "{text}");
    }
}
