//! A recording told again: the same engine, the same frames, in the same order.

use anyhow::Result;

use super::{Outcome, Teller};
use crate::filter::Choice;
use crate::path::Engine;
use crate::recording::{Reader, Recorder};
use crate::report::Report;

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
    let Telling { count, choice, recorder } = telling;
    let header = recording.header().clone();
    let mut engine = Engine::new(header.context);
    let mut teller = Teller::new(report, recorder, choice, count.or(header.count));
    let mut paths = Vec::new();
    while let Some((node, frame)) = recording.next_frame() {
        teller.hear(node, frame.as_ref());
        match &frame {
            Some(frame) => engine.ingest(node, frame, &mut paths),
            None => engine.node_ended(node),
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
