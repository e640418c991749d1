//! Reading the node's packet filter: the loaded rules are found, and reading them changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace::node::rules::read;
use podtrace_protocol::frame::FromAgent;
use podtrace_report::recording::Files;
use podtrace_rules::{End, Finder, Hook, Loss, Packet, Rules, Table, Translation};
use podtrace_tests::command::run;
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::trace::{self, Finished, Trace};

/// Time limit for a probe and its trace.
const END: Duration = Duration::from_secs(45);

/// Rule sets to load.
const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tracer/rules/src/samples");

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("rules-of-iptables-and-nftables-are-read", &["nft", "iptables-nft-restore"], both_frameworks),
        trial("rules-of-the-old-iptables-are-read", &["nft", "iptables-legacy-restore"], old_iptables),
        trial("rules-are-in-the-recording", &["nft"], recorded),
        trial("rules-that-cannot-be-read-are-a-warning", &["nft"], unreadable),
    ]
}

fn sample(name: &str) -> String {
    format!("{SAMPLES}/{name}")
}

/// The rules of a node.
fn rules(lab: &Lab, node: &str) -> Result<Rules> {
    lab.netns(node)?.run(|| Ok(read(vec!["192.168.56.11".parse()?])))
}

fn packet(source: (&str, u16), destination: (&str, u16)) -> Result<Packet> {
    Ok(Packet {
        source: source.0.parse()?,
        destination: destination.0.parse()?,
        protocol: 6,
        source_port: Some(source.1),
        destination_port: Some(destination.1),
    })
}

/// The NAT of a Service, and the rule that did it.
fn translated(finder: &Finder, before: (&str, u16), after: (&str, u16)) -> Result<String> {
    let question = Translation {
        before: packet(("10.42.0.10", 40000), before)?,
        after: packet(("10.42.0.10", 40000), after)?,
        in_device: Some("cni0"),
        ..Translation::of(End::Destination)
    };
    let attribution = finder.translated(&question).context("no rule can have translated it")?;
    ensure!(attribution.certain, "{attribution} is not certain");
    Ok(attribution.to_string())
}

fn both_frameworks() -> Result<()> {
    let lab = Lab::up("rules-both")?;
    ensure!(rules(&lab, "node2")?.tables.is_empty(), "a node without rules has some");
    lab.exec("node1", ["iptables-nft-restore", &sample("kube-proxy.iptables")])?;
    lab.exec("node1", ["ip6tables-nft-restore", &sample("kube-proxy.ip6tables")])?;
    lab.exec("node1", ["nft", "-j", "-f", &sample("guard.nft.json")])?;
    // Without counters: the node may send packets of its own meanwhile.
    let listed =
        || Ok::<_, anyhow::Error>(lab.exec("node1", ["nft", "-j", "-s", "-a", "list", "ruleset"])?.stdout);
    let before = listed()?;
    let read = rules(&lab, "node1")?;
    ensure!(listed()? == before, "looking has changed the rules");
    ensure!(read.gaps.is_empty(), "{:?}", read.gaps);
    let name = |table: &Table| format!("{} {} {}", table.framework, table.family, table.name);
    let mut tables: Vec<_> = read.tables.iter().map(name).collect();
    tables.sort();
    ensure!(
        tables
            == [
                "iptables ip filter",
                "iptables ip nat",
                "iptables ip6 nat",
                "nft bridge filter",
                "nft inet guard"
            ],
        "tables: {tables:?}"
    );
    let finder = Finder::new(read);
    let finished = translated(&finder, ("10.43.0.10", 80), ("10.42.1.10", 8080))?;
    ensure!(
        finished
            == "iptables nat: KUBE-SERVICES → KUBE-SVC-LOLE4ISW44XBNF3G → KUBE-SEP-5UKXEYUPHJSB3XBR (default/web:http)",
        "{finished}"
    );
    let question = Translation {
        before: packet(("fd00:42::9", 40000), ("fd00:43::10", 80))?,
        after: packet(("fd00:42::9", 40000), ("fd00:42::11", 8080))?,
        ..Translation::of(End::Destination)
    };
    let finished = finder.translated(&question).context("no rule of IPv6")?.to_string();
    ensure!(
        finished.starts_with("ip6tables nat: KUBE-SERVICES → ") && finished.ends_with("(default/six:http)"),
        "{finished}"
    );
    let finished = translated(&finder, ("172.16.0.9", 9999), ("192.168.56.11", 80))?;
    ensure!(finished.starts_with("nft inet guard: nat (handle "), "{finished}");
    Ok(())
}

fn old_iptables() -> Result<()> {
    let lab = Lab::up("rules-old")?;
    lab.exec("node1", ["iptables-legacy-restore", &sample("kube-proxy.iptables")])?;
    let read = rules(&lab, "node1")?;
    ensure!(read.gaps.is_empty(), "{:?}", read.gaps);
    let finder = Finder::new(read);
    let finished = translated(&finder, ("10.43.0.10", 80), ("10.42.0.11", 8080))?;
    ensure!(finished.ends_with("→ KUBE-SEP-3JQ6FVMXNOWTA2ZE (default/web:http)"), "{finished}");
    Ok(())
}

/// A recording contains the nodes' rules.
fn recorded() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("trace.pcapng");
    let lab = Lab::up("rules-kept")?;
    lab.exec("node2", ["nft", "-j", "-f", &sample("guard.nft.json")])?;
    let arguments = ["--from", "pod1", "--to", "pod3", "--probe", "icmp", "--write"].map(AsRef::as_ref);
    Trace::start(&lab, arguments.into_iter().chain([file.as_os_str()]))?.finish()?;
    let [none, guard] =
        rules_of(&file)?.try_into().map_err(|rules| anyhow::anyhow!("not of two nodes: {rules:?}"))?;
    ensure!(none.tables.is_empty() && none.gaps.is_empty(), "{none:?}");
    let question = Loss { packet: packet(("10.42.9.1", 1), ("10.42.1.10", 2))?, ..Loss::at(Hook::Forward) };
    let finished = Finder::new(guard).dropped(&question).map(|attribution| attribution.to_string());
    ensure!(
        finished.as_deref().is_some_and(|finished| finished.contains("nft inet guard: forward")),
        "{finished:?}"
    );
    Ok(())
}

fn unreadable() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let nft = directory.path().join("nft");
    fs::write(&nft, "#!/bin/sh\necho 'netlink: Operation not permitted' >&2\nexit 1\n")?;
    fs::set_permissions(&nft, fs::Permissions::from_mode(0o755))?;
    let lab = Lab::up("rules-unreadable")?;
    let mut path = directory.path().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = trace::command(&lab, ["--from", "pod1", "--to", "pod2", "--probe", "icmp"]);
    let finished = Finished::from(run(command.env("PATH", path), END)?)?;
    finished.complete()?;
    let line = finished.stderr.lines().find(|line| line.starts_with("node1: cannot read nftables rules"));
    let line = line.with_context(|| format!("nothing is said of it:\n{}", finished.stderr))?;
    ensure!(line.contains("Operation not permitted"), "{line}");
    Ok(())
}

/// The rules of every node, in the order of the nodes.
fn rules_of(path: &Path) -> Result<Vec<Rules>> {
    let mut reader = Files(vec![path.to_owned()]).open()?;
    let mut rules = Vec::new();
    while let Some((number, frame)) = reader.next_frame() {
        if let Some(FromAgent::Rules(of_node)) = frame {
            rules.push((number, of_node));
        }
    }
    rules.sort_by_key(|(number, _)| *number);
    Ok(rules.into_iter().map(|(_, rules)| rules).collect())
}
