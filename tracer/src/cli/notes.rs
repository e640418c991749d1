//! Prints messages to stderr: warnings, notes and, on request, details and logs.
//!
//! Input: events of the `tracing` crate. The level determines when an event is shown:
//!
//! | event | shown | as |
//! | --- | --- | --- |
//! | `error!` | always | the plain text: output of another program |
//! | `warn!` | always | `warning: …` |
//! | `info!` | unless `-q` | the plain text |
//! | `detail!` | with `-v` | the plain text |
//! | `debug!` | with `-vv` | level, module and text |
//! | `trace!` | with `-vvv` | the same |
//!
//! Only podtrace's own crates are shown; at `-vvv` also events of libraries at `debug!` and above.

use std::fmt::{self, Write as _};

use podtrace_escape::escape;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;

use super::args::Output;
use super::status::Status;
use crate::DETAIL;
use crate::top::Messages;

/// Which events are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verbosity {
    /// `-q`
    Warnings,
    Notes,
    /// `-v`
    Details,
    /// `-vv`
    Debug,
    /// `-vvv`
    Trace,
}

/// Prints messages of a command according to its options, above its status line.
pub(super) fn show(output: &Output, status: Status) {
    show_at(output.quiet, output.verbose, status);
}

/// Keeps messages of a command that draws on all of the terminal.
pub(super) fn keep(output: &Output, messages: Messages) {
    let notes = Notes { verbosity: verbosity(output.quiet, output.verbose), sink: Sink::Kept(messages) };
    // As below.
    let _ = tracing::subscriber::set_global_default(Registry::default().with(notes));
}

/// Prints messages of a command without a status line.
pub(super) fn show_plain(quiet: bool, verbose: u8) {
    show_at(quiet, verbose, Status::none());
}

fn show_at(quiet: bool, verbose: u8, status: Status) {
    let notes = Notes { verbosity: verbosity(quiet, verbose), sink: Sink::Printed(status) };
    // Fails only if a subscriber is already set, which cannot happen in a process that runs one command.
    let _ = tracing::subscriber::set_global_default(Registry::default().with(notes));
}

fn verbosity(quiet: bool, verbose: u8) -> Verbosity {
    match (quiet, verbose) {
        (true, _) => Verbosity::Warnings,
        (false, 0) => Verbosity::Notes,
        (false, 1) => Verbosity::Details,
        (false, 2) => Verbosity::Debug,
        (false, _) => Verbosity::Trace,
    }
}

impl Verbosity {
    /// Whether an event of this level and target is shown.
    fn shows(self, level: Level, target: &str) -> bool {
        let is_own = target.starts_with("podtrace");
        let wanted = match level {
            // podtrace reports errors of libraries itself.
            _ if !is_own => return self == Self::Trace && level <= Level::DEBUG,
            Level::ERROR | Level::WARN => Self::Warnings,
            Level::INFO if target == DETAIL => Self::Details,
            Level::INFO => Self::Notes,
            Level::DEBUG => Self::Debug,
            Level::TRACE => Self::Trace,
        };
        self >= wanted
    }
}

/// Writes events to stderr, or keeps them.
struct Notes {
    verbosity: Verbosity,
    sink: Sink,
}

/// Where messages go.
enum Sink {
    /// To stderr, above the status line.
    Printed(Status),
    /// Nowhere yet: something else is drawn there.
    Kept(Messages),
}

impl<S: Subscriber> Layer<S> for Notes {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.verbosity.shows(*metadata.level(), metadata.target())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.verbosity {
            Verbosity::Warnings => LevelFilter::WARN,
            Verbosity::Notes | Verbosity::Details => LevelFilter::INFO,
            Verbosity::Debug => LevelFilter::DEBUG,
            Verbosity::Trace => LevelFilter::TRACE,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = line(event);
        match &self.sink {
            Sink::Printed(status) => status.above(|| anstream::eprintln!("{}", escape(&line))),
            Sink::Kept(messages) => messages.push(line),
        }
    }
}

/// An event as one line.
fn line(event: &Event<'_>) -> String {
    let metadata = event.metadata();
    let (level, target) = (*metadata.level(), metadata.target());
    let mut line = match level {
        _ if level >= Level::DEBUG || !target.starts_with("podtrace") => {
            format!("{} {target}: ", level.as_str().to_ascii_lowercase())
        }
        Level::WARN => "warning: ".to_owned(),
        _ => String::new(),
    };
    event.record(&mut Text(&mut line));
    line
}

/// Appends an event's message, and its other fields as `name=value`.
struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_is_shown_from_its_verbosity_on() {
        let all =
            [Verbosity::Warnings, Verbosity::Notes, Verbosity::Details, Verbosity::Debug, Verbosity::Trace];
        for (level, target, first) in [
            (Level::ERROR, "podtrace::agent", Verbosity::Warnings),
            (Level::WARN, "podtrace::session", Verbosity::Warnings),
            (Level::INFO, "podtrace::session", Verbosity::Notes),
            (Level::INFO, DETAIL, Verbosity::Details),
            (Level::DEBUG, "podtrace_path::engine", Verbosity::Debug),
            (Level::TRACE, "podtrace_path::engine", Verbosity::Trace),
            (Level::WARN, "tower::buffer", Verbosity::Trace),
            (Level::DEBUG, "hyper", Verbosity::Trace),
        ] {
            for verbosity in all {
                assert_eq!(
                    verbosity.shows(level, target),
                    verbosity >= first,
                    "{level} {target} {verbosity:?}"
                );
            }
        }
        assert!(!Verbosity::Trace.shows(Level::TRACE, "hyper"));
    }
}
