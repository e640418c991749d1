//! A recording told again: the same engine, the same frames, in the same order.

use anyhow::Result;

use super::{Aim, Outcome, Presenter};
use crate::filter::Choice;
use crate::output::Report;
use crate::recording::{Next, Reader, Recorder};
use podtrace_path::Engine;

/// What reading a recording came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// What was told; never complete if there is damage.
    pub outcome: Outcome,
    /// What the recording lacks.
    pub damage: Option<String>,
}

/// How a recording is told.
#[derive(Debug, Default)]
pub struct Telling {
    /// Only the first paths; as many as the trace was to tell if `None`.
    pub count: Option<u64>,
    /// Which paths.
    pub choice: Choice,
    /// The ends of those paths, as named.
    pub aim: Option<Aim>,
    /// Where it is recorded anew.
    pub recorder: Option<Recorder>,
}

/// Tells a recording's paths, and records them anew if that is asked for. What cannot be read of it is passed over
/// and named in the end.
///
/// # Errors
///
/// If the report or the new recording cannot be written.
pub fn replay(mut recording: Reader<'_>, telling: Telling, report: &mut dyn Report) -> Result<Replayed> {
    let Telling { count, choice, aim, recorder } = telling;
    let header = recording.header().clone();
    let mut inventory = header.context.inventory.clone();
    let mut teller = Presenter::new(report, recorder, choice, count.or(header.count), &header.context);
    let mut engine = Engine::new(header.context);
    let mut paths = Vec::new();
    while let Some(next) = recording.next_entry() {
        match next {
            Next::Node(node, frame) => {
                teller.hear(node, frame.as_ref());
                match &frame {
                    Some(frame) => engine.ingest(node, frame, &mut paths),
                    None => engine.node_ended(node),
                }
            }
            Next::Cluster(update) => {
                inventory.apply(&update.delta);
                if let Some(aim) = &aim {
                    teller.widen(aim, &inventory);
                }
                engine.update(&update);
                teller.update(&update)?;
            }
        }
        teller.tell(&mut paths)?;
    }
    let mut summary = engine.finish(&mut paths);
    teller.tell(&mut paths)?;
    let damage = recording.damage();
    // What is missing may be paths; nothing may be concluded from their absence.
    if let Some(damage) = &damage {
        summary.complete = false;
        teller.lacks(damage)?;
    }
    Ok(Replayed { outcome: teller.close(summary)?, damage })
}
