//! Traffic of other pods, or of another cluster on the same kernel, is not traced.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_path::Verdict;
use podtrace_protocol::frame::FromAgent;
use podtrace_protocol::record::Records;
use podtrace_report::recording::Files;
use podtrace_tests::check::brief;
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::trace::{Finished, Trace};

use crate::{POD1, POD3, TRAFFIC};

const PINGS: usize = 20;

/// Hook numbers of tc ingress, tc egress and drops.
const TC: [u16; 2] = [1, 2];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("isolation-from-tcp-flood", &["iperf3"], || beside_iperf("iso-tcp", &["-P", "2"])),
        trial("isolation-from-udp-flood", &["iperf3"], || {
            beside_iperf("iso-udp", &["-u", "-b", "0", "-l", "64"])
        }),
        trial("isolation-from-another-lab", &[] as &[&str], beside_another_lab),
    ]
}

/// pod2 and pod4 exchange packets at full speed through the same bridges, tunnel and uplinks.
fn beside_iperf(name: &str, how: &[&str]) -> Result<()> {
    let lab = Lab::up(name)?;
    let mut server = lab.spawn("pod4", ["iperf3", "-s", "--forceflush"])?;
    server.wait_for_line("Server listening", Duration::from_secs(10))?;
    let directory = tempfile::tempdir()?;
    let recording = directory.path().join("trace.pcapng");
    let recording = recording.to_str().context("the temporary directory's name")?;
    let trace = Trace::ready(&lab, ["--from", "pod1", "--to", "pod3", "--write", recording])?;
    let client = ["iperf3", "-c", "10.42.1.11", "-t", "3", "--connect-timeout", "5000", "--forceflush"];
    let mut client = lab.spawn("pod2", client.iter().chain(how))?;
    // Its table of intervals begins once the flood does.
    client.wait_for_line("[ ID]", Duration::from_secs(10))?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, &PINGS.to_string(), "56"])?;
    let flood = client.finish(Duration::from_secs(30))?;
    ensure!(flood.status.success(), "iperf3 failed: {}{}", flood.stdout, flood.stderr);
    let finished = trace.interrupt()?;
    only_ours(&finished, recording)
}

/// Another lab has the same addresses; its packets pass the same kernel, and its drops the same tracepoint.
fn beside_another_lab() -> Result<()> {
    let (lab, other) = (Lab::up("iso-lab")?, Lab::up("iso-other")?);
    let directory = tempfile::tempdir()?;
    let recording = directory.path().join("trace.pcapng");
    let recording = recording.to_str().context("the temporary directory's name")?;
    let trace = Trace::ready(&lab, ["--from", "pod1", "--to", "pod3", "--write", recording])?;
    other.exec("pod1", [TRAFFIC, "echo", POD3, "200", "56"])?;
    // Nobody listens: these are dropped.
    other.exec("pod1", [TRAFFIC, "udp", POD3, "9", "50", "56"])?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, &PINGS.to_string(), "56"])?;
    only_ours(&trace.interrupt()?, recording)
}

/// The trace holds the pings and nothing else, and the events produced are what they explain.
fn only_ours(finished: &Finished, recording: &str) -> Result<()> {
    let summary = finished.summary()?;
    let events = &summary.events;
    // On a busy machine the kernel skips programs that interrupt themselves, at any packet: that is said, and no other loss.
    let skipped = events.missed_probes > 0 && finished.stderr.contains("skipped by the kernel");
    ensure!(summary.complete || skipped, "the trace is not complete: {summary:?}\n{}", finished.stderr);
    let lost = events.lost_ring + events.lost_map + events.unmatched;
    ensure!(events.produced == events.delivered && lost == 0 && summary.unwatched.is_empty(), "{summary:?}");
    ensure!(finished.paths.len() == 2 * PINGS, "{} paths", finished.paths.len());
    for path in &finished.paths {
        let ends = [path.from.pod.as_deref(), path.to.pod.as_deref()];
        ensure!(
            ends.contains(&Some("default/pod1")) && ends.contains(&Some("default/pod3")),
            "{}",
            brief(path)
        );
        ensure!(path.verdict == Verdict::Delivered && path.hops.len() == 8, "{}", brief(path));
    }
    let (mut taps, mut drops, mut stack) = (0, 0, 0);
    let mut ours = BTreeSet::new();
    let mut reader = Files(vec![recording.into()]).open()?;
    let addresses = [POD1, POD3].map(|address| address.parse::<std::net::Ipv4Addr>().map(|a| a.octets()));
    while let Some((node, frame)) = reader.next_frame() {
        let Some(FromAgent::Events(body)) = frame else { continue };
        for record in Records::new(&body) {
            let record = record.context("a damaged event")?;
            // Events of hooks in the network stack have no bytes: a tap has captured them before.
            if record.bytes.is_empty() {
                ensure!(
                    ours.contains(&(node, record.event.packet)),
                    "an event of an unknown packet: {:?}",
                    record.event
                );
                stack += 1;
                continue;
            }
            ours.insert((node, record.event.packet));
            for address in addresses.clone() {
                let address = address?;
                let holds = record.bytes.windows(4).any(|bytes| bytes == address);
                ensure!(holds, "an event of a foreign packet: {:02x?}", record.bytes);
            }
            *if TC.contains(&record.event.hook) { &mut taps } else { &mut drops } += 1;
        }
    }
    // Eight taps a way; and a reply that a raw socket had its copy of is nobody's, which the kernel tells.
    ensure!(taps == 16 * PINGS, "{taps} events of taps");
    ensure!(drops <= PINGS, "{drops} drops");
    ensure!(
        summary.events.produced == (taps + drops + stack) as u64,
        "{taps} + {drops} + {stack} events explain not all: {:?}",
        summary.events
    );
    Ok(())
}
