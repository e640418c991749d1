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

/// A word of a line.
#[derive(Clone, Debug, Default)]
pub(super) struct Word {
    /// How many spaces stand before it.
    pub(super) spaces: usize,
    /// Its text, which may have several styles.
    pub(super) text: Phrase,
}

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

    /// Its words: what stands between spaces, each with the spaces before it.
    pub(super) fn words(&self) -> Vec<Word> {
        let mut words = vec![Word::default()];
        for (style, text) in &self.0 {
            for part in text.split_inclusive(' ') {
                let (word, spaces) = part.strip_suffix(' ').map_or((part, 0), |word| (word, 1));
                if let Some(last) = words.last_mut().filter(|_| !word.is_empty()) {
                    last.text.0.push((*style, word.to_owned()));
                }
                if spaces > 0 {
                    match words.last_mut().filter(|last| last.text.0.is_empty()) {
                        Some(last) => last.spaces += 1,
                        None => words.push(Word { spaces: 1, text: Self::new() }),
                    }
                }
            }
        }
        words.retain(|word| !word.text.0.is_empty());
        words
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
