//! `podtrace read`.

use anyhow::{Result, ensure};

use super::args::Read;
use super::expect::Judging;
use super::output::{Notes, choose_color, reports};
use super::{FAILED, meaning};
use crate::session::Importance;
use podtrace_report::filter::Choice;
use podtrace_report::output::losses;
use podtrace_report::recording::{Files, Header, Recorder};
use podtrace_report::replay::{Aim, Replayed, Telling, replay};

pub(super) fn run(args: &Read) -> Result<u8> {
    choose_color(args.output.color);
    let notes = Notes::of(&args.output);
    let recording = Files(args.files.clone()).open()?;
    let header = recording.header();
    let title = match args.files.as_slice() {
        [first, ..] => first.display().to_string(),
        [] => header.title.clone(),
    };
    let (choice, aim) = choice(args, header, notes)?;
    let mut judging = Judging::begin(&args.expect, &header.context.inventory, &title)?;
    let target = args.write.target()?;
    if let Some(target) = &target {
        ensure!(
            !args.files.iter().any(|file| target.overwrites(file)),
            "--write {} would overwrite what is to be read",
            target.path.display()
        );
    }
    let header = Header { part: 1, first: Vec::new(), ..header.clone() };
    let recorder = target.map(|target| Recorder::create(target, header)).transpose()?;
    let mut report = judging.watch(reports(&args.output, &title, args.write.takes_stdout())?);
    let Replayed { outcome, damage } =
        replay(recording, Telling { count: args.count, choice, aim, recorder }, &mut report)?;
    if let Some(losses) = losses(&outcome.summary) {
        notes.say(Importance::Warning, &losses);
    }
    if let Some(damage) = &damage {
        notes.say(Importance::Warning, &format!("the recording is not whole: {damage}"));
    }
    let status = judging.end(&outcome.summary, notes, false)?;
    Ok(if damage.is_some() { FAILED } else { status })
}

/// Which of the recording's paths are told: those that were told live, unless something else is asked for. With the
/// ends that were named, which may mean something else later in the recording.
fn choice(args: &Read, header: &Header, notes: Notes) -> Result<(Choice, Option<Aim>)> {
    let filter = match (&args.filter, &header.filter) {
        (Some(filter), _) => Some(filter.clone()),
        (None, Some(text)) => match text.parse() {
            Ok(filter) => {
                let how = format!("told as it was traced, with --filter '{text}'; --filter '' tells all");
                notes.say(Importance::Note, &how);
                Some(filter)
            }
            Err(_) => {
                let why = format!(
                    "it was traced with --filter '{text}', which this version does not know: all is told"
                );
                notes.say(Importance::Warning, &why);
                None
            }
        },
        (None, None) => None,
    };
    let asked = args.from.is_some() || args.to.is_some() || args.port.is_some() || args.proto.is_some();
    let aim = asked.then(|| meaning::aim(args)).transpose()?;
    let ends = match &aim {
        Some(aim) => {
            let (from, to) = aim.ends(&header.context.inventory)?;
            Some(aim.filter(&from, &to))
        }
        None => None,
    };
    Ok((Choice::new(filter, ends), aim))
}
