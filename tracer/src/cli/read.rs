//! `podtrace read`.

use anyhow::{Context as _, Result};

use super::FAILED;
use super::args::Read;
use super::expect::Judging;
use super::output::{Notes, choose_color, reports};
use crate::report::losses;
use crate::session::{Importance, Reader, replay};

pub(super) fn run(args: &Read) -> Result<u8> {
    choose_color(args.output.color);
    let notes = Notes::of(&args.output);
    let recording = Reader::open(&args.file)?;
    let inventory = &recording.header().context.inventory;
    let title = args.file.display().to_string();
    let mut judging = Judging::begin(&args.expect, inventory, &title)?;
    let mut report = judging.watch(reports(&args.output, &title)?);
    let (outcome, damage) =
        replay(recording, args.count, &mut report).context("telling the recording's paths")?;
    let mut summary = outcome.summary;
    if let Some(losses) = losses(&summary) {
        notes.say(Importance::Warning, &losses);
    }
    if let Some(damage) = &damage {
        notes.say(Importance::Warning, damage);
        // What is missing may be paths; nothing may be concluded from their absence.
        summary.complete = false;
    }
    let status = judging.end(&summary, notes, false)?;
    Ok(if damage.is_some() { FAILED } else { status })
}
