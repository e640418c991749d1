//! From a laptop that reaches the API server and nothing else, by a user who has the rights of `podtrace manifest` and
//! none on any machine: whole paths over both nodes, with names.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use podtrace_tests::cluster::{Cluster, SETTLED, Who, nothing_runs, traced};
use podtrace_tests::command::{Output, SHORT, run};
use podtrace_tests::expect;
use podtrace_tests::trace::Finished;
use serde_json::{Value, json};

use crate::own;

/// Over the tunnel, from one node to the other.
const TUNNEL: [&str; 7] = [
    "node1 cni0 route observed",
    "node1 flannel.1 encapsulate observed",
    "node1 eth0 node-egress observed",
    "node2 eth0 node-ingress observed",
    "node2 flannel.1 decapsulate observed",
    "node2 cni0 route observed",
    "node2 veth* pod-ingress observed",
];

pub(crate) fn trials(cluster: &Arc<Cluster>) -> Vec<Trial> {
    vec![
        own(cluster, "laptop-reaches-only-the-api", only_the_api),
        own(cluster, "pod-to-pod-of-its-node", same_node),
        own(cluster, "pod-to-pod-of-another-node", other_node),
        own(cluster, "pod-to-service", service),
        own(cluster, "world-to-node-port", node_port),
    ]
}

fn only_the_api(cluster: &Cluster) -> Result<()> {
    cluster.ask(["get", "nodes"])?;
    for (address, what) in [
        ("192.168.56.11 10250", "a kubelet"),
        ("192.168.56.12 10250", "a kubelet"),
        ("192.168.56.11 30080", "a node port"),
    ] {
        let (address, port) = address.split_once(' ').context("address and port")?;
        let knock = |place: &str| {
            let script = format!("exec 3<>/dev/tcp/{address}/{port}");
            run(&mut Cluster::at(place, ["timeout", "1", "bash", "-c", &script]), SHORT)
        };
        ensure!(
            knock("world")?.code() == 0,
            "{what} at {address}:{port} answers nobody: the test looks in the wrong place"
        );
        ensure!(knock("laptop")?.code() != 0, "{what} at {address}:{port} answers the laptop");
    }
    Ok(())
}

/// What podtrace tells of a trace that ends by itself.
fn trace(cluster: &Cluster, arguments: &[&str]) -> Result<Finished> {
    let words = arguments.iter().chain(&["-o", "json"]);
    whole(run(&mut cluster.podtrace(Who::User, words), SETTLED)?)
}

/// It ran well, lost nothing, and left nothing.
fn whole(output: Output) -> Result<Finished> {
    let finished = Finished::from(output)?;
    finished.complete().with_context(|| finished.stdout.clone())?;
    nothing_runs()?;
    Ok(finished)
}

/// The first path of this label.
fn line<'a>(finished: &'a Finished, label: &str) -> Result<&'a Value> {
    let fits = |path: &&Value| path["label"].as_str().is_some_and(|name| expect::fits(label, name));
    finished.lines.iter().find(fits).with_context(|| format!("there is no {label} in\n{}", finished.stdout))
}

/// Whether there is a path of this label that is as expected.
fn holds(finished: &Finished, label: &str, expected: &Value, hops: &[&str]) -> Result<()> {
    let path = line(finished, label)?;
    let about = || format!("{label}: {path}");
    expect::subset(expected, path).map_err(anyhow::Error::msg).with_context(about)?;
    let hops: Vec<String> = hops.iter().map(|hop| (*hop).to_owned()).collect();
    let actual = path["hops"].as_array().context("a path without hops")?;
    expect::hops(&hops, actual).map_err(anyhow::Error::msg).with_context(about)
}

fn same_node(cluster: &Cluster) -> Result<()> {
    let finished = trace(cluster, &["--from", "pod1", "--to", "pod2", "--probe", "icmp"])?;
    ensure!(finished.paths.len() == 2, "{}", finished.stdout);
    let hops =
        ["node1 veth* pod-egress observed", "node1 cni0 bridge stack", "node1 veth* pod-ingress observed"];
    let (one, two) =
        (json!({"pod": "default/pod1", "node": "node1"}), json!({"pod": "default/pod2", "node": "node1"}));
    holds(&finished, "echo request *", &json!({"verdict": "delivered", "from": one, "to": two}), &hops)?;
    holds(&finished, "echo reply *", &json!({"verdict": "delivered", "from": two, "to": one}), &hops)
}

/// Traffic that podtrace has not sent itself: a ping by the pod's own program.
fn other_node(cluster: &Cluster) -> Result<()> {
    let address = cluster.ask(["get", "pod", "pod3", "-o", "jsonpath={.status.podIP}"])?;
    let arguments = ["--from", "pod1", "--to", "pod3", "--proto", "icmp", "--count", "2", "-o", "json"];
    let trace = traced(&mut cluster.podtrace(Who::User, arguments))?;
    let ping = cluster.exec("pod1", &["ping", "-c", "1", &address])?;
    ensure!(ping.code() == 0, "{ping:?}");
    let finished = whole(trace.finish(SETTLED)?)?;
    let there = [&["node1 veth* pod-egress observed"], &TUNNEL[..]].concat();
    let (one, three) =
        (json!({"pod": "default/pod1", "node": "node1"}), json!({"pod": "default/pod3", "node": "node2"}));
    holds(&finished, "echo request *", &json!({"verdict": "delivered", "from": one, "to": three}), &there)?;
    let back: Vec<_> = there
        .iter()
        .map(|hop| match hop.strip_prefix("node1") {
            Some(rest) => format!("node2{rest}"),
            None => hop.replace("node2", "node1"),
        })
        .collect();
    let back: Vec<_> = back.iter().map(String::as_str).collect();
    holds(&finished, "echo reply *", &json!({"verdict": "delivered", "from": three, "to": one}), &back)
}

fn service(cluster: &Cluster) -> Result<()> {
    let finished = trace(cluster, &["--from", "pod1", "--to", "svc/web:80", "--probe", "tcp"])?;
    let there = [&["node1 veth* pod-egress observed", "node1 veth* nat stack"], &TUNNEL[..]].concat();
    let expected = json!({
        "verdict": "delivered",
        "from": {"pod": "default/pod1"},
        "to": {"service": "default/web"},
        "translated": {"to": {"pod": "default/pod3", "port": 8080}},
    });
    holds(&finished, "SYN", &expected, &there)?;
    let nat = &line(&finished, "SYN")?["hops"][1]["nat"];
    let expected =
        json!({"kind": "dnat", "service": {"name": "default/web", "port": 80, "endpoint": "default/pod3"}});
    expect::subset(&expected, nat).map_err(anyhow::Error::msg)?;
    let back = [
        "node2 veth* pod-egress observed",
        "node2 cni0 route observed",
        "node2 flannel.1 encapsulate observed",
        "node2 eth0 node-egress observed",
        "node1 eth0 node-ingress observed",
        "node1 flannel.1 decapsulate observed",
        "node1 cni0 nat stack",
        "node1 cni0 route observed",
        "node1 veth* pod-ingress observed",
    ];
    holds(&finished, "SYN-ACK", &json!({"verdict": "delivered", "to": {"pod": "default/pod1"}}), &back)
}

fn node_port(cluster: &Cluster) -> Result<()> {
    let arguments = ["--from", "192.168.56.1", "--to", "svc/web-nodeport", "-o", "json"];
    let trace = traced(&mut cluster.podtrace(Who::User, arguments))?;
    let script = "exec 3<>/dev/tcp/192.168.56.11/30080; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    let call = run(&mut Cluster::at("world", ["timeout", "10", "bash", "-c", script]), SHORT)?;
    ensure!(call.stdout.ends_with("hello from a pod\n"), "{call:?}");
    let finished = whole(trace.interrupt(SETTLED)?)?;
    let there = [
        "node1 eth0 node-ingress observed",
        "node1 eth0 nat stack",
        "node1 eth0 route stack",
        "node1 flannel.1 nat stack",
        "node1 flannel.1 encapsulate observed",
        "node1 eth0 node-egress observed",
        "node2 eth0 node-ingress observed",
        "node2 flannel.1 decapsulate observed",
        "node2 cni0 route observed",
        "node2 veth* pod-ingress observed",
    ];
    let expected = json!({
        "verdict": "delivered",
        "from": {"pod": null, "ip": "192.168.56.1"},
        "to": {"service": "default/web-nodeport", "port": 30080},
        "translated": {"from": {"node": "node1"}, "to": {"pod": "default/pod3"}},
    });
    holds(&finished, "SYN", &expected, &there)?;
    let back = [
        "node2 veth* pod-egress observed",
        "node2 cni0 route observed",
        "node2 flannel.1 encapsulate observed",
        "node2 eth0 node-egress observed",
        "node1 eth0 node-ingress observed",
        "node1 flannel.1 decapsulate observed",
        "node1 flannel.1 nat stack",
        "node1 flannel.1 route stack",
        "node1 eth0 nat stack",
        "node1 eth0 node-egress observed",
    ];
    holds(&finished, "SYN-ACK", &json!({"verdict": "delivered", "from": {"pod": "default/pod3"}}), &back)
}
