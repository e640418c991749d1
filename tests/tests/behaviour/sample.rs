//! `--sample 1/N`: both nodes take the same packets, whatever NAT, tunnels, GSO and GRO make of them, so that every path in
//! the sample is whole, and what is left out is counted.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_path::{Action, Direction, Path, Summary, Verdict};
use podtrace_tests::check::brief;
use podtrace_tests::command::SHORT;
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::trace::{Finished, Trace};

use crate::{ACROSS, POD3, TRAFFIC};

const PINGS: u32 = 1000;

/// One in so many.
const ONE_IN: u32 = 4;

/// Where a Service of IPv6 leads to.
const POD3_V6: &str = "fd00:42:1::10";

pub(crate) fn trials() -> Vec<Trial> {
    let none: &[&str] = &[];
    vec![
        trial("a-sample-of-pings-has-requests-with-their-replies", none, || {
            pings("sample-v4", "flannel-vxlan", POD3)
        }),
        trial("a-sample-of-ipv6-pings-has-requests-with-their-replies", none, || {
            pings("sample-v6", "flannel-dual-stack", POD3_V6)
        }),
        trial("a-sample-of-datagrams-is-whole", none, || datagrams("sample-udp", "flannel-vxlan", POD3)),
        trial("a-sample-of-ipv6-datagrams-is-whole", none, || {
            datagrams("sample-udp-v6", "flannel-dual-stack", POD3_V6)
        }),
        trial("a-sample-of-a-service-has-attempts-with-their-answers", &["iptables-restore"], || {
            connections("sample-nat", "flannel-vxlan", "10.43.0.10")
        }),
        trial("a-sample-of-an-ipv6-service-has-attempts-with-their-answers", &["iptables-restore"], || {
            connections("sample-nat-v6", "flannel-ipv6", "fd00:43::a")
        }),
        trial("a-sample-of-refusals-has-what-was-refused", none, refusals),
        trial("a-sample-of-a-stream-is-whole", none, || stream("sample-tcp", &[])),
        trial("a-sample-of-a-stream-split-at-the-uplink-is-whole", none, || stream("sample-gso", &["eth0"])),
        trial("a-sample-decides-no-more-than-it-can", none, expectations),
    ]
}

fn sampled(lab: &Lab, more: &[&str]) -> Result<Trace> {
    let one_in = format!("1/{ONE_IN}");
    Trace::ready(lab, ["--from", "pod1", "--sample", &one_in].iter().chain(more))
}

/// What must hold of any sample: nothing lost, nothing broken, and some of both.
fn sound(finished: &Finished) -> Result<&Summary> {
    let summary = finished.complete()?;
    let sample = summary.sample.context("the summary does not say that it is a sample")?;
    ensure!(sample.one_in.get() == ONE_IN && sample.unsampled_events > 0, "{sample:?}");
    ensure!(summary.events.unmatched == 0, "{summary:?}");
    ensure!(finished.stderr.contains(&format!("sampled 1 in {ONE_IN}")), "{}", finished.stderr);
    Ok(summary)
}

/// Whether so many of `all` are about one in [`ONE_IN`]: within six standard deviations.
fn about_its_share(number: usize, all: u32) -> Result<()> {
    let expected = f64::from(all) / f64::from(ONE_IN);
    let deviation = (expected * (1.0 - 1.0 / f64::from(ONE_IN))).sqrt();
    let number = f64::from(u32::try_from(number)?);
    ensure!((number - expected).abs() < 6.0 * deviation, "{number} of {all}, not about {expected}");
    Ok(())
}

fn of(paths: &[Path], direction: Direction) -> Vec<&Path> {
    paths.iter().filter(|path| path.flow.direction == direction).collect()
}

fn is_whole(path: &Path) -> bool {
    path.verdict == Verdict::Delivered && path.hops.iter().map(|hop| hop.action).eq(ACROSS)
}

/// All packets first, and then a sample of as many: what the sample has and what it skipped are together as many.
fn pings(name: &str, network: &str, to: &str) -> Result<()> {
    let lab = Lab::on(name, network, "none")?;
    let send = || lab.exec("pod1", [TRAFFIC, "echo", to, &PINGS.to_string(), "56"]);
    // So that no packet waits for its neighbour later.
    lab.exec("pod1", [TRAFFIC, "echo", to, "1", "56"])?;
    let all = Trace::ready(&lab, ["--from", "pod1", "--to", "pod3"])?;
    send()?;
    let all = all.interrupt()?;
    let whole = all.complete()?.events;
    ensure!(all.paths.len() == 2 * PINGS as usize, "{} paths were reported", all.paths.len());

    let trace = sampled(&lab, &["--to", "pod3"])?;
    send()?;
    let finished = trace.interrupt()?;
    let summary = sound(&finished)?;
    let unsampled = summary.sample.map_or(0, |sample| sample.unsampled_events);
    ensure!(
        summary.events.produced + unsampled == whole.produced,
        "{} and {unsampled} skipped are not {}",
        summary.events.produced,
        whole.produced
    );
    for path in &finished.paths {
        ensure!(is_whole(path), "{}", brief(path));
    }
    let (requests, replies) =
        (of(&finished.paths, Direction::Request), of(&finished.paths, Direction::Reply));
    about_its_share(requests.len(), PINGS)?;
    let number = |path: &&Path| path.label.rsplit_once(" seq ").map(|(_, number)| number.to_owned());
    let mut asked: Vec<_> = requests.iter().map(number).collect();
    let mut answered: Vec<_> = replies.iter().map(number).collect();
    asked.sort_unstable();
    answered.sort_unstable();
    ensure!(asked == answered, "requests {asked:?}, replies {answered:?}");
    let totals = totals(&finished)?;
    let estimate = totals["sample"]["estimated_paths"].as_u64().context("no estimate")?;
    ensure!(estimate == u64::from(ONE_IN) * finished.paths.len() as u64, "an estimate of {estimate}");
    Ok(())
}

fn totals(finished: &Finished) -> Result<&serde_json::Value> {
    finished.totals.iter().find(|value| value["type"] == "totals").context("there are no totals")
}

fn datagrams(name: &str, network: &str, to: &str) -> Result<()> {
    const COUNT: u32 = 2000;
    let lab = Lab::on(name, network, "none")?;
    lab.exec("pod1", [TRAFFIC, "echo", to, "1", "56"])?;
    let kind = if to.contains(':') { "udp6-sink" } else { "udp-sink" };
    let mut sink = lab.spawn("pod3", [TRAFFIC, kind, "5000", &COUNT.to_string()])?;
    sink.wait_for_line("ready", SHORT)?;
    let trace = sampled(&lab, &["--to", "pod3", "--port", "5000"])?;
    lab.exec("pod1", [TRAFFIC, "udp", to, "5000", &COUNT.to_string(), "64"])?;
    sink.finish(SHORT)?;
    let finished = trace.interrupt()?;
    sound(&finished)?;
    for path in &finished.paths {
        ensure!(is_whole(path), "{}", brief(path));
    }
    about_its_share(finished.paths.len(), COUNT)?;
    // Nothing is said of replies, which might be outside the sample.
    let exchange = &totals(&finished)?["exchanges"][0];
    ensure!(exchange["kind"] == "datagram" && exchange["answered"].is_null(), "{exchange}");
    Ok(())
}

fn connections(name: &str, network: &str, to: &str) -> Result<()> {
    const COUNT: u32 = 200;
    let lab = Lab::on(name, network, "iptables")?;
    let trace = sampled(&lab, &["--to", "svc/web"])?;
    lab.exec("pod1", [TRAFFIC, "web", to, "80", &COUNT.to_string()])?;
    let finished = trace.interrupt()?;
    sound(&finished)?;
    let labelled = |label: &str| {
        let mut flows: Vec<_> =
            finished.paths.iter().filter(|path| path.label == label).map(|path| path.flow.id).collect();
        flows.sort_unstable();
        flows
    };
    for path in &finished.paths {
        ensure!(path.verdict == Verdict::Delivered && path.confidence >= 1.0, "{}", brief(path));
        let [first, .., last] = path.hops.as_slice() else { anyhow::bail!("{}", brief(path)) };
        ensure!((first.action, last.action) == (Action::PodEgress, Action::PodIngress), "{}", brief(path));
        ensure!(path.translated.is_some(), "not translated: {}", brief(path));
    }
    about_its_share(labelled("SYN").len(), COUNT)?;
    ensure!(labelled("SYN") == labelled("SYN-ACK"), "attempts and answers differ");
    for flow in finished.totals.iter().filter(|value| value["type"] == "flow") {
        ensure!(flow["unanswered"] == 0, "{flow}");
    }
    Ok(())
}

/// Attempts to a closed port: the resets are in the sample with the attempts, which are refused and not unanswered.
fn refusals() -> Result<()> {
    let lab = Lab::up("sample-refused")?;
    let trace = sampled(&lab, &["--to", "pod3"])?;
    const COUNT: u32 = 400;
    for _ in 0..COUNT {
        let refused = lab.command("pod1", [TRAFFIC, "web", POD3, "81", "1"]).output()?;
        ensure!(!refused.status.success(), "port 81 is open");
    }
    let finished = trace.interrupt()?;
    sound(&finished)?;
    let requests = of(&finished.paths, Direction::Request);
    about_its_share(requests.len(), COUNT)?;
    for path in requests {
        ensure!(path.verdict == Verdict::Rejected, "{}", brief(path));
    }
    Ok(())
}

/// 10 MB over one connection, in large segments that are split and merged on the way.
fn stream(name: &str, without_offloads: &[&str]) -> Result<()> {
    const BYTES: u64 = 10_000_000;
    let lab = Lab::up(name)?;
    for node in ["node1", "node2"] {
        for device in without_offloads {
            lab.exec(node, [TRAFFIC, "offload", device, "off"])?;
        }
    }
    let mut sink = lab.spawn("pod3", [TRAFFIC, "tcp-sink", "5000"])?;
    sink.wait_for_line("ready", SHORT)?;
    let trace = Trace::ready(&lab, ["--from", "pod1", "--to", "pod3", "--port", "5000", "--sample", "1/50"])?;
    lab.exec("pod1", [TRAFFIC, "tcp", POD3, "5000", &BYTES.to_string()])?;
    sink.finish(SHORT)?;
    let finished = trace.interrupt()?;
    let summary = finished.summary()?;
    let events = summary.events;
    ensure!(events.produced == events.delivered && events.unmatched + events.lost_map == 0, "{summary:?}");
    ensure!(summary.sample.is_some_and(|sample| sample.unsampled_events > 0), "{summary:?}");
    let data: Vec<_> = finished.paths.iter().filter(|path| path.payload > 0).collect();
    ensure!(!data.is_empty(), "no data is in the sample");
    let sent: u64 = data.iter().map(|path| u64::from(path.payload)).sum();
    ensure!(sent < BYTES, "all of it is in the sample");
    for path in &finished.paths {
        // What had arrived before, or late, TCP drops at the very end.
        let by_tcp = path.reason.as_deref().is_some_and(|reason| reason.starts_with("TCP_"));
        let actions: Vec<_> =
            path.hops.iter().map(|hop| hop.action).filter(|action| *action != Action::Drop).collect();
        ensure!(actions == ACROSS && (path.verdict == Verdict::Delivered || by_tcp), "{}", brief(path));
        ensure!(path.flow.id == 1, "another flow: {}", brief(path));
    }
    Ok(())
}

/// What holds for every packet of a sample may not hold for the others.
fn expectations() -> Result<()> {
    let lab = Lab::up("sample-expect")?;
    let undecided = "what other packets did is unknown";
    for (expectation, code, said) in [
        ("any(delivered)", 0, None),
        ("not none(delivered)", 0, None),
        ("delivered", 3, Some(undecided)),
        ("none(dropped)", 3, Some(undecided)),
        ("loss == 0", 3, Some(undecided)),
        ("paths >= 10", 0, None),
        ("paths <= 1000", 3, Some(undecided)),
    ] {
        let trace = sampled(&lab, &["--to", "pod3", "--expect", expectation])?;
        lab.exec("pod1", [TRAFFIC, "echo", POD3, "200", "56"])?;
        let finished = trace.interrupt()?;
        ensure!(finished.code == code, "{expectation}: status {}\n{}", finished.code, finished.stderr);
        if let Some(said) = said {
            ensure!(finished.stderr.contains(said), "{expectation}: {}", finished.stderr);
        }
    }
    Ok(())
}
