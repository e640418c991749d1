//! Output of `podtrace drops`, and `-o drops`: what was dropped, by cause, instead of paths.
//!
//! Input: every path, and at the end the summary. Output: the causes, the most frequent first, each with whom it hit, when, one
//! packet and what to do; then the drops that a healthy network has, too, in one line; then what is missing. `text` is for
//! people, `json` for programs. [`table`] is the same while the trace still runs.

mod json;
mod text;

use std::io::{self, Write};
use std::time::Duration;

use super::{Report, View};
use crate::totals::{Loss, Losses};
use podtrace_path::{Path, Summary};

/// Where it was looked, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// For how long; `None` of a recording.
    pub over: Option<Duration>,
}

/// What was dropped.
#[derive(Clone, Debug)]
struct Dropped<'a> {
    losses: Vec<Loss>,
    /// Paths, and those that failed.
    paths: u64,
    failed: u64,
    /// Paths that failed for causes that are not listed.
    unlisted: u64,
    summary: &'a Summary,
    damage: Option<&'a str>,
    watched: &'a Watched,
}

impl<'a> Dropped<'a> {
    fn of(losses: &Losses, summary: &'a Summary, damage: Option<&'a str>, watched: &'a Watched) -> Self {
        Self {
            losses: losses.finished(),
            paths: losses.paths(),
            failed: losses.failed(),
            unlisted: losses.unlisted(),
            summary,
            damage,
            watched,
        }
    }
}

/// Why the numbers may be too low; `None` if they are exact.
#[must_use]
pub fn missing(summary: &Summary) -> Option<String> {
    text::missing(summary, None)
}

/// The causes so far as text of at most `lines` lines; `harmless` is the number of other drops.
#[must_use]
pub fn table(losses: &Losses, harmless: u64, width: usize, lines: usize) -> String {
    text::table(losses, harmless, width, lines)
}

/// A report that shows what was dropped.
#[derive(Debug)]
pub struct Drops<W> {
    out: W,
    width: usize,
    is_json: bool,
    watched: Watched,
    losses: Losses,
    damage: Option<String>,
}

impl<W: Write> Drops<W> {
    /// As text.
    pub fn new(out: W) -> Self {
        Self {
            out,
            width: View::default().width,
            is_json: false,
            watched: Watched::default(),
            losses: Losses::default(),
            damage: None,
        }
    }

    /// As one JSON object a line, as described by `schema/drops.schema.json`.
    pub fn json(out: W) -> Self {
        Self { is_json: true, ..Self::new(out) }
    }

    /// In so many columns.
    #[must_use]
    pub fn with_width(self, width: usize) -> Self {
        Self { width, ..self }
    }

    /// Where it is looked; known before the end.
    pub fn watch(&mut self, watched: Watched) {
        self.watched = watched;
    }

    /// What was lost so far.
    pub fn losses(&self) -> &Losses {
        &self.losses
    }
}

impl<W: Write> Report for Drops<W> {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        self.losses.add(path);
        Ok(())
    }

    fn damage(&mut self, damage: &str) -> io::Result<()> {
        self.damage = Some(damage.to_owned());
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let dropped = Dropped::of(&self.losses, summary, self.damage.as_deref(), &self.watched);
        let text = if self.is_json { json::lines(&dropped)? } else { text::write(&dropped, self.width) };
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}
