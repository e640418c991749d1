//! The line at the bottom of the terminal while a trace runs: that it is at work, how much it sees, what it loses.
//!
//! It is for people who look: where stdout or stderr is no terminal, or one that cannot be drawn on, there is none.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use terminal_size::{Width, terminal_size_of};
use unicode_width::UnicodeWidthStr as _;

use super::args::Output;
use crate::session::Progress;
use podtrace_path::{Change, Path, Summary};
use podtrace_report::output::{Report, thousands};

/// Back to the line's begin, and nothing on it.
const ERASE: &str = "\r\x1b[2K";

/// Columns that are left free: what Ctrl-C echoes must not begin a line that nobody erases.
const FREE: usize = 3;

/// The line, or none.
#[derive(Clone, Debug)]
pub(super) struct Status {
    /// What is drawn, if anything.
    drawn: Option<Arc<Mutex<String>>>,
    coloured: bool,
}

impl Status {
    /// Nothing is drawn before the first [`Self::show`].
    pub(super) fn of(output: &Output) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let seen = io::stdout().is_terminal() && io::stderr().is_terminal() && !dumb && !output.quiet;
        Self {
            drawn: seen.then(Arc::default),
            coloured: AutoStream::choice(&io::stderr()) != ColorChoice::Never,
        }
    }

    /// There is no line, for commands that take no time.
    pub(super) fn none() -> Self {
        Self { drawn: None, coloured: false }
    }

    /// Draws it anew.
    pub(super) fn show(&self, before: &Progress, now: &Progress) {
        if let Some(drawn) = &self.drawn {
            let mut text = words(before, now, false);
            let Some((Width(columns), _)) = terminal_size_of(io::stderr()) else { return };
            // Half a line tells less than none, and a line that wraps cannot be erased.
            if text.width() + FREE > usize::from(columns) {
                text.clear();
            } else if self.coloured {
                text = words(before, now, true);
            }
            // Held while it is drawn: notes come from other threads, too.
            let mut drawn = hold(drawn);
            draw(&format!("{ERASE}{text}"));
            *drawn = text;
        }
    }

    /// Does something that writes to the terminal, with the line out of its way.
    pub(super) fn above<T>(&self, write: impl FnOnce() -> T) -> T {
        let Some(drawn) = &self.drawn else { return write() };
        let drawn = hold(drawn);
        if drawn.is_empty() {
            return write();
        }
        draw(ERASE);
        let result = write();
        draw(&drawn);
        result
    }

    /// A report that writes with the line out of its way.
    pub(super) fn beside(&self, report: Box<dyn Report>) -> Box<dyn Report> {
        match &self.drawn {
            Some(_) => Box::new(Beside { status: self.clone(), report }),
            None => report,
        }
    }

    /// Takes it away, until it is shown again.
    pub(super) fn end(&self) {
        if let Some(drawn) = &self.drawn
            && !std::mem::take(&mut *hold(drawn)).is_empty()
        {
            draw(ERASE);
        }
    }
}

fn hold(drawn: &Mutex<String>) -> MutexGuard<'_, String> {
    drawn.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A terminal that is gone needs no line.
fn draw(text: &str) {
    let mut terminal = io::stderr().lock();
    let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
}

struct Beside {
    status: Status,
    report: Box<dyn Report>,
}

impl Report for Beside {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        self.status.above(|| self.report.path(path))
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        self.status.above(|| self.report.change(change))
    }

    fn lacks(&mut self, what: &str) -> io::Result<()> {
        self.status.above(|| self.report.lacks(what))
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        // Nothing happens after it.
        self.status.end();
        self.report.summary(summary)
    }
}

fn words(before: &Progress, now: &Progress, coloured: bool) -> String {
    let Progress { paths, under_way, events, lost, elapsed } = *now;
    let rate = rate(events.saturating_sub(before.events), elapsed.saturating_sub(before.elapsed));
    let lost = match lost {
        0 => "nothing lost".to_owned(),
        lost => paint(&format!("{} LOST", thousands(lost)), AnsiColor::Red.on_default().bold(), coloured),
    };
    let seconds = elapsed.as_secs();
    format!(
        "{paths} told · {under_way} under way · {events} events, {rate}/s · {lost} · {minutes}:{seconds:02}",
        paths = match paths {
            1 => "1 path".to_owned(),
            paths => format!("{} paths", thousands(paths)),
        },
        under_way = thousands(under_way),
        events = thousands(events),
        rate = thousands(rate),
        minutes = seconds / 60,
        seconds = seconds % 60,
    )
}

/// A second's share of `events`.
fn rate(events: u64, over: Duration) -> u64 {
    let milliseconds = u64::try_from(over.as_millis()).unwrap_or(u64::MAX).max(1);
    events.saturating_mul(1000) / milliseconds
}

fn paint(text: &str, style: Style, coloured: bool) -> String {
    if coloured { format!("{style}{text}{style:#}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(paths: u64, events: u64, lost: u64, seconds: u64) -> Progress {
        Progress { paths, under_way: 3, events, lost, elapsed: Duration::from_secs(seconds) }
    }

    #[test]
    fn the_line_tells_rates_and_losses() {
        assert_eq!(
            words(&progress(0, 0, 0, 0), &progress(1, 40, 0, 2), false),
            "1 path told · 3 under way · 40 events, 20/s · nothing lost · 0:02"
        );
        assert_eq!(
            words(&progress(0, 1_000, 0, 74), &progress(1_200, 13_345, 1_500, 75), true),
            "1,200 paths told · 3 under way · 13,345 events, 12,345/s · \u{1b}[1m\u{1b}[31m1,500 LOST\u{1b}[0m · 1:15"
        );
    }

    #[test]
    fn no_time_is_no_rate() {
        assert_eq!(rate(0, Duration::ZERO), 0);
        assert_eq!(rate(500, Duration::from_millis(250)), 2_000);
    }
}
