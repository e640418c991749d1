//! `podtrace read`.

use anyhow::{Result, ensure};

use super::FAILED;
use super::args::Read;
use super::expect::Judging;
use super::output::{Notes, choose_color, report};
use crate::recording::{Files, Header, Recorder};
use crate::report::losses;
use crate::session::{Importance, Replayed, Telling, replay};

pub(super) fn run(args: &Read) -> Result<u8> {
    choose_color(args.output.color);
    let notes = Notes::of(&args.output);
    let recording = Files(args.files.clone()).open()?;
    let header = recording.header();
    let title = match args.files.as_slice() {
        [first, ..] => first.display().to_string(),
        [] => header.title.clone(),
    };
    let mut judging = Judging::begin(&args.expect, &header.context.inventory, &title)?;
    let target = args.write.target();
    if let Some(target) = &target {
        ensure!(
            !args.files.iter().any(|file| target.overwrites(file)),
            "--write {} would overwrite what is to be read",
            target.path.display()
        );
    }
    let header = Header { part: 1, first: Vec::new(), ..header.clone() };
    let recorder = target.map(|target| Recorder::create(target, header)).transpose()?;
    let mut report = judging.watch(report(args.output.output, args.write.takes_stdout()));
    let Replayed { outcome, damage } =
        replay(recording, Telling { count: args.count, recorder }, &mut report)?;
    if let Some(losses) = losses(&outcome.summary) {
        notes.say(Importance::Warning, &losses);
    }
    if let Some(damage) = &damage {
        notes.say(Importance::Warning, &format!("the recording is not whole: {damage}"));
    }
    let status = judging.end(&outcome.summary, notes, false)?;
    Ok(if damage.is_some() { FAILED } else { status })
}
