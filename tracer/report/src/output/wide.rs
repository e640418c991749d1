//! `-o wide`: the table of hops with every detail, for wide terminals.
//!
//! Input: a finished [`Path`]. Output: below the header, one line about the whole path; then one row per hop with its
//! time since the first and the previous hop, device, hook point, tuple, size and description; between these, dimmed, one
//! row per observation in the network stack. [`super::text`] prints the header and separates paths.

use super::layout::{Align, UNLIMITED, write_line, write_table};
use super::phrase::{CHANGED, DIM, PLAIN, Phrase, WIRE};
use super::text::{Position, QUEUED, harmless_drop_advice, queue_step, step_cell, wire_error_cell};
use super::timing::{Step, Unit, steps};
use super::verdict;
use super::words::{bytes, describe_hop_of, device, start_time, tuple};
use podtrace_path::{Direction, Evidence, Hop, HopEvent, Path};

const COLUMNS: [Align; 8] = [
    Align::Left,  // node
    Align::Right, // time since the first hop
    Align::Right, // time since the previous hop
    Align::Left,  // device
    Align::Left,  // point
    Align::Left,  // tuple
    Align::Right, // bytes
    Align::Left,  // description
];

/// Appends everything below a path's header.
pub(super) fn push_table(path: &Path, width: usize, text: &mut String) {
    write_line(&details(path), 2, 2, width, text);
    hops(path, width, text);
}

/// Start time, flow, payload and confidence of a path, on one line.
fn details(path: &Path) -> Phrase {
    let started = start_time(path);
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

/// Appends the table of hops and the verdict.
fn hops(path: &Path, width: usize, text: &mut String) {
    let unit = Unit::of(path);
    let mut rows = Vec::with_capacity(path.hops.len() + 1);
    let mut previous = None;
    for (hop, step) in path.hops.iter().zip(steps(&path.hops)) {
        let position = Position::of(hop, previous);
        let mut step = step;
        if let Position::NextNode { from } = position {
            // The wire's row has the step, so the hop's own row has none.
            rows.push(wire_row(from, hop, step.take()));
        }
        // Hooks of the network stack may see the packet before the tc hook that defines the hop.
        let in_stack =
            || hop.events.iter().filter(|event| event.point.is_step() && Some(event.point) != hop.point);
        let is_earlier = |event: &&HopEvent| hop.at_ns.is_some_and(|at| event.at_ns < at);
        rows.extend(in_stack().filter(is_earlier).map(|event| stack_row(event, unit)));
        rows.push(vec![
            position.node_cell(hop),
            time_cell(hop, unit),
            step_cell(step),
            device(hop),
            point_cell(hop),
            tuple_cell(hop, previous),
            Phrase::new().with(PLAIN, bytes(hop.bytes)),
            describe_hop_of(path, hop, previous),
        ]);
        rows.extend(in_stack().filter(|event| !is_earlier(event)).map(|event| stack_row(event, unit)));
        if let Some(step) = queue_step(hop) {
            let mut row = vec![Phrase::new(); COLUMNS.len()];
            row[2] = step_cell(Some(step));
            row[3] = device(hop);
            row[7] = Phrase::new().with(CHANGED, QUEUED);
            rows.push(row);
        }
        if let Some(advice) = harmless_drop_advice(path, hop) {
            let mut row = vec![Phrase::new(); COLUMNS.len() - 1];
            row.push(verdict::advice(advice));
            rows.push(row);
        }
        previous = Some(hop);
    }
    // A table as wide as this is for terminals that are.
    write_table(&rows, &COLUMNS, UNLIMITED, text);
    for line in verdict::lines(path, unit) {
        write_line(&line, 2, 2, width, text);
    }
}

/// One observation of a hook in the network stack, which belongs to a hop.
fn stack_row(event: &HopEvent, unit: Unit) -> Vec<Phrase> {
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

/// Time since the first hop; with its error bound if another clock measured it.
fn time_cell(hop: &Hop, unit: Unit) -> Phrase {
    hop.at_ns.map_or_else(Phrase::new, |at| {
        let text = match hop.clock_error_ns {
            0 => format!("{} {}", unit.number(at), unit.symbol()),
            error => format!("{} {}", unit.number(at), unit.error(error)),
        };
        Phrase::new().with(DIM, text)
    })
}

/// The hook point, or that the hop was inferred.
fn point_cell(hop: &Hop) -> Phrase {
    match (hop.point, hop.evidence) {
        (Some(point), Evidence::Observed) => Phrase::new().with(DIM, point.to_string()),
        (_, Evidence::Inferred) => Phrase::new().with(DIM, "inferred"),
        (None, Evidence::Observed) => Phrase::new(),
    }
}

/// The packet's addresses and ports, dimmed unless they changed.
fn tuple_cell(hop: &Hop, previous: Option<&Hop>) -> Phrase {
    let style = match previous {
        Some(previous) if previous.tuple != hop.tuple => CHANGED,
        _ => DIM,
    };
    Phrase::new().with(style, tuple(&hop.tuple))
}

/// The row between the hops of two nodes.
fn wire_row(from: &str, to: &Hop, step: Option<Step>) -> Vec<Phrase> {
    let mut row = vec![
        Phrase::new().with(WIRE, "~~~"),
        Phrase::new(),
        step_cell(step),
        wire_error_cell(step),
        Phrase::new().with(WIRE, "wire"),
        Phrase::new().with(WIRE, format!("{from} ⇒ {}", to.node)),
    ];
    row.resize(COLUMNS.len(), Phrase::new());
    row
}
