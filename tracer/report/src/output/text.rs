//! `-o text`: prints each path as a header line, one line per hop, and its verdict.
//!
//! Input: finished [`Path`]s, cluster changes, what is damaged in a recording, and at the end the summary. Output: styled
//! text.
//!
//! 1. A path starts with a header line: verdict, path and flow number, packet, endpoints, size.
//! 2. Each hop is a table row: node, time since the previous hop, device, description. The node is printed only where it
//!    changes. The times add up to the path's duration, and a slow hop is easy to spot.
//! 3. A row for the wire separates two nodes. Two clocks measured its time, so it has an error bound.
//! 4. Below the table: the verdict, advice, and notes on an ambiguous match.
//! 5. An empty line separates paths, except a request from the reply that directly follows it.
//!
//! `-o wide` differs in the table only, see [`wide`]. Both always write colours; the caller's writer strips them where they
//! are not wanted.

use std::io::{self, Write};

use super::phrase::{Align, CHANGED, DIM, NAME, PLAIN, Phrase, WIRE, write_table};
use super::summary::SummaryNotes;
use super::timing::{Step, Unit, steps};
use super::verdict;
use super::words::{address, bytes, describe_hop, device, endpoint_name, protocol};
use super::{Report, change, wide};
use podtrace_path::{Change, Direction, End, FlowRef, Hop, Path, Summary, Translated, Verdict};

/// The text output. `-o text` and `-o wide` differ in the table of hops only.
#[derive(Debug)]
pub struct Text<W> {
    out: W,
    /// Appends a path's table and verdict to the text.
    push_table: fn(&Path, &mut String),
    notes: SummaryNotes,
    /// Flow of the path printed last; `None` before the first path.
    previous_flow: Option<FlowRef>,
    /// Whether a cluster change was printed after the last path.
    after_change: bool,
}

impl<W: Write> Text<W> {
    /// `-o text`.
    pub fn new(out: W) -> Self {
        Self { out, push_table, notes: SummaryNotes::default(), previous_flow: None, after_change: false }
    }

    /// `-o wide`: adds tuples, hook points, and times since the first hop.
    pub fn wide(out: W) -> Self {
        Self { push_table: wide::push_table, ..Self::new(out) }
    }

    /// Writes one part of the output at once, so that readers of a pipe see it immediately.
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

impl<W: Write> Report for Text<W> {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        self.notes.add_path(path);
        let mut text = String::new();
        let previous_flow = self.previous_flow.replace(path.flow);
        if std::mem::take(&mut self.after_change)
            || previous_flow.is_some_and(|previous| !is_reply_to(path.flow, previous))
        {
            text.push('\n');
        }
        header(path).write_line(0, &mut text);
        (self.push_table)(path, &mut text);
        self.write(&text)
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        let mut text = String::new();
        if self.previous_flow.is_some() && !self.after_change {
            text.push('\n');
        }
        self.after_change = true;
        change::line(change).write_line(0, &mut text);
        self.write(&text)
    }

    fn damage(&mut self, damage: &str) -> io::Result<()> {
        self.notes.set_damage(damage);
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let mut text = String::new();
        if self.previous_flow.is_some() || self.after_change {
            text.push('\n');
        }
        for line in self.notes.lines(summary) {
            line.write_line(0, &mut text);
        }
        self.write(&text)
    }
}

/// Whether a path is the reply to the request printed before it.
fn is_reply_to(flow: FlowRef, previous: FlowRef) -> bool {
    flow.id == previous.id && previous.direction == Direction::Request && flow.direction == Direction::Reply
}

/// The first line of a path: `✓ #1  flow 1 →  icmp echo request  pod1 10.42.0.10 → pod3 10.42.1.10  84 B`.
pub(super) fn header(path: &Path) -> Phrase {
    let mut phrase = verdict::mark(path.verdict);
    phrase.push(PLAIN, " ");
    phrase.push(NAME, format!("#{}", path.id));
    let arrow = match path.flow.direction {
        Direction::Request => "→",
        Direction::Reply => "←",
    };
    phrase.append(DIM, format!("flow {} ", path.flow.id));
    phrase.push(PLAIN, arrow);
    phrase.append(NAME, protocol(path.proto));
    phrase.push(PLAIN, " ");
    phrase.push(NAME, &path.label);
    phrase.push(PLAIN, "  ");
    push_endpoint(&path.from, &mut phrase);
    phrase.push(PLAIN, " → ");
    push_endpoint(&path.to, &mut phrase);
    // DNAT changes where the packet goes, so the header shows it. SNAT is in the hops only.
    if let Some(Translated { to, .. }) =
        path.translated.as_deref().filter(|translated| translated.to != path.to)
    {
        phrase.push(CHANGED, " ⇒ ");
        push_endpoint(to, &mut phrase);
    }
    phrase.append(PLAIN, bytes(path.bytes));
    phrase
}

/// Adds `default/pod1 10.42.0.10:80` to a header.
fn push_endpoint(endpoint: &End, header: &mut Phrase) {
    if let Some(name) = endpoint_name(endpoint) {
        header.push(NAME, name);
        header.push(PLAIN, " ");
    }
    header.push(PLAIN, address(endpoint.ip, endpoint.port));
}

/// Appends the table of hops and the verdict.
fn push_table(path: &Path, text: &mut String) {
    let unit = Unit::of(path);
    let mut rows = Vec::with_capacity(path.hops.len() + 1);
    let mut previous = None;
    for (hop, mut step) in path.hops.iter().zip(steps(&path.hops)) {
        let position = Position::of(hop, previous);
        if let Position::NextNode { from } = position {
            // The wire's row has the step, so the hop's own row has none.
            rows.push(wire_row(from, &hop.node, step.take(), unit));
        }
        let mut description = describe_hop(hop, previous);
        if let Some(error) = step.and_then(|step| step.error_ns) {
            description.append(DIM, format!("{} clock error", unit.error(error)));
        }
        rows.push(vec![position.node_cell(hop), step_cell(step, unit), device(hop), description]);
        if let Some(step) = queue_step(hop) {
            let queued = Phrase::new().with(CHANGED, QUEUED);
            rows.push(vec![Phrase::new(), step_cell(Some(step), unit), device(hop), queued]);
        }
        if let Some(advice) = harmless_drop_advice(path, hop) {
            rows.push(vec![Phrase::new(), Phrase::new(), Phrase::new(), verdict::advice(advice)]);
        }
        previous = Some(hop);
    }
    write_table(&rows, &[Align::Left, Align::Right, Align::Left, Align::Left], text);
    for line in verdict::lines(path, unit) {
        line.write_line(2, text);
    }
}

/// Whether a hop is on the same node as the previous hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position<'a> {
    /// There is no previous hop.
    First,
    /// On the same node.
    SameNode,
    /// On another node.
    NextNode {
        /// Name of the previous hop's node.
        from: &'a str,
    },
}

impl<'a> Position<'a> {
    /// Compares a hop with the previous one.
    pub(super) fn of(hop: &Hop, previous: Option<&'a Hop>) -> Self {
        match previous {
            None => Self::First,
            Some(previous) if previous.node == hop.node => Self::SameNode,
            Some(previous) => Self::NextNode { from: &previous.node },
        }
    }

    /// The node's name, where it differs from that of the previous hop.
    pub(super) fn node_cell(self, hop: &Hop) -> Phrase {
        match self {
            Self::SameNode => Phrase::new(),
            Self::First | Self::NextNode { .. } => Phrase::new().with(NAME, &hop.node),
        }
    }
}

/// Description of the row for the time in a device's queue.
pub(super) const QUEUED: &str = "queued";

/// The time that the packet spent in the device's queue after this hop, as a step of its own; `None` if it was not queued.
pub(super) fn queue_step(hop: &Hop) -> Option<Step> {
    Some(Step { delta_ns: hop.queued_ns?, error_ns: None })
}

/// Time since the previous hop: `+24.1 µs`; empty without a step.
pub(super) fn step_cell(step: Option<Step>, unit: Unit) -> Phrase {
    step.map_or_else(Phrase::new, |step| {
        Phrase::new().with(PLAIN, unit.signed(step.delta_ns)).with(DIM, format!(" {}", unit.symbol()))
    })
}

/// Error bound of the time on the wire, which two clocks measured: `±3.0 µs`.
pub(super) fn wire_error_cell(step: Option<Step>, unit: Unit) -> Phrase {
    match step {
        Some(Step { error_ns, .. }) => Phrase::new().with(PLAIN, unit.error(error_ns.unwrap_or(0))),
        None => Phrase::new().with(DIM, "no time"),
    }
}

/// The row between the hops of two nodes: `~~~  +16.0 µs  ±16.0 µs  wire  node1 ⇒ node2`.
fn wire_row(from: &str, to: &str, step: Option<Step>, unit: Unit) -> Vec<Phrase> {
    let nodes = Phrase::new().with(WIRE, "wire  ").with(WIRE, format!("{from} ⇒ {to}"));
    vec![Phrase::new().with(WIRE, "~~~"), step_cell(step, unit), wire_error_cell(step, unit), nodes]
}

/// Advice for a drop that did not end the path, such as one of a flooded copy. Advice for the drop that did is below the
/// verdict.
pub(super) fn harmless_drop_advice<'a>(path: &Path, hop: &'a Hop) -> Option<&'a str> {
    if path.verdict == Verdict::Dropped {
        return None;
    }
    hop.drop.as_ref()?.advice.as_deref()
}
