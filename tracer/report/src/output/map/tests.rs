//! The drawing of sample nodes, compared with the files in `snapshots/`; renewed as the other snapshots of reports are.

use serde_json::Value;

use super::*;
use crate::output::snapshot_tests::{compare, plain};
use podtrace_protocol::inventory::{self, Inventory};
use podtrace_protocol::topology::{Cni, Device, DeviceKind, Route, Survey, Topology, samples};

/// Wider than any line.
const WIDE: usize = 1_000;

fn inventory() -> Inventory {
    let text = "
nodes:
- {name: node1, addresses: [192.168.56.11]}
- {name: node2, addresses: [192.168.56.12], run: {command: [ssh, node2]}}
- {name: node3, addresses: [192.168.56.13], run: {command: [ssh, node3]}}
pods:
- {name: pod1, ips: [10.42.0.10], node: node1}
- {name: gone, ips: [10.42.0.99], node: node1}
- {name: pending, node: node1}
- {name: proxy, namespace: kube-system, ips: [192.168.56.11], node: node1, host_network: true}
- {name: far, ips: [10.42.2.10], node: node3}
services: []
";
    inventory::parse(text).unwrap()
}

fn survey(node: &str, address: &str, found: Result<Topology, String>) -> Survey {
    let addresses = vec![address.parse().unwrap()];
    Survey { node: node.to_owned(), addresses, found, rules: None, warnings: Vec::new() }
}

/// A node of the lab that has tunnel ends for its neighbour and for nobody known, the neighbour with its bridge down
/// and no end for anybody, and a node that is gone.
fn lab() -> Vec<Survey> {
    let mut first = samples::lab();
    let DeviceKind::Vxlan(vxlan) = &mut device(&mut first, "flannel.1").kind else { panic!("no tunnel") };
    vxlan.remotes = ["192.168.56.12", "192.168.56.99"].map(|remote| remote.parse().unwrap()).into();
    first.cni = Some(Cni {
        plugin: "flannel in K3s".to_owned(),
        backend: Some("vxlan".to_owned()),
        network: Some("10.42.0.0/16".to_owned()),
        config_file: "/etc/a\u{1b}file".to_owned(),
    });
    let mut second = samples::lab();
    // Its pods' namespaces cannot be read.
    second.namespaces.truncate(1);
    for (name, address) in
        [("eth0", "192.168.56.12/24"), ("cni0", "10.42.1.1/24"), ("flannel.1", "10.42.1.0/32")]
    {
        device(&mut second, name).addresses = vec![address.parse().unwrap()];
    }
    device(&mut second, "cni0").up = false;
    let routes = &mut second.namespaces[0].routes;
    routes[1].destination = "10.42.1.0/24".parse().unwrap();
    routes[2].destination = "10.42.0.0/24".parse().unwrap();
    routes[2].gateway = Some("10.42.0.0".parse().unwrap());
    let mut surveys = vec![
        survey("node1", "192.168.56.11", Ok(first)),
        survey("node2", "192.168.56.12", Ok(second)),
        survey("node3", "192.168.56.13", Err("ssh: connect to host node3: No route to host\n".to_owned())),
    ];
    surveys[1].warnings = vec!["3 network namespaces could not be read: \"/proc/1/ns/net\"".to_owned()];
    surveys
}

fn device<'a>(topology: &'a mut Topology, name: &str) -> &'a mut Device {
    topology.namespaces[0].devices.iter_mut().find(|device| device.name == name).unwrap()
}

#[test]
fn the_lab() {
    let coloured = draw(&lab(), &inventory(), WIDE);
    compare("topology-lab.txt", &plain(&coloured));
    compare("topology-lab.colour.txt", &coloured.replace('\x1b', "␛"));
}

#[test]
fn a_graph() {
    let graph = to_dot(&lab(), &inventory());
    compare("topology-lab.dot", &graph);
    // node1 and node2 lead to each other by tunnels and by uplinks: a line for each, not for each way.
    assert_eq!(graph.matches("\"node1/flannel.1\" -- \"node2/flannel.1\"").count(), 1, "{graph}");
    assert_eq!(graph.matches("\"node2/flannel.1\" -- \"node1/flannel.1\"").count(), 0, "{graph}");
    assert!(graph.contains("\"pod/default/pod1\" -- \"node1/veth1\""), "{graph}");
}

#[test]
fn a_narrow_terminal() {
    let drawn = plain(&draw(&lab(), &inventory(), 80));
    compare("topology-narrow.txt", &drawn);
    assert!(drawn.lines().all(|line| line.trim_end() == line), "{drawn}");
}

#[test]
fn other_clusters() {
    let mut drawn = String::new();
    for (name, address, topology) in [
        ("k3s", "192.168.56.11", samples::k3s()),
        ("host-gw", "192.168.56.11", samples::host_gw()),
        ("ipv6", "fd00::11", samples::ipv6()),
        ("bridged-uplink", "192.168.56.11", samples::bridged_uplink()),
    ] {
        let surveys = [
            survey(name, address, Ok(topology)),
            survey("node2", "192.168.56.12", Err("not asked".to_owned())),
        ];
        drawn.push_str(&plain(&draw(&surveys, &Inventory::default(), WIDE)));
        drawn.push('\n');
    }
    compare("topology-others.txt", &drawn);
}

#[test]
fn what_a_tunnel_has_for_itself_is_no_peer() {
    let mut surveys = lab();
    let topology = surveys[0].found.as_mut().unwrap();
    let tunnel = device(topology, "flannel.1");
    let index = tunnel.index;
    tunnel.addresses.push("fd00:42::/128".parse().unwrap());
    for destination in ["fe80::/64", "fd00:42::/128", "ff00::/8"] {
        let destination = destination.parse().unwrap();
        topology.namespaces[0].routes.push(Route { destination, gateway: None, device: index, metric: 256 });
    }
    let drawn = plain(&draw(&surveys, &inventory(), WIDE));
    assert!(!drawn.contains("fe80") && !drawn.contains("for fd00:42") && !drawn.contains("ff00"), "{drawn}");
}

#[test]
fn names_from_outside_cannot_draw() {
    let mut topology = samples::lab();
    topology.namespaces[0].devices[1].name = "et\x1b[2Jh\n├─".into();
    let surveys = [survey("no\u{202e}de", "192.168.56.11", Ok(topology))];
    let drawn = plain(&draw(&surveys, &Inventory::default(), WIDE));
    assert!(drawn.contains("et\\u{1b}[2Jh\\n├─") && drawn.contains("no\\u{202e}de"), "{drawn}");
    let graph = to_dot(&surveys, &Inventory::default());
    assert!(!graph.replace('\n', "").contains(podtrace_escape::is_deceptive), "{graph}");
    assert!(graph.lines().all(|line| line.matches('"').count() % 2 == 0), "{graph}");
    let json = to_json(&surveys, &Inventory::default()).unwrap();
    assert!(!json.trim_end().contains(podtrace_escape::is_deceptive), "{json}");
}

#[test]
fn json_is_as_its_schema_says() {
    let schema: Value =
        serde_json::from_str(include_str!("../../../../../schema/topology.schema.json")).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let json = to_json(&lab(), &inventory()).unwrap();
    assert_eq!(json.lines().count(), 3);
    for line in json.lines() {
        let mut value: Value = serde_json::from_str(line).unwrap();
        let faults: Vec<_> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert_eq!(faults, Vec::<String>::new(), "{line}");
        value["extra"] = 1.into();
        assert!(!validator.is_valid(&value));
    }
    let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    let device = |name: &str| {
        let mut devices = first["devices"].as_array().unwrap().iter();
        devices.find(|device| device["name"] == name).unwrap()
    };
    assert_eq!(device("veth1")["pod"]["name"], "default/pod1");
    assert_eq!(device("veth1")["bridge"], "cni0");
    assert_eq!(device("flannel.1")["peers"][0]["node"], "node2");
    assert_eq!(device("flannel.1")["peers"][0]["networks"][0], "10.42.1.0/24");
    assert_eq!(device("flannel.1")["missing_peers"][0], "node3");
}
