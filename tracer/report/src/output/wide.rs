//! `-o wide`: the text output with all there is to know a hop: time since the start and since the hop before,
//! point of observation, addresses and ports.

use super::phrase::{Align, CHANGED, DIM, NAME, PLAIN, Phrase, WIRE, write_table};
use super::text::{WAITED, Where, delta, passing_advice, waited, wire_error};
use super::timing::{Step, Unit, steps};
use super::verdict;
use super::words::{bytes, device, started, tuple, what};
use podtrace_path::{Direction, Evidence, Hop, HopEvent, Path};

const COLUMNS: [Align; 8] = [
    Align::Left,  // node
    Align::Right, // time since the first hop
    Align::Right, // time since the hop before
    Align::Left,  // device
    Align::Left,  // point
    Align::Left,  // tuple
    Align::Right, // bytes
    Align::Left,  // what happened
];

/// Lays out a path below its header.
pub(super) fn layout(path: &Path, text: &mut String) {
    details(path).write_line(2, text);
    body(path, text);
}

/// When it set out, what it carried, how sure its joins are.
fn details(path: &Path) -> Phrase {
    let started = started(path);
    let direction = match path.flow.direction {
        Direction::Request => "request",
        Direction::Reply => "reply",
    };
    Phrase::new().with(
        DIM,
        format!(
            "{started}  {direction} of flow {}  payload {}  confidence {:.2}",
            path.flow.id,
            bytes(path.payload),
            path.confidence
        ),
    )
}

fn body(path: &Path, text: &mut String) {
    let unit = Unit::of(path);
    let mut rows = Vec::with_capacity(path.hops.len() + 1);
    let mut before = None;
    for (hop, step) in path.hops.iter().zip(steps(&path.hops)) {
        let here = Where::of(hop, before);
        let step = match here {
            Where::Crossed { from } => {
                rows.push(wire(from, hop, step, unit));
                None
            }
            Where::Start | Where::Same => step,
        };
        let node = if here == Where::Same { Phrase::new() } else { Phrase::new().with(NAME, &hop.node) };
        // The tap that makes a hop need not be the first to see it.
        let stack =
            || hop.events.iter().filter(|event| event.point.is_step() && Some(event.point) != hop.point);
        let earlier = |event: &&HopEvent| hop.at_ns.is_some_and(|at| event.at_ns < at);
        rows.extend(stack().filter(earlier).map(|event| inside(event, unit)));
        rows.push(vec![
            node,
            at(hop, unit),
            delta(step, unit),
            device(hop),
            point_of(hop),
            addresses(hop, before),
            Phrase::new().with(PLAIN, bytes(hop.bytes)),
            what(hop, before),
        ]);
        rows.extend(stack().filter(|event| !earlier(event)).map(|event| inside(event, unit)));
        if let Some(step) = waited(hop) {
            let mut row = vec![Phrase::new(); COLUMNS.len()];
            row[2] = delta(Some(step), unit);
            row[3] = device(hop);
            row[7] = Phrase::new().with(CHANGED, WAITED);
            rows.push(row);
        }
        if let Some(advice) = passing_advice(path, hop) {
            let mut row = vec![Phrase::new(); COLUMNS.len() - 1];
            row.push(verdict::advice(advice));
            rows.push(row);
        }
        before = Some(hop);
    }
    write_table(&rows, &COLUMNS, text);
    for line in verdict::lines(path, unit) {
        line.write_line(2, text);
    }
}

/// What a hook of the network stack saw within a hop.
fn inside(event: &HopEvent, unit: Unit) -> Vec<Phrase> {
    let HopEvent { point, device, at_ns, detail } = event;
    let dim = |text: &str| Phrase::new().with(DIM, text);
    vec![
        Phrase::new(),
        dim(&format!("{} {}", unit.number(*at_ns), unit.symbol())),
        Phrase::new(),
        dim(device.as_deref().unwrap_or("–")),
        dim(&format!("· {point}")),
        dim(detail.as_deref().unwrap_or_default()),
    ]
}

/// Time since the first hop, with its error on any other clock.
fn at(hop: &Hop, unit: Unit) -> Phrase {
    hop.at_ns.map_or_else(Phrase::new, |at| {
        let text = match hop.clock_error_ns {
            0 => format!("{} {}", unit.number(at), unit.symbol()),
            error => format!("{} {}", unit.number(at), unit.error(error)),
        };
        Phrase::new().with(DIM, text)
    })
}

fn point_of(hop: &Hop) -> Phrase {
    match (hop.point, hop.evidence) {
        (Some(point), Evidence::Observed) => Phrase::new().with(DIM, point.to_string()),
        (_, Evidence::Inferred) => Phrase::new().with(DIM, "inferred"),
        (None, Evidence::Observed) => Phrase::new(),
    }
}

/// The packet's addresses and ports: dim while they stay what they were.
fn addresses(hop: &Hop, before: Option<&Hop>) -> Phrase {
    let style = match before {
        Some(before) if before.tuple != hop.tuple => CHANGED,
        _ => DIM,
    };
    Phrase::new().with(style, tuple(&hop.tuple))
}

fn wire(from: &str, to: &Hop, step: Option<Step>, unit: Unit) -> Vec<Phrase> {
    let mut row = vec![
        Phrase::new().with(WIRE, "~~~"),
        Phrase::new(),
        delta(step, unit),
        wire_error(step, unit),
        Phrase::new().with(WIRE, "wire"),
        Phrase::new().with(WIRE, format!("{from} ⇒ {}", to.node)),
    ];
    row.resize(COLUMNS.len(), Phrase::new());
    row
}
