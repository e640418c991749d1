//! Checks that must hold for every trace.

use anyhow::{Context as _, Result, bail, ensure};
use podtrace_path::{Action, Evidence, Path, Summary, Verdict, VerdictCounts};

/// Checks what must hold for the paths and summary of any trace.
///
/// # Errors
///
/// The first violation.
pub fn sound(paths: &[Path], summary: &Summary) -> Result<()> {
    let mut counted = VerdictCounts::default();
    for (path, number) in paths.iter().zip(1..) {
        ensure!(path.id == number, "path {} is reported as number {number}", path.id);
        *match path.verdict {
            Verdict::Delivered => &mut counted.delivered,
            Verdict::Dropped => &mut counted.dropped,
            Verdict::Vanished => &mut counted.vanished,
            Verdict::Rejected => &mut counted.rejected,
            Verdict::Open => &mut counted.open,
        } += 1;
        if let Err(error) = sound_path(path) {
            bail!("path {number}: {error}\n{}", brief(path));
        }
    }
    ensure!(
        counted == summary.paths,
        "the summary counts {:?}, but {counted:?} were reported",
        summary.paths
    );
    let events = &summary.events;
    if summary.complete {
        ensure!(events.produced == events.delivered + events.lost_ring, "it does not add up: {events:?}");
        ensure!(
            events.lost_ring + events.lost_map + events.missed_probes + events.unmatched == 0,
            "complete, and yet {events:?}"
        );
    }
    Ok(())
}

fn sound_path(path: &Path) -> Result<()> {
    ensure!(path.confidence > 0.0 && path.confidence <= 1.0, "a confidence of {}", path.confidence);
    ensure!(!path.hops.is_empty(), "no hops");
    let first = path.hops.iter().find_map(|hop| hop.at_ns);
    ensure!(first == Some(0), "the first hop that was seen is not at 0");
    let (mut last, mut last_error) = (0, 0);
    for (hop, number) in path.hops.iter().zip(0..) {
        ensure!(hop.index == number, "hop {} is reported as number {number}", hop.index);
        ensure!(
            hop.at_ns.is_some() == (hop.evidence == Evidence::Observed),
            "hop {number}: only what was observed has a time"
        );
        if let Some(at) = hop.at_ns {
            let error = i64::try_from(hop.clock_error_ns.max(last_error))?;
            ensure!(at + error >= last, "hop {number} is before the one before it");
            (last, last_error) = (at, hop.clock_error_ns);
        }
        match hop.action {
            Action::PodEgress => ensure!(hop.pod == path.from.pod, "hop {number}: out of another's veth"),
            Action::PodIngress => {
                // Where a translation has sent it, if one has.
                let to = path.translated.as_deref().map_or(&path.to, |translated| &translated.to);
                ensure!(hop.pod == to.pod, "hop {number}: into another's veth");
            }
            Action::Nat => {
                let nat = hop.nat.as_ref().context("a translation without its tuples")?;
                ensure!(
                    nat.before != nat.after && nat.after == hop.tuple,
                    "hop {number}: translated to what it is not"
                );
            }
            // What is dropped on its way into the tunnel has no outer header yet.
            Action::Encapsulate | Action::Decapsulate if path.verdict == Verdict::Delivered => {
                ensure!(hop.outer.is_some(), "hop {number}: a tunnel without an outer header");
            }
            Action::Drop => ensure!(hop.drop.is_some(), "hop {number}: a drop without its reason"),
            _ => {}
        }
    }
    Ok(())
}

/// A path in one line.
#[must_use]
pub fn brief(path: &Path) -> String {
    serde_json::to_string(path).unwrap_or_else(|error| error.to_string())
}
