//! Replays a recording: feeds its frames into the path engine in the order in which they arrived live.
//!
//! Input: a [`Reader`], and [`ReplayOptions`] that select paths. Output: the paths and the summary, through a [`Report`]; and
//! what is damaged in the recording.

use anyhow::Result;

use super::{Aim, Outcome, Presenter};
use crate::filter::Choice;
use crate::output::Report;
use crate::recording::{Header, Item, Reader, Recorder};
use podtrace_path::{Engine, Path};

/// Result of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Outcome of the trace; its summary is never complete if there is damage.
    pub outcome: Outcome,
    /// What is damaged or missing in the recording; `None` if it is whole.
    pub damage: Option<String>,
}

/// Which paths of a recording are reported, and where they are recorded again.
#[derive(Debug, Default)]
pub struct ReplayOptions {
    /// Maximum number of paths; `None` means the limit of the recorded trace.
    pub count: Option<u64>,
    /// Selects the paths to report.
    pub choice: Choice,
    /// The endpoints as named: cluster changes may give them further addresses.
    pub aim: Option<Aim>,
    /// Writes a new recording.
    pub recorder: Option<Recorder>,
}

/// Reports the paths of a recording. Skips what cannot be read, and returns it as damage.
///
/// # Errors
///
/// If the report or the new recording cannot be written. The error then has the summary, unless it was reported.
pub fn replay(
    mut recording: Reader<'_>,
    options: ReplayOptions,
    report: &mut dyn Report,
) -> Result<Replayed> {
    let ReplayOptions { count, choice, aim, recorder } = options;
    let header = recording.header().clone();
    let mut presenter = Presenter::new(report, recorder, choice, count.or(header.count), &header.context);
    let mut engine = Engine::new(header.context.clone());
    let mut paths = Vec::new();
    let fed = feed(&mut recording, &header, aim.as_ref(), &mut presenter, &mut engine, &mut paths);
    let mut summary = engine.finish(&mut paths);
    let fed = fed.and_then(|()| presenter.report_paths(&mut paths));
    if let Err(error) = fed {
        return Err(match presenter.fail(summary) {
            Some(summary) => error.context(summary),
            None => error,
        });
    }
    let damage = recording.damage();
    // Paths may be missing, so their absence proves nothing.
    if let Some(damage) = &damage {
        summary.complete = false;
        presenter.report_damage(damage)?;
    }
    Ok(Replayed { outcome: presenter.finish(summary)?, damage })
}

/// Feeds the engine, and reports what comes out of it.
fn feed(
    recording: &mut Reader<'_>,
    header: &Header,
    aim: Option<&Aim>,
    presenter: &mut Presenter<'_>,
    engine: &mut Engine,
    paths: &mut Vec<Path>,
) -> Result<()> {
    let mut inventory = header.context.inventory.clone();
    while let Some(next) = recording.next_entry() {
        match next {
            Item::Node(node, frame) => {
                presenter.handle_frame(node, frame.as_ref());
                match &frame {
                    Some(frame) => engine.ingest(node, frame, paths),
                    None => engine.node_ended(node),
                }
            }
            Item::Cluster(update) => {
                inventory.apply(&update.delta);
                if let Some(aim) = aim {
                    presenter.widen(aim, &inventory);
                }
                engine.update(&update);
                presenter.handle_update(&update)?;
            }
        }
        presenter.report_paths(paths)?;
    }
    Ok(())
}
