//! 1,000 pings at full speed: every one has its path, and tcpdump counts the same on every device.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_path::{Direction, Evidence, Path, Verdict};
use podtrace_tests::check::brief;
use podtrace_tests::command::Running;
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::trace::Trace;

use crate::{POD3, TRAFFIC};

const PINGS: usize = 1000;

/// Echo requests and answers, inside the tunnel or not: 39 bytes after the start of the outer UDP header is the
/// inner protocol.
const ECHO: &str = "icmp or (udp port 8472 and udp[39] = 1)";

const FORTH: [&str; 8] = [
    "node1 veth tc:ingress",
    "node1 cni0 tc:ingress",
    "node1 flannel.1 tc:egress",
    "node1 eth0 tc:egress",
    "node2 eth0 tc:ingress",
    "node2 flannel.1 tc:ingress",
    "node2 cni0 tc:egress",
    "node2 veth tc:egress",
];

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("thousand-pings", &["tcpdump"], thousand_pings)]
}

fn thousand_pings() -> Result<()> {
    let lab = Lab::up("thousand-pings")?;
    let trace = Trace::ready(&lab, ["--from", "pod1", "--to", "pod3"])?;
    let mut watchers = BTreeMap::new();
    for (node, veth) in [("node1", "veth63febee9"), ("node2", "veth61febbc3")] {
        for device in [veth, "cni0", "flannel.1", "eth0"] {
            watchers.insert((node.to_owned(), device.to_owned()), Watcher::start(&lab, node, device)?);
        }
    }
    lab.exec("pod1", [TRAFFIC, "echo", POD3, &PINGS.to_string(), "56"])?;
    let finished = trace.interrupt()?;
    let summary = finished.complete()?.clone();
    ensure!(summary.events.unmatched == 0 && summary.events.lost_ring == 0, "{summary:?}");
    ensure!(finished.paths.len() == 2 * PINGS, "{} paths were reported", finished.paths.len());

    for direction in [Direction::Request, Direction::Reply] {
        let paths: Vec<&Path> =
            finished.paths.iter().filter(|path| path.flow.direction == direction).collect();
        ensure!(paths.len() == PINGS, "{} paths are {direction:?}", paths.len());
        for path in paths {
            ensure!(path.verdict == Verdict::Delivered && path.confidence == 1.0, "{}", brief(path));
            let expected = FORTH.map(|step| match direction {
                Direction::Request => step.to_owned(),
                Direction::Reply => {
                    step.replace("node1", "?").replace("node2", "node1").replace('?', "node2")
                }
            });
            ensure!(steps(path) == expected, "another way: {:?}", steps(path));
        }
    }
    // 16 hops an exchange; the rest are drops of what a raw socket had its copy of.
    let hops: usize = finished.paths.iter().map(|path| path.hops.len()).sum();
    ensure!(hops == 16 * PINGS, "{hops} hops");

    let mut counted: BTreeMap<(String, String), u64> = BTreeMap::new();
    for hop in finished.paths.iter().flat_map(|path| &path.hops) {
        let device = hop.device.as_deref().context("a hop without a device")?;
        *counted.entry((hop.node.to_string(), device.to_owned())).or_default() += 1;
    }
    let seen = watchers
        .into_iter()
        .map(|(place, watcher)| Ok((place, watcher.count()?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    ensure!(counted == seen, "podtrace counted {counted:?}, tcpdump {seen:?}");
    Ok(())
}

fn steps(path: &Path) -> Vec<String> {
    path.hops
        .iter()
        .map(|hop| {
            let device = hop.device.as_deref().unwrap_or("-");
            let device = if device.starts_with("veth") { "veth" } else { device };
            let point = serde_json::to_value(hop.point).unwrap_or_default();
            let seen = if hop.evidence == Evidence::Observed { "" } else { " inferred" };
            format!("{} {device} {}{seen}", hop.node, point.as_str().unwrap_or("-"))
        })
        .collect()
}

/// tcpdump on one device.
struct Watcher(Running);

impl Watcher {
    fn start(lab: &Lab, node: &str, device: &str) -> Result<Self> {
        // Few bytes of each, so that many fit into its buffer.
        let words = ["tcpdump", "-i", device, "-n", "-B", "8192", "-s", "128", "-w", "/dev/null", ECHO];
        let mut running = lab.spawn(node, words)?;
        running.wait_for_line("tcpdump: listening on", Duration::from_secs(10))?;
        Ok(Self(running))
    }

    /// What it says at its end: `2000 packets captured`, and that it lost none.
    fn count(self) -> Result<u64> {
        let said = self.0.interrupt(Duration::from_secs(10))?.stderr;
        ensure!(said.contains("\n0 packets dropped by kernel"), "tcpdump lost packets: {said}");
        let line = said.lines().find_map(|line| line.split_once(" packets captured"));
        let (count, _) = line.with_context(|| format!("tcpdump printed no count: {said}"))?;
        count.trim().parse().with_context(|| format!("tcpdump's count: {said}"))
    }
}
