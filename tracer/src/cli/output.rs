//! Where output goes: the trace to stdout, everything else to stderr.

use std::io::{self, BufWriter, Stdout};

use anstream::{AutoStream, ColorChoice};

use super::args::{Color, Format, Output};
use crate::escape::escape;
use crate::report::{Json, Report, Text};
use crate::session::Importance;

/// Makes the choice of `--color` known to stdout and stderr.
pub(super) fn choose_color(color: Color) {
    let choice = match color {
        Color::Auto => ColorChoice::Auto,
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    };
    choice.write_global();
}

/// The report that `-o` asks for, on stdout unless that is taken.
pub(super) fn report(format: Format, stdout_is_taken: bool) -> Box<dyn Report> {
    if stdout_is_taken {
        return Box::new(Json::new(io::sink()));
    }
    match format {
        Format::Text => Box::new(Text::new(stdout())),
        Format::Wide => Box::new(Text::wide(stdout())),
        Format::Json => Box::new(Json::new(BufWriter::new(io::stdout()))),
    }
}

fn stdout() -> AutoStream<Stdout> {
    AutoStream::auto(io::stdout())
}

/// What is told on stderr.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notes {
    least: Importance,
}

impl Notes {
    pub(super) fn of(output: &Output) -> Self {
        let least = match (output.quiet, output.verbose) {
            (true, _) => Importance::Warning,
            (false, 0) => Importance::Note,
            (false, _) => Importance::Detail,
        };
        Self { least }
    }

    /// Only warnings.
    pub(super) fn quiet() -> Self {
        Self { least: Importance::Warning }
    }

    pub(super) fn say(self, importance: Importance, line: &str) {
        if importance >= self.least {
            let mark = if importance == Importance::Warning { "warning: " } else { "" };
            anstream::eprintln!("{mark}{}", escape(line));
        }
    }
}
