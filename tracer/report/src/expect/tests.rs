//! Expressions over the sample paths: what they say, what is wrong with them, how failures read.

mod docs;
mod mistakes;
mod xml;

use super::*;
use crate::output::samples;
use podtrace_path::{Path, Summary};
use podtrace_protocol::inventory::ServicePort;

/// A ping over two nodes, both ways.
fn ping() -> Vec<Path> {
    vec![samples::cross_node_request(), samples::cross_node_reply()]
}

fn complete() -> Summary {
    Summary { complete: true, ..Summary::default() }
}

fn incomplete() -> Summary {
    let mut summary = Summary::default();
    (summary.events.produced, summary.events.delivered, summary.events.lost_ring) = (40, 37, 3);
    summary
}

fn judge(expression: &str, paths: &[Path], summary: &Summary) -> Judgement {
    let expectation = expression.parse::<Expectation>().unwrap_or_else(|error| panic!("{error}"));
    let mut judge = Judge::new(vec![expectation]);
    for path in paths {
        judge.path(path);
    }
    judge.summary(summary).remove(0)
}

fn held(expression: &str, paths: &[Path]) -> bool {
    judge(expression, paths, &complete()).held
}

fn lines(expression: &str, paths: &[Path], summary: &Summary) -> String {
    judge(expression, paths, summary).lines().join("\n")
}

/// One of every kind of path.
fn all() -> Vec<Path> {
    samples::all().into_iter().map(|(_, path)| path).collect()
}

const WHOLE_WAY: &str = "devices == veth* > cni0 > flannel.1 > eth0 > eth0 > flannel.1 > cni0 > veth*";

#[test]
fn conditions_hold_for_the_paths_they_describe() {
    let request = samples::cross_node_request;
    for (expression, path, holds) in [
        ("delivered", request(), true),
        ("verdict == delivered", request(), true),
        ("verdict != delivered", request(), false),
        ("verdict == vanished", samples::vanished(), true),
        ("open", samples::open(), true),
        ("rejected", samples::rejected(), true),
        ("from == default/pod1", request(), true),
        ("from == pod1", request(), true),
        ("from == default/pod*", request(), true),
        ("from != default/pod1", request(), false),
        ("to == 10.42.1.10", request(), true),
        ("to == 10.42.1.11", request(), false),
        ("to == 10.42.1.10:53", samples::dropped(), true),
        ("to == 10.42.1.10:54", samples::dropped(), false),
        ("to == any", request(), true),
        // The address that the packet set out for, and the one it came to.
        ("to == 10.96.0.10:53", samples::nat(), true),
        ("to == 10.42.0.5:53", samples::nat(), true),
        ("from == 10.42.0.1", samples::nat(), true),
        ("from == node/node1", samples::ipv6(), true),
        ("from == node/node1", request(), false),
        ("to == [fd00:42:1::10]:443", samples::ipv6(), true),
        ("proto == icmp", request(), true),
        ("proto != tcp", request(), true),
        ("proto == 89", samples::hostile(), true),
        ("direction == request", request(), true),
        ("direction == reply", samples::cross_node_reply(), true),
        ("reply", samples::cross_node_reply(), true),
        (WHOLE_WAY, request(), true),
        (WHOLE_WAY, samples::same_node(), false),
        ("devices == veth* > .. > veth*", request(), true),
        ("devices != veth* > cni0 > veth*", request(), true),
        ("devices == veth* > cni0", samples::dropped(), true),
        ("nodes == node1 > node2", request(), true),
        ("actions == pod-egress > bridge > pod-ingress", samples::same_node(), true),
        ("actions == pod-egress > route > encapsulate > .. > pod-ingress", request(), true),
        ("actions == pod-* > .. > drop", samples::dropped(), true),
        ("via cni0", request(), true),
        ("via node2", request(), true),
        ("via node2", samples::dropped(), false),
        ("via \"flannel.?\"", request(), true),
        ("encapsulated", request(), true),
        ("encapsulated", samples::same_node(), false),
        ("no-nat", request(), true),
        ("no-nat", samples::nat(), false),
        ("nat", samples::nat(), true),
        ("nat == dnat", samples::nat(), true),
        // No translation was observed, but the addresses changed.
        ("nat == snat", samples::nat(), true),
        ("nat == dnat", request(), false),
        ("drop == NETFILTER_DROP", samples::dropped(), true),
        ("drop == NETFILTER_*", samples::dropped(), true),
        ("drop == NO_SOCKET", samples::dropped(), false),
        ("drop == NETFILTER_DROP", request(), false),
        ("hops <= 8", request(), true),
        ("hops < 8", request(), false),
        ("hops == 3", samples::same_node(), true),
        ("max-hop-latency < 1ms", request(), true),
        ("max-hop-latency < 1ms", samples::split_tcp(), false),
        ("max-hop-latency < 20us", request(), false),
        ("duration < 5ms", request(), true),
        ("duration >= 100us", request(), false),
        // 88.8 ±3.0 µs: neither is shown, and neither is its opposite.
        ("duration < 90us", request(), false),
        ("not duration < 90us", request(), false),
        ("duration > 80us and duration <= 92us", request(), true),
        ("duration < 1s", samples::open(), false),
        ("confidence == 1", request(), true),
        ("confidence >= 0.9", samples::split_tcp(), false),
        ("dropped or encapsulated and via node2", request(), true),
        ("(dropped or encapsulated) and via node9", request(), false),
        ("not (dropped or vanished)", request(), true),
        ("not not delivered", request(), true),
    ] {
        assert_eq!(held(expression, std::slice::from_ref(&path)), holds, "{expression}: #{}", path.id);
    }
}

#[test]
fn claims_hold_for_the_traces_they_describe() {
    for (expression, paths, holds) in [
        ("delivered", ping(), true),
        ("delivered", all(), false),
        ("delivered", vec![], false),
        ("any(dropped)", all(), true),
        ("any(dropped)", ping(), false),
        ("any(dropped)", vec![], false),
        ("all(delivered and encapsulated)", ping(), true),
        ("all(delivered)", vec![], false),
        ("not all(delivered)", vec![], false),
        ("none(dropped)", ping(), true),
        ("none(dropped)", all(), false),
        ("none(dropped)", vec![], false),
        ("not any(dropped)", ping(), true),
        ("count(delivered) == 2", ping(), true),
        ("count(dropped) >= 3", all(), false),
        ("count(dropped) == 2", all(), true),
        ("count(dropped) == 0", vec![], true),
        ("paths == 2", ping(), true),
        ("paths == 0", vec![], true),
        ("loss == 0", ping(), true),
        ("loss == 0", all(), false),
        ("loss == 0", vec![], false),
        ("loss == 0", vec![samples::cross_node_reply()], false),
        ("loss <= 50%", vec![samples::cross_node_request(), samples::dropped()], true),
        ("loss < 0.5", vec![samples::cross_node_request(), samples::dropped()], false),
        // One of two is still in flight: it may still be lost.
        ("loss == 0", vec![samples::cross_node_request(), samples::open()], false),
        ("loss > 0", vec![samples::cross_node_request(), samples::open()], false),
        ("complete", ping(), true),
        ("delivered and loss == 0 and complete", ping(), true),
        ("dropped and loss == 0", ping(), false),
        ("dropped or loss == 0", ping(), true),
        // What is said without a quantifier is said of every path, as one part.
        ("request or reply or loss > 50%", ping(), true),
        ("not (dropped and complete)", ping(), true),
        ("any(reply) and count(request) == 1 and none(via cni7)", ping(), true),
        // A clock leaves it open for one path: neither all nor none, but not more than one.
        ("any(duration < 90us)", vec![samples::cross_node_request()], false),
        ("none(duration < 90us)", vec![samples::cross_node_request()], false),
        ("count(duration < 90us) <= 1", vec![samples::cross_node_request()], true),
        ("count(duration < 90us) == 1", vec![samples::cross_node_request()], false),
    ] {
        assert_eq!(held(expression, &paths), holds, "{expression} of {} paths", paths.len());
    }
}

#[test]
fn an_incomplete_trace_shows_only_what_it_saw() {
    for (expression, path, holds) in [
        ("delivered", samples::cross_node_request(), false),
        ("all(delivered)", samples::cross_node_request(), false),
        ("none(dropped)", samples::cross_node_request(), false),
        ("count(delivered) == 1", samples::cross_node_request(), false),
        ("loss == 0", samples::cross_node_request(), false),
        ("complete", samples::cross_node_request(), false),
        ("not complete", samples::cross_node_request(), true),
        ("any(delivered)", samples::cross_node_request(), true),
        ("any(encapsulated and via node2)", samples::cross_node_request(), true),
        ("count(delivered) >= 1", samples::cross_node_request(), true),
        ("any(dropped)", samples::dropped(), true),
        ("any(drop == NETFILTER_DROP)", samples::dropped(), true),
        ("any(nat == dnat)", samples::nat(), true),
        ("any(hops >= 3)", samples::nat(), true),
        // A hop that was not seen may have done it.
        ("any(no-nat)", samples::cross_node_request(), false),
        ("any(not via cni7)", samples::cross_node_request(), false),
        ("any(hops <= 8)", samples::cross_node_request(), false),
        ("any(vanished)", samples::vanished(), false),
        ("any(max-hop-latency < 1ms)", samples::cross_node_request(), false),
        // And what is refuted stays so.
        ("not all(delivered)", samples::dropped(), true),
        ("not none(dropped)", samples::dropped(), true),
    ] {
        let judgement = judge(expression, &[path], &incomplete());
        assert_eq!(judgement.held, holds, "{expression}");
        if !holds {
            assert!(
                judgement.cause().contains("3 events lost to a full ring buffer"),
                "{}",
                judgement.cause()
            );
        }
    }
}

#[test]
fn failures_show_the_nearest_path_and_where_it_parts() {
    let paths = [samples::same_node(), samples::dropped(), samples::cross_node_request()];
    assert_eq!(
        lines(&format!("{WHOLE_WAY} and delivered"), &paths, &complete()),
        "expectation failed: devices == veth* > cni0 > flannel.1 > eth0 > eth0 > flannel.1 > cni0 > veth* and \
         delivered\n  \
         holds for 1 of 3 paths; must hold for every path\n  \
         nearest: ✓ #3  flow 3 →  icmp echo request id 8 seq 1  default/pod1 10.42.0.10 → default/pod2 10.42.0.11  \
         84 B\n    \
         differs at hop 3 of 3, node1 veth3c4d (to pod2): expected flannel.1, found veth3c4d"
    );
    assert_eq!(
        lines("delivered", &[samples::cross_node_request(), samples::dropped()], &complete()),
        "expectation failed: delivered\n  \
         holds for 1 of 2 paths; must hold for every path\n  \
         nearest: ✗ DROPPED #4  flow 4 →  udp datagram  default/pod1 10.42.0.10:40000 → default/pod3 \
         10.42.1.10:53  128 B\n    \
         differs at hop 3 of 3, node1 cni0 (✗ dropped  NETFILTER_DROP in nf_hook_slow): expected delivered, found \
         dropped"
    );
}

#[test]
fn every_kind_of_failure_says_what_there_is() {
    let request = samples::cross_node_request;
    for (expression, path, expected, last) in [
        (
            "via cni7",
            request(),
            "does not hold for the only path; must hold for every path",
            "expected via cni7, found veth1a2b > cni0 > flannel.1 > eth0 > eth0 > flannel.1 > cni0 > veth9c8d",
        ),
        (
            "not via flannel.1",
            request(),
            "does not hold for the only path; must hold for every path",
            "differs at hop 3 of 8, node1 flannel.1 (encapsulated  +50 B  vxlan vni 1  192.168.56.11:51234 → \
          192.168.56.12:8472): expected not via flannel.1, found the path passes it",
        ),
        (
            "no-nat",
            samples::nat(),
            "does not hold for the only path; must hold for every path",
            "differs at hop 2 of 3, node1 cni0 (dnat  dst 10.96.0.10:53 → 10.42.0.5:53): expected no-nat, found a \
          translation",
        ),
        (
            "duration < 90us",
            request(),
            "undecided for the only path; must hold for every path",
            "differs at hop 8 of 8, node2 veth9c8d (to pod3): expected duration < 90us, found 88.8 ±3.0 µs clock \
          error, which is undecided",
        ),
        (
            "max-hop-latency < 1ms",
            samples::split_tcp(),
            "does not hold for the only path; must hold for every path",
            "differs at hop 2 of 7, node1 flannel.1 (encapsulated  +50 B  vxlan vni 1  192.168.56.11:51234 → \
          192.168.56.12:8472): expected max-hop-latency < 1ms, found 2.240 ms",
        ),
        (
            "hops < 3",
            samples::same_node(),
            "does not hold for the only path; must hold for every path",
            "expected hops < 3, found 3 hops",
        ),
        (
            "to == default/pod2",
            request(),
            "does not hold for the only path; must hold for every path",
            "expected to == default/pod2, found default/pod3 10.42.1.10",
        ),
        (
            "devices == veth* > cni0",
            request(),
            "does not hold for the only path; must hold for every path",
            "differs at hop 3 of 8, node1 flannel.1 (encapsulated  +50 B  vxlan vni 1  192.168.56.11:51234 → \
          192.168.56.12:8472): expected the end, found flannel.1",
        ),
        (
            "any(drop == NO_SOCKET)",
            samples::dropped(),
            "drop == NO_SOCKET: does not hold for the only path; must hold for at least one path",
            "differs at hop 3 of 3, node1 cni0 (✗ dropped  NETFILTER_DROP in nf_hook_slow): expected drop == NO_SOCKET, \
          found NETFILTER_DROP",
        ),
        (
            "none(delivered)",
            request(),
            "delivered: holds for the only path; must hold for no path",
            "differs at hop 8 of 8, node2 veth9c8d (to pod3): expected not delivered, found delivered",
        ),
        (
            "count(delivered) == 2",
            request(),
            "delivered: holds for the only path; must hold for exactly 2",
            "",
        ),
        ("paths == 2", request(), "found 1; must be exactly 2", ""),
        (
            "loss == 0",
            samples::dropped(),
            "1 of 1 request did not arrive (100%); loss must be exactly 0%",
            "differs at hop 3 of 3, node1 cni0 (✗ dropped  NETFILTER_DROP in nf_hook_slow): expected delivered, found \
          dropped",
        ),
        ("not complete", request(), "the trace is complete", ""),
    ] {
        let text = lines(expression, &[path], &complete());
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        assert_eq!(lines[0], format!("expectation failed: {expression}"));
        assert_eq!(lines[1], expected, "{expression}");
        match last {
            "" => assert_eq!(lines.len(), 2, "{text}"),
            last => assert_eq!(*lines.last().unwrap(), last, "{expression}"),
        }
    }
}

#[test]
fn nothing_seen_is_said_to_be_nothing() {
    assert_eq!(
        lines("delivered and loss == 0", &[], &complete()),
        "expectation failed: delivered and loss == 0\n  \
         delivered: no path was seen\n  \
         no request was seen; loss must be exactly 0%"
    );
    assert_eq!(
        lines("all(delivered)", &[], &incomplete()),
        "expectation failed: all(delivered)\n  \
         delivered: no path was seen; this trace is incomplete: 3 events lost to a full \
         ring buffer"
    );
}

#[test]
fn of_several_paths_the_nearest_is_shown() {
    let near = samples::vanished();
    let paths = [samples::ipv6(), samples::same_node(), near, samples::nat()];
    let text = lines(&format!("any({WHOLE_WAY})"), &paths, &complete());
    assert!(text.contains("nearest: ? VANISHED #5"), "{text}");
    assert!(text.contains("differs at hop 4 of 4, node1 eth0"), "{text}");
    assert!(text.ends_with("expected eth0, found the end of the path"), "{text}");
    // Of alternatives, the nearer one determines the difference.
    let text = lines(&format!("any({WHOLE_WAY} or via cni7 and via cni8)"), &paths, &complete());
    assert!(text.ends_with("expected eth0, found the end of the path"), "{text}");
}

#[test]
fn services_are_known_by_their_addresses() {
    let service =
        |name: &str, cluster_ips: &[&str], endpoints: &[&str]| podtrace_protocol::inventory::Service {
            namespace: "kube-system".to_owned(),
            name: name.to_owned(),
            cluster_ips: cluster_ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            ports: vec![ServicePort {
                name: None,
                protocol: "udp".to_owned(),
                port: 53,
                target_port: 53,
                node_port: None,
            }],
            endpoints: endpoints.iter().map(|&pod| pod.to_owned()).collect(),
        };
    let pod = "kube-system/coredns-6d8c4cb4d-x2x7k";
    let inventory = Inventory {
        services: vec![service("kube-dns", &["10.96.0.10"], &[pod]), service("headless", &[], &[pod])],
        ..Inventory::default()
    };
    for (expression, holds) in [
        ("to == svc/kube-system/kube-dns", true),
        ("to == svc/kube-dns:53", true),
        ("to == svc/kube-dns:54", false),
        ("to == svc/headless", true),
        ("from == svc/kube-dns", false),
    ] {
        let mut expectation: Expectation = expression.parse().unwrap();
        expectation.resolve(&inventory).unwrap();
        let mut judge = Judge::new(vec![expectation]);
        judge.path(&samples::nat());
        assert_eq!(judge.summary(&complete())[0].held, holds, "{expression}");
    }
    let mut unknown: Expectation = "to == svc/kube-system/kube-dsn".parse().unwrap();
    assert_eq!(
        unknown.resolve(&inventory).unwrap_err().to_string(),
        "--expect 'to == svc/kube-system/kube-dsn' names svc/kube-system/kube-dsn, which is not in the inventory; \
         did you mean `kube-system/kube-dns`?"
    );
}

#[test]
fn memory_does_not_grow_with_the_trace() {
    let mut judge = Judge::new(vec!["delivered and loss == 0".parse().unwrap()]);
    for _ in 0..5_000 {
        for path in all() {
            judge.path(&path);
        }
    }
    let shown = format!("{judge:?}").len();
    let mut short = Judge::new(vec!["delivered and loss == 0".parse().unwrap()]);
    for path in all() {
        short.path(&path);
    }
    assert!(shown < format!("{short:?}").len() + 100);
}
