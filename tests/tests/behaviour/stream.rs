//! 10 MB over one TCP connection: segments are split and merged on the way, and no byte is missing.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_path::{Action, Direction, Path, Verdict};
use podtrace_tests::check::brief;
use podtrace_tests::command::SHORT;
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::trace::{Finished, Trace};

use crate::{ACROSS, POD3, TRAFFIC};

const BYTES: u64 = 10_000_000;

pub(crate) fn trials() -> Vec<Trial> {
    let none: &[&str] = &[];
    vec![
        trial("ten-megabytes", none, || ten_megabytes("tcp", &[]).map(|_| ())),
        trial("ten-megabytes-split-at-the-tunnel", none, || {
            let finished = ten_megabytes("tcp-tunnel", &["flannel.1"])?;
            ensure!(split(&finished), "no packet was taken apart");
            Ok(())
        }),
        trial("ten-megabytes-split-at-the-uplink", none, || {
            let finished = ten_megabytes("tcp-uplink", &["eth0"])?;
            ensure!(split(&finished), "no packet was taken apart");
            Ok(())
        }),
        trial("ten-megabytes-in-small-segments", none, || {
            let lab = Lab::up("tcp-small")?;
            lab.exec("pod1", [TRAFFIC, "offload", "eth0", "off"])?;
            let finished = move_bytes(&lab)?;
            ensure!(
                finished.paths.iter().any(|path| path.hops.iter().any(|hop| hop.merged)),
                "nothing was merged"
            );
            Ok(())
        }),
    ]
}

fn split(finished: &Finished) -> bool {
    finished.paths.iter().any(|path| path.hops.iter().any(|hop| hop.packets > 1))
}

/// Moves the bytes with the offloads of these devices of both nodes switched off.
fn ten_megabytes(name: &str, without_offloads: &[&str]) -> Result<Finished> {
    let lab = Lab::up(name)?;
    for node in ["node1", "node2"] {
        for device in without_offloads {
            lab.exec(node, [TRAFFIC, "offload", device, "off"])?;
        }
    }
    move_bytes(&lab)
}

fn move_bytes(lab: &Lab) -> Result<Finished> {
    let mut sink = lab.spawn("pod3", [TRAFFIC, "tcp-sink", "5000"])?;
    sink.wait_for_line("ready", SHORT)?;
    let trace = Trace::ready(lab, ["--from", "pod1", "--to", "pod3", "--port", "5000"])?;
    let sent = lab.exec("pod1", [TRAFFIC, "tcp", POD3, "5000", &BYTES.to_string()])?.stdout;
    ensure!(sink.finish(SHORT)?.stdout.contains(&format!("received {BYTES}")), "the sink lacks bytes");
    let finished = trace.interrupt()?;
    let summary = finished.summary()?;
    let events = summary.events;
    ensure!(events.produced == events.delivered && events.unmatched + events.lost_map == 0, "{summary:?}");
    // The kernel skips a program that it is running already on this CPU: drops of packets that may be anybody's.
    ensure!(summary.complete == (events.missed_probes == 0), "{summary:?}");
    for path in &finished.paths {
        let mut actions: Vec<_> = path.hops.iter().map(|hop| hop.action).collect();
        // What had arrived before, or late, TCP drops at the very end: that is no loss of the way's.
        let by_tcp = path.reason.as_deref().is_some_and(|reason| reason.starts_with("TCP_"));
        if path.verdict == Verdict::Dropped && by_tcp {
            ensure!(actions.pop() == Some(Action::Drop), "{}", brief(path));
            // One for each segment, where it came as several.
            while actions.last() == Some(&Action::Drop) {
                actions.pop();
            }
        } else {
            ensure!(path.verdict == Verdict::Delivered, "{}", brief(path));
        }
        ensure!(actions == ACROSS, "{}", brief(path));
        ensure!(path.flow.id == 1, "another flow: {}", brief(path));
    }
    let requests: Vec<&Path> =
        finished.paths.iter().filter(|path| path.flow.direction == Direction::Request).collect();
    let payload: u64 = requests.iter().map(|path| u64::from(path.payload)).sum();
    let twice = sent.trim().rsplit_once("retransmitted ").context("the sender's word")?.1.parse::<u64>()?;
    let (unique, overlap) = coverage(&requests)?;
    ensure!(unique == BYTES, "{unique} bytes have a path, {BYTES} were sent");
    ensure!(payload == unique + overlap, "{payload} bytes of payload");
    ensure!((overlap > 0) == (twice > 0), "{overlap} bytes were reported twice, {twice} segments sent twice");
    Ok(finished)
}

/// How many of the stream's bytes the paths hold, and how many they hold more than once.
fn coverage(paths: &[&Path]) -> Result<(u64, u64)> {
    let mut ranges = Vec::new();
    for path in paths.iter().filter(|path| path.payload > 0) {
        let (_, start) =
            path.label.rsplit_once(" seq ").context("payload without its place in the stream")?;
        let start: u64 = start.parse().context("a place in the stream")?;
        ranges.push((start, start + u64::from(path.payload)));
    }
    ranges.sort_unstable();
    let (mut unique, mut overlap, mut end) = (0, 0, 0);
    for (from, to) in ranges {
        let fresh = to.saturating_sub(from.max(end));
        unique += fresh;
        overlap += to - from - fresh;
        end = end.max(to);
    }
    Ok((unique, overlap))
}
