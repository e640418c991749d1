//! Advice for a drop: what it means on a node, and the command to run next, filled in with the packet's names.

use super::concrete;
use super::explain::explain;
use super::facts::Facts;
use super::finding::Finding;
use super::fitting;
use super::inside;
use super::reasons::{CAUSES, Cause, NO_SOCKET, RPFILTER};
use super::vanished::advice_for_vanished;
use super::words::{protocol, quoted};
use podtrace_escape::escape;
use podtrace_path::{Action, Drop, DropCause, Hop, Path, Protocol, Verdict};
use podtrace_rules::{Family, Framework, Kind};

/// Names that [`Cause::text`] may hold in braces.
#[cfg(test)]
pub(super) const PLACEHOLDERS: [&str; 14] = [
    "node",
    "device",
    "conf",
    "pod",
    "service",
    "tunnel-port",
    "src",
    "dst",
    "to",
    "port",
    "proto",
    "sockets",
    "bytes",
    "ttl",
];

/// Advice for a drop; `None` if its cause is unknown.
#[must_use]
pub fn advice(drop: &Drop, hop: &Hop, path: &Path) -> Option<String> {
    let tunnel = match (fitting::is_in_tunnel(hop, path), fitting::enters_tunnel(hop, path)) {
        (true, _) => Some("no pod of another node reaches this node"),
        (false, true) => Some("this node reaches no pod of another node"),
        (false, false) => None,
    };
    if let Some(text) = by_conntrack(drop, hop, path).or_else(|| by_rule(drop, hop, tunnel)) {
        return Some(fill(&text, hop, path));
    }
    let text = fitting::text(cause(drop)?.text, drop, hop, path);
    Some(if hop.tuple.dst.is_ipv6() {
        fill(&fitting::for_ipv6(text), hop, path)
    } else {
        fill(text, hop, path)
    })
}

/// Advice for a drop by conntrack.
fn by_conntrack(drop: &Drop, hop: &Hop, path: &Path) -> Option<String> {
    match drop.cause? {
        DropCause::ConntrackTableFull { count, max } => {
            let number =
                |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
            Some(format!(
                "the conntrack table on {{node}} is full ({} of {} entries): raise the limit with `sysctl -w \
                 net.netfilter.nf_conntrack_max=…`, and see what fills it: `conntrack -L | sort` or \
                 `cat /proc/net/nf_conntrack`",
                number(count),
                number(max)
            ))
        }
        DropCause::ConntrackClash => {
            let known = "conntrack insert failed on {node}: an entry with the same addresses and ports exists already \
                 (insert_failed in `conntrack -S`)";
            let exhausted = "no port is left in the port range of the rule that masquerades it, for this destination (compare \
                 `conntrack -L -d {dst}` with the range)";
            let race = format!(
                "two packets opened it at the same time, such as two DNS queries from one socket (use a node-local DNS cache, \
                 `options single-request-reopen` in the pod's resolv.conf, or {})",
                random_ports(path)
            );
            let masquerades = |other: &&Hop| {
                other.node == hop.node
                    && other.index <= hop.index
                    && other.nat.as_ref().is_some_and(|nat| nat.before.sport != nat.after.sport)
            };
            Some(match path.hops.iter().find(masquerades) {
                Some(_) => format!("{known}. Possible: {exhausted}; or {race}"),
                None => format!("{known}. Possible: {race}; or {exhausted}"),
            })
        }
    }
}

/// How the rules that masquerade choose ports at random, in the words of their program.
fn random_ports(path: &Path) -> &'static str {
    let mut rules = path.hops.iter().filter_map(|hop| hop.nat.as_ref()?.rule.as_ref()?.framework);
    match rules.next_back() {
        Some(Framework::Nft) => "`masquerade fully-random` in the nft rule",
        Some(Framework::Iptables) => "`MASQUERADE --random-fully`",
        None => "`masquerade fully-random` with nft, `MASQUERADE --random-fully` with iptables",
    }
}

/// The program for rules of this family.
pub(super) fn iptables(family: Option<Family>) -> &'static str {
    if family == Some(Family::Ip6) { "ip6tables" } else { "iptables" }
}

/// Advice for a drop by a known rule.
fn by_rule(drop: &Drop, hop: &Hop, tunnel: Option<&str>) -> Option<String> {
    let rule = drop.rule.as_deref().filter(|rule| rule.certain)?;
    let (table, chain) = (rule.table.as_deref()?, rule.chains.last()?);
    // Names are outside text, and braces are placeholders here.
    let plain = |text: &str| escape(text).replace(['{', '}'], "?");
    let written = rule.rule.as_deref().map(|rule| format!(": `{}`", plain(rule))).unwrap_or_default();
    let (table, chain) = (plain(table), plain(chain));
    let look = match (rule.framework?, rule.kind) {
        (Framework::Nft, Kind::Policy) => format!("`nft list chain {} {table} {chain}`", rule.family?),
        (Framework::Nft, _) => format!("`nft -a list chain {} {table} {chain}`", rule.family?),
        (Framework::Iptables, _) => {
            format!("`{} -t {table} -vnL {chain} --line-numbers`", iptables(rule.family))
        }
    };
    if hop.pod.is_some() {
        let what = if rule.kind == Kind::Policy { "the policy of a chain" } else { "a rule" };
        return Some(format!("{what} inside {{pod}} drops it{written}. In {{pod}}: {}", inside::look(rule)));
    }
    let what = if rule.kind == Kind::Policy { "this chain's policy" } else { "this rule" };
    if let Some(effect) = tunnel {
        return Some(format!(
            "{what} on {{node}} drops the encapsulated packets of the tunnel{written}: {effect}. Accept the tunnel's UDP \
             port between the nodes. On {{node}}: {look}"
        ));
    }
    Some(format!(
        "{what} on {{node}} drops it{written}. To see where it comes from, run {look} on {{node}}, and `kubectl get \
         networkpolicy -A`"
    ))
}

/// Adds advice to a path's drops, and to the path itself if it vanished: from a finding that explains it, else from the drop's
/// reason. Existing advice stays.
pub(super) fn annotate(path: &mut Path, facts: &Facts, findings: &[Finding]) {
    let explained = explain(path, facts, findings).map(|explanation| explanation.to_string());
    if let Some(text) = explained {
        let last = path.hops.iter_mut().rev().find_map(|hop| hop.drop.as_mut());
        match last.filter(|_| matches!(path.verdict, Verdict::Dropped | Verdict::Rejected)) {
            Some(drop) => drop.advice = drop.advice.take().or(Some(text)),
            None => path.advice = path.advice.take().or(Some(text)),
        }
    }
    let missing: Vec<_> = path
        .hops
        .iter()
        .map(|hop| {
            let drop = hop.drop.as_ref().filter(|drop| drop.advice.is_none())?;
            advice(drop, hop, path).map(|text| concrete::with_facts(text, hop, path, facts))
        })
        .collect();
    for (hop, found) in path.hops.iter_mut().zip(missing) {
        if let (Some(drop), Some(found)) = (&mut hop.drop, found) {
            drop.advice = Some(found);
        }
    }
    if path.advice.is_none() {
        path.advice = advice_for_vanished(path);
    }
}

fn cause(drop: &Drop) -> Option<&'static Cause> {
    let reason = drop.reason.as_deref().map(|name| name.strip_prefix("SKB_DROP_REASON_").unwrap_or(name));
    // A kernel that knows reasons gives one where no socket was found, and where the reverse path filter refused.
    let not_specified = reason == Some("NOT_SPECIFIED");
    let reason = reason.filter(|name| *name != "NOT_SPECIFIED");
    let symbol = drop.location.as_deref().map(base);
    CAUSES.iter().filter(|cause| !not_specified || ![NO_SOCKET, RPFILTER].contains(&cause.text)).find(
        |cause| {
            let by_reason = reason.is_some_and(|reason| cause.reasons.contains(&reason));
            let by_symbol = symbol.is_some_and(|symbol| cause.symbols.contains(&symbol));
            match (cause.reasons.is_empty(), cause.symbols.is_empty()) {
                (false, false) => by_reason && by_symbol,
                (false, true) => by_reason,
                (true, _) => by_symbol,
            }
        },
    )
}

/// The function name of a location, without offset and compiler suffix.
fn base(location: &str) -> &str {
    location.split(['+', '.', ' ']).next().unwrap_or(location)
}

fn fill(text: &str, hop: &Hop, path: &Path) -> String {
    let mut filled = String::with_capacity(text.len() + 64);
    let mut rest = text;
    while let Some((before, (name, after))) =
        rest.split_once('{').and_then(|(before, tail)| tail.split_once('}').map(|tail| (before, tail)))
    {
        filled.push_str(before);
        filled.push_str(&value(name, hop, path));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

fn value(name: &str, hop: &Hop, path: &Path) -> String {
    match name {
        "node" => quoted(&hop.node),
        "device" => hop.device.as_deref().map_or_else(|| "DEVICE".to_owned(), quoted),
        // Where it left its pod on this node.
        "veth" => {
            let of_pod = |other: &&Hop| other.action == Action::PodEgress && other.node == hop.node;
            let veth = path.hops.iter().find(of_pod).and_then(|other| other.device.as_deref());
            veth.map_or_else(|| "VETH".to_owned(), quoted)
        }
        // sysctl takes a slash for a dot within a name.
        "conf" => {
            hop.device.as_deref().map_or_else(|| "DEVICE".to_owned(), |name| quoted(&name.replace('.', "/")))
        }
        "pod" => quoted(hop.pod.as_deref().unwrap_or("the pod")),
        "service" => quoted(path.to.service.as_deref().unwrap_or("the Service")),
        "tunnel-port" => {
            let outer = path.hops.iter().rev().find_map(|hop| hop.outer.as_ref());
            outer.and_then(|outer| outer.dport).map_or_else(|| "PORT".to_owned(), |port| port.to_string())
        }
        "src" => hop.tuple.src.to_string(),
        "dst" => hop.tuple.dst.to_string(),
        "to" => path.to.pod.as_deref().map_or_else(|| path.to.ip.to_string(), quoted),
        "port" => hop.tuple.dport.map_or_else(|| "PORT".to_owned(), |port| port.to_string()),
        "proto" => protocol(hop.tuple.proto),
        "sockets" => match hop.tuple.proto {
            Protocol::Tcp => "ss -lnt",
            Protocol::Udp => "ss -lnu",
            Protocol::Sctp => "ss -lnS",
            Protocol::Icmp | Protocol::Icmpv6 | Protocol::Other(_) => "ss -lnw",
        }
        .to_owned(),
        "bytes" => hop.bytes.to_string(),
        "ttl" => fitting::initial_ttl(hop, path).to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use podtrace_path::Action;

    use super::*;
    use crate::output::samples;

    fn drop(reason: Option<&str>, location: Option<&str>) -> Drop {
        Drop { reason: reason.map(str::to_owned), location: location.map(str::to_owned), ..Drop::default() }
    }

    fn advice_for(reason: Option<&str>, location: Option<&str>) -> Option<String> {
        let path = samples::dropped();
        advice(&drop(reason, location), &path.hops[2], &path)
    }

    #[test]
    fn the_names_of_the_packet_are_filled_in() {
        assert_eq!(
            advice_for(Some("NO_SOCKET"), None).unwrap(),
            "nothing in default/pod3 listens on udp port 53, or it listens on another address. In default/pod3: \
             `ss -lnu`; also check the Service's targetPort"
        );
    }

    #[test]
    fn a_tunnel_without_a_receiver_is_not_about_the_pod() {
        let mut path = samples::vanished();
        let mut arrived = path.hops.last().unwrap().clone();
        arrived.index += 1;
        (arrived.node, arrived.action) = ("node2".into(), Action::NodeIngress);
        let mut dropped = arrived.clone();
        dropped.index += 1;
        (dropped.action, dropped.drop) =
            (Action::Drop, Some(drop(Some("NO_SOCKET"), Some("__udp4_lib_rcv"))));
        path.hops.extend([arrived, dropped]);
        annotate(&mut path, &Facts::default(), &[]);
        let advice = path.hops.last().unwrap().drop.as_ref().unwrap().advice.clone().unwrap();
        assert!(advice.starts_with("node2 received the encapsulated packet"), "{advice}");
    }

    #[test]
    fn reasons_go_before_symbols_and_both_together_first() {
        for (reason, location, part) in [
            (Some("NETFILTER_DROP"), None, "netfilter rule on node1"),
            (Some("SKB_DROP_REASON_NETFILTER_DROP"), Some("nf_hook_slow+0xb3"), "netfilter rule on node1"),
            (Some("IP_INHDR"), Some("ip_forward+0x1"), "TTL expired"),
            (Some("IP_INHDR"), Some("ip_rcv_core"), "invalid IP header"),
            (Some("PKT_TOO_BIG"), Some("ip_forward"), "128 bytes exceed the MTU"),
            (Some("NOT_SPECIFIED"), Some("nf_hook_slow"), "netfilter rule on node1"),
            (None, Some("nf_hook_slow.constprop.0+0x12/0x80"), "netfilter rule on node1"),
            (Some("NO_TX_TARGET"), Some("br_handle_frame_finish"), "bridge on node1 did not forward"),
            (Some("NO_TX_TARGET"), Some("vxlan_xmit"), "tunnel"),
            (None, Some("ip_error"), "no route to 10.42.1.10"),
            (Some("A_NEW_ONE"), Some("ip_error"), "no route to 10.42.1.10"),
            (Some("VXLAN_VNI_NOT_FOUND"), None, "id and dstport"),
        ] {
            let advice = advice_for(reason, location).unwrap_or_default();
            assert!(advice.contains(part), "{reason:?} {location:?}: {advice}");
        }
        assert_eq!(advice_for(Some("A_NEW_ONE"), Some("0xffffffff81000000")), None);
        assert_eq!(advice_for(None, None), None);
    }

    #[test]
    fn every_text_can_be_filled_and_no_reason_has_two() {
        let mut seen = std::collections::BTreeSet::new();
        for cause in CAUSES {
            for part in cause.text.split('{').skip(1) {
                let name = part.split('}').next().unwrap();
                assert!(PLACEHOLDERS.contains(&name), "{{{name}}} in {}", cause.text);
            }
            assert_eq!(cause.text.matches('`').count() % 2, 0, "{}", cause.text);
            assert!(!cause.text.ends_with('.') && !cause.text.contains("  "), "{}", cause.text);
            let symbols = if cause.symbols.is_empty() { &[""][..] } else { cause.symbols };
            let reasons = if cause.reasons.is_empty() { &[""][..] } else { cause.reasons };
            for pair in symbols.iter().flat_map(|symbol| reasons.iter().map(move |reason| (reason, symbol))) {
                assert!(seen.insert(pair), "{pair:?} twice");
            }
        }
        let path = samples::dropped();
        for name in PLACEHOLDERS {
            assert_ne!(value(name, &path.hops[2], &path), "", "{name}");
        }
    }

    #[test]
    fn annotating_keeps_what_was_there() {
        let mut path = samples::dropped();
        path.hops[2].drop.as_mut().unwrap().advice = Some("ours".to_owned());
        annotate(&mut path, &Facts::default(), &[]);
        assert_eq!(path.hops[2].drop.as_ref().unwrap().advice.as_deref(), Some("ours"));
        assert_eq!(path.advice, None);
        let vanished = samples::vanished();
        assert!(vanished.advice.is_some());
        assert_eq!(samples::cross_node_request().advice, None);
    }
}
