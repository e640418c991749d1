//! `podtrace read`.

use std::path::PathBuf;

use anyhow::Result;
use tracing::{info, warn};

use super::args::{Ends, Read};
use super::expect::Judging;
use super::output::{choose_color, reports};
use super::status::Status;
use super::{FAILED, notes, plan};
use crate::files::{self, Inputs};
use podtrace_report::filter::Choice;
use podtrace_report::output::losses;
use podtrace_report::recording::{Files, Header};
use podtrace_report::replay::{Aim, ReplayOptions, Replayed, replay};

pub(super) fn run(args: &Read) -> Result<u8> {
    choose_color(args.output.color);
    notes::show(&args.output, Status::none());
    let recording = Files(args.files.clone()).open()?;
    let header = recording.header();
    let title = match args.files.as_slice() {
        [first] if first.as_os_str() == "-" => "standard input".to_owned(),
        [first, ..] => first.display().to_string(),
        [] => header.title.clone(),
    };
    let (choice, aim) = choice(args, header)?;
    // A file may also be read as stdin.
    let inputs = args.files.iter().map(|file| match file.as_os_str() {
        name if name == "-" => PathBuf::from("/dev/stdin"),
        _ => file.clone(),
    });
    let inputs = Inputs::new(inputs);
    let mut judging = Judging::start(&args.expect, &header.context.inventory, &title, &inputs)?;
    let target = args.write.target()?;
    let header = Header { part: 1, first: Vec::new(), ..header.clone() };
    let recorder = target.map(|target| files::recorder(target, header, inputs.clone())).transpose()?;
    let mut report = judging.wrap(reports(&args.output, &title, args.write.takes_stdout(), &inputs)?);
    let Replayed { outcome, damage } =
        replay(recording, ReplayOptions { count: args.count, choice, aim, recorder }, &mut report)?;
    if let Some(losses) = losses(&outcome.summary) {
        warn!("{losses}");
    }
    if let Some(damage) = &damage {
        warn!("the recording is damaged: {damage}");
    }
    let status = judging.finish(&outcome.summary, false)?;
    Ok(if damage.is_some() { FAILED } else { status })
}

/// Selects the paths to report: by default those that the live trace reported. Also returns the endpoints as named, because
/// their addresses may change during the recording.
fn choice(args: &Read, header: &Header) -> Result<(Choice, Option<Aim>)> {
    let filter = match (&args.filter, &header.filter) {
        (Some(filter), _) => Some(filter.clone()),
        (None, Some(text)) => match text.parse() {
            Ok(filter) => {
                info!("applying the recorded trace's --filter '{text}'; use --filter '' to show all paths");
                Some(filter)
            }
            Err(_) => {
                warn!("this version cannot parse the recorded trace's --filter '{text}': showing all paths");
                None
            }
        },
        (None, None) => None,
    };
    let Ends { from, to, selector, port, proto, .. } = &args.ends;
    let has_ends = !(from.is_empty() && to.is_empty() && selector.is_empty());
    let asked = has_ends || port.is_some() || proto.is_some();
    let aim = asked.then(|| plan::aim(&args.ends, &header.context.inventory)).transpose()?;
    let ends = match &aim {
        Some(aim) => {
            let (from, to) = aim.ends(&header.context.inventory)?;
            Some(aim.filter(&from, &to))
        }
        None => None,
    };
    let choice = match ends {
        Some(ends) => Choice::new(filter, Some(ends)),
        None => Choice::of_trace(filter, &header.context.filter),
    };
    Ok((choice, aim))
}
