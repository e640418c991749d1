//! Which findings concern one way: that between two ends.

use std::net::IpAddr;

use podtrace_protocol::inventory::Resolved;
use podtrace_protocol::topology::{DeviceKind, Role};

use super::cluster::{Cluster, role};
use super::issue::{Issue, Kind};

/// The ends of a way, in both directions.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// Names of the nodes at its ends.
    nodes: Vec<String>,
    /// Full names of the pods at its ends; any if empty.
    pods: Vec<String>,
    /// Addresses of its ends; any if empty.
    addresses: Vec<IpAddr>,
    /// Whether it stays on one node.
    is_local: bool,
}

impl Way {
    /// The way between two ends. Other ends than pods lie outside of the cluster, or may be any.
    #[must_use]
    pub fn between(from: &Resolved, to: &Resolved) -> Self {
        let both = [from, to];
        let open = both.iter().any(|end| end.addresses.is_empty());
        let mut nodes: Vec<String> = both.iter().flat_map(|end| end.nodes.iter().cloned()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        Self {
            is_local: nodes.len() == 1 && both.iter().all(|end| !end.pods.is_empty()),
            nodes,
            pods: if open {
                Vec::new()
            } else {
                both.iter().flat_map(|end| end.pods.iter().cloned()).collect()
            },
            addresses: if open {
                Vec::new()
            } else {
                both.iter().flat_map(|end| end.addresses.iter().copied()).collect()
            },
        }
    }

    /// Whether a finding lies on this way.
    pub(super) fn concerns(&self, issue: &Issue, cluster: &Cluster<'_>) -> bool {
        let is_there = self.nodes.contains(&issue.node);
        let in_pod = issue.pod.as_ref().is_none_or(|pod| self.pods.is_empty() || self.pods.contains(pod));
        let is_about = issue.about.is_empty()
            || self.addresses.is_empty()
            || issue
                .about
                .iter()
                .any(|network| self.addresses.iter().any(|address| network.contains(address)));
        // Of a Service, the nodes' rules matter at every end; its own address is no pod's.
        let is_for_service = issue.kind == Kind::ServiceUnruled;
        let is_about = is_about || is_for_service || self.leads_through(issue, cluster);
        is_there && in_pod && is_about && self.passes(issue, cluster)
    }

    /// Whether a finding is about a next hop of packets on this way: the tunnel of another node, or a pod's gateway.
    fn leads_through(&self, issue: &Issue, cluster: &Cluster<'_>) -> bool {
        let namespace = match &issue.pod {
            Some(pod) => cluster.facts.pod(pod).map(|place| place.namespace),
            None => cluster.facts.node(&issue.node).and_then(|node| node.topology.node()),
        };
        let is_about = |gateway: IpAddr| issue.about.iter().any(|network| network.contains(&gateway));
        namespace.into_iter().flat_map(|own| &own.routes).any(|route| {
            route.gateway.is_some_and(is_about)
                && self.addresses.iter().any(|address| route.destination.contains(address))
        })
    }

    /// Whether packets on this way pass the device.
    fn passes(&self, issue: &Issue, cluster: &Cluster<'_>) -> bool {
        let (Some(name), None) = (&issue.device, &issue.pod) else { return true };
        let Some(node) = cluster.facts.node(&issue.node) else { return true };
        let Some(own) = node.topology.node() else { return true };
        let Some(device) = own.devices.iter().find(|device| device.name == *name) else { return true };
        match role(node, own, device) {
            Role::PodVeth => {
                let pod = node.topology.pod_behind(own.inode, device.index);
                self.pods.is_empty() || pod.is_none_or(|pod| self.pods.iter().any(|own| own == pod))
            }
            Role::Tunnel | Role::Uplink => !self.is_local || device.kind == DeviceKind::Bridge,
            Role::Bridge | Role::Other => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use podtrace_protocol::inventory::{Endpoint, resolve};

    use super::*;
    use crate::doctor::issue::Severity;
    use crate::doctor::{Limits, examine, sample};

    fn way(from: &str, to: &str) -> Way {
        let (_, inventory) = sample::healthy();
        let end = |text: &str| resolve(&text.parse::<Endpoint>().unwrap(), &inventory, "default").unwrap();
        Way::between(&end(from), &end(to))
    }

    #[test]
    fn only_what_lies_on_the_way_is_found() {
        let (mut surveys, inventory) = sample::healthy();
        sample::node(&mut surveys, 1).state.neighbours.clear();
        sample::node(&mut surveys, 0).state.sysctls.insert("ipv4/ip_forward".to_owned(), 0);
        let kinds = |way| {
            let limits = Limits { nodes: Vec::new(), way: Some(way) };
            let found = examine(&surveys, &inventory, &limits).issues;
            found.into_iter().map(|issue| (issue.severity, issue.kind)).collect::<Vec<_>>()
        };
        let across = kinds(way("pod1", "pod3"));
        assert_eq!(across, [(Severity::Fault, Kind::ForwardingOff), (Severity::Fault, Kind::NoNeighbour)]);
        assert_eq!(kinds(way("pod1", "10.42.0.1")), [(Severity::Fault, Kind::ForwardingOff)]);
    }

    #[test]
    fn the_tunnel_that_packets_go_to_lies_on_their_way() {
        let (mut surveys, inventory) = sample::healthy();
        sample::node(&mut surveys, 0).state.forwarding.clear();
        let limits = Limits { nodes: Vec::new(), way: Some(way("pod1", "pod3")) };
        let found = examine(&surveys, &inventory, &limits);
        assert!(found.issues.iter().any(|issue| issue.kind == Kind::NoTunnelEnd), "{:#?}", found.issues);
    }
}
