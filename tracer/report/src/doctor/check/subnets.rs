//! Networks that nodes give their pods addresses of: each has its own.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::diagnose::words::quoted;
use crate::doctor::cluster::Cluster;
use crate::doctor::issue::{Issue, Kind, Severity};

pub(super) fn check(cluster: &Cluster<'_>, found: &mut Vec<Issue>) {
    let mut bridges: Vec<(&str, &str, IpNet)> = Vec::new();
    for pod in &cluster.pods {
        let Some(bridge) = cluster.bridge(pod) else { continue };
        let Some(network) = bridge.addresses.iter().find(|network| network.contains(&pod.address)) else {
            continue;
        };
        let bridge = (pod.node.as_str(), bridge.name.as_str(), *network);
        if !bridges.contains(&bridge) {
            bridges.push(bridge);
        }
    }
    for (number, (node, device, network)) in bridges.iter().enumerate() {
        // One gateway on two nodes. That two bridges share a network, each with an address of its own, is how some plugins
        // work.
        let same = |(other, _, theirs): &&(&str, &str, IpNet)| {
            other != node && IpAddr::eq(&theirs.addr(), &network.addr())
        };
        for (other, theirs, _) in bridges[..number].iter().filter(same) {
            let problem = format!(
                "{} of {} and {} of {} both have {network}: the two nodes give their pods addresses of one network",
                quoted(theirs),
                quoted(other),
                quoted(device),
                quoted(node)
            );
            found.push(
                Issue::at(Severity::Fault, Kind::SubnetTwice, node, Some(device))
                    .found(problem, "a pod network of its own for each node, as the node's podCIDR in the Kubernetes API says")
                    .follows("Packets to pods of one node are delivered on the other, or nowhere")
                    .shown_by(format!("ip addr show {}", quoted(device)))
                    .about([network.trunc()]),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::sample::{self, node};

    #[test]
    fn one_gateway_on_two_nodes_is_found() {
        assert_eq!(sample::found(|_| (), check), []);
        let found = sample::found(
            |surveys| {
                node(surveys, 0).devices[2].addresses = vec!["10.42.0.1/16".parse().unwrap()];
                node(surveys, 1).devices[2].addresses = vec!["10.42.0.1/16".parse().unwrap()];
            },
            check,
        );
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].kind, found[0].node.as_str()), (Kind::SubnetTwice, "node2"));
    }
}
