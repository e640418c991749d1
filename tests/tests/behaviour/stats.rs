//! `--stats`: every packet is counted where it passes, on both nodes, and none is reported.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_tests::command::SHORT;
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::trace::{Finished, Trace};
use serde_json::Value;

use crate::{POD3, TRAFFIC};

const PINGS: u64 = 1000;

/// Bytes of an echo with 56 bytes, its IP header, and the link header.
const BYTES_V4: u64 = 98;
const BYTES_V6: u64 = 118;

const POD3_V6: &str = "fd00:42:1::10";

pub(crate) fn trials() -> Vec<Trial> {
    let none: &[&str] = &[];
    vec![
        trial("counts-of-pings-are-exact-at-every-device", none, || {
            pings("stats-v4", "flannel-vxlan", "flannel.1", POD3, BYTES_V4)
        }),
        trial("counts-of-ipv6-pings-are-exact-at-every-device", none, || {
            pings("stats-v6", "flannel-ipv6", "flannel-v6.1", POD3_V6, BYTES_V6)
        }),
        trial("counts-of-drops-name-place-and-reason", none, drops),
        trial("counts-of-a-stream-are-of-its-bytes", none, stream),
    ]
}

/// The last snapshot of a node.
fn last<'a>(finished: &'a Finished, node: &str) -> Result<&'a Value> {
    let last = finished.stats.iter().rfind(|stats| stats["node"] == node);
    last.with_context(|| format!("there are no counts of {node}"))
}

/// Packets, bytes and times at a device.
fn counts(stats: &Value, device: &str, point: &str, way: &str) -> Result<[u64; 3]> {
    let taps = stats["taps"].as_array().context("taps")?;
    let is_it = |tap: &&Value| {
        let named = tap["device"]
            .as_str()
            .is_some_and(|name| name == device || name.starts_with("veth") && device == "veth");
        named && tap["point"] == point && tap["way"] == way
    };
    let tap =
        taps.iter().find(is_it).with_context(|| format!("nothing at {device} {point} {way}: {stats}"))?;
    let times = tap["times"]["buckets"].as_array().context("buckets")?;
    let times = times.iter().filter_map(|bucket| bucket[1].as_u64()).sum();
    Ok([tap["packets"].as_u64().context("packets")?, tap["bytes"].as_u64().context("bytes")?, times])
}

fn pings(name: &str, network: &str, tunnel: &str, to: &str, bytes: u64) -> Result<()> {
    let lab = Lab::on(name, network, "none")?;
    lab.exec("pod1", [TRAFFIC, "echo", to, "1", "56"])?;
    let trace = Trace::ready(&lab, ["--from", "pod1", "--to", "pod3", "--stats"])?;
    lab.exec("pod1", [TRAFFIC, "echo", to, &PINGS.to_string(), "56"])?;
    let finished = trace.interrupt()?;
    let summary = finished.complete()?;
    ensure!(summary.events.produced == 0 && finished.paths.is_empty(), "{summary:?}");
    // Where a packet is seen first on a node, no time has passed.
    for (here, there, way) in [("node1", "node2", "request"), ("node2", "node1", "reply")] {
        for (node, device, point, timed) in [
            (here, "veth", "tc:ingress", 0),
            (here, "cni0", "tc:ingress", PINGS),
            (here, tunnel, "tc:egress", PINGS),
            (here, "eth0", "tc:egress", PINGS),
            (there, "eth0", "tc:ingress", 0),
            (there, tunnel, "tc:ingress", PINGS),
            (there, "cni0", "tc:egress", PINGS),
            (there, "veth", "tc:egress", PINGS),
        ] {
            let [packets, counted, times] = counts(last(&finished, node)?, device, point, way)?;
            // IPv6's tunnel header has no room in the sk_buff: the kernel makes another one, whose time starts anew.
            let anew = times == 0 && name == "stats-v6" && point == "tc:egress";
            ensure!(
                packets == PINGS && (times == timed || anew),
                "{node} {device} {point} {way}: {packets} packets, {times} times"
            );
            // The tunnel's header is counted on the wire.
            ensure!(
                if device == "eth0" { counted > PINGS * bytes } else { counted == PINGS * bytes },
                "{node} {device} {point} {way}: {counted} bytes"
            );
        }
    }
    Ok(())
}

fn drops() -> Result<()> {
    const COUNT: u64 = 20;
    let lab = Lab::up("stats-drops")?;
    lab.exec("pod1", [TRAFFIC, "echo", POD3, "1", "56"])?;
    lab.exec("node1", ["ip", "route", "add", "blackhole", POD3])?;
    let trace = Trace::ready(&lab, ["--from", "pod1", "--to", "pod3", "--stats"])?;
    lab.exec("pod1", [TRAFFIC, "udp", POD3, "5000", &COUNT.to_string(), "64"])?;
    let finished = trace.interrupt()?;
    finished.complete()?;
    let drops = last(&finished, "node1")?["drops"].as_array().context("drops")?;
    let dropped: u64 = drops.iter().filter_map(|drop| drop["packets"].as_u64()).sum();
    ensure!(dropped == COUNT, "{drops:?}");
    for drop in drops {
        ensure!(
            drop["pod"].is_null() && drop["location"].as_str().is_some_and(|name| name.contains("ip_")),
            "{drop}"
        );
    }
    Ok(())
}

/// Large segments count as what they are, and as what they stand for.
fn stream() -> Result<()> {
    const BYTES: u64 = 10_000_000;
    let lab = Lab::up("stats-tcp")?;
    let mut sink = lab.spawn("pod3", [TRAFFIC, "tcp-sink", "5000"])?;
    sink.wait_for_line("ready", SHORT)?;
    let trace = Trace::ready(&lab, ["--from", "pod1", "--to", "pod3", "--port", "5000", "--stats"])?;
    lab.exec("pod1", [TRAFFIC, "tcp", POD3, "5000", &BYTES.to_string()])?;
    sink.finish(SHORT)?;
    let finished = trace.interrupt()?;
    finished.summary()?;
    let stats = last(&finished, "node1")?;
    let [packets, bytes, _] = counts(stats, "veth", "tc:ingress", "request")?;
    ensure!(bytes > BYTES && bytes < BYTES + BYTES / 4, "{bytes} bytes in {packets} packets");
    let taps = stats["taps"].as_array().context("taps")?;
    let wire = taps.iter().filter_map(|tap| tap["wire_packets"].as_u64()).max().unwrap_or(0);
    ensure!(wire > BYTES / 1_500 && wire > packets, "{wire} on the wire, {packets} packets");
    Ok(())
}
