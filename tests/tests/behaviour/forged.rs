//! Packets that claim to be another's: they are reported by where they entered, and spoil nothing of the other's.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_path::{Path, Verdict};
use podtrace_tests::command::{SHORT, run};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::trace::{self, Finished, Trace};
use podtrace_tests::wait;

use crate::{POD1, POD3, TRAFFIC};

/// The second node's address on the fabric, and the first one's on its bridge.
const NODE2: &str = "192.168.56.12";
const NODE1_BRIDGE: &str = "10.42.0.1";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a-forged-source-is-named-by-its-veth", &["ip"], forged_source),
        trial("a-forged-icmp-error-rejects-nothing", &["ip"], forged_error),
        trial("a-tunnel-packet-of-a-pod-is-no-nodes", &["ip"], forged_tunnel),
        trial("an-address-on-lo-takes-no-name", &["ip"], claimed_address),
    ]
}

fn own<'a>(paths: &'a [Path], pod: &str) -> Vec<&'a Path> {
    paths.iter().filter(|path| path.from.pod.as_deref() == Some(pod)).collect()
}

/// Waits until taps have been attached for as long as it takes to rely on them: a packet that was under way when they were
/// attached may have passed one before. Its first path shows that the tracer knows since when they are.
fn settle(trace: &Trace) -> Result<()> {
    wait::until("the first path is reported", SHORT, || {
        Ok(trace.process().stdout().contains("\"type\":\"path\"").then_some(()))
    })?;
    wait::moment(Duration::from_millis(100));
    Ok(())
}

/// Pod1 sends a datagram, and pod2 one with pod1's address, which expires on the way.
fn forged_source() -> Result<()> {
    let lab = Lab::up("forged-source")?;
    let mut sink = lab.spawn("pod3", [TRAFFIC, "udp-sink", "7000", "1"])?;
    sink.wait_for_line("ready", SHORT)?;
    let arguments = ["--from", "pod1", "--to", "pod3", "--one-way", "--expect", "delivered"];
    let trace = Trace::ready(&lab, arguments)?;
    lab.exec("pod1", [TRAFFIC, "udp", POD3, "7000", "1", "20"])?;
    settle(&trace)?;
    lab.exec("pod2", [TRAFFIC, "forge-udp", POD1, POD3, "7000", "1"])?;
    let finished = trace.interrupt_once(|paths| paths.len() >= 2)?;
    let (summary, paths) = (finished.summary()?, &finished.paths);
    ensure!(summary.complete && finished.code == 0, "{}: {}", finished.code, finished.stderr);
    let [path] = own(paths, "default/pod1")[..] else { anyhow::bail!("{}", finished.stdout) };
    ensure!(path.verdict == Verdict::Delivered && path.forged.is_none(), "{path:?}");
    let [forged] = own(paths, "default/pod2")[..] else { anyhow::bail!("{}", finished.stdout) };
    let reason = forged.reason.as_deref().unwrap_or_default();
    // Pod2's veth is not tapped.
    let expected = "not from default/pod1: it entered node1 at cni0, with the MAC address of default/pod2; ";
    ensure!(reason.starts_with(expected), "{reason}");
    ensure!(forged.verdict != Verdict::Delivered, "it was to expire: {forged:?}");
    Ok(())
}

/// An error about pod1's datagram, with the address of its node.
fn forged_error() -> Result<()> {
    let lab = Lab::up("forged-error")?;
    let mut sink = lab.spawn("pod3", [TRAFFIC, "udp-sink", "7000", "1"])?;
    sink.wait_for_line("ready", SHORT)?;
    let trace = Trace::ready(&lab, ["--from", "pod1", "--to", "pod3"])?;
    lab.exec("pod1", [TRAFFIC, "udp", POD3, "7000", "1", "20"])?;
    settle(&trace)?;
    lab.exec("pod2", [TRAFFIC, "forge-unreachable", NODE1_BRIDGE, POD1, POD3, "7000"])?;
    let finished = trace.interrupt_once(|paths| paths.len() >= 2)?;
    let (summary, paths) = (finished.summary()?, &finished.paths);
    ensure!(summary.complete && summary.paths.rejected == 0, "{summary:?} {}", finished.stderr);
    let forged: Vec<_> = paths.iter().filter_map(|path| path.forged.as_ref()).collect();
    ensure!(forged.len() == 1 && &*forged[0].claimed == "node1", "{forged:?}");
    ensure!(forged[0].pod.as_deref() == Some("default/pod2"), "{forged:?}");
    Ok(())
}

/// Pod2 sends a tunnel packet to node2, which takes it: inside is a datagram from pod1's address.
fn forged_tunnel() -> Result<()> {
    let lab = Lab::up("forged-tunnel")?;
    let links = lab.exec("node2", ["ip", "-o", "link", "show", "flannel.1"])?.stdout;
    let mac = links.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next());
    let mac = mac.context("the tunnel has no MAC address")?;
    let mut sink = lab.spawn("pod3", [TRAFFIC, "udp-sink", "7000", "1"])?;
    sink.wait_for_line("ready", SHORT)?;
    let trace = Trace::ready(&lab, ["--from", "pod1", "--to", "pod3", "--one-way"])?;
    lab.exec("pod2", [TRAFFIC, "forge-tunnel", NODE2, mac, POD1, POD3, "7000"])?;
    let finished = trace.interrupt_once(|paths| !paths.is_empty())?;
    let (summary, paths) = (finished.summary()?, &finished.paths);
    ensure!(summary.complete, "{summary:?} {}", finished.stderr);
    let [path] = paths.as_slice() else { anyhow::bail!("{}", finished.stdout) };
    let forged = path.forged.as_ref().context("it is not known for forged")?;
    ensure!(forged.tunnel_from == Some("10.42.0.11".parse()?), "{forged:?}");
    ensure!(path.from.pod.is_none() && path.verdict == Verdict::Delivered, "{path:?}");
    ensure!(&*path.hops[0].node == "node2" && path.hops[0].outer.is_some(), "{path:?}");
    Ok(())
}

/// Pod2 has pod1's address on its loopback device: both keep their names, and the claim is reported.
fn claimed_address() -> Result<()> {
    let lab = Lab::up("claimed-address")?;
    lab.exec("pod2", ["ip", "address", "add", &format!("{POD1}/32"), "dev", "lo"])?;
    for pod in ["pod1", "pod2"] {
        let arguments = ["--from", pod, "--to", "pod3", "--probe", "icmp", "--expect", "delivered"];
        let finished = Finished::from(run(&mut trace::command(&lab, arguments), SHORT)?)?;
        ensure!(finished.code == 0 && finished.summary()?.complete, "{}", finished.stderr);
        let paths = &finished.paths;
        ensure!(own(paths, &format!("default/{pod}")).len() == 1, "{}", finished.stdout);
        ensure!(paths.iter().all(|path| path.forged.is_none()), "{}", finished.stdout);
        let claim = format!("{POD1} is held twice: default/pod1 (at eth0), default/pod2 (at lo)");
        ensure!(finished.stderr.contains(&claim), "{}", finished.stderr);
    }
    Ok(())
}
