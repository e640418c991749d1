//! A description of the cluster's pod network, an area a line: what one keeps of a healthy cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use podtrace_protocol::topology::{Device, DeviceKind, Namespace, Role, Vxlan};

use super::check::pairs;
use super::cluster::{Cluster, role};
use super::issue::{Issue, Kind, Severity};
use crate::diagnose::facts::Node;

/// Names of one area that are listed.
const NAMED: usize = 8;

/// An area of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Its name: `CNI`, `tunnel`, `routes`.
    pub name: &'static str,
    /// What is known of it.
    pub facts: String,
    /// Whether nothing above a note was found in it.
    pub healthy: bool,
}

/// All areas.
pub(super) fn areas(cluster: &Cluster<'_>, issues: &[Issue]) -> Vec<Area> {
    let described = [
        ("nodes", nodes(cluster)),
        ("CNI", cni(cluster)),
        ("devices", devices(cluster)),
        ("tunnel", tunnels(cluster)),
        ("pod networks", networks(cluster)),
        ("routes", routes(cluster)),
        ("forwarding", forwarding(cluster)),
        ("rules", rules(cluster)),
        ("Services", services(cluster)),
        ("pods", pods(cluster)),
    ];
    let is_sick = |name: &str| {
        let all = issues.iter().flat_map(|issue| std::iter::once(issue).chain(&issue.consequences));
        all.into_iter().any(|issue| issue.severity != Severity::Note && area(issue.kind) == name)
    };
    described.into_iter().map(|(name, facts)| Area { name, facts, healthy: !is_sick(name) }).collect()
}

/// The area of a kind of finding.
fn area(kind: Kind) -> &'static str {
    match kind {
        Kind::LinkDown | Kind::BridgePort | Kind::PortsIsolated | Kind::HairpinOff | Kind::Xdp => "devices",
        Kind::TunnelAddress
        | Kind::TunnelMismatch
        | Kind::TunnelDropped
        | Kind::NoTunnelEnd
        | Kind::WrongTunnelEnd
        | Kind::NoNeighbour
        | Kind::TunnelMtu => "tunnel",
        Kind::SubnetTwice | Kind::AddressTwice => "pod networks",
        Kind::NoRoute | Kind::WrongRoute | Kind::Refused | Kind::Diverted => "routes",
        Kind::ForwardingOff | Kind::ReversePath | Kind::BridgeUnfiltered => "forwarding",
        Kind::DroppedByRule | Kind::Redirected | Kind::Masqueraded | Kind::StaleRule => "rules",
        Kind::ServiceUnruled | Kind::ServiceEmpty => "Services",
        Kind::WrongNeighbour
        | Kind::NoDefaultRoute
        | Kind::WrongGateway
        | Kind::Mtu
        | Kind::Unanswered
        | Kind::EchoIgnored
        | Kind::NoNamespace => "pods",
    }
}

fn list(parts: impl IntoIterator<Item = String>, separator: &str) -> String {
    let parts: Vec<_> = parts.into_iter().collect();
    let named = parts.iter().take(NAMED).cloned().collect::<Vec<_>>().join(separator);
    match parts.len().saturating_sub(NAMED) {
        0 if parts.is_empty() => "none".to_owned(),
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Nodes by what they have in common: `on node1, node2` is left out where all have it.
fn grouped(cluster: &Cluster<'_>, what: impl Fn(&Node, &Namespace) -> String) -> String {
    let mut by: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (node, own) in cluster.nodes() {
        by.entry(what(node, own)).or_default().push(node.name.clone());
    }
    if by.len() == 1 {
        return by.into_keys().collect();
    }
    list(by.into_iter().map(|(what, nodes)| format!("{what} on {}", list(nodes, ", "))), "; ")
}

fn nodes(cluster: &Cluster<'_>) -> String {
    list(
        cluster.facts.nodes().iter().map(|node| {
            let addresses = node.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let unread = if node.topology.node().is_none() { " (not looked at)" } else { "" };
            format!("{} {addresses}{unread}", node.name).trim_end().to_owned()
        }),
        "; ",
    )
}

fn cni(cluster: &Cluster<'_>) -> String {
    grouped(cluster, |node, _| match &node.topology.cni {
        Some(cni) => format!("{cni} ({})", cni.config_file),
        None => "no configuration found".to_owned(),
    })
}

fn devices(cluster: &Cluster<'_>) -> String {
    grouped(cluster, |node, own| {
        let of = |wanted: Role| {
            own.devices
                .iter()
                .filter(move |device| role(node, own, device) == wanted)
                .map(|device| format!("{} {}", device.name, state(device)))
        };
        let kinds = [(Role::Bridge, "bridge"), (Role::Tunnel, "tunnel"), (Role::Uplink, "uplink")];
        let named = kinds.into_iter().map(|(role, word)| match list(of(role), ", ") {
            none if none == "none" => format!("no {word}"),
            some => format!("{word} {some}"),
        });
        named.collect::<Vec<_>>().join(", ")
    })
}

fn state(device: &Device) -> &'static str {
    if device.up { "up" } else { "DOWN" }
}

fn vxlans(own: &Namespace) -> impl Iterator<Item = (&Device, &Vxlan)> {
    own.devices.iter().filter_map(|device| match &device.kind {
        DeviceKind::Vxlan(settings) => Some((device, settings)),
        _ => None,
    })
}

fn tunnels(cluster: &Cluster<'_>) -> String {
    if !cluster.nodes().any(|(_, own)| vxlans(own).next().is_some()) {
        return "no VXLAN: nodes reach each other's pods without one, or by another kind of tunnel"
            .to_owned();
    }
    grouped(cluster, |_, own| {
        let tunnels = vxlans(own).map(|(device, settings)| {
            let below = settings.underlay.and_then(|index| own.device(index));
            let below =
                below.map(|below| format!(" over {} (MTU {})", below.name, below.mtu)).unwrap_or_default();
            let mut ends: Vec<&IpAddr> = settings.remotes.iter().collect();
            ends.sort_unstable();
            ends.dedup();
            format!(
                "{}: VXLAN VNI {}, UDP {}, MTU {}{below}, {}",
                device.name,
                settings.vni,
                settings.port,
                device.mtu,
                count(ends.len(), "peer")
            )
        });
        list(tunnels, "; ")
    })
}

fn count(number: usize, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}

fn networks(cluster: &Cluster<'_>) -> String {
    let mut networks: Vec<(String, IpNet)> = Vec::new();
    for pod in &cluster.pods {
        let network = (pod.node.clone(), cluster.network(pod));
        // Without a bridge, a pod's address is its own network.
        if network.1.hosts().nth(1).is_some() && !networks.contains(&network) {
            networks.push(network);
        }
    }
    list(networks.into_iter().map(|(node, network)| format!("{node} {network}")), "; ")
}

fn routes(cluster: &Cluster<'_>) -> String {
    let ways = cluster.nodes().map(|(node, own)| {
        let to: Vec<_> = own
            .routes
            .iter()
            .filter(|route| route.destination.prefix_len() > 0)
            .filter(|route| {
                cluster
                    .pods
                    .iter()
                    .any(|pod| pod.node != node.name && route.destination.contains(&pod.address))
            })
            .filter_map(|route| Some(format!("{} by {}", route.destination, own.device(route.device)?.name)))
            .collect();
        format!("{}: {}", node.name, list(to, ", "))
    });
    list(ways, "; ")
}

fn forwarding(cluster: &Cluster<'_>) -> String {
    grouped(cluster, |_, own| {
        let setting = |path: &str| own.state.sysctls.get(path).copied();
        let word = |path: &str| match setting(path) {
            Some(0) => "off",
            Some(_) => "on",
            None => "not known",
        };
        let strict = own.devices.iter().filter(|device| {
            let all = setting("ipv4/conf/all/rp_filter").unwrap_or(0);
            setting(&format!("ipv4/conf/{}/rp_filter", device.name)).is_some_and(|value| value.max(all) == 1)
        });
        let strict = match strict.count() {
            0 => "rp_filter not strict".to_owned(),
            number => format!("rp_filter strict at {}", count(number, "device")),
        };
        let bridged = word("bridge/bridge-nf-call-iptables");
        format!(
            "IPv4 {}, IPv6 {}, {strict}, bridge-nf-call-iptables {bridged}",
            word("ipv4/ip_forward"),
            word("ipv6/conf/all/forwarding")
        )
    })
}

fn rules(cluster: &Cluster<'_>) -> String {
    let asked = pairs(&cluster.pods).len();
    let read = grouped(cluster, |node, _| match cluster.rules.get(&node.name) {
        None => "not read".to_owned(),
        Some(finder) => {
            let tables = &finder.rules().tables;
            let rules: usize =
                tables.iter().flat_map(|table| &table.chains).map(|chain| chain.rules.len()).sum();
            format!("{} with {}", count(tables.len(), "table"), count(rules, "rule"))
        }
    });
    format!("{read}; asked what they do with packets between pods, {asked} ways")
}

fn services(cluster: &Cluster<'_>) -> String {
    let number = cluster.inventory.services.len();
    if number == 0 {
        return "none known".to_owned();
    }
    let with = cluster.rules.values().filter(|finder| super::check::makes_services(cluster, finder)).count();
    let how = match with {
        0 => "by no rules that were read (IPVS and eBPF are not looked at)".to_owned(),
        with => format!("by rules on {}", count(with, "node")),
    };
    format!("{number}, {how}")
}

fn pods(cluster: &Cluster<'_>) -> String {
    let found = cluster.pods.iter().filter(|pod| cluster.veth(pod).is_some());
    let mut names: Vec<_> = found.map(|pod| &pod.pod).collect();
    names.dedup();
    let shared = cluster.inventory.pods.iter().filter(|pod| pod.host_network).count();
    let mut mtus: Vec<String> = cluster
        .facts
        .places()
        .filter(|place| place.namespace.pod.is_some())
        .flat_map(|place| place.namespace.devices.iter().filter(|device| device.peer.is_some()))
        .map(|device| device.mtu.to_string())
        .collect();
    mtus.sort_unstable();
    mtus.dedup();
    let host = if shared > 0 { format!(", {shared} on their node's network") } else { String::new() };
    format!("{} by a veth, MTU {}{host}", names.len(), list(mtus, ", "))
}

#[cfg(test)]
mod tests {
    use crate::doctor::{Limits, examine, sample};

    #[test]
    fn a_healthy_cluster_is_described() {
        let (surveys, inventory) = sample::healthy();
        let found = examine(&surveys, &inventory, &Limits::default());
        assert_eq!(found.issues, []);
        let lines: Vec<_> = found.areas.iter().map(|area| format!("{}: {}", area.name, area.facts)).collect();
        assert_eq!(lines[0], "nodes: node1 192.168.56.11; node2 192.168.56.12");
        assert_eq!(
            lines[3],
            "tunnel: flannel.1: VXLAN VNI 1, UDP 8472, MTU 1450 over eth0 (MTU 1500), 0 peers"
        );
        assert_eq!(lines[5], "routes: node1: 10.42.1.0/24 by flannel.1; node2: 10.42.0.0/24 by flannel.1");
        assert!(found.areas.iter().all(|area| area.healthy));
    }
}
