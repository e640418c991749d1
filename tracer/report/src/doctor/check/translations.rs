//! Rules that change addresses of packets between pods: nothing should, and what they lead to should exist.

use std::net::IpAddr;

use podtrace_protocol::topology::state::NeighbourState;
use podtrace_rules::{Action, End, Finder, Packet, Translation};

use super::filters::pairs;
use crate::diagnose::facts::Node;
use crate::diagnose::look_at_rule;
use crate::diagnose::words::quoted;
use crate::doctor::cluster::{Cluster, PodAddress};
use crate::doctor::issue::{Issue, Kind, Severity};

/// Targets of DNAT rules that are tried, to name the rule.
const TARGETS: usize = 64;

pub(super) fn check(cluster: &Cluster<'_>, found: &mut Vec<Issue>) {
    let mut add = |issue: Option<Issue>| {
        if let Some(issue) = issue
            .filter(|issue| !found.iter().any(|other| other.kind == issue.kind && other.found == issue.found))
        {
            found.push(issue);
        }
    };
    for (from, to) in pairs(&cluster.pods) {
        let Some(node) = cluster.facts.node(&from.node) else { continue };
        let Some(finder) = cluster.rules.get(&node.name) else { continue };
        add(masqueraded(cluster, node, finder, from, to));
        add(redirected(node, finder, from, to));
    }
    for (node, _) in cluster.nodes() {
        if let Some(finder) = cluster.rules.get(&node.name) {
            stale(cluster, node, finder).into_iter().for_each(|issue| add(Some(issue)));
        }
    }
}

fn packet(from: IpAddr, to: IpAddr) -> Packet {
    Packet { source: from, destination: to, protocol: 6, source_port: None, destination_port: None }
}

/// Whether a node changes the source of what its pod sends to another node's.
fn masqueraded(
    cluster: &Cluster<'_>,
    node: &Node,
    finder: &Finder,
    from: &PodAddress,
    to: &PodAddress,
) -> Option<Issue> {
    let other = cluster.facts.node(&to.node).filter(|other| other.name != node.name)?;
    let tunnel = cluster.tunnel(node, other, to.address)?;
    let own = tunnel
        .near
        .addresses
        .iter()
        .map(ipnet::IpNet::addr)
        .find(|own| own.is_ipv4() == to.address.is_ipv4())?;
    let rule = finder.hides(packet(from.address, to.address), &tunnel.near.name)?;
    let issue = Issue::at(Severity::Warning, Kind::Masqueraded, &node.name, Some(&tunnel.near.name))
        .found(
            format!("a rule of {} gives packets from {} to pods of other nodes the address {own}: {rule}", quoted(&node.name), quoted(&from.pod)),
            "packets between pods keep their addresses: Kubernetes promises it, and NetworkPolicies match them",
        )
        .follows("Receivers see the node instead of the pod: NetworkPolicies, logs and limits by address go wrong")
        .shown_by(look_at_rule(&rule))
        .about([from.address.into()]);
    Some(issue)
}

/// Whether a node changes the destination of what its pod sends to another pod.
fn redirected(node: &Node, finder: &Finder, from: &PodAddress, to: &PodAddress) -> Option<Issue> {
    let before = packet(from.address, to.address);
    if !finder.sends_on(before) {
        return None;
    }
    let (target, rule) =
        targets(finder).into_iter().filter(|target| *target != to.address).take(TARGETS).find_map(
            |target| {
                let after = Packet { destination: target, ..before };
                let question =
                    Translation { before, after, in_device: None, ..Translation::of(End::Destination) };
                Some((target, finder.translated(&question)?))
            },
        )?;
    let issue = Issue::at(Severity::Warning, Kind::Redirected, &node.name, None)
        .found(
            format!(
                "a rule of {} sends what is for {}, {}, to {target}: {rule}",
                quoted(&node.name),
                quoted(&to.pod),
                to.address
            ),
            "packets to a pod's own address keep it: only those to Services and host ports are translated",
        )
        .follows(format!("Pods on {} reach {target} where they want {}", quoted(&node.name), quoted(&to.pod)))
        .shown_by(look_at_rule(&rule))
        .about([to.address.into()]);
    Some(issue)
}

/// Single addresses that DNAT rules lead to.
fn targets(finder: &Finder) -> Vec<IpAddr> {
    let mut targets: Vec<IpAddr> = Vec::new();
    for rule in finder.rules().tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules) {
        if let Action::Dnat(Some(nat)) = &rule.action
            && let Some((first, last)) = nat.addresses
            && first == last
            && !targets.contains(&first)
        {
            targets.push(first);
        }
    }
    targets
}

/// Rules that lead to an address of a pod network that nobody has.
fn stale(cluster: &Cluster<'_>, node: &Node, finder: &Finder) -> Vec<Issue> {
    let networks: Vec<_> = cluster
        .pods
        .iter()
        .map(|pod| cluster.network(pod))
        .filter(|network| network.hosts().nth(1).is_some())
        .collect();
    let mut found = Vec::new();
    for target in targets(finder) {
        let in_network = networks.iter().any(|network| network.contains(&target));
        if !cluster.is_whole || !in_network || is_known(cluster, target) {
            continue;
        }
        let Some(rule) = leading_to(finder, target) else { continue };
        let issue = Issue::at(Severity::Warning, Kind::StaleRule, &node.name, None)
            .found(
                format!(
                    "a rule of {} sends packets to {target}, which no pod has: {rule}",
                    quoted(&node.name)
                ),
                "an address that the API says a pod has: the rule outlived its pod",
            )
            .follows("Some connections to the Service or host port of that rule get no answer")
            .shown_by(if rule.contains("iptables") { "iptables-save -t nat" } else { "nft -a list ruleset" })
            .about([target.into()]);
        found.push(issue);
    }
    found
}

/// Whether somebody has an address: by the inventory, on a device, or because a node heard from it.
fn is_known(cluster: &Cluster<'_>, address: IpAddr) -> bool {
    let answered = |node: &Node| {
        node.topology.node().is_some_and(|own| {
            let entries = own.state.neighbours.iter();
            entries
                .filter(|entry| entry.state == NeighbourState::Learned)
                .any(|entry| entry.address == address && entry.mac.is_some())
        })
    };
    cluster.facts.owner(address).is_some()
        || cluster.facts.holders(address).next().is_some()
        || cluster.owner(address).is_some()
        || cluster.nodes().any(|(node, _)| answered(node))
}

/// The rule that leads to an address, in words.
fn leading_to(finder: &Finder, target: IpAddr) -> Option<String> {
    for table in &finder.rules().tables {
        for chain in &table.chains {
            for rule in &chain.rules {
                let Action::Dnat(Some(nat)) = &rule.action else { continue };
                if nat.addresses == Some((target, target)) {
                    let remark =
                        rule.comment.as_ref().map(|comment| format!(" (“{comment}”)")).unwrap_or_default();
                    return Some(format!(
                        "{} {} {}: {}{remark}",
                        table.framework, table.family, table.name, chain.name
                    ));
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use podtrace_rules::{Family, Rules, iptables};

    use super::*;
    use crate::doctor::sample;

    fn found(listing: &str) -> Vec<Issue> {
        let local = vec!["10.42.0.0".parse().unwrap(), "192.168.56.11".parse().unwrap()];
        let rules = Rules { tables: iptables::parse(listing, Family::Ip), local, ..Rules::default() };
        sample::found(|surveys| surveys[0].rules = Some(rules.clone()), check)
    }

    fn nat(rule: &str) -> Vec<(Kind, String)> {
        let listing = format!("*nat\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n{rule}\nCOMMIT\n");
        found(&listing).into_iter().map(|issue| (issue.kind, issue.found)).collect()
    }

    #[test]
    fn rules_that_change_packets_between_pods_are_found() {
        let source = nat("-A POSTROUTING -s 10.42.0.10/32 -j MASQUERADE");
        assert_eq!(source.len(), 1, "{source:?}");
        assert!(
            source[0].0 == Kind::Masqueraded && source[0].1.contains("the address 10.42.0.0"),
            "{source:?}"
        );
        let destination = nat("-A PREROUTING -d 10.42.1.10/32 -j DNAT --to-destination 10.42.0.10");
        assert_eq!(destination.len(), 1, "{destination:?}");
        assert!(destination[0].1.contains("to 10.42.0.10"), "{destination:?}");
        assert_eq!(nat("-A POSTROUTING -s 10.42.0.0/16 ! -d 10.42.0.0/16 -j MASQUERADE"), []);
    }

    #[test]
    fn a_rule_to_a_pod_that_is_gone_is_found() {
        let gone = nat(
            "-A PREROUTING -d 192.168.56.11/32 -p tcp -m tcp --dport 9000 -j DNAT --to-destination 10.42.1.99:80",
        );
        assert_eq!(gone.len(), 1, "{gone:?}");
        assert!(gone[0].0 == Kind::StaleRule && gone[0].1.contains("10.42.1.99"), "{gone:?}");
        assert_eq!(
            nat(
                "-A PREROUTING -d 192.168.56.11/32 -p tcp -m tcp --dport 9000 -j DNAT --to-destination 10.42.1.10:80"
            ),
            []
        );
    }
}
