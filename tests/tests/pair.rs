//! Two virtual machines with a node each, two kernels and two clocks: `cargo xtask vm --pair 6.1,7.3` boots them, and
//! names the inventory by which they are reached. pod1 is on the one, pod3 on the other.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use podtrace_path::{Direction, Path as PacketPath, Verdict};
use podtrace_protocol::frame::{FromAgent, Hello};
use podtrace_report::recording::Files;
use podtrace_tests::check::brief;
use podtrace_tests::command::{self, Running};
use podtrace_tests::trace::Finished;
use podtrace_tests::{binary, expect, lab, suite};

/// Environment variable that names the inventory.
const PAIR: &str = "PODTRACE_PAIR";

/// At least so far are the nodes' clocks from each other.
const SKEW_NS: u64 = 3_000_000_000;

/// A datagram's, and a connection's; somebody listens to both in pod3.
const UDP_PORT: u16 = 5000;
const TCP_PORT: u16 = 5001;

const FORTH: [&str; 8] = [
    "node1 veth* pod-egress *",
    "node1 cni0 route *",
    "node1 flannel.1 encapsulate *",
    "node1 eth0 node-egress *",
    "node2 eth0 node-ingress *",
    "node2 flannel.1 decapsulate *",
    "node2 cni0 route *",
    "node2 veth* pod-ingress *",
];

fn main() -> ExitCode {
    let Some(inventory) = std::env::var_os(PAIR).map(PathBuf::from) else {
        eprintln!("{PAIR} is not set: `cargo xtask vm --pair 6.1,7.3` boots what this tests");
        return ExitCode::FAILURE;
    };
    let with = |test: fn(&Path) -> Result<()>| {
        let inventory = inventory.clone();
        move || test(&inventory)
    };
    suite::run(vec![
        suite::plain("ping", with(ping)),
        suite::plain("datagram", with(datagram)),
        suite::plain("connection", with(connection)),
    ])
}

/// Traces what this probe sends from pod1 to pod3, and all of it.
fn trace(inventory: &Path, probe: &str, recording: Option<&Path>) -> Result<Finished> {
    let mut podtrace = lab::podtrace(&binary::podtrace()?);
    podtrace.arg("--cluster").arg(inventory).args(["-o", "json"]);
    podtrace.args(["--from", "pod1", "--to", "pod3", "--probe", probe]);
    if let Some(recording) = recording {
        podtrace.arg("--write").arg(recording);
    }
    let finished = Finished::from(Running::start(&mut podtrace)?.finish(command::SHORT * 3)?)?;
    let summary = finished.complete()?;
    ensure!(summary.events.unmatched == 0, "{summary:?}");
    Ok(finished)
}

/// Whether the packet of this label went that way and arrived.
fn crossed(finished: &Finished, label: &str, direction: Direction) -> Result<()> {
    let mut paths = finished.paths.iter().zip(&finished.lines);
    let found = paths.find(|(path, _)| expect::fits(label, &path.label) && path.flow.direction == direction);
    let labels: Vec<_> = finished.paths.iter().map(|path| path.label.as_str()).collect();
    let (path, line) = found.with_context(|| format!("there is no {label} among {labels:?}"))?;
    crosses(path, line).with_context(|| brief(path))
}

/// The way there or back, in this order although the clocks differ; what was measured by two clocks has its error.
fn crosses(path: &PacketPath, line: &serde_json::Value) -> Result<()> {
    ensure!(path.verdict == Verdict::Delivered, "it was not delivered");
    let other = |hop: &str| {
        if hop.starts_with("node1") { hop.replace("node1", "node2") } else { hop.replace("node2", "node1") }
    };
    let expected: Vec<String> = match path.flow.direction {
        Direction::Request => FORTH.map(str::to_owned).into(),
        Direction::Reply => FORTH.map(other).into(),
    };
    let hops = line["hops"].as_array().context("it has no hops")?;
    expect::hops(&expected, hops).map_err(anyhow::Error::msg)?;
    ensure!(path.duration_error_ns > 0, "the time on the wire has no error bound");
    let first = path.hops.first().context("it has no hops")?.node.clone();
    for hop in path.hops.iter().filter(|hop| hop.at_ns.is_some()) {
        let exact = hop.clock_error_ns == 0;
        ensure!(exact == (hop.node == first), "hop {} at ±{} ns", hop.index, hop.clock_error_ns);
    }
    Ok(())
}

fn ping(inventory: &Path) -> Result<()> {
    let directory = tempfile::tempdir().context("making a directory for the recording")?;
    let recording = directory.path().join("ping.pcapng");
    let finished = trace(inventory, "icmp", Some(&recording))?;
    ensure!(finished.paths.len() == 2, "{}", finished.stdout);
    crossed(&finished, "echo request *", Direction::Request)?;
    crossed(&finished, "echo reply *", Direction::Reply)?;
    let hellos = hellos(&recording)?;
    let [one, other] = hellos.as_slice() else { anyhow::bail!("{} nodes said hello", hellos.len()) };
    ensure!(one.kernel != other.kernel, "both nodes have kernel {}", one.kernel);
    // Said one after the other, within far less than this.
    let skew = one.monotonic_ns.abs_diff(other.monotonic_ns);
    ensure!(skew > SKEW_NS, "the clocks are only {skew} ns apart");
    Ok(())
}

fn hellos(recording: &Path) -> Result<Vec<Hello>> {
    let mut reader = Files(vec![recording.to_owned()]).open()?;
    let mut hellos = Vec::new();
    while let Some((_, frame)) = reader.next_frame() {
        hellos.extend(match frame {
            Some(FromAgent::Hello(hello)) => Some(hello),
            _ => None,
        });
    }
    Ok(hellos)
}

fn datagram(inventory: &Path) -> Result<()> {
    let finished = trace(inventory, &format!("udp:{UDP_PORT}"), None)?;
    ensure!(finished.paths.len() == 1, "{}", finished.stdout);
    crossed(&finished, "datagram *", Direction::Request)
}

fn connection(inventory: &Path) -> Result<()> {
    let finished = trace(inventory, &format!("tcp:{TCP_PORT}"), None)?;
    crossed(&finished, "SYN", Direction::Request)?;
    crossed(&finished, "SYN-ACK", Direction::Reply)?;
    crossed(&finished, "ACK", Direction::Request)
}
