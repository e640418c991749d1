//! A request that reached a pod which cannot answer it: by its own routes and rules, no packet of it gets to the sender.

use std::net::IpAddr;

use podtrace_path::{Direction, Path, Protocol, Verdict};
use podtrace_protocol::topology::state::{PolicyAction, PolicyRule};
use podtrace_rules::Packet;

use super::explain::receiver;
use super::facts::Facts;
use super::finding::{Finding, Kind, Subject};
use super::inside;

/// What to say of a delivered request, if its receiver cannot answer.
pub(super) fn advice(path: &Path, facts: &Facts, findings: &[Finding]) -> Option<String> {
    if path.verdict != Verdict::Delivered || !is_request(path) {
        return None;
    }
    let receiver = receiver(path);
    let sender = path.translated.as_deref().map_or(&path.from, |translated| &translated.from);
    let pod = receiver.pod.as_deref()?;
    let answer = Packet {
        source: receiver.ip,
        destination: sender.ip,
        protocol: path.proto.number(),
        source_port: receiver.port,
        destination_port: sender.port,
    };
    let reason = inside::drop_of_answer(pod, answer, facts)
        .or_else(|| no_way_back(pod, sender.ip, facts, findings).map(ToString::to_string))?;
    Some(format!("as things are now, no answer can come: {reason}"))
}

/// Whether an answer is expected: to an echo request, the opening of a connection, a datagram.
fn is_request(path: &Path) -> bool {
    let opens = match path.proto {
        Protocol::Icmp | Protocol::Icmpv6 => path.label.starts_with("echo request"),
        Protocol::Tcp => path.label.split(' ').next() == Some("SYN"),
        Protocol::Udp => true,
        Protocol::Sctp | Protocol::Other(_) => false,
    };
    opens && path.flow.direction == Direction::Request
}

/// The finding by which no route of the pod's leads to the address. Where its policy routing looks into other tables, what
/// they have is not known.
fn no_way_back<'a>(pod: &str, to: IpAddr, facts: &Facts, findings: &'a [Finding]) -> Option<&'a Finding> {
    let namespace = facts.pod(pod)?.namespace;
    let is_diverting = |rule: &PolicyRule| matches!(rule.action, PolicyAction::Lookup(table) if !(253..=255).contains(&table));
    if namespace.state.policy.iter().any(is_diverting) {
        return None;
    }
    let routes = namespace.routes.iter().filter(|route| route.destination.contains(&to));
    let kind = match routes.map(|route| route.destination.prefix_len()).max() {
        None => Kind::NoRoute,
        Some(0) => Kind::WrongGateway,
        Some(_) => return None,
    };
    let is_why = |finding: &&Finding| {
        let Subject::Family { ipv6 } = finding.subject else { return false };
        finding.kind == kind && finding.pod.as_deref() == Some(pod) && ipv6 == to.is_ipv6()
    };
    findings.iter().find(is_why)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use podtrace_path::Context;
    use podtrace_protocol::frame::FromAgent;
    use podtrace_protocol::topology::{Route, Topology, samples as topologies};
    use podtrace_rules::{Family, Rules, iptables};

    use super::super::check::findings;
    use super::*;
    use crate::output::samples;

    /// What is said of a request of pod3's that reached pod1, whose node and rules are these.
    fn said(change: &dyn Fn(&mut Topology), rules: &str, path: &Path) -> Option<String> {
        let mut node = topologies::lab();
        let route = |destination: &str, gateway: Option<&str>| Route {
            destination: destination.parse().unwrap(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            device: 2,
            metric: 0,
        };
        node.namespaces[1].routes = vec![route("0.0.0.0/0", Some("10.42.0.1")), route("10.42.0.0/24", None)];
        change(&mut node);
        let mut facts = Facts::new(&Context { nodes: vec!["node1".to_owned()], ..Context::default() });
        facts.learn(0, &FromAgent::Topology(node));
        let tables = iptables::parse(rules, Family::Ip);
        let inside = BTreeMap::from([("default/pod1".to_owned(), Rules { tables, ..Rules::default() })]);
        facts.learn(0, &FromAgent::Rules(Rules { inside, ..Rules::default() }));
        let found = findings(&facts);
        advice(path, &facts, &found)
    }

    /// An echo request from another node's pod to pod1.
    fn request() -> Path {
        let mut path = samples::cross_node_request();
        let (from, to) = (path.from.clone(), path.to.clone());
        (path.from, path.to) = (to, from);
        path
    }

    #[test]
    fn a_receiver_that_cannot_answer_is_named_with_why() {
        let path = request();
        assert_eq!(said(&|_| {}, "", &path), None);
        let no_route = said(&|node| node.namespaces[1].routes.clear(), "", &path).unwrap();
        assert!(
            no_route.starts_with("as things are now, no answer can come: default/pod1 has no default route"),
            "{no_route}"
        );
        let drop = "*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p icmp -j DROP\nCOMMIT\n";
        let rule = said(&|_| {}, drop, &path).unwrap();
        assert!(rule.contains("a rule inside default/pod1 drops what it sends"), "{rule}");
        // A rule that lets answers pass, one about another protocol, and a client on the pod's own link.
        let stateful = "*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\n-A OUTPUT -p \
                        icmp -j DROP\nCOMMIT\n";
        assert_eq!(said(&|_| {}, stateful, &path), None);
        assert_eq!(said(&|_| {}, &drop.replace("icmp", "tcp"), &path), None);
        // One that asks for what an echo reply is not, and one for another port.
        assert_eq!(said(&|_| {}, &drop.replace("icmp -j", "icmp -m icmp --icmp-type 8 -j"), &path), None);
        let mut syn = path.clone();
        (syn.proto, syn.label) = (Protocol::Tcp, "SYN".to_owned());
        (syn.from.port, syn.to.port) = (Some(40_000), Some(80));
        for (port, is_said) in [(80, true), (81, false)] {
            let rule = format!(
                "*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p tcp -m tcp --sport {port} -j DROP\nCOMMIT\n"
            );
            assert_eq!(said(&|_| {}, &rule, &syn).is_some(), is_said, "{port}");
        }
        let mut near = path.clone();
        near.from.ip = "10.42.0.11".parse().unwrap();
        let only_link =
            |node: &mut Topology| node.namespaces[1].routes.retain(|route| route.gateway.is_none());
        assert_eq!(said(&only_link, "", &near), None);
        assert!(said(&only_link, "", &path).is_some());
        // A longer route than the missing default leads back.
        let pods_only = |node: &mut Topology| {
            node.namespaces[1].routes[0].destination = "10.42.0.0/16".parse().unwrap();
        };
        assert_eq!(said(&pods_only, "", &path), None);
        let own_table = |node: &mut Topology| {
            node.namespaces[1].routes.clear();
            node.namespaces[1].state.policy.push(PolicyRule {
                priority: 100,
                from: None,
                to: None,
                input: None,
                conditional: true,
                action: PolicyAction::Lookup(1000),
            });
        };
        assert_eq!(said(&own_table, "", &path), None);
        // That the other version of IP has no route keeps nothing from coming.
        let two = |node: &mut Topology| {
            let eth0 = node.namespaces[1].devices.iter_mut().find(|device| device.name == "eth0").unwrap();
            eth0.addresses.push("fd00:42::10/64".parse().unwrap());
        };
        assert_eq!(said(&two, "", &path), None);
        // An answer asks for none.
        let mut reply = path;
        reply.flow.direction = Direction::Reply;
        assert_eq!(said(&|node| node.namespaces[1].routes.clear(), "", &reply), None);
    }
}
