//! Routes to pods: from every node to the pods of the others, and to its own.

use std::net::IpAddr;

use podtrace_protocol::topology::{DeviceKind, Namespace, Role, Route};

use crate::diagnose::facts::{Node, has};
use crate::diagnose::words::{ip, quoted};
use crate::doctor::cluster::{Cluster, PodAddress, role};
use crate::doctor::issue::{Issue, Kind, Severity};

pub(super) fn check(cluster: &Cluster<'_>, found: &mut Vec<Issue>) {
    for (node, own) in cluster.nodes() {
        // What another table or a plugin's own programs do is not read.
        if !cluster.is_routed_by_main_table(node, own) {
            continue;
        }
        for pod in &cluster.pods {
            let issue = match cluster.facts.node(&pod.node) {
                Some(other) if other.name == node.name => to_own(cluster, node, own, pod),
                Some(other) => to_other(cluster, node, own, other, pod),
                None => None,
            };
            // Pods of one network have one route.
            found.extend(issue.filter(|issue| !found.contains(issue)));
        }
    }
}

/// Whether a route of a refusing type is why there is none: that is a finding of its own.
fn is_refused(own: &Namespace, address: IpAddr) -> bool {
    own.state
        .refusing
        .iter()
        .any(|route| route.destination.prefix_len() > 0 && route.destination.contains(&address))
}

/// A node's route to its own pod leads to the pod's bridge or veth.
fn to_own(cluster: &Cluster<'_>, node: &Node, own: &Namespace, pod: &PodAddress) -> Option<Issue> {
    let (_, veth) = cluster.veth(pod)?;
    let bridge = cluster.bridge(pod)?;
    let network = cluster.network(pod);
    let name = quoted(&node.name);
    let right = format!("the pods of {name} hang on its {}", quoted(&bridge.name));
    let (ip, dev) = (ip(pod.address), quoted(&bridge.name));
    let issue = |kind, problem: String| {
        Issue::at(Severity::Fault, kind, &node.name, Some(&bridge.name))
            .found(problem, format!("a route to {network} by {dev}: {right}"))
            .follows(format!(
                "Packets to the pods of {name} do not reach them, and their own connections get no answers"
            ))
            .shown_by(format!("{ip} route get {}", pod.address))
            .about([network])
    };
    let Some(route) = node.topology.route_to(pod.address).filter(|route| route.destination.prefix_len() > 0)
    else {
        let mended = has_network(bridge, pod.address)
            .map(|own| format!("{ip} route replace {network} dev {dev} src {own}"));
        return (!is_refused(own, pod.address)).then(|| {
            let problem = format!("{name} has no route to its own pods in {network}");
            // A bridge without an address may have a router of its own elsewhere.
            let severity = if mended.is_some() { Severity::Fault } else { Severity::Warning };
            Issue { severity, ..issue(Kind::NoRoute, problem).fixed_by(mended) }
        });
    };
    let by = own.device(route.device)?;
    if by.index == veth.index
        || by.index == bridge.index
        || !matches!(role(node, own, by), Role::Tunnel | Role::Uplink)
    {
        return None;
    }
    let problem = format!(
        "{name} sends what is for its own pod {} to {}, by its route to {}",
        quoted(&pod.pod),
        quoted(&by.name),
        route.destination
    );
    Some(issue(Kind::WrongRoute, problem).fixed_by(removing(route, &by.name)))
}

fn has_network(bridge: &podtrace_protocol::topology::Device, address: IpAddr) -> Option<IpAddr> {
    bridge.addresses.iter().find(|network| network.contains(&address)).map(ipnet::IpNet::addr)
}

/// The command that removes a route.
fn removing(route: &Route, device: &str) -> Option<String> {
    Some(format!("{} route del {} dev {}", ip(route.destination.addr()), route.destination, quoted(device)))
}

/// A node's route to another node's pod leads to that node.
fn to_other(
    cluster: &Cluster<'_>,
    node: &Node,
    own: &Namespace,
    other: &Node,
    pod: &PodAddress,
) -> Option<Issue> {
    other.topology.node()?;
    let tunnel = cluster.tunnel(node, other, pod.address);
    let network = cluster.network(pod);
    let (name, theirs, ip) = (quoted(&node.name), quoted(&other.name), ip(pod.address));
    let expected = match &tunnel {
        Some(tunnel) => format!(
            "a route to {network} via {} dev {}: the end of {theirs}'s tunnel",
            tunnel.end,
            quoted(&tunnel.near.name)
        ),
        None => format!("a route to {network}: the pods of {theirs} are there"),
    };
    let device = tunnel.as_ref().map(|tunnel| tunnel.near.name.as_str());
    let issue = |kind, problem: String| {
        Issue::at(Severity::Fault, kind, &node.name, device)
            .found(problem, expected.clone())
            .follows(format!("Pods on {name} do not reach those on {theirs}, and do not answer them"))
            .shown_by(format!("{ip} route get {}", pod.address))
            .about([network])
    };
    let added = tunnel.as_ref().map(|tunnel| {
        format!("{ip} route replace {network} via {} dev {} onlink", tunnel.end, quoted(&tunnel.near.name))
    });
    let route = node.topology.route_to(pod.address);
    // Outside of an overlay the network may know where pods are.
    let Some(route) = route.filter(|route| route.destination.prefix_len() > 0 || tunnel.is_none()) else {
        let problem = format!("{name} has no route to {network}, the pods of {theirs}");
        return (!is_refused(own, pod.address)).then(|| issue(Kind::NoRoute, problem).fixed_by(added));
    };
    let by = own.device(route.device)?;
    let (destination, device) = (route.destination, quoted(&by.name));
    let wrong = |to: String| {
        let problem = format!(
            "{name} sends what is for {network}, the pods of {theirs}, {to}, by its route to {destination}"
        );
        let mended = if destination.prefix_len() > network.prefix_len() {
            removing(route, &by.name)
        } else {
            added.clone()
        };
        Some(issue(Kind::WrongRoute, problem).fixed_by(mended))
    };
    match (&by.kind, route.gateway, tunnel) {
        (DeviceKind::Vxlan(_), Some(gateway), Some(tunnel))
            if gateway != tunnel.end && by.index == tunnel.near.index =>
        {
            match cluster.owner(gateway) {
                Some(owner) if owner.name != other.name => wrong(format!("to {}", quoted(&owner.name))),
                None if cluster.is_whole => wrong(format!("to {gateway}, which no node has")),
                _ => None,
            }
        }
        // Not by the tunnel, though the address is on no network that is attached there.
        (_, None, Some(tunnel))
            if by.index != tunnel.near.index
                && matches!(role(node, own, by), Role::Uplink | Role::Bridge)
                && !by.addresses.iter().any(|network| network.contains(&pod.address))
                && !has(by, pod.address) =>
        {
            wrong(format!("out by {device}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::sample::{self, node};

    fn found(
        change: impl Fn(&mut Vec<podtrace_protocol::topology::Survey>),
    ) -> Vec<(Kind, String, Option<String>)> {
        sample::found(change, check).into_iter().map(|issue| (issue.kind, issue.found, issue.fix)).collect()
    }

    #[test]
    fn healthy_nodes_have_their_routes() {
        assert_eq!(found(|_| ()), []);
    }

    #[test]
    fn a_missing_route_is_found_once_for_all_pods_of_the_network() {
        let found = found(|surveys| node(surveys, 0).routes.retain(|route| route.device != 4));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, Kind::NoRoute);
        assert_eq!(found[0].1, "node1 has no route to 10.42.1.0/24, the pods of node2");
        assert_eq!(
            found[0].2.as_deref(),
            Some("ip route replace 10.42.1.0/24 via 10.42.1.0 dev flannel.1 onlink")
        );
    }

    #[test]
    fn a_route_to_ones_own_pods_is_needed_too() {
        let found = found(|surveys| node(surveys, 1).routes.retain(|route| route.device != 3));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].2.as_deref(), Some("ip route replace 10.42.1.0/24 dev cni0 src 10.42.1.1"));
    }

    #[test]
    fn routes_that_lead_elsewhere_are_found() {
        let past = found(|surveys| {
            let own = node(surveys, 1);
            own.routes.push(Route {
                destination: "10.42.0.10/32".parse().unwrap(),
                gateway: None,
                device: 2,
                metric: 0,
            });
        });
        assert_eq!(past[0].0, Kind::WrongRoute, "{past:?}");
        assert_eq!(past[0].2.as_deref(), Some("ip route del 10.42.0.10/32 dev eth0"));
        let back = found(|surveys| {
            let gateway = Some("10.42.0.0".parse().unwrap());
            let own = node(surveys, 1);
            own.routes.push(Route {
                destination: "10.42.1.10/32".parse().unwrap(),
                gateway,
                device: 4,
                metric: 0,
            });
        });
        assert!(
            back[0].1.starts_with("node2 sends what is for its own pod default/pod3 to flannel.1"),
            "{back:?}"
        );
    }
}
