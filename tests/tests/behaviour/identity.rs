//! Packets that are alike: equal in length, without an IP identification. Each has a path of its own, however soon the
//! kernel uses a packet's memory for another one.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_path::{Action, Direction, Path, Verdict};
use podtrace_tests::check::brief;
use podtrace_tests::command::SHORT;
use podtrace_tests::lab::Lab;
use podtrace_tests::suite::trial;
use podtrace_tests::trace::Trace;

use crate::{POD3, TRAFFIC};

/// IPv6 addresses of the lab's pods, once it has two stacks.
const POD1_V6: &str = "fd00:42:0::10";
const POD2_V6: &str = "fd00:42:0::11";
const POD3_V6: &str = "fd00:42:1::10";

/// Packets of each kind.
const COUNT: u16 = 200;

/// The way between nodes. Over IPv6 the kernel copies each packet on it: its buffer has too little room for the tunnel's
/// headers.
const ACROSS: [Action; 8] = [
    Action::PodEgress,
    Action::Route,
    Action::Encapsulate,
    Action::NodeEgress,
    Action::NodeIngress,
    Action::Decapsulate,
    Action::Route,
    Action::PodIngress,
];

/// The way between pods of one node.
const BRIDGED: [Action; 3] = [Action::PodEgress, Action::Bridge, Action::PodIngress];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("pings-alike-over-ipv6", &["ip", "bridge", "sh"], || {
            let lab = Lab::up("alike-ping")?;
            two_stacks(&lab)?;
            pings(&lab, "pod2", POD2_V6, &BRIDGED)
        }),
        trial("datagrams-alike-over-ipv6", &["ip", "bridge", "sh"], || {
            let lab = Lab::up("alike-udp-six")?;
            two_stacks(&lab)?;
            datagrams(&lab, "pod2", POD2_V6, "udp6-sink", &BRIDGED)
        }),
        trial("pings-alike-across-nodes-over-ipv6", &["ip", "bridge", "sh"], || {
            let lab = Lab::up("alike-six")?;
            two_stacks(&lab)?;
            pings(&lab, "pod3", POD3_V6, &ACROSS)
        }),
        trial("datagrams-alike-across-nodes-over-ipv6", &["ip", "bridge", "sh"], || {
            let lab = Lab::up("alike-udp-across")?;
            two_stacks(&lab)?;
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

/// Gives a lab IPv6 beside IPv4, with a tunnel as flannel makes it for dual stack, and says so in its inventory.
///
/// Addresses are valid at once: a node does not ask for neighbours from a link-local address that may be a duplicate.
fn two_stacks(lab: &Lab) -> Result<()> {
    for (number, other) in [(1, 2), (2, 1)] {
        let (mine, others) = (number - 1, other - 1);
        let script = format!(
            "set -e
            for on in all default eth0 cni0; do
                echo 0 > /proc/sys/net/ipv6/conf/$on/accept_dad
                echo 0 > /proc/sys/net/ipv6/conf/$on/disable_ipv6
            done
            echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
            ip addr add fd00:56::1{number}/64 dev eth0 nodad
            ip addr add fd00:42:{mine}::1/64 dev cni0 nodad
            ip link add flannel-v6.1 address 0a:58:fd:00:00:0{number} type vxlan id 1 \
                local fd00:56::1{number} dev eth0 dstport 8472 nolearning
            ip addr add fd00:42:{mine}::/128 dev flannel-v6.1 nodad
            ip link set flannel-v6.1 up
            ip neigh replace fd00:42:{others}:: lladdr 0a:58:fd:00:00:0{other} dev flannel-v6.1 nud permanent
            bridge fdb append 0a:58:fd:00:00:0{other} dev flannel-v6.1 dst fd00:56::1{other}
            ip -6 route add fd00:42:{others}::/64 via fd00:42:{others}:: dev flannel-v6.1 onlink"
        );
        lab.exec(&format!("node{number}"), ["sh", "-c", &script])?;
    }
    for (pod, node, host) in [("pod1", 0, 10), ("pod2", 0, 11), ("pod3", 1, 10), ("pod4", 1, 11)] {
        let script = format!(
            "set -e
            for on in all eth0; do echo 0 > /proc/sys/net/ipv6/conf/$on/accept_dad; done
            echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6
            ip addr add fd00:42:{node}::{host}/64 dev eth0 nodad
            ip -6 route add default via fd00:42:{node}::1"
        );
        lab.exec(pod, ["sh", "-c", &script])?;
    }
    let path = lab.inventory();
    let mut inventory = std::fs::read_to_string(&path).context("reading the lab's inventory")?;
    for (v4, v6) in [
        ("10.42.0.10", POD1_V6),
        ("10.42.0.11", POD2_V6),
        ("10.42.1.10", POD3_V6),
        ("192.168.56.11", "fd00:56::11"),
        ("192.168.56.12", "fd00:56::12"),
    ] {
        let with = format!("- \"{v4}\"\n  - \"{v6}\"");
        inventory = inventory.replace(&format!("- \"{v4}\""), &with);
    }
    std::fs::write(&path, inventory).context("writing the lab's inventory")
}
