//! `podtrace read`.

use anyhow::{Result, ensure};
use tracing::{info, warn};

use super::args::Read;
use super::expect::Judging;
use super::output::{choose_color, reports};
use super::status::Status;
use super::{FAILED, meaning, notes};
use podtrace_report::filter::Choice;
use podtrace_report::output::losses;
use podtrace_report::recording::{Files, Header, Recorder};
use podtrace_report::replay::{Aim, Replayed, Telling, replay};

pub(super) fn run(args: &Read) -> Result<u8> {
    choose_color(args.output.color);
    notes::show(&args.output, Status::none());
    let recording = Files(args.files.clone()).open()?;
    let header = recording.header();
    let title = match args.files.as_slice() {
        [first, ..] => first.display().to_string(),
        [] => header.title.clone(),
    };
    let (choice, aim) = choice(args, header)?;
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
        warn!("{losses}");
    }
    if let Some(damage) = &damage {
        warn!("the recording is not whole: {damage}");
    }
    let status = judging.end(&outcome.summary, false)?;
    Ok(if damage.is_some() { FAILED } else { status })
}

/// Which of the recording's paths are told: those that were told live, unless something else is asked for. With the
/// ends that were named, which may mean something else later in the recording.
fn choice(args: &Read, header: &Header) -> Result<(Choice, Option<Aim>)> {
    let filter = match (&args.filter, &header.filter) {
        (Some(filter), _) => Some(filter.clone()),
        (None, Some(text)) => match text.parse() {
            Ok(filter) => {
                info!("told as it was traced, with --filter '{text}'; --filter '' tells all");
                Some(filter)
            }
            Err(_) => {
                warn!("it was traced with --filter '{text}', which this version does not know: all is told");
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
