//! The status line at the bottom of the terminal during a trace: paths, packets in flight, event rate and losses.
//!
//! It is shown if stderr is a terminal with cursor control, and stdout is that too, or a file or device. Not if stdout is a
//! pipe: what reads it may write to the same terminal, and would continue the line. On a narrow terminal, the line is shorter.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use terminal_size::{Height, Width, terminal_size_of};
use unicode_width::UnicodeWidthStr as _;

use super::args::Output;
use crate::session::Progress;
use podtrace_path::{Change, Path, Summary};
use podtrace_protocol::stats::Stats;
use podtrace_report::output::{Report, thousands};
use podtrace_report::totals::Finished;

/// Returns to the start of the line and erases it.
const ERASE: &str = "\r\x1b[2K";

/// Columns left free, so that the `^C` that the terminal echoes does not wrap to another line.
const FREE: usize = 3;

/// The status line; does nothing where none is shown.
#[derive(Clone, Debug)]
pub(super) struct Status {
    /// The text on the terminal; `None` if no status line is shown.
    drawn: Option<Arc<Mutex<String>>>,
    coloured: bool,
}

impl Status {
    /// Nothing is drawn until the first [`Self::show`].
    pub(super) fn of(output: &Output) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let seen = !is_pipe() && io::stderr().is_terminal() && !dumb && !output.quiet;
        Self {
            drawn: seen.then(Arc::default),
            coloured: AutoStream::choice(&io::stderr()) != ColorChoice::Never,
        }
    }

    /// No status line, for short commands.
    pub(super) fn none() -> Self {
        Self { drawn: None, coloured: false }
    }

    /// Draws the line.
    pub(super) fn show(&self, before: &Progress, now: &Progress) {
        if let Some(drawn) = &self.drawn {
            let Some((Width(columns), _)) = terminal_size_of(io::stderr()) else { return };
            let line = self.line(before, now, columns.into());
            // Locked while drawing: other threads print messages, too.
            let mut drawn = lock(drawn);
            draw(&format!("{}{line}", erase(&drawn)));
            *drawn = line;
        }
    }

    /// The line, for so many columns.
    pub(super) fn line(&self, before: &Progress, now: &Progress, columns: usize) -> String {
        // A line that is too long would wrap.
        let room = columns.saturating_sub(FREE);
        let mut lines = texts(before, now, self.coloured).into_iter();
        lines.find(|text| anstream::adapter::strip_str(text).to_string().width() <= room).unwrap_or_default()
    }

    /// Draws several lines, none of which is wider than the terminal, in place of what is there. `text` makes them for so many
    /// columns and lines.
    pub(super) fn show_table(&self, text: impl FnOnce(usize, usize) -> String) {
        let Some(drawn) = &self.drawn else { return };
        let Some((Width(columns), Height(lines))) = terminal_size_of(io::stderr()) else { return };
        // The last line stays free, for the `^C` that the terminal echoes.
        let text = text(usize::from(columns), usize::from(lines).saturating_sub(1));
        let text = if self.coloured { text } else { anstream::adapter::strip_str(&text).to_string() };
        let mut drawn = lock(drawn);
        draw(&format!("{}{text}", erase(&drawn)));
        *drawn = text;
    }

    /// Removes the line, runs `write`, which may print to the terminal, and draws the line again.
    pub(super) fn above<T>(&self, write: impl FnOnce() -> T) -> T {
        let Some(drawn) = &self.drawn else { return write() };
        let drawn = lock(drawn);
        if drawn.is_empty() {
            return write();
        }
        draw(&erase(&drawn));
        let result = write();
        draw(&drawn);
        result
    }

    /// A report that pauses the line while it prints.
    pub(super) fn wrap(&self, report: Box<dyn Report>) -> Box<dyn Report> {
        match &self.drawn {
            Some(_) => Box::new(WithStatus { status: self.clone(), report }),
            None => report,
        }
    }

    /// Removes the line until it is shown again.
    pub(super) fn clear(&self) {
        if let Some(drawn) = &self.drawn {
            let drawn = std::mem::take(&mut *lock(drawn));
            if !drawn.is_empty() {
                draw(&erase(&drawn));
            }
        }
    }
}

/// What erases what is drawn, and leaves the cursor where that began.
fn erase(drawn: &str) -> String {
    if !drawn.contains('\n') {
        return ERASE.to_owned();
    }
    // Where the terminal has become narrower since, or a word is wider, lines take several of its own.
    let columns =
        terminal_size_of(io::stderr()).map_or(usize::MAX, |(Width(columns), _)| columns.into()).max(1);
    let plain = anstream::adapter::strip_str(drawn).to_string();
    let lines: usize = plain.lines().map(|line| line.width().div_ceil(columns).max(1)).sum();
    // The cursor stands in the last one, unless that is over.
    match lines.saturating_sub(usize::from(!plain.ends_with('\n'))) {
        0 => "\r\x1b[J".to_owned(),
        up => format!("\r\x1b[{up}A\x1b[J"),
    }
}

fn lock(drawn: &Mutex<String>) -> MutexGuard<'_, String> {
    drawn.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ignores errors: if the terminal is gone, there is nothing to draw.
fn draw(text: &str) {
    let mut terminal = io::stderr().lock();
    let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
}

struct WithStatus {
    status: Status,
    report: Box<dyn Report>,
}

impl Report for WithStatus {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        self.status.above(|| self.report.path(path))
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        self.status.above(|| self.report.change(change))
    }

    fn stats(&mut self, node: &str, stats: &Stats) -> io::Result<()> {
        self.status.above(|| self.report.stats(node, stats))
    }

    fn damage(&mut self, damage: &str) -> io::Result<()> {
        self.status.above(|| self.report.damage(damage))
    }

    fn totals(&mut self, totals: &Finished) -> io::Result<()> {
        // Nothing but the summary follows.
        self.status.clear();
        self.report.totals(totals)
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        // The summary is the last output.
        self.status.clear();
        self.report.summary(summary)
    }
}

/// Whether stdout is a pipe or socket.
fn is_pipe() -> bool {
    let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let kind = stdout.and_then(|stdout| stdout.metadata()).map(|metadata| metadata.file_type());
    kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket())
}

/// The line, and shorter ones for narrow terminals. Losses are in all of them.
fn texts(before: &Progress, now: &Progress, coloured: bool) -> Vec<String> {
    let Progress { paths, under_way, events, unsampled: _, lost, harmless: _, elapsed } = *now;
    let rate = rate(events.saturating_sub(before.events), elapsed.saturating_sub(before.elapsed));
    let lost = match lost {
        0 => "nothing lost".to_owned(),
        lost => paint(&format!("{} LOST", thousands(lost)), AnsiColor::Red.on_default().bold(), coloured),
    };
    let seconds = elapsed.as_secs();
    let paths = match paths {
        1 => "1 path".to_owned(),
        paths => format!("{} paths", thousands(paths)),
    };
    let time = format!("{}:{:02}", seconds / 60, seconds % 60);
    let (under_way, events, rate) = (thousands(under_way), thousands(events), thousands(rate));
    vec![
        format!("{paths} · {under_way} in flight · {events} events, {rate}/s · {lost} · {time}"),
        format!("{paths} · {events} events, {rate}/s · {lost} · {time}"),
        format!("{paths} · {events} events · {lost} · {time}"),
        format!("{paths} · {lost} · {time}"),
        format!("{paths} · {lost}"),
    ]
}

/// Events per second.
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
        Progress {
            paths,
            under_way: 3,
            events,
            unsampled: 0,
            lost,
            harmless: 0,
            elapsed: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn the_line_shows_rates_and_losses() {
        assert_eq!(
            texts(&progress(0, 0, 0, 0), &progress(1, 40, 0, 2), false)[0],
            "1 path · 3 in flight · 40 events, 20/s · nothing lost · 0:02"
        );
        assert_eq!(
            texts(&progress(0, 1_000, 0, 74), &progress(1_200, 13_345, 1_500, 75), true)[0],
            "1,200 paths · 3 in flight · 13,345 events, 12,345/s · \u{1b}[1m\u{1b}[31m1,500 LOST\u{1b}[0m · 1:15"
        );
    }

    #[test]
    fn there_are_shorter_lines() {
        let lines = texts(&progress(0, 1_000, 0, 74), &progress(1_200, 13_345, 1_500, 75), false);
        assert!(lines.is_sorted_by_key(|line| std::cmp::Reverse(line.width())), "{lines:?}");
        assert_eq!(lines[1], "1,200 paths · 13,345 events, 12,345/s · 1,500 LOST · 1:15");
        assert_eq!(
            lines[2..4],
            ["1,200 paths · 13,345 events · 1,500 LOST · 1:15", "1,200 paths · 1,500 LOST · 1:15"]
        );
    }

    #[test]
    fn no_time_is_no_rate() {
        assert_eq!(rate(0, Duration::ZERO), 0);
        assert_eq!(rate(500, Duration::from_millis(250)), 2_000);
    }
}
