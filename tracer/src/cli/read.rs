//! `podtrace read`.

use anyhow::{Context as _, Result};

use super::args::Read;
use super::output::{Notes, choose_color, report};
use super::{DONE, FAILED};
use crate::report::losses;
use crate::session::{Importance, Reader, replay};

pub(super) fn run(args: &Read) -> Result<u8> {
    choose_color(args.output.color);
    let recording = Reader::open(&args.file)?;
    let mut report = report(args.output.output);
    let (outcome, damage) =
        replay(recording, args.count, &mut *report).context("telling the recording's paths")?;
    if let Some(losses) = losses(&outcome.summary) {
        Notes::of(&args.output).say(Importance::Warning, &losses);
    }
    match damage {
        None => Ok(DONE),
        Some(damage) => {
            Notes::of(&args.output).say(Importance::Warning, &damage);
            Ok(FAILED)
        }
    }
}
