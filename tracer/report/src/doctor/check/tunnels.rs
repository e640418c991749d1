//! Neighbour entries of tunnels, against the link-layer addresses that the other nodes' tunnels have.

use podtrace_protocol::topology::state::State;

use crate::diagnose::facts::Node;
use crate::diagnose::words::{ip, mac, quoted};
use crate::doctor::cluster::{Cluster, PodAddress, Tunnel};
use crate::doctor::issue::{Issue, Kind, Severity};

pub(super) fn check(cluster: &Cluster<'_>, found: &mut Vec<Issue>) {
    for (node, own) in cluster.nodes() {
        for (other, pod) in cluster.others(node) {
            let Some(tunnel) = cluster.tunnel(node, other, pod.address) else { continue };
            found.extend(entry(cluster, node, &own.state, other, &tunnel, pod));
        }
    }
}

/// The entry by which a node resolves the gateway of its route to a pod.
fn entry(
    cluster: &Cluster<'_>,
    node: &Node,
    state: &State,
    other: &Node,
    tunnel: &Tunnel<'_>,
    pod: &PodAddress,
) -> Option<Issue> {
    let right = tunnel.far.mac?;
    // Without a route, a missing entry is missing all the same: a device that goes down loses both.
    let leads_there = node
        .topology
        .route_to(pod.address)
        .is_none_or(|route| route.device == tunnel.near.index && route.gateway == Some(tunnel.end));
    // A tunnel that floods resolves by asking.
    let floods =
        state.forwarding.iter().any(|entry| entry.device == tunnel.near.index && entry.mac == [0; 6]);
    if !leads_there || floods {
        return None;
    }
    let known = state
        .neighbours
        .iter()
        .find(|entry| entry.device == tunnel.near.index && entry.address == tunnel.end);
    let known = known.and_then(|entry| entry.mac);
    if known == Some(right) || state.is_empty() {
        return None;
    }
    let (name, theirs, device) = (quoted(&node.name), quoted(&other.name), quoted(&tunnel.near.name));
    let (kind, problem) = match known {
        None => (
            Kind::NoNeighbour,
            format!("{device} on {name} has no neighbour entry for {}, the tunnel of {theirs}", tunnel.end),
        ),
        Some(wrong) => (
            Kind::WrongNeighbour,
            format!(
                "{device} on {name} has the neighbour entry {} for {}, the tunnel of {theirs}",
                mac(wrong),
                tunnel.end
            ),
        ),
    };
    let ip = ip(tunnel.end);
    let issue = Issue::at(Severity::Fault, kind, &node.name, Some(&tunnel.near.name))
        .found(problem, format!("{}, the link-layer address of {device} on {theirs}", mac(right)))
        .follows(format!("Packets from {name} to pods on {theirs} are dropped at {device}"))
        .shown_by(format!("{ip} neigh show dev {device}"))
        .fixed_by(Some(format!(
            "{ip} neigh replace {} lladdr {} dev {device} nud permanent",
            tunnel.end,
            mac(right)
        )))
        .about([cluster.network(pod)]);
    Some(issue)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::sample::{self, node};

    #[test]
    fn a_tunnel_needs_the_link_layer_address_of_the_other_end() {
        assert_eq!(sample::found(|_| (), check), []);
        let missing = sample::found(|surveys| node(surveys, 0).state.neighbours.clear(), check);
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert_eq!(missing[0].kind, Kind::NoNeighbour);
        assert_eq!(
            missing[0].fix.as_deref(),
            Some("ip neigh replace 10.42.1.0 lladdr 0a:58:0a:2a:01:00 dev flannel.1 nud permanent")
        );
        let wrong = sample::found(|surveys| node(surveys, 1).state.neighbours[0].mac = Some([2; 6]), check);
        assert_eq!(wrong[0].kind, Kind::WrongNeighbour, "{wrong:?}");
    }

    #[test]
    fn a_tunnel_that_floods_needs_no_entry() {
        let floods = sample::found(
            |surveys| {
                node(surveys, 0).state.neighbours.clear();
                node(surveys, 0).state.forwarding[0].mac = [0; 6];
            },
            check,
        );
        assert_eq!(floods, []);
    }
}
