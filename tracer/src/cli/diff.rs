//! `podtrace diff`: what is different between two recordings.

use std::io;
use std::path::{Path as FilePath, PathBuf};

use anyhow::{Context as _, Result};
use tracing::warn;

use super::args::{Diff, DiffFormat};
use super::look::print;
use super::output::{choose_color, width};
use super::{FAILED, FINDINGS, SUCCESS, notes};
use podtrace_path::{Path, Summary};
use podtrace_report::diff::compare;
use podtrace_report::output::Report;
use podtrace_report::output::diff::{to_json, write};
use podtrace_report::recording::Files;
use podtrace_report::replay::{ReplayOptions, replay};
use podtrace_report::totals::Finished;

pub(super) fn run(args: &Diff) -> Result<u8> {
    choose_color(args.color);
    notes::show_plain(false, 0);
    let before = totals(&args.before)?;
    let after = totals(&args.after)?;
    let difference = compare(&before, &after);
    let names = [args.before.display().to_string(), args.after.display().to_string()];
    print(&match args.output {
        DiffFormat::Text => write(&difference, [&names[0], &names[1]], width()),
        DiffFormat::Json => to_json(&difference).context("writing the difference as JSON")?,
    })?;
    Ok(match difference.is_no_worse() {
        false => FINDINGS,
        // What is missing may have failed.
        true if !difference.complete || difference.after.all == 0 => FAILED,
        true => SUCCESS,
    })
}

/// What a recording amounts to.
fn totals(file: &FilePath) -> Result<Finished> {
    let recording = Files(vec![PathBuf::from(file)]).open()?;
    let mut totals = Totals(Finished::default());
    let replayed = replay(recording, ReplayOptions::default(), &mut totals)?;
    if let Some(damage) = replayed.damage {
        warn!("{}: {damage}", file.display());
        totals.0.totals.complete = false;
    }
    Ok(totals.0)
}

/// Keeps nothing but the totals.
struct Totals(Finished);

impl Report for Totals {
    fn path(&mut self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn totals(&mut self, totals: &Finished) -> io::Result<()> {
        self.0 = totals.clone();
        Ok(())
    }

    fn summary(&mut self, _: &Summary) -> io::Result<()> {
        Ok(())
    }
}
