//! Services with several endpoints: each of many connections is reported with its endpoint, and no connection to a healthy
//! Service is rejected.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_path::{NatKind, Verdict};
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::trace::Trace;

use super::TRAFFIC;

/// Connections at once.
const CONNECTIONS: usize = 200;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("each-of-many-connections-names-its-endpoint-nft", &["nft"], || shares("nft")),
        trial("each-of-many-connections-names-its-endpoint-iptables", &["iptables-restore"], || {
            shares("iptables")
        }),
        trial("a-probe-awaits-its-replies", &["nft"], replies_are_awaited),
    ]
}

fn shares(rules: &str) -> Result<()> {
    let lab = Lab::up_with(&format!("shares-{rules}"), rules)?;
    let trace = Trace::ready(&lab, ["--from", "pod1", "--to", "svc/web"])?;
    let count = CONNECTIONS.to_string();
    let answers = lab.exec("pod1", [TRAFFIC, "web", "10.43.0.10", "80", &count])?;
    let finished = trace.interrupt()?;
    finished.complete()?;

    // What the endpoints say of how often they were asked.
    let mut served = BTreeMap::new();
    for line in answers.stdout.lines() {
        let (name, count) = line.split_once(' ').with_context(|| format!("`{line}` is no answer"))?;
        served.insert(format!("default/{name}"), count.parse::<usize>()?);
    }
    let mut chosen = BTreeMap::<String, usize>::new();
    for path in &finished.paths {
        ensure!(path.confidence >= 1.0, "path {} is ambiguous", path.id);
        if path.label != "SYN" {
            continue;
        }
        ensure!(path.verdict == Verdict::Delivered, "path {} is {:?}", path.id, path.verdict);
        let nat = path.hops.iter().find_map(|hop| hop.nat.as_ref()).context("a SYN was not translated")?;
        let service = nat.service.as_ref().context("a translation is nobody's")?;
        ensure!(nat.kind == NatKind::Dnat && service.endpoints == 3, "path {}: {nat:?}", path.id);
        let endpoint = service.endpoint.as_deref().context("a translation leads to nobody")?;
        let reached = path.hops.last().and_then(|hop| hop.pod.as_deref());
        ensure!(reached == Some(endpoint), "path {} got to {reached:?} and not to {endpoint}", path.id);
        *chosen.entry(endpoint.to_owned()).or_default() += 1;
    }
    ensure!(chosen == served, "endpoints by their paths {chosen:?}, by their own count {served:?}");
    ensure!(chosen.values().sum::<usize>() == CONNECTIONS, "connections are missing: {chosen:?}");
    Ok(())
}

/// A server that sends first, and a reply to a datagram: the probe waits for it.
fn replies_are_awaited() -> Result<()> {
    let lab = Lab::up_with("heard-out", "nft")?;
    for (service, probe, least) in [("svc/web", "tcp", 7), ("svc/dns", "udp", 2)] {
        let finished = Trace::start(&lab, ["--from", "pod1", "--to", service, "--probe", probe])?.finish()?;
        finished.complete()?;
        let paths = &finished.summary()?.paths;
        let others = [paths.dropped, paths.vanished, paths.rejected, paths.open];
        ensure!(others == [0; 4] && paths.delivered >= least, "{service} by {probe}: {}", finished.stdout);
    }
    Ok(())
}
