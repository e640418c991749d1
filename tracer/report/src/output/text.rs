//! `-o text`: a header a path, a line a hop, the way between nodes on a line of its own, the verdict last.
//!
//! The time of a hop is the time it took since the one before: the column adds up to the whole, and where the
//! time went is seen without a calculation.

use std::io::{self, Write};

use super::phrase::{Align, CHANGED, DIM, NAME, PLAIN, Phrase, WIRE, write_table};
use super::summary::Told;
use super::timing::{Step, Unit, steps};
use super::verdict;
use super::words::{address, bytes, device, protocol, what, who};
use super::{Report, change, wide};
use podtrace_path::{Change, Direction, End, FlowRef, Hop, Path, Summary, Translated, Verdict};

/// The outputs for people: the default one and the wide one, which differ in how a path is laid out.
#[derive(Debug)]
pub struct Text<W> {
    out: W,
    layout: fn(&Path, &mut String),
    told: Told,
    before: Option<FlowRef>,
    /// Whether the last thing told was no path.
    changed: bool,
}

impl<W: Write> Text<W> {
    /// Writes colours too: `out` strips them where they are not wanted.
    pub fn new(out: W) -> Self {
        Self { out, layout: body, told: Told::default(), before: None, changed: false }
    }

    /// The wide output: tuples, points and both kinds of times.
    pub fn wide(out: W) -> Self {
        Self { layout: wide::layout, ..Self::new(out) }
    }
}

impl<W: Write> Report for Text<W> {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        self.told.note(path);
        let mut text = String::new();
        let before = self.before.replace(path.flow);
        if std::mem::take(&mut self.changed) {
            text.push('\n');
        } else {
            separate(before, path.flow, &mut text);
        }
        header(path).write_line(0, &mut text);
        (self.layout)(path, &mut text);
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn change(&mut self, told: &Change) -> io::Result<()> {
        let mut text = String::new();
        if self.before.is_some() && !self.changed {
            text.push('\n');
        }
        self.changed = true;
        change::line(told).write_line(0, &mut text);
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn lacks(&mut self, what: &str) -> io::Result<()> {
        self.told.lacks(what);
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        write_summary(&self.told, self.before.is_some() || self.changed, summary, &mut self.out)
    }
}

/// Writes the closing lines, apart from the paths before them.
fn write_summary(told: &Told, told_any: bool, summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    let mut text = String::new();
    if told_any {
        text.push('\n');
    }
    for line in told.lines(summary) {
        line.write_line(0, &mut text);
    }
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Leaves a line between two paths, but none between a request and the reply that follows it.
fn separate(before: Option<FlowRef>, flow: FlowRef, text: &mut String) {
    let Some(before) = before else { return };
    let answers =
        before.id == flow.id && before.direction == Direction::Request && flow.direction == Direction::Reply;
    if !answers {
        text.push('\n');
    }
}

/// How it went, which it is, what it is, from whom to whom, how large.
pub(super) fn header(path: &Path) -> Phrase {
    let mut phrase = verdict::mark(path.verdict);
    phrase.push(PLAIN, " ");
    phrase.push(NAME, format!("#{}", path.id));
    let way = match path.flow.direction {
        Direction::Request => "→",
        Direction::Reply => "←",
    };
    phrase.append(DIM, format!("flow {} ", path.flow.id));
    phrase.push(PLAIN, way);
    phrase.append(NAME, protocol(path.proto));
    phrase.push(PLAIN, " ");
    phrase.push(NAME, &path.label);
    phrase.push(PLAIN, "  ");
    end(&path.from, &mut phrase);
    phrase.push(PLAIN, " → ");
    end(&path.to, &mut phrase);
    // What became of the source the hops tell; where it went is the question.
    if let Some(Translated { to, .. }) = path.translated.as_deref().filter(|other| other.to != path.to) {
        phrase.push(CHANGED, " ⇒ ");
        end(to, &mut phrase);
    }
    phrase.append(PLAIN, bytes(path.bytes));
    phrase
}

fn end(end: &End, phrase: &mut Phrase) {
    if let Some(who) = who(end) {
        phrase.push(NAME, who);
        phrase.push(PLAIN, " ");
    }
    phrase.push(PLAIN, address(end.ip, end.port));
}

fn body(path: &Path, text: &mut String) {
    let unit = Unit::of(path);
    let mut rows = Vec::with_capacity(path.hops.len() + 1);
    let mut before = None;
    for (hop, step) in path.hops.iter().zip(steps(&path.hops)) {
        let here = Where::of(hop, before);
        // The time on the wire is told on the wire's own line.
        let step = match here {
            Where::Crossed { from } => {
                rows.push(wire(from, &hop.node, step, unit));
                None
            }
            Where::Start | Where::Same => step,
        };
        let node = if here == Where::Same { Phrase::new() } else { Phrase::new().with(NAME, &hop.node) };
        let mut what = what(hop, before);
        if let Some(error) = step.and_then(|step| step.error_ns) {
            what.append(DIM, format!("{} by the clocks", unit.error(error)));
        }
        rows.push(vec![node, delta(step, unit), device(hop), what]);
        if let Some(step) = waited(hop) {
            rows.push(vec![
                Phrase::new(),
                delta(Some(step), unit),
                device(hop),
                Phrase::new().with(CHANGED, WAITED),
            ]);
        }
        if let Some(advice) = passing_advice(path, hop) {
            rows.push(vec![Phrase::new(), Phrase::new(), Phrase::new(), verdict::advice(advice)]);
        }
        before = Some(hop);
    }
    write_table(&rows, &[Align::Left, Align::Right, Align::Left, Align::Left], text);
    for line in verdict::lines(path, unit) {
        line.write_line(2, text);
    }
}

/// How a hop lies to the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where<'a> {
    /// There is none before it.
    Start,
    /// On the same node.
    Same,
    /// On another node.
    Crossed {
        /// The node before.
        from: &'a str,
    },
}

impl<'a> Where<'a> {
    /// Of a hop, with the one before it.
    pub(super) fn of(hop: &Hop, before: Option<&'a Hop>) -> Self {
        match before {
            None => Self::Start,
            Some(before) if before.node == hop.node => Self::Same,
            Some(before) => Self::Crossed { from: &before.node },
        }
    }
}

/// What is said of a packet that was not sent at once.
pub(super) const WAITED: &str = "waited in its queue";

/// The time that the packet spent in the device's queue, as a step of its own.
pub(super) fn waited(hop: &Hop) -> Option<Step> {
    Some(Step { delta_ns: hop.queued_ns?, error_ns: None })
}

/// Time since the hop before.
pub(super) fn delta(step: Option<Step>, unit: Unit) -> Phrase {
    step.map_or_else(Phrase::new, |step| {
        Phrase::new().with(PLAIN, unit.signed(step.delta_ns)).with(DIM, format!(" {}", unit.symbol()))
    })
}

/// What the wire took, with the bound of the error that two clocks make.
pub(super) fn wire_error(step: Option<Step>, unit: Unit) -> Phrase {
    match step {
        Some(Step { error_ns, .. }) => Phrase::new().with(PLAIN, unit.error(error_ns.unwrap_or(0))),
        None => Phrase::new().with(DIM, "untimed"),
    }
}

fn wire(from: &str, to: &str, step: Option<Step>, unit: Unit) -> Vec<Phrase> {
    let way = Phrase::new().with(WIRE, "wire  ").with(WIRE, format!("{from} ⇒ {to}"));
    vec![Phrase::new().with(WIRE, "~~~"), delta(step, unit), wire_error(step, unit), way]
}

/// Advice for a drop that did not end the path, such as that of a copy: it stands with its hop.
pub(super) fn passing_advice<'a>(path: &Path, hop: &'a Hop) -> Option<&'a str> {
    if path.verdict == Verdict::Dropped {
        return None;
    }
    hop.drop.as_ref()?.advice.as_deref()
}
