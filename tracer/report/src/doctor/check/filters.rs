//! Rules that drop what pods and tunnels send: the packet filters are asked about packets that nobody sent.
//!
//! 1. For each pair of nodes with a tunnel: the tunnel's packets, where they leave and where they arrive.
//! 2. For pairs of pods ([`pairs`]): a connection's first packet of each protocol, inside both pods, at their veths and at
//!    both nodes' FORWARD hooks. Ports are not known, so a rule about a port is no answer.
//! 3. Only what certainly drops is a finding, one for each rule.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use podtrace_rules::{Attribution, Finder, Framework, Hook, Kind as Act, Loss, Packet};

use crate::diagnose::facts::Node;
use crate::diagnose::look_at_rule;
use crate::diagnose::words::{protocol, quoted};
use crate::doctor::cluster::{Cluster, PodAddress};
use crate::doctor::issue::{Issue, Kind, Severity};
use podtrace_path::Protocol;

/// Up to so many addresses of pods, every pair is asked about; with more, each pod's with a few others.
const ALL_PAIRS: usize = 24;

/// Beginnings of chains' names in which network policies are kept.
const POLICIES: [&str; 7] =
    ["KUBE-POD-FW", "KUBE-NWPLCY", "KUBE-ROUTER", "cali-", "ANTREA-", "WEAVE-NPC", "CILIUM_"];

pub(super) fn check(cluster: &Cluster<'_>, found: &mut Vec<Issue>) {
    tunnels(cluster, found);
    let mut drops = Drops::default();
    for (from, to) in pairs(&cluster.pods) {
        between(cluster, from, to, &mut drops);
    }
    found.extend(drops.0.into_values().map(Drop::issue));
}

/// Pairs of pods whose packets the rules are asked about.
pub(crate) fn pairs(pods: &[PodAddress]) -> Vec<(&PodAddress, &PodAddress)> {
    let fits = |from: &PodAddress, to: &PodAddress| {
        from.pod != to.pod && from.address.is_ipv4() == to.address.is_ipv4()
    };
    if pods.len() <= ALL_PAIRS {
        let all = pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to)));
        return all.filter(|(from, to)| fits(from, to)).collect();
    }
    let mut pairs = Vec::new();
    for (number, from) in pods.iter().enumerate() {
        let after = || pods.iter().cycle().skip(number + 1).take(pods.len() - 1).filter(|to| fits(from, to));
        let neighbour = after().find(|to| to.node == from.node);
        let other = after().find(|to| to.node != from.node);
        for to in [neighbour, other].into_iter().flatten() {
            pairs.push((from, to));
            pairs.push((to, from));
        }
    }
    pairs
}

/// Packets that a rule drops.
struct Drop {
    node: String,
    /// The pod whose rule it is.
    pod: Option<String>,
    device: Option<String>,
    rule: Attribution,
    protocols: Vec<String>,
    pairs: Vec<(String, String)>,
    about: Vec<IpNet>,
}

/// By place and rule.
#[derive(Default)]
struct Drops(BTreeMap<(String, String), Drop>);

/// Where a packet is looked at.
#[derive(Clone, Copy)]
struct Spot<'a> {
    node: &'a Node,
    pod: Option<&'a str>,
    /// Named in the finding.
    device: Option<&'a str>,
}

impl Drops {
    fn add(&mut self, at: Spot<'_>, rule: Attribution, number: u8, from: &PodAddress, to: &PodAddress) {
        let place = at.pod.unwrap_or(&at.node.name).to_owned();
        let drop = self.0.entry((place, format!("{:?} {rule}", rule.rule))).or_insert_with(|| Drop {
            node: at.node.name.clone(),
            pod: at.pod.map(str::to_owned),
            device: at.device.map(str::to_owned),
            rule,
            protocols: Vec::new(),
            pairs: Vec::new(),
            about: Vec::new(),
        });
        let name = protocol(Protocol::of_number(number));
        if !drop.protocols.contains(&name) {
            drop.protocols.push(name);
        }
        let pair = (from.pod.clone(), to.pod.clone());
        if !drop.pairs.contains(&pair) {
            drop.pairs.push(pair);
        }
        for address in [from.address, to.address].map(IpNet::from) {
            if !drop.about.contains(&address) {
                drop.about.push(address);
            }
        }
    }
}

impl Drop {
    fn issue(self) -> Issue {
        let Self { node, pod, device, rule, protocols, pairs, about } = self;
        let policy = rule
            .chains
            .iter()
            .any(|chain| POLICIES.iter().any(|prefix| chain.starts_with(prefix)) || chain.contains("-cali-"));
        let severity = if policy { Severity::Note } else { Severity::Warning };
        let (from, to) = &pairs[0];
        let more = match pairs.len() - 1 {
            0 => String::new(),
            others => format!(", and between {others} more pairs of pods"),
        };
        let place = quoted(pod.as_deref().unwrap_or(&node));
        let by = if rule.kind == Act::Policy { "the policy of a chain" } else { "a rule" };
        let problem = format!(
            "{by} {} {place} drops {} from {} to {}{more}: {rule}",
            if pod.is_some() { "inside" } else { "of" },
            protocols.join(", "),
            quoted(from),
            quoted(to)
        );
        let expected = if policy {
            "as a NetworkPolicy wants it: its controller wrote the chain"
        } else {
            "no rule that drops what pods send one another: Kubernetes lets every pod reach every other"
        };
        let mut issue = Issue::at(severity, Kind::DroppedByRule, &node, device.as_deref())
            .found(problem, expected)
            .follows(if policy {
                "These pods do not reach one another, by the policy"
            } else {
                "These pods do not reach one another"
            })
            .shown_by(look_at_rule(&rule))
            .fixed_by((!policy).then(|| deleting(&rule)).flatten())
            .about(about);
        issue.lasting = (!policy).then(|| WRITER.to_owned());
        issue.pod = pod;
        issue
    }
}

/// Where a rule comes from.
const WRITER: &str =
    "where the rule is written: firewalld, ufw, /etc/nftables.conf or a script would write it again";

/// The command that deletes a rule.
fn deleting(rule: &Attribution) -> Option<String> {
    let (Some(Framework::Nft), Some(family), Some(table), Some(handle)) =
        (rule.framework, rule.family, rule.table.as_deref(), rule.handle)
    else {
        return None;
    };
    let chain = rule.chains.last()?;
    Some(format!("nft delete rule {family} {} {} handle {handle}", quoted(table), quoted(chain)))
}

/// What certainly drops a packet at a hook.
fn lost(finder: &Finder, loss: Loss<'_>) -> Option<Attribution> {
    finder.drops(&Loss { state: Some("new"), mark: Some(0), ..loss })
}

fn packet(from: IpAddr, to: IpAddr, number: u8) -> Packet {
    Packet { source: from, destination: to, protocol: number, source_port: None, destination_port: None }
}

/// The tunnel's packets between two nodes.
fn tunnels(cluster: &Cluster<'_>, found: &mut Vec<Issue>) {
    for (node, own) in cluster.nodes() {
        for (other, pod) in cluster.others(node) {
            let Some(tunnel) = cluster.tunnel(node, other, pod.address) else { continue };
            // A tunnel may be left over, or serve nodes of other networks only.
            let is_used = node
                .topology
                .route_to(pod.address)
                .is_none_or(|route| route.device == tunnel.near.index || route.destination.prefix_len() == 0);
            if !is_used {
                continue;
            }
            let far = match &tunnel.far.kind {
                podtrace_protocol::topology::DeviceKind::Vxlan(settings) => settings.local,
                _ => None,
            };
            let (Some(source), Some(destination)) = (tunnel.settings.local, far) else { continue };
            let port = tunnel.settings.port;
            let outer = Packet { destination_port: Some(port), ..packet(source, destination, 17) };
            let below = tunnel
                .settings
                .underlay
                .and_then(|index| own.device(index))
                .map(|device| device.name.as_str());
            for (at, hook) in [
                (node, Hook::Output),
                (node, Hook::Postrouting),
                (other, Hook::Prerouting),
                (other, Hook::Input),
            ] {
                let here = at.name == node.name;
                let (in_device, out_device) =
                    if here { (None, below) } else { (uplink(other, destination), None) };
                let loss =
                    Loss { packet: outer, in_device, out_device, bridge: Some(false), ..Loss::at(hook) };
                let rule = cluster.rules.get(&at.name).and_then(|finder| lost(finder, loss));
                let issue = rule.map(|rule| dropped(at, &tunnel.near.name, port, hook, &rule));
                found.extend(issue.filter(|issue| !found.contains(issue)));
            }
        }
    }
}

/// The device of a node that has an address.
fn uplink(node: &Node, address: IpAddr) -> Option<&str> {
    let own = node.topology.node()?;
    let holds = own.devices.iter().find(|device| crate::diagnose::facts::has(device, address));
    holds.map(|device| device.name.as_str())
}

fn dropped(node: &Node, tunnel: &str, port: u16, hook: Hook, rule: &Attribution) -> Issue {
    let name = quoted(&node.name);
    let (way, what) = match hook {
        Hook::Output | Hook::Postrouting => ("sends to the other nodes", "leaves"),
        _ => ("gets from the other nodes", "comes in at"),
    };
    let by = if rule.kind == Act::Policy { "the policy of a chain" } else { "a rule" };
    let opened = match (rule.framework, rule.kind) {
        (Some(Framework::Nft), Act::Policy) => {
            let chain = rule.chains.last().map(|chain| quoted(chain)).unwrap_or_default();
            let family = rule.family.map(|family| family.to_string()).unwrap_or_default();
            let table = rule.table.as_deref().map(quoted).unwrap_or_default();
            Some(format!("nft insert rule {family} {table} {chain} udp dport {port} accept"))
        }
        (Some(Framework::Nft), _) => deleting(rule),
        (Some(Framework::Iptables), _) => {
            let program =
                if rule.family == Some(podtrace_rules::Family::Ip6) { "ip6tables" } else { "iptables" };
            let chain = hook.word().to_ascii_uppercase();
            Some(format!("{program} -I {chain} -p udp --dport {port} -j ACCEPT"))
        }
        (None, _) => None,
    };
    let mut issue = Issue::at(Severity::Fault, Kind::TunnelDropped, &node.name, Some(tunnel))
        .found(
            format!("{by} of {name} drops what {} {way}, UDP port {port}: {rule}", quoted(tunnel)),
            format!("UDP port {port} open between the nodes: {} uses it", quoted(tunnel)),
        )
        .follows(format!("No pod packet of another node {what} {name}"))
        .shown_by(look_at_rule(rule))
        .fixed_by(opened);
    issue.lasting = Some(WRITER.to_owned());
    issue
}

/// What two pods send one another, one way.
fn between(cluster: &Cluster<'_>, from: &PodAddress, to: &PodAddress, drops: &mut Drops) {
    let (Some((sender, near)), Some((receiver, far))) = (cluster.veth(from), cluster.veth(to)) else {
        return;
    };
    let same = sender.name == receiver.name;
    let bridges = (cluster.bridge(from), cluster.bridge(to));
    let is_bridged = same
        && bridges.0.is_some()
        && bridges.0.map(|bridge| bridge.index) == bridges.1.map(|bridge| bridge.index);
    let name =
        |device: Option<&podtrace_protocol::topology::Device>| device.map(|device| device.name.clone());
    let tunnel = cluster.tunnel(sender, receiver, to.address);
    let through = tunnel.map(|tunnel| tunnel.near.name.clone());
    let (entry, exit) =
        (name(bridges.0).unwrap_or(near.name.clone()), name(bridges.1).unwrap_or(far.name.clone()));
    for number in [if from.address.is_ipv4() { 1 } else { 58 }, 6, 17] {
        let loss = |hook, in_device, out_device, bridge| Loss {
            packet: packet(from.address, to.address, number),
            in_device,
            out_device,
            bridge,
            ..Loss::at(hook)
        };
        let mut ask = |at: Spot<'_>, finder: Option<&Finder>, loss: Loss<'_>| {
            if let Some(rule) = finder.and_then(|finder| lost(finder, loss)) {
                drops.add(at, rule, number, from, to);
            }
        };
        let (at_sender, at_receiver) = (cluster.rules.get(&sender.name), cluster.rules.get(&receiver.name));
        let in_from = Spot { node: sender, pod: Some(&from.pod), device: None };
        ask(in_from, cluster.inside.get(&from.pod), loss(Hook::Output, None, None, Some(false)));
        let at_near = Spot { node: sender, pod: None, device: Some(&near.name) };
        ask(at_near, at_sender, loss(Hook::Ingress, Some(&near.name), None, Some(false)));
        if is_bridged {
            let seen =
                |path: &str| sender.topology.node().and_then(|own| own.state.sysctls.get(path)) == Some(&1);
            let seen = seen(if from.address.is_ipv4() {
                "bridge/bridge-nf-call-iptables"
            } else {
                "bridge/bridge-nf-call-ip6tables"
            });
            let at = Spot { node: sender, pod: None, device: Some(&entry) };
            ask(at, at_sender, loss(Hook::Forward, None, None, (!seen).then_some(true)));
        } else {
            let out = if same { Some(exit.as_str()) } else { through.as_deref() };
            let at = Spot { node: sender, pod: None, device: Some(&entry) };
            ask(at, at_sender, loss(Hook::Forward, Some(&entry), out, Some(false)));
        }
        if !same {
            let at = Spot { node: receiver, pod: None, device: Some(&exit) };
            ask(at, at_receiver, loss(Hook::Forward, through.as_deref(), Some(&exit), Some(false)));
        }
        let at_far = Spot { node: receiver, pod: None, device: Some(&far.name) };
        ask(at_far, at_receiver, loss(Hook::Egress, None, Some(&far.name), Some(false)));
        let in_to = Spot { node: receiver, pod: Some(&to.pod), device: None };
        ask(in_to, cluster.inside.get(&to.pod), loss(Hook::Input, Some("eth0"), None, Some(false)));
    }
}

#[cfg(test)]
mod tests {
    use podtrace_rules::{Family, Rules, iptables};

    use super::*;
    use crate::doctor::sample;

    fn found(listing: &str, node: usize) -> Vec<Issue> {
        let rules = Rules { tables: iptables::parse(listing, Family::Ip), ..Rules::default() };
        sample::found(|surveys| surveys[node].rules = Some(rules.clone()), check)
    }

    #[test]
    fn a_rule_that_drops_the_tunnel_is_a_fault() {
        let found =
            found("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p udp -m udp --dport 8472 -j DROP\nCOMMIT\n", 1);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].severity, found[0].kind), (Severity::Fault, Kind::TunnelDropped));
        assert_eq!(found[0].fix.as_deref(), Some("iptables -I INPUT -p udp --dport 8472 -j ACCEPT"));
        assert_eq!(found[0].node, "node2");
    }

    #[test]
    fn a_tunnel_that_no_route_leads_through_may_be_closed() {
        let listing = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p udp -m udp --dport 8472 -j DROP\nCOMMIT\n";
        let rules = Rules { tables: iptables::parse(listing, Family::Ip), ..Rules::default() };
        let found = sample::found(
            |surveys| {
                surveys[1].rules = Some(rules.clone());
                sample::node(surveys, 0).routes[2].device = 2;
            },
            check,
        );
        assert_eq!(found, []);
    }

    #[test]
    fn a_rule_between_pods_is_one_finding_and_a_policy_is_a_note() {
        let by_hand = found(
            "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -s 10.42.0.10/32 -m comment --comment \"closed by hand\" -j DROP\nCOMMIT\n",
            0,
        );
        assert_eq!(by_hand.len(), 1, "{by_hand:?}");
        assert_eq!(by_hand[0].severity, Severity::Warning);
        assert!(
            by_hand[0].found.contains("drops icmp, tcp, udp from default/pod1 to default/pod3"),
            "{by_hand:?}"
        );
        let policy = found(
            "*filter\n:FORWARD ACCEPT [0:0]\n:KUBE-POD-FW-A - [0:0]\n-A FORWARD -s 10.42.0.10/32 -j KUBE-POD-FW-A\n-A KUBE-POD-FW-A -j REJECT\nCOMMIT\n",
            0,
        );
        assert_eq!(policy[0].severity, Severity::Note, "{policy:?}");
    }

    #[test]
    fn a_rule_about_a_port_is_no_answer() {
        let listing = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -p tcp -m tcp --dport 22 -j DROP\nCOMMIT\n";
        assert_eq!(found(listing, 0), []);
    }

    #[test]
    fn many_pods_are_not_asked_about_in_all_pairs() {
        let pod = |number: u8| PodAddress {
            pod: format!("default/p{number}"),
            node: format!("node{}", number % 3),
            address: [10, 42, 0, number].into(),
        };
        let pods: Vec<_> = (0..60).map(pod).collect();
        let pairs = pairs(&pods);
        assert!(pairs.len() <= 240 && pods.iter().all(|pod| pairs.iter().any(|(from, _)| *from == pod)));
    }
}
