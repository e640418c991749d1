//! `-o text`: prints each path as a header line, one line per hop, and its verdict.
//!
//! Input: finished [`Path`]s, cluster changes, what is damaged in a recording, and at the end the totals and the summary.
//! Output: styled text.
//!
//! 1. A path starts with a header line: verdict, path and flow number, time of day, packet, endpoints, size.
//! 2. Each hop is a table row: node, time since the previous hop, device, description. The node is printed only where it
//!    changes. The times add up to the path's duration, and a slow hop is easy to spot.
//! 3. A row for the wire separates two nodes. Two clocks measured its time, so it has an error bound.
//! 4. Below the table: the verdict, advice, and notes on an ambiguous match.
//! 5. An empty line separates paths, except a request from the reply that directly follows it.
//! 6. What is like a path before is folded to a line or counted ([`fold`](super::fold)); the end sums it up
//!    ([`closing`]).
//!
//! `-o wide` differs in the table only, see [`wide`]. Both always write colours; the caller's writer strips them where they
//! are not wanted.

use std::io::{self, Write};

use super::closing::{self, Sections};
use super::fold::{Folding, Shown};
use super::layout::{Align, write_line, write_table};
use super::phrase::{CHANGED, DIM, DOUBT, NAME, PLAIN, Phrase, WIRE};
use super::summary::SummaryNotes;
use super::timing::{Step, Unit, span, steps};
use super::verdict;
use super::words::{
    address, bytes, describe_hop_of, device, endpoint_name, protocol, thousands, time_of_day,
};
use super::{Paths, Report, View, change, wide};
use crate::totals::{Finished, First};
use podtrace_path::{Change, Direction, End, FlowRef, Hop, Path, Summary, Translated, Verdict};

/// How far the continuation of a path's header is indented.
const CONTINUED: usize = 4;

/// The text output. `-o text` and `-o wide` differ in the table of hops only.
#[derive(Debug)]
pub struct Text<W> {
    out: W,
    view: View,
    /// Appends a path's table and verdict to the text, at most so many columns wide.
    push_table: fn(&Path, usize, &mut String),
    notes: SummaryNotes,
    folding: Folding,
    /// Paths that are not shown because of their verdict.
    hidden: u64,
    /// The last thing that was printed.
    last: Last,
}

/// What was printed last: a path in full is separated from it by an empty line, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Nothing,
    /// A path in full.
    Path(FlowRef),
    /// One line.
    Line,
}

impl<W: Write> Text<W> {
    /// `-o text`, for a terminal of any width.
    pub fn new(out: W) -> Self {
        Self {
            out,
            view: View::default(),
            push_table,
            notes: SummaryNotes::default(),
            folding: Folding::default(),
            hidden: 0,
            last: Last::Nothing,
        }
    }

    /// `-o wide`: adds tuples, hook points, and times since the first hop.
    pub fn wide(out: W) -> Self {
        Self { push_table: wide::push_table, ..Self::new(out) }
    }

    /// Shows this of the trace.
    #[must_use]
    pub fn with(self, view: View) -> Self {
        Self { view, ..self }
    }

    /// Writes one part of the output at once, so that readers of a pipe see it immediately.
    fn write(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn line(&self, phrase: &Phrase, further: usize, text: &mut String) {
        write_line(phrase, 0, further, self.view.width, text);
    }

    /// A path in full. An outlier has the time that others took at most.
    fn push_path(&mut self, path: &Path, usual: Option<u64>, text: &mut String) {
        let follows = match self.last {
            Last::Nothing => true,
            Last::Path(previous) => is_reply_to(path.flow, previous),
            Last::Line => false,
        };
        if !follows {
            text.push('\n');
        }
        self.last = Last::Path(path.flow);
        self.push_header(path, text);
        (self.push_table)(path, self.view.width, text);
        if let Some(usual) = usual {
            let usual = span(i64::try_from(usual).unwrap_or(i64::MAX));
            let note = format!("slow: packets before it on this way usually took at most {usual}");
            write_line(&Phrase::new().with(DOUBT, note), 2, 2, self.view.width, text);
        }
    }

    /// The header of a path. Where it does not fit one line, the ends have their own.
    fn push_header(&self, path: &Path, text: &mut String) {
        let header = header(path, true);
        if header.width() <= self.view.width {
            return self.line(&header, CONTINUED, text);
        }
        let mut first = start(path, true);
        first.append(PLAIN, bytes(path.bytes));
        self.line(&first, CONTINUED, text);
        write_line(&ends(path), CONTINUED, CONTINUED, self.view.width, text);
    }

    /// The paths that were only counted since the last line.
    fn push_counted(&mut self, text: &mut String) {
        let waiting = self.folding.waiting();
        if waiting.is_empty() {
            return;
        }
        // Not the mark of an open path.
        let mut phrase = Phrase::new().with(DIM, "+");
        let mut kinds: Vec<_> = waiting.into_iter().collect();
        kinds.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
        let (named, rest) = kinds.split_at(kinds.len().min(NAMED));
        for (index, (like, number)) in named.iter().enumerate() {
            let number = thousands(*number);
            let what = match like {
                0 => format!("{number} more, like none shown"),
                like => format!("{number} more like #{like}"),
            };
            phrase.push(DIM, if index == 0 { " " } else { " · " });
            phrase.push(DIM, what);
        }
        let more: u64 = rest.iter().map(|(_, number)| number).sum();
        if more > 0 {
            phrase.push(DIM, format!(" · {} more on {} other ways", thousands(more), rest.len()));
        }
        self.line(&phrase, 2, text);
        self.last = Last::Line;
    }
}

/// How many ways are named where paths are counted.
const NAMED: usize = 3;

impl<W: Write> Report for Text<W> {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        self.notes.add_path(path);
        if !self.view.shows(path.verdict) {
            self.hidden += 1;
            return Ok(());
        }
        let mut text = String::new();
        match self.view.paths {
            Paths::None => return Ok(()),
            Paths::All => {
                self.folding.show();
                self.push_path(path, None, &mut text);
            }
            Paths::Folded => match self.folding.next(path) {
                Shown::Full(usual) => {
                    self.push_counted(&mut text);
                    self.push_path(path, usual, &mut text);
                }
                Shown::Line(first) => {
                    self.push_counted(&mut text);
                    self.line(&folded(path, first), CONTINUED, &mut text);
                    self.last = Last::Line;
                }
                Shown::Counted => return Ok(()),
            },
        }
        self.write(&text)
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        let mut text = String::new();
        self.push_counted(&mut text);
        if matches!(self.last, Last::Path(_)) {
            text.push('\n');
        }
        self.last = Last::Line;
        self.line(&change::line(change), 2, &mut text);
        self.write(&text)
    }

    fn damage(&mut self, damage: &str) -> io::Result<()> {
        self.notes.set_damage(damage);
        Ok(())
    }

    fn totals(&mut self, totals: &Finished) -> io::Result<()> {
        let mut text = String::new();
        self.push_counted(&mut text);
        if self.last != Last::Nothing {
            text.push('\n');
        }
        self.last = Last::Nothing;
        let is_summary = self.view.paths == Paths::None;
        let many = self.folding.are_many();
        let sections = Sections {
            causes: is_summary || many || self.folding.folded_failures(),
            routes: (is_summary || many) && !self.view.flows,
            flows: is_summary || many,
            every_flow: self.view.flows,
        };
        closing::push(totals, sections, &self.view, &mut text);
        self.write(&text)
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let mut text = String::new();
        if self.last != Last::Nothing {
            text.push('\n');
        }
        if self.hidden > 0 && self.view.paths != Paths::None {
            let paths = if self.hidden == 1 { "path is" } else { "paths are" };
            let hidden = format!("{} {paths} not shown: --verdict chooses others", thousands(self.hidden));
            self.line(&Phrase::new().with(DIM, hidden), 2, &mut text);
        }
        for line in self.notes.lines(summary) {
            self.line(&line, 2, &mut text);
        }
        self.write(&text)
    }
}

/// A path that took the same way as one before and ended like it, for the same cause: on one line.
fn folded(path: &Path, first: First) -> Phrase {
    let mut phrase = start(path, true);
    let is_failure = !matches!(path.verdict, Verdict::Delivered | Verdict::Open);
    // Of another flow, the ends tell which one failed.
    if is_failure && path.flow.id != first.flow.id {
        phrase.push(PLAIN, "  ");
        phrase.join(ends(path));
    }
    let unit = Unit::of(path);
    phrase.push(PLAIN, format!(", like #{}, ", first.id));
    phrase.push(PLAIN, unit.duration(path.duration_ns, path.duration_error_ns));
    if path.confidence < 1.0 {
        phrase.push(DOUBT, format!(", confidence {:.2}", path.confidence));
    }
    phrase
}

/// Whether a path is the reply to the request printed before it.
fn is_reply_to(flow: FlowRef, previous: FlowRef) -> bool {
    flow.id == previous.id && previous.direction == Direction::Request && flow.direction == Direction::Reply
}

/// The first line of a path, with or without the time of day:
/// `✓ #1  05:00:00.000000  flow 1 →  icmp echo request  pod1 10.42.0.10 → pod3 10.42.1.10  84 B`.
pub(super) fn header(path: &Path, timed: bool) -> Phrase {
    let mut phrase = start(path, timed);
    phrase.push(PLAIN, "  ");
    phrase.join(ends(path));
    phrase.append(PLAIN, bytes(path.bytes));
    phrase
}

/// The ends of a path.
fn ends(path: &Path) -> Phrase {
    let mut phrase = Phrase::new();
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
    phrase
}

/// The start of a path's first line: verdict, number, time of day, flow and packet.
fn start(path: &Path, timed: bool) -> Phrase {
    let mut phrase = verdict::mark(path);
    phrase.push(PLAIN, " ");
    phrase.push(NAME, format!("#{}", path.id));
    if timed {
        phrase.append(DIM, time_of_day(path.started_at));
    }
    let arrow = match path.flow.direction {
        Direction::Request => "→",
        Direction::Reply => "←",
    };
    phrase.append(DIM, format!("flow {} ", path.flow.id));
    phrase.push(PLAIN, arrow);
    phrase.append(NAME, protocol(path.proto));
    phrase.push(PLAIN, " ");
    phrase.push(NAME, &path.label);
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
fn push_table(path: &Path, width: usize, text: &mut String) {
    let unit = Unit::of(path);
    let mut rows = Vec::with_capacity(path.hops.len() + 1);
    let mut previous = None;
    for (hop, mut step) in path.hops.iter().zip(steps(&path.hops)) {
        let position = Position::of(hop, previous);
        if let Position::NextNode { from } = position {
            // The wire's row has the step, so the hop's own row has none.
            rows.push(wire_row(from, &hop.node, step.take()));
        }
        let mut description = describe_hop_of(path, hop, previous);
        if let Some(error) = step.and_then(|step| step.error_ns) {
            description.append(DIM, format!("{} clock error", unit.error(error)));
        }
        rows.push(vec![position.node_cell(hop), step_cell(step), device(hop), description]);
        if let Some(step) = queue_step(hop) {
            let queued = Phrase::new().with(CHANGED, QUEUED);
            rows.push(vec![Phrase::new(), step_cell(Some(step)), device(hop), queued]);
        }
        if let Some(advice) = harmless_drop_advice(path, hop) {
            rows.push(vec![Phrase::new(), Phrase::new(), Phrase::new(), verdict::advice(advice)]);
        }
        previous = Some(hop);
    }
    write_table(&rows, &[Align::Left, Align::Right, Align::Left, Align::Left], width, text);
    for line in verdict::lines(path, unit) {
        write_line(&line, 2, 2, width, text);
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
pub(super) fn step_cell(step: Option<Step>) -> Phrase {
    step.map_or_else(Phrase::new, |step| {
        let (number, symbol) = step.time();
        Phrase::new().with(PLAIN, number).with(DIM, format!(" {symbol}"))
    })
}

/// Error bound of the time on the wire, which two clocks measured: `±3.0 µs`.
pub(super) fn wire_error_cell(step: Option<Step>) -> Phrase {
    match step {
        Some(step) => Phrase::new().with(PLAIN, step.error().unwrap_or_default()),
        None => Phrase::new().with(DIM, "no time"),
    }
}

/// The row between the hops of two nodes: `~~~  +16.0 µs  ±16.0 µs  wire  node1 ⇒ node2`.
fn wire_row(from: &str, to: &str, step: Option<Step>) -> Vec<Phrase> {
    let nodes = Phrase::new().with(WIRE, "wire  ").with(WIRE, format!("{from} ⇒ {to}"));
    vec![Phrase::new().with(WIRE, "~~~"), step_cell(step), wire_error_cell(step), nodes]
}

/// Advice for a drop that did not end the path, such as one of a flooded copy. Advice for the drop that did is below the
/// verdict.
pub(super) fn harmless_drop_advice<'a>(path: &Path, hop: &'a Hop) -> Option<&'a str> {
    if path.verdict == Verdict::Dropped {
        return None;
    }
    hop.drop.as_ref()?.advice.as_deref()
}
