//! A recording told again: the same engine, the same frames, in the same order.

use std::io::Read;

use anyhow::{Context as _, Result};

use super::{Outcome, Reader, Teller};
use crate::path::Engine;
use crate::report::Report;

/// Tells a recording's paths. Where the recording is cut off or damaged, what comes before is told, and the
/// second value says what is missing.
///
/// # Errors
///
/// If the report cannot be written.
pub fn replay<R: Read>(
    mut recording: Reader<R>,
    count: Option<u64>,
    report: &mut dyn Report,
) -> Result<(Outcome, Option<String>)> {
    let header = recording.header().clone();
    let mut engine = Engine::new(header.context);
    let mut teller = Teller::new(report, count.or(header.count));
    let mut paths = Vec::new();
    let damage = loop {
        match recording.next_frame() {
            Ok(Some((node, Some(frame)))) => engine.ingest(node, &frame, &mut paths),
            Ok(Some((node, None))) => engine.node_ended(node),
            Ok(None) => break None,
            Err(error) => break Some(format!("the recording is damaged, what follows is missing: {error}")),
        }
        teller.tell(&mut paths).context("writing the report")?;
    };
    let summary = engine.finish(&mut paths);
    teller.tell(&mut paths).context("writing the report")?;
    let outcome = teller.close(summary).context("writing the report")?;
    Ok((outcome, damage))
}
