//! Styled text. Each part is escaped when it is added, and text outputs write nothing else, so that no text from outside
//! can control the terminal.

use anstyle::{AnsiColor, Color, Style};
use unicode_width::UnicodeWidthStr as _;

use podtrace_escape::escape;

/// Default style.
pub(super) const PLAIN: Style = Style::new();
/// De-emphasised: units, inferred hops, what did not change.
pub(super) const DIM: Style = Style::new().dimmed();
/// Identifiers: path numbers, endpoints, nodes.
pub(super) const NAME: Style = Style::new().bold();
/// Changes made by a hop.
pub(super) const CHANGED: Style = AnsiColor::Cyan.on_default().bold();
/// The wire between nodes.
pub(super) const WIRE: Style = AnsiColor::Blue.on_default();
/// Success.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// Something is missing or uncertain.
pub(super) const DOUBT: Style = AnsiColor::Yellow.on_default().bold();
/// A packet was refused.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// A verdict that must stand out while scrolling.
pub(super) const LOUD: Style =
    AnsiColor::White.on_default().bg_color(Some(Color::Ansi(AnsiColor::Red))).bold();
/// Advice.
pub(super) const ADVICE: Style = AnsiColor::Yellow.on_default();

/// A piece of a line.
#[derive(Clone, Debug, Default)]
pub(super) struct Phrase(Vec<(Style, String)>);

impl Phrase {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds text.
    pub(super) fn with(mut self, style: Style, text: impl AsRef<str>) -> Self {
        self.push(style, text);
        self
    }

    /// Adds text.
    pub(super) fn push(&mut self, style: Style, text: impl AsRef<str>) {
        self.0.push((style, escape(text.as_ref()).into_owned()));
    }

    /// Adds text, two spaces after what is there already.
    pub(super) fn append(&mut self, style: Style, text: impl AsRef<str>) {
        if !self.is_empty() {
            self.push(PLAIN, "  ");
        }
        self.push(style, text);
    }

    /// Adds another phrase.
    pub(super) fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The same text, all of it in one style.
    pub(super) fn all(mut self, style: Style) -> Self {
        for (own, _) in &mut self.0 {
            *own = style;
        }
        self
    }

    /// Whether there is no text.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, text)| text.is_empty())
    }

    /// Its pieces, for outputs that have styles of their own.
    pub(super) fn pieces(&self) -> impl Iterator<Item = (Style, &str)> {
        self.0.iter().map(|(style, text)| (*style, &**text))
    }

    /// Columns it takes on a terminal.
    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.width()).sum()
    }

    /// Writes it with its colours.
    pub(super) fn write(&self, out: &mut String) {
        for (style, text) in &self.0 {
            if *style == PLAIN {
                out.push_str(text);
            } else {
                out.push_str(&format!("{style}{text}{style:#}"));
            }
        }
    }

    /// Writes it as a line of its own, without spaces at its end.
    pub(super) fn write_trimmed(&self, out: &mut String) {
        let Some(last) = self.0.iter().rposition(|(_, text)| !text.trim_end_matches(' ').is_empty()) else {
            out.push('\n');
            return;
        };
        let mut line = Self(self.0[..=last].to_vec());
        if let Some((_, text)) = line.0.last_mut() {
            text.truncate(text.trim_end_matches(' ').len());
        }
        line.write_line(0, out);
    }

    /// Writes it as a line of its own, behind `indent` spaces.
    pub(super) fn write_line(&self, indent: usize, out: &mut String) {
        out.push_str(&" ".repeat(indent));
        self.write(out);
        out.push('\n');
    }
}

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Writes rows with their columns aligned, two spaces apart, behind two spaces. Columns that are empty in every
/// row take no room, and no line ends in spaces.
pub(super) fn write_table(rows: &[Vec<Phrase>], align: &[Align], out: &mut String) {
    let widths: Vec<usize> = (0..align.len())
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(Phrase::width).max().unwrap_or(0))
        .collect();
    for row in rows {
        let last = row.iter().rposition(|cell| !cell.is_empty());
        for (column, cell) in row.iter().enumerate().take(last.map_or(0, |last| last + 1)) {
            let (Some(&width), Some(&align)) = (widths.get(column), align.get(column)) else { continue };
            if width == 0 {
                continue;
            }
            out.push_str("  ");
            let padding = " ".repeat(width - cell.width());
            if align == Align::Right {
                out.push_str(&padding);
            }
            cell.write(out);
            if align == Align::Left && Some(column) != last {
                out.push_str(&padding);
            }
        }
        out.push('\n');
    }
}
