//! Draws a frame. Every text from outside is escaped here; only the terminal's own colours are used, which suit light and dark
//! ones.
//!
//! From top to bottom: what is traced and how it goes; the tabs; the rows; a message; the keys.

use ratatui::Frame as Canvas;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::keys::Choice;
use crate::session::Progress;
use podtrace_escape::escape;
use podtrace_report::output::thousands;
use podtrace_report::top::{CauseRow, FlowRow, HopRow, Latencies, Opened, Row, Screen, Tab, TrailRow};

/// Everything that is drawn.
#[derive(Clone, Debug, Default)]
pub(super) struct Frame {
    /// What is traced.
    pub(super) title: String,
    pub(super) screen: Screen,
    pub(super) choice: Choice,
    pub(super) opened: Option<Opened>,
    /// `None` while the agents start.
    pub(super) progress: Option<Progress>,
    /// Whether the end was asked for.
    pub(super) is_ending: bool,
    /// The last message.
    pub(super) message: Option<String>,
}

const PLAIN: Style = Style::new();
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const NAME: Style = Style::new().add_modifier(Modifier::BOLD);
const GOOD: Style = Style::new().fg(Color::Green);
const DOUBT: Style = Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const KEY: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD);
const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED.union(Modifier::BOLD));

/// Columns of a hop's place, of what happens there, of numbers and of times.
const PLACE: usize = 20;
const WHAT: usize = 14;
const NUMBER: usize = 6;
const LOSS: usize = 5;
const TIME: usize = 6;

/// Levels of a sparkline.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Lines above and below the rows.
const AROUND: u16 = 4;

/// Draws a frame on all of the terminal.
pub(super) fn draw(frame: &Frame, canvas: &mut Canvas<'_>) {
    let area = canvas.area();
    let width = usize::from(area.width);
    let row = |y: u16, height: u16| Rect { x: 0, y, width: area.width, height };
    let mut put = |line: Line<'static>, y: u16| {
        if y < area.height {
            canvas.render_widget(Paragraph::new(line), row(y, 1));
        }
    };
    put(head(frame, width), 0);
    put(tabs(frame, width), 1);
    put(message(frame, width), area.height.saturating_sub(2));
    put(footer(frame, width), area.height.saturating_sub(1));
    let room = area.height.saturating_sub(AROUND);
    let lines = body(frame, width, usize::from(room));
    canvas.render_widget(Paragraph::new(lines), row(2, room));
}

/// The first line: what is traced, how long, how much.
fn head(frame: &Frame, width: usize) -> Line<'static> {
    let right = match &frame.progress {
        None => "starting agents …".to_owned(),
        Some(_) if frame.is_ending => "ending …".to_owned(),
        Some(progress) => {
            let paths = frame.screen.paths;
            let lost = paths.dropped + paths.vanished + paths.rejected;
            let all = lost + paths.delivered + paths.open;
            let seconds = progress.elapsed.as_secs();
            let missed = match progress.lost {
                0 => String::new(),
                missed => format!(" · {} EVENTS LOST", thousands(missed)),
            };
            format!(
                "{} packets · {} failed · {} in flight{missed} · {}:{:02}",
                thousands(all),
                thousands(lost),
                thousands(progress.under_way),
                seconds / 60,
                seconds % 60
            )
        }
    };
    let style = if frame.progress.is_some_and(|progress| progress.lost > 0) { BAD } else { PLAIN };
    let left = cut(&escape(&frame.title), width.saturating_sub(right.width() + 2));
    spread(vec![Span::styled(left, NAME)], vec![Span::styled(right, style)], width)
}

fn tabs(frame: &Frame, width: usize) -> Line<'static> {
    let Screen { causes, .. } = &frame.screen;
    let mut left = Vec::new();
    for (tab, number, name) in
        [(Tab::Routes, 1, "Routes"), (Tab::Flows, 2, "Flows"), (Tab::Causes, 3, "Causes")]
    {
        let style = if frame.choice.tab == tab { SELECTED } else { PLAIN };
        let count = if tab == Tab::Causes && *causes > 0 { format!(" ({causes})") } else { String::new() };
        left.push(Span::styled(format!(" {number} {name}{count} "), style));
        left.push(Span::raw(" "));
    }
    let mut right = vec![Span::styled(frame.choice.sort.name().to_owned(), DIM)];
    if frame.choice.is_typing || !frame.choice.filter.is_empty() {
        let cursor = if frame.choice.is_typing { "▏" } else { "" };
        right.push(Span::styled(format!(" /{}{cursor}", escape(&frame.choice.filter)), DOUBT));
    }
    if frame.choice.is_paused {
        right.push(Span::styled(" PAUSED", DOUBT));
    }
    spread(left, right, width)
}

fn message(frame: &Frame, width: usize) -> Line<'static> {
    let Some(message) = &frame.message else { return Line::default() };
    let style = if message.starts_with("warning: ") { DOUBT } else { DIM };
    Line::from(Span::styled(cut(&escape(message), width), style))
}

/// What keys do, as many as fit.
fn footer(frame: &Frame, width: usize) -> Line<'static> {
    let keys: &[(&str, &str)] = if frame.choice.is_typing {
        &[("Enter", "keep"), ("Esc", "no filter")]
    } else if frame.opened.is_some() {
        &[("Esc", "back"), ("↑↓", "scroll"), ("q", "quit")]
    } else {
        &[
            ("q", "quit"),
            ("Tab", "next tab"),
            ("↑↓", "select"),
            ("Enter", "open"),
            ("p", "pause"),
            ("s", "sort"),
            ("/", "filter"),
        ]
    };
    let mut spans = Vec::new();
    let mut used = 0;
    for (key, what) in keys {
        let needed = key.width() + what.width() + 4;
        if used + needed > width {
            break;
        }
        used += needed;
        spans.push(Span::styled(format!(" {key}"), KEY));
        spans.push(Span::raw(format!(" {what} ")));
    }
    Line::from(spans)
}

fn body(frame: &Frame, width: usize, room: usize) -> Vec<Line<'static>> {
    if let Some(opened) = &frame.opened {
        return packet(opened, frame.choice.opened.unwrap_or(0), room);
    }
    let Screen { rows, filter, other_packets, .. } = &frame.screen;
    if rows.is_empty() {
        let text = match (frame.choice.tab, filter.is_empty()) {
            (_, false) => "nothing has this text; Esc takes the filter away",
            (Tab::Causes, true) => "no packet has failed",
            (_, true) => "no packet yet",
        };
        return vec![Line::default(), Line::from(Span::styled(format!("  {text}"), DIM))];
    }
    let selected = frame.choice.selected.min(rows.len() - 1);
    let mut lines = Vec::new();
    let header = match frame.choice.tab {
        Tab::Routes => Some(hop_header(width)),
        Tab::Flows => Some(flow_header()),
        Tab::Causes => None,
    };
    let room = room.saturating_sub(usize::from(header.is_some()));
    // Only those around the selected one can be seen.
    let first = selected.saturating_sub(room);
    let mut place = 0..0;
    for (index, row) in rows.iter().enumerate().skip(first).take(2 * room + 1) {
        let start = lines.len();
        match row {
            Row::Trail(trail) => trail_lines(trail, width, &mut lines),
            Row::Flow(flow) => flow_lines(flow, width, &mut lines),
            Row::Cause(cause) => cause_lines(cause, width, &mut lines),
        }
        if index == selected {
            place = start..lines.len();
            if let Some(line) = lines.get_mut(start) {
                // In one style: colours on the reversed ground may be hard to read.
                let text: String = line.spans.iter().map(|span| &*span.content).collect();
                *line = Line::from(Span::styled(text, SELECTED));
            }
        }
    }
    if *other_packets > 0 && frame.choice.tab == Tab::Routes {
        let more = format!("  and {} packets on further routes", thousands(*other_packets));
        lines.push(Line::from(Span::styled(more, DIM)));
    }
    let from = place.end.saturating_sub(room).min(place.start);
    header.into_iter().chain(lines.into_iter().skip(from).take(room)).collect()
}

fn packet(opened: &Opened, at: usize, room: usize) -> Vec<Line<'static>> {
    let at = at.min(opened.lines.len().saturating_sub(room));
    let style = |line: &str| {
        let text = line.trim_start();
        match text.chars().next() {
            Some('✓') => GOOD,
            Some('✗' | '?') => BAD,
            Some('↳') => DOUBT,
            _ => PLAIN,
        }
    };
    let lines = opened.lines.iter().skip(at).take(room);
    lines.map(|line| Line::from(Span::styled(escape(line).into_owned(), style(line)))).collect()
}

fn hop_header(width: usize) -> Line<'static> {
    let mut text = format!(
        "  {:<PLACE$} {:<WHAT$} {:>NUMBER$} {:>LOSS$}{:>TIME$}{:>TIME$}{:>TIME$}{:>TIME$}",
        "Hop", "", "Pkts", "Loss%", "Last", "Best", "Avg", "Wrst"
    );
    if width > text.width() + 4 {
        text.push_str(" ·");
    }
    Line::from(Span::styled(text, DIM))
}

fn trail_lines(trail: &TrailRow, width: usize, lines: &mut Vec<Line<'static>>) {
    let TrailRow { title, sent, lost, whole, hops, .. } = trail;
    let lost_text = format!("{} sent, {} lost ", thousands(*sent), thousands(*lost));
    let left = cut(&escape(title), width.saturating_sub(lost_text.width() + 2));
    let style = if *lost > 0 { BAD } else { GOOD };
    lines.push(spread(vec![Span::styled(left, NAME)], vec![Span::styled(lost_text, style)], width));
    let mut node: Option<&str> = None;
    for hop in hops {
        lines.push(hop_line(hop, node != Some(&hop.node), width));
        node = Some(&hop.node);
        if hop.lost_here > 0 {
            let why = hop.why.as_deref().map_or_else(String::new, |why| format!(": {}", escape(why)));
            let text = format!("    ✗ {} lost here{why}", thousands(hop.lost_here));
            lines.push(Line::from(Span::styled(cut(&text, width), BAD)));
        }
    }
    let arrived = sent.saturating_sub(*lost);
    let mut spans =
        vec![Span::styled(fitted(&format!("  whole way{}", error(whole)), PLACE + WHAT + 3), NAME)];
    spans.push(Span::raw(format!(" {:>NUMBER$}", short(arrived))));
    numbers(per_mille(*lost, *sent), whole, width, &mut spans);
    lines.push(Line::from(spans));
}

fn hop_line(hop: &HopRow, is_new_node: bool, width: usize) -> Line<'static> {
    let HopRow { node, device, what, inferred, packets, loss, times, .. } = hop;
    let node = if is_new_node { escape(node).into_owned() } else { " ".repeat(escape(node).width().min(8)) };
    let node = cut(&node, PLACE / 2);
    let device = format!("{}{}", if *inferred { "≈" } else { "" }, escape(device));
    let device = fitted(&device, PLACE - node.width() - 1);
    let mut spans = vec![Span::raw("  "), Span::styled(node, NAME), Span::raw(" ")];
    spans.push(Span::styled(device, if *inferred { DIM } else { PLAIN }));
    spans.push(Span::styled(format!(" {}", fitted(&format!("{}{}", escape(what), error(times)), WHAT)), DIM));
    spans.push(Span::raw(format!(" {:>NUMBER$}", short(*packets))));
    numbers(*loss, times, width, &mut spans);
    Line::from(spans)
}

/// The bound of the clocks' error, where two clocks measured a time.
fn error(times: &Latencies) -> String {
    if times.error == 0 || times.count == 0 { String::new() } else { format!(" ±{}", time(times.error)) }
}

/// Loss, times and a sparkline.
fn numbers(loss: u64, times: &Latencies, width: usize, spans: &mut Vec<Span<'static>>) {
    let style = if loss > 0 { BAD } else { PLAIN };
    spans.push(Span::styled(format!(" {:>LOSS$}", format!("{}.{}", loss / 10, loss % 10)), style));
    let known = |value: u64| if times.count == 0 { String::new() } else { time(value) };
    for value in [times.last, times.best, times.average, times.worst] {
        spans.push(Span::raw(format!("{:>TIME$}", known(value))));
    }
    let used: usize = spans.iter().map(Span::width).sum();
    spans.push(Span::styled(format!(" {}", spark(&times.samples, width.saturating_sub(used + 1))), KEY));
}

/// The last values as bars, from the smallest to the largest of them.
fn spark(samples: &[u64], width: usize) -> String {
    let shown = &samples[samples.len().saturating_sub(width)..];
    let (least, most) = (shown.iter().min().copied().unwrap_or(0), shown.iter().max().copied().unwrap_or(0));
    let level = |value: &u64| {
        let share = u128::from(value - least) * 7 / u128::from((most - least).max(1));
        LEVELS[usize::try_from(share).unwrap_or(7).min(7)]
    };
    shown.iter().map(level).collect()
}

fn flow_header() -> Line<'static> {
    let text = format!(
        "  {:>6} {:<5} {:>11} {:>7} {:>5} {:>6} {:>6}  Ends",
        "Flow", "", "Pkts", "Bytes", "Lost", "Resent", "RTT"
    );
    Line::from(Span::styled(text, DIM))
}

/// A flow. Where its ends do not fit, they have a line of their own: a port is never cut off.
fn flow_lines(flow: &FlowRow, width: usize, lines: &mut Vec<Line<'static>>) {
    let FlowRow { id, proto, ends, packets, bytes, lost, resent, rtt } = flow;
    let (mark, style) = if *lost > 0 { ("✗", BAD) } else { ("✓", GOOD) };
    let both = format!("{}/{}", short(packets.0), short(packets.1));
    let some = |number: u64| if number == 0 { String::new() } else { short(number) };
    let mut spans = vec![
        Span::styled(mark, style),
        Span::raw(format!(" {id:>6} {} {both:>11} {:>7}", fitted(&escape(proto), 5), short(*bytes))),
        Span::styled(format!(" {:>5}", some(*lost)), BAD),
        Span::styled(format!(" {:>6}", some(*resent)), DOUBT),
        Span::raw(format!(" {:>6}  ", rtt.map(time).unwrap_or_default())),
    ];
    let used: usize = spans.iter().map(Span::width).sum();
    let ends = escape(ends);
    if used + ends.width() <= width {
        spans.push(Span::styled(ends.into_owned(), NAME));
        lines.push(Line::from(spans));
        return;
    }
    lines.push(Line::from(spans));
    for line in wrapped(&ends, width.saturating_sub(9)) {
        lines.push(Line::from(Span::styled(format!("         {line}"), NAME)));
    }
}

fn cause_lines(cause: &CauseRow, width: usize, lines: &mut Vec<Line<'static>>) {
    let CauseRow { count, flows, verdict, place, why, ends, advice, .. } = cause;
    let colon = if why.is_empty() { "" } else { ": " };
    let head = format!("{verdict} ×{} {}{colon}{}", thousands(*count), escape(place), escape(why));
    for (index, line) in wrapped(&head, width.saturating_sub(4)).into_iter().enumerate() {
        let start = if index == 0 { "" } else { "    " };
        lines.push(Line::from(Span::styled(format!("{start}{line}"), BAD)));
    }
    let flows = if *flows == 1 { "1 flow".to_owned() } else { format!("{} flows", thousands(*flows)) };
    lines.push(Line::from(Span::raw(cut(&format!("    {}, {flows}", escape(ends)), width))));
    for (index, line) in wrapped(&advice.as_deref().map(escape).unwrap_or_default(), width.saturating_sub(6))
        .into_iter()
        .enumerate()
    {
        let start = if index == 0 { "    ↳ " } else { "      " };
        lines.push(Line::from(Span::styled(format!("{start}{line}"), DOUBT)));
    }
    lines.push(Line::default());
}

/// Text in lines of so many columns, broken at spaces.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(cut(word, width.max(1))),
        }
    }
    lines
}

/// What stands at the left and at the right of a line.
fn spread(mut left: Vec<Span<'static>>, right: Vec<Span<'static>>, width: usize) -> Line<'static> {
    let used: usize = left.iter().chain(&right).map(Span::width).sum();
    left.push(Span::raw(" ".repeat(width.saturating_sub(used).max(1))));
    left.extend(right);
    Line::from(left)
}

/// At most so many columns; what is left out is marked.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for character in text.chars() {
        if short.width() + character.width().unwrap_or(0) + 1 > width {
            break;
        }
        short.push(character);
    }
    if width > 0 {
        short.push('…');
    }
    short
}

/// Exactly so many columns.
fn fitted(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let rest = width.saturating_sub(text.width());
    text + &" ".repeat(rest)
}

fn per_mille(part: u64, of: u64) -> u64 {
    part.saturating_mul(1_000) / of.max(1)
}

/// A time in five columns: `24.1µ`, `1.23m` (milliseconds), `12.3s`.
#[expect(clippy::cast_precision_loss, reason = "for reading: three digits")]
fn time(ns: u64) -> String {
    let (value, unit) = match ns {
        0..999_500 => (ns as f64 / 1e3, 'µ'),
        999_500..999_500_000 => (ns as f64 / 1e6, 'm'),
        _ => (ns as f64 / 1e9, 's'),
    };
    match value {
        _ if value >= 9_999.0 => ">9ks".to_owned(),
        _ if value >= 99.95 => format!("{value:.0}{unit}"),
        _ if value >= 9.995 => format!("{value:.1}{unit}"),
        _ => format!("{value:.2}{unit}"),
    }
}

/// A number in six columns: `99,999`, `1.2M`.
#[expect(clippy::cast_precision_loss, reason = "for reading: three digits")]
fn short(number: u64) -> String {
    match number {
        0..100_000 => thousands(number),
        100_000..1_000_000 => format!("{}k", number / 1_000),
        1_000_000..999_950_000 => format!("{:.1}M", number as f64 / 1e6),
        _ => format!("{:.1}G", number as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests;
