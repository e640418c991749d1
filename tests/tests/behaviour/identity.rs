//! Packets that are alike: equal in length, without an IP identification. Each has a path of its own, however soon the
//! kernel uses a packet's memory for another one.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use podtrace_path::{Action, Direction, Path, Verdict};
use podtrace_tests::check::brief;
use podtrace_tests::command::SHORT;
use podtrace_tests::lab::Lab;
use podtrace_tests::stacks::{POD2_V6, POD3_V6, two_stacks};
use podtrace_tests::suite::trial;
use podtrace_tests::trace::Trace;

use crate::{ACROSS, POD3, TRAFFIC};

/// Packets of each kind.
const COUNT: u16 = 200;

/// The way between pods of one node.
const BRIDGED: [Action; 3] = [Action::PodEgress, Action::Bridge, Action::PodIngress];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("pings-alike-over-ipv6", &[] as &[&str], || {
            let lab = two_stacks("alike-ping", "none")?;
            pings(&lab, "pod2", POD2_V6, &BRIDGED)
        }),
        trial("datagrams-alike-over-ipv6", &[] as &[&str], || {
            let lab = two_stacks("alike-udp-six", "none")?;
            datagrams(&lab, "pod2", POD2_V6, "udp6-sink", &BRIDGED)
        }),
        trial("pings-alike-across-nodes-over-ipv6", &[] as &[&str], || {
            let lab = two_stacks("alike-six", "none")?;
            pings(&lab, "pod3", POD3_V6, &ACROSS)
        }),
        trial("datagrams-alike-across-nodes-over-ipv6", &[] as &[&str], || {
            let lab = two_stacks("alike-udp-across", "none")?;
            datagrams(&lab, "pod3", POD3_V6, "udp6-sink", &ACROSS)
        }),
        trial("datagrams-alike-without-identification", &[] as &[&str], || {
            datagrams(&Lab::up("alike-udp")?, "pod3", POD3, "udp-sink", &ACROSS)
        }),
    ]
}

/// Echo requests and replies of one length.
fn pings(lab: &Lab, to: &str, address: &str, way: &[Action]) -> Result<()> {
    let trace = Trace::ready(lab, ["--from", "pod1", "--to", to])?;
    lab.exec("pod1", [TRAFFIC, "echo", address, &COUNT.to_string(), "56"])?;
    let told = trace.interrupt()?;
    told.complete()?;
    let echoes: Vec<_> = told.paths.iter().filter(|path| path.label.starts_with("echo ")).collect();
    for path in &echoes {
        goes(path, way)?;
    }
    let requests = echoes.iter().filter(|path| path.flow.direction == Direction::Request).count();
    ensure!(
        (requests, echoes.len() - requests) == (usize::from(COUNT), usize::from(COUNT)),
        "{requests} requests and {} replies of {COUNT}",
        echoes.len() - requests
    );
    Ok(())
}

/// Datagrams of one length that differ in their content.
fn datagrams(lab: &Lab, to: &str, address: &str, sink: &str, way: &[Action]) -> Result<()> {
    let count = COUNT.to_string();
    // Neighbours get known: fewer packets than these may wait for that.
    lab.exec("pod1", [TRAFFIC, "echo", address, "1", "56"])?;
    let mut sink = lab.spawn(to, [TRAFFIC, sink, "5300", &count])?;
    sink.wait_for_line("ready", SHORT)?;
    let trace = Trace::ready(lab, ["--from", "pod1", "--to", to, "--proto", "udp"])?;
    lab.exec("pod1", [TRAFFIC, "udp", address, "5300", &count, "100"])?;
    sink.finish(SHORT)?;
    let told = trace.interrupt()?;
    told.complete()?;
    for path in &told.paths {
        goes(path, way)?;
    }
    ensure!(told.paths.len() == usize::from(COUNT), "{} paths of {COUNT} datagrams", told.paths.len());
    Ok(())
}

/// Checks that a packet went this way, as it was sent.
fn goes(path: &Path, way: &[Action]) -> Result<()> {
    let taken: Vec<_> = path.hops.iter().map(|hop| hop.action).collect();
    let translated = path.translated.is_some() || path.hops.iter().any(|hop| hop.nat.is_some());
    let tuples_equal = path.hops.windows(2).all(|hops| hops[0].tuple == hops[1].tuple);
    ensure!(
        path.verdict == Verdict::Delivered
            && taken == way
            && !translated
            && tuples_equal
            && path.confidence >= 1.0,
        "path {} is not as it was:\n{}",
        path.id,
        brief(path)
    );
    Ok(())
}
