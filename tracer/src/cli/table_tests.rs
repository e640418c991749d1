//! Command lines and what they mean, as a table: each is parsed, resolved in a cluster and planned.

use clap::Parser as _;
use serde::Deserialize;

use super::args::Cli;
use super::{command_first, plan};
use podtrace_protocol::frame::ProbeKind;

const TABLE: &str = include_str!("command_lines.yaml");

/// The nodes are reached by commands, so that nothing of this needs root.
const CLUSTER: &str = "
nodes:
  - {name: node1, addresses: [192.168.56.11], run: {command: [ssh, node1]}}
  - {name: node2, addresses: [192.168.56.12], run: {command: [ssh, node2]}}
pods:
  - {name: pod1, ips: [10.42.0.10], node: node1, labels: {app: one}}
  - {name: pod3, ips: [10.42.1.10], node: node2}
  - {name: twice, ips: [10.42.1.19], node: node2}
  - {name: web-a, ips: [10.42.0.11], node: node1, owner: deployment/web, labels: {app: web}}
  - {name: web-b, ips: [10.42.1.11], node: node2, owner: deployment/web, labels: {app: web}}
  - {name: agent-x, ips: [10.42.0.12], node: node1, owner: daemonset/agent}
  - {name: load-x, ips: [10.42.0.13], node: node1, owner: job/load, labels: {app: load}}
  - {namespace: shop, name: cart-0, ips: [10.42.1.12], node: node2, owner: statefulset/cart, labels: {app: cart}}
  - {namespace: shop, name: twice, ips: [10.42.1.13], node: node2}
services:
  - name: web
    cluster_ips: [10.96.0.20]
    ports: [{name: http, protocol: tcp, port: 80, target_port: 8080}]
    endpoints: [default/web-a, default/web-b]
  - {namespace: shop, name: db, cluster_ips: [10.96.0.21]}
";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    line: String,
    #[serde(default)]
    means: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

/// Words as a shell has them, with single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

async fn meaning(line: &str, cluster: &str) -> Result<String, String> {
    let typed = ["podtrace".to_owned(), "--cluster".to_owned(), cluster.to_owned()];
    let cli = Cli::try_parse_from(typed.into_iter().chain(words(line))).map_err(|error| error.to_string())?;
    let plan = plan::plan(&cli.trace).await.map_err(|error| format!("{error:#}"))?;
    let mut text = plan.title;
    if let Some(filter) = plan.choice {
        text.push_str(&format!(" | {filter}"));
    }
    match plan.probe.map(|probe| probe.kind) {
        Some(ProbeKind::Icmp) => text.push_str(" + icmp"),
        Some(ProbeKind::Tcp(port)) => text.push_str(&format!(" + tcp:{port}")),
        Some(ProbeKind::Udp(port)) => text.push_str(&format!(" + udp:{port}")),
        None => {}
    }
    Ok(text)
}

#[tokio::test]
async fn command_lines_mean_what_the_table_says() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = directory.path().join("cluster.yaml");
    std::fs::write(&cluster, CLUSTER).unwrap();
    let cluster = cluster.to_str().unwrap();
    let table: Vec<Row> = serde_saphyr::from_str(TABLE).unwrap();
    assert!(table.len() > 60, "only {} rows", table.len());
    for Row { line, means, error } in table {
        match (meaning(&line, cluster).await, means, error) {
            (Ok(found), Some(means), None) => assert_eq!(found, means, "{line}"),
            (Err(found), None, Some(error)) => assert!(found.contains(&error), "{line}: {found}"),
            (found, ..) => panic!("{line}: {found:?}"),
        }
    }
}

#[test]
fn options_may_stand_before_a_command() {
    for (line, moved) in [
        ("--cluster f topology -o json", Some("topology --cluster f -o json")),
        ("-v --color never topology", Some("topology -v --color never")),
        ("--cluster topology topology", Some("topology --cluster topology")),
        ("--cluster f completion bash", Some("completion --cluster f bash")),
        ("--from topology", None),
        ("pod1 topology", None),
        ("pod/topology", None),
        ("topology --cluster f", None),
    ] {
        let typed: Vec<_> = ["podtrace"].into_iter().chain(line.split(' ')).map(Into::into).collect();
        let cli = Cli::try_parse_from(&typed).unwrap();
        let found = command_first(&typed, &cli);
        let moved = moved.map(|moved| {
            ["podtrace"]
                .into_iter()
                .chain(moved.split(' '))
                .map(Into::into)
                .collect::<Vec<std::ffi::OsString>>()
        });
        assert_eq!(found, moved, "{line}");
    }
}
