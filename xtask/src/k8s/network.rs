//! The wires between nodes, a laptop and a world outside: all of them network namespaces, so that no packet is ever in
//! the machine's own.

use std::path::PathBuf;

use anyhow::Result;

use super::command::{quietly, told, words};

/// What the namespaces' names begin with.
const PREFIX: &str = "k8s-podtrace-";

/// The switch that all wires lead to.
const FABRIC: &str = "fabric";

/// Somebody outside of the cluster: its address is that of nobody's node.
const WORLD: &str = "world";

/// Somebody who reaches the API server and nothing else.
const LAPTOP: &str = "laptop";

/// Where each is on the wire.
const PLACES: [(&str, &str); 4] = [
    (WORLD, "192.168.56.1"),
    (LAPTOP, "192.168.56.20"),
    ("node1", "192.168.56.11"),
    ("node2", "192.168.56.12"),
];

/// A node: its name, where it is, and its share of the pods' addresses.
pub(super) struct NodePlace {
    pub(super) name: &'static str,
    pub(super) address: &'static str,
    /// The first three of four numbers.
    pub(super) pods: &'static str,
    /// The end of its tunnel's hardware address.
    mac: &'static str,
}

/// The nodes.
pub(super) const NODES: [NodePlace; 2] = [
    NodePlace { name: "node1", address: "192.168.56.11", pods: "10.42.0", mac: "0a:58:0a:2a:00:00" },
    NodePlace { name: "node2", address: "192.168.56.12", pods: "10.42.1", mac: "0a:58:0a:2a:01:00" },
];

/// The address of the API server, and its port.
pub(super) const API: (&str, u16) = (NODES[0].address, 6443);

/// Keeps the laptop from all but the API server.
const WALL: &str = include_str!("wall.nft");

/// How a node's network is set.
const SETTINGS: [&str; 2] = ["net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"];

/// How flannel has pods speak to the world as their node.
const MASQUERADE: [&str; 2] = [
    "-s 10.42.0.0/16 -d 10.42.0.0/16 -j RETURN",
    "-s 10.42.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully",
];

/// The name of a namespace.
pub(super) fn namespace(of: &str) -> String {
    format!("{PREFIX}{of}")
}

/// Where a namespace is.
pub(super) fn path(of: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(namespace(of))
}

/// The names of all our namespaces that there are.
pub(super) fn existing() -> Result<Vec<String>> {
    let list = quietly(&mut words("ip netns list"))?;
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.filter(|name| name.starts_with(PREFIX)).map(str::to_owned).collect())
}

/// Lays everything out.
pub(super) fn lay() -> Result<()> {
    add(FABRIC)?;
    ip(FABRIC, "link add br0 type bridge")?;
    ip(FABRIC, "link set br0 up")?;
    set(FABRIC, "net.bridge.bridge-nf-call-iptables=0")?;
    for (place, address) in PLACES {
        add(place)?;
        ip(FABRIC, &format!("link add {place} type veth peer name eth0 netns {}", namespace(place)))?;
        ip(FABRIC, &format!("link set {place} master br0 up"))?;
        ip(place, &format!("addr add {address}/24 dev eth0"))?;
        ip(place, "link set eth0 up")?;
    }
    told(&mut words(&format!("ip netns exec {} nft -f -", namespace(FABRIC))), WALL)?;
    let [one, other] = &NODES;
    tunnel(one, other)?;
    tunnel(other, one)
}

fn add(place: &str) -> Result<()> {
    quietly(&mut words(&format!("ip netns add {}", namespace(place))))?;
    ip(place, "link set lo up")
}

/// A node's end of the tunnel, as flannel's vxlan backend makes it.
fn tunnel(node: &NodePlace, peer: &NodePlace) -> Result<()> {
    let NodePlace { name, address, pods, mac } = node;
    for setting in SETTINGS {
        set(name, setting)?;
    }
    for line in [
        format!(
            "link add flannel.1 address {mac} mtu 1450 type vxlan id 1 local {address} dev eth0 dstport 8472 nolearning"
        ),
        format!("addr add {pods}.0/32 dev flannel.1"),
        "link set flannel.1 up".to_owned(),
        format!("route add {}.0/24 via {}.0 dev flannel.1 onlink", peer.pods, peer.pods),
        format!("neigh add {}.0 lladdr {} dev flannel.1 nud permanent", peer.pods, peer.mac),
    ] {
        ip(name, &line)?;
    }
    let namespace = namespace(name);
    quietly(&mut words(&format!(
        "bridge -n {namespace} fdb add {} dev flannel.1 dst {}",
        peer.mac, peer.address
    )))?;
    for rule in MASQUERADE {
        quietly(&mut words(&format!("ip netns exec {namespace} iptables -w -t nat -A POSTROUTING {rule}")))?;
    }
    Ok(())
}

fn ip(place: &str, line: &str) -> Result<()> {
    quietly(&mut words(&format!("ip -n {} {line}", namespace(place)))).map(drop)
}

fn set(place: &str, setting: &str) -> Result<()> {
    quietly(&mut words(&format!("ip netns exec {} sysctl -qw {setting}", namespace(place)))).map(drop)
}
