//! Rules inside pods that keep them from sending: no tap sees such a packet.

use std::net::IpAddr;

use podtrace_rules::{Attribution, Finder, Framework, Hook, Kind, Loss, Packet};

use super::advice::iptables;
use super::facts::Facts;
use super::words::{protocol, quoted};
use podtrace_escape::escape;
use podtrace_path::Protocol;

/// Protocols that are asked about where none is given.
const ASKED: [u8; 3] = [1, 6, 17];

/// What the rules inside a pod drop of what it sends to these addresses, a sentence for each rule.
pub(super) fn drops(pod: &str, to: &[IpAddr], asked: Option<u8>, facts: &Facts) -> Vec<String> {
    let (Some(rules), Some(place)) = (facts.rules_inside(pod), facts.pod(pod)) else { return Vec::new() };
    let finder = Finder::new(rules.clone());
    let devices = place.namespace.devices.iter().flat_map(|device| &device.addresses);
    let own: Vec<IpAddr> = devices.map(ipnet::IpNet::addr).filter(|address| !address.is_loopback()).collect();
    let mut found: Vec<String> = Vec::new();
    for destination in to {
        let Some(source) = own.iter().find(|own| own.is_ipv4() == destination.is_ipv4()) else { continue };
        let all = ASKED.map(|number| if number == 1 && destination.is_ipv6() { 58 } else { number });
        for number in all.into_iter().filter(|number| asked.is_none_or(|asked| asked == *number)) {
            let packet = Packet {
                source: *source,
                destination: *destination,
                protocol: number,
                source_port: None,
                destination_port: None,
            };
            let Some(rule) = drop_of_first(&finder, packet) else { continue };
            let sentence = sentence(pod, number, *destination, &rule);
            if !found.contains(&sentence) {
                found.push(sentence);
            }
        }
    }
    found
}

/// The rule inside a pod that drops this packet of a connection that it has accepted, whatever else is in the packet.
pub(super) fn drop_of_answer(pod: &str, answer: Packet, facts: &Facts) -> Option<String> {
    let finder = Finder::new(facts.rules_inside(pod)?.clone());
    let rule = HOOKS.iter().find_map(|hook| finder.drops(&sent(answer, "established", *hook)))?;
    Some(sentence(pod, answer.protocol, answer.destination, &rule))
}

/// The rule that drops the first packet of a connection that a pod opens; not certain if that depends on what is not known of it.
fn drop_of_first(finder: &Finder, packet: Packet) -> Option<Attribution> {
    let question = |hook: &Hook| sent(packet, "new", *hook);
    HOOKS.iter().find_map(|hook| finder.drops(&question(hook))).or_else(|| {
        let rule = HOOKS.iter().find_map(|hook| finder.dropped(&question(hook)))?;
        Some(Attribution { certain: false, ..rule })
    })
}

/// What a pod sends passes these.
const HOOKS: [Hook; 2] = [Hook::Output, Hook::Postrouting];

fn sent(packet: Packet, state: &'static str, hook: Hook) -> Loss<'static> {
    Loss { packet, state: Some(state), ..Loss::at(hook) }
}

fn sentence(pod: &str, number: u8, to: IpAddr, rule: &Attribution) -> String {
    let by = protocol(Protocol::of_number(number));
    let drops = if rule.certain { "drops" } else { "may drop" };
    let what = if rule.kind == Kind::Policy { "the policy of a chain" } else { "a rule" };
    let pod = quoted(pod);
    format!("{what} inside {pod} {drops} what it sends to {to} by {by}: {rule}. In {pod}: {}", look(rule))
}

/// The command that lists a rule inside a pod.
pub(crate) fn look(rule: &Attribution) -> String {
    let plain = |text: &str| escape(text).replace(['{', '}', '`'], "?");
    match (rule.framework, rule.table.as_deref().map(plain), rule.chains.last().map(|chain| plain(chain))) {
        (Some(Framework::Nft), Some(table), Some(chain)) => {
            let family = rule.family.map_or_else(String::new, |family| format!("{family} "));
            format!("`nft -a list chain {family}{table} {chain}`")
        }
        (Some(Framework::Iptables), Some(table), Some(chain)) => {
            format!("`{} -t {table} -vnL {chain} --line-numbers`", iptables(rule.family))
        }
        _ => "`nft list ruleset` and `iptables-save -c`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use podtrace_path::Context;
    use podtrace_protocol::frame::FromAgent;
    use podtrace_protocol::topology::samples;
    use podtrace_rules::{Family, Rules, iptables};

    use super::*;

    /// What is said of pod1's packets, given these rules inside it.
    fn said(rules: &str, protocol: Option<u8>) -> Vec<String> {
        let mut facts = Facts::new(&Context { nodes: vec!["node1".to_owned()], ..Context::default() });
        facts.learn(0, &FromAgent::Topology(samples::lab()));
        let tables = iptables::parse(rules, Family::Ip);
        let inside = BTreeMap::from([("default/pod1".to_owned(), Rules { tables, ..Rules::default() })]);
        facts.learn(0, &FromAgent::Rules(Rules { inside, ..Rules::default() }));
        drops("default/pod1", &["10.42.1.10".parse().unwrap()], protocol, &facts)
    }

    #[test]
    fn what_a_pod_drops_itself_is_named() {
        let rules = "*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p icmp -j DROP\nCOMMIT\n";
        let all = said(rules, None);
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(
            all[0].starts_with("a rule inside default/pod1 drops what it sends to 10.42.1.10 by icmp"),
            "{all:?}"
        );
        assert!(
            all[0].contains("In default/pod1: `iptables -t filter -vnL OUTPUT --line-numbers`"),
            "{all:?}"
        );
        assert_eq!(said(rules, Some(6)), Vec::<String>::new());
        // What the rule asks of the packet is not known.
        let typed = said(&rules.replace("icmp -j", "icmp -m icmp --icmp-type 13 -j"), Some(1));
        assert!(typed[0].contains(" may drop "), "{typed:?}");
        assert_eq!(said("*filter\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n", None), Vec::<String>::new());
    }
}
