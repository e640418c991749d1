//! Recordings with events left out, as a node loses them, and what may be said of their packets then.
//!
//! Each statement may become weaker and none another one: a packet that was delivered is delivered or open, and never called
//! dropped, rejected or vanished.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use bytes::Bytes;
use podtrace_path::{Engine, Path, Verdict};
use podtrace_protocol::frame::{Accounting, FromAgent};
use podtrace_protocol::record::{RawEvent, Records};
use podtrace_report::recording::Reader;
use tracer_common::{Conntrack, Event, event::flag};

/// How many times a recording is read with other events left out.
const ROUNDS: u64 = 60;

/// The frames of a recording, with the number of their node; `None` where a node's stream ended.
type Frames = Vec<(usize, Option<FromAgent>)>;

/// Checks what is said of a recording's packets when events are missing.
///
/// # Errors
///
/// If it cannot be read, or something else is said.
pub fn says_less(recording: &[u8]) -> Result<()> {
    let mut reader = Reader::new(recording)?;
    let mut frames = Frames::new();
    while let Some(frame) = reader.next_frame() {
        frames.push(frame);
    }
    let play = |frames: &Frames| {
        let mut engine = Engine::new(reader.header().context.clone());
        let mut paths = Vec::new();
        for (node, frame) in frames {
            match frame {
                Some(frame) => engine.ingest(*node, frame, &mut paths),
                None => engine.node_ended(*node),
            }
        }
        let summary = engine.finish(&mut paths);
        (paths, summary)
    };
    let mut whole: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let (paths, _) = play(&frames);
    for path in &paths {
        whole.entry(packet(path)).or_default().insert(word(path.verdict));
    }
    for round in 1..=ROUNDS {
        let (lossy, left_out) = without(&frames, round);
        let (paths, summary) = play(&lossy);
        ensure!(left_out == 0 || !summary.complete, "round {round}: complete without {left_out} events");
        for path in &paths {
            let Some(said) = whole.get(&packet(path)) else { continue };
            let is_weaker = match path.verdict {
                Verdict::Open => true,
                // It had arrived, and no event is left of what came then.
                Verdict::Delivered => true,
                // What was dropped with an answer to its sender, which is missing.
                Verdict::Dropped => said.contains(word(Verdict::Rejected)),
                Verdict::Rejected | Verdict::Vanished => false,
            };
            ensure!(
                is_weaker || said.contains(word(path.verdict)),
                "round {round}, {left_out} events left out: {} is {} ({}), and was {said:?}",
                packet(path),
                word(path.verdict),
                path.reason.as_deref().unwrap_or("no reason")
            );
        }
    }
    Ok(())
}

/// What tells a packet from others.
fn packet(path: &Path) -> String {
    let end = |end: &podtrace_path::End| format!("{}:{:?}", end.ip, end.port);
    format!("{} {} → {} {} B", path.label, end(&path.from), end(&path.to), path.bytes)
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Delivered => "delivered",
        Verdict::Dropped => "dropped",
        Verdict::Vanished => "vanished",
        Verdict::Rejected => "rejected",
        Verdict::Open => "open",
    }
}

/// The frames with events left out and counted as lost: from every second one to every twentieth, other ones in each round. And
/// how many those are.
fn without(frames: &Frames, round: u64) -> (Frames, u64) {
    let mut random = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let rate = 2 + round % 20;
    let mut is_lost = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.is_multiple_of(rate)
    };
    let mut lost: BTreeMap<usize, u64> = BTreeMap::new();
    let mut lossy = Frames::new();
    for (node, frame) in frames {
        let lost = lost.entry(*node).or_default();
        let frame = match frame {
            Some(FromAgent::Events(body)) => {
                let mut kept = Vec::new();
                let mut at = 0;
                for event in Records::new(body).flatten() {
                    let end = at + length(&event);
                    if is_lost() {
                        *lost += 1;
                    } else {
                        kept.extend_from_slice(&body[at..end]);
                    }
                    at = end;
                }
                Some(FromAgent::Events(Bytes::from(kept)))
            }
            Some(FromAgent::Heartbeat { now_ns, counters }) => {
                Some(FromAgent::Heartbeat { now_ns: *now_ns, counters: with_lost(*counters, *lost) })
            }
            Some(FromAgent::Goodbye { counters }) => {
                Some(FromAgent::Goodbye { counters: with_lost(*counters, *lost) })
            }
            other => other.clone(),
        };
        lossy.push((*node, frame));
    }
    (lossy, lost.values().sum())
}

fn with_lost(counters: Accounting, lost: u64) -> Accounting {
    let Accounting { sent, lost_ring, .. } = counters;
    Accounting { sent: sent.saturating_sub(lost), lost_ring: lost_ring + lost, ..counters }
}

/// Length of an event's record in bytes.
fn length(event: &RawEvent<'_>) -> usize {
    let conntrack = if event.event.flags & flag::CONNTRACK == 0 { 0 } else { size_of::<Conntrack>() };
    size_of::<Event>() + conntrack + usize::from(event.event.captured)
}
