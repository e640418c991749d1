//! A rule of nftables in nft's words, as far as they are kept.

use crate::rules::model::{Action, Element, Elements, Field, Match, Nat, Range};

/// The rule on one line, without its comment.
pub(super) fn rule(matches: &[Match], action: &Action) -> String {
    let mut words: Vec<_> = matches.iter().map(|matched| condition(matched, "")).collect();
    words.push(effect(action));
    words.join(" ")
}

fn condition(matched: &Match, operator: &str) -> String {
    match matched {
        Match::Is(field, ranges) => {
            let values = match ranges.as_slice() {
                [Range::Bits(mask, bits)] => {
                    let operator = if operator.is_empty() { "== " } else { operator };
                    return format!("{} & {mask:#x} {operator}{bits:#x}", name(field, false));
                }
                [range] => value(field, range),
                ranges => {
                    format!(
                        "{{ {} }}",
                        ranges.iter().map(|range| value(field, range)).collect::<Vec<_>>().join(", ")
                    )
                }
            };
            format!("{} {operator}{values}", name(field, ranges.iter().any(is_v6)))
        }
        Match::In(fields, elements) => {
            let v6 = match elements {
                Elements::These(elements) => elements.iter().flat_map(|element| &element.key).any(is_v6),
                Elements::Named(_) => false,
            };
            let names: Vec<_> = fields.iter().map(|field| name(field, v6)).collect();
            format!("{} {operator}{}", names.join(" . "), listed(fields, elements))
        }
        Match::Not(contrary) => condition(contrary, "!= "),
        Match::Other(text) => text.clone(),
    }
}

fn listed(fields: &[Field], elements: &Elements) -> String {
    match elements {
        Elements::Named(name) => format!("@{name}"),
        Elements::These(elements) => {
            let key = |element: &Element| {
                let parts = fields.iter().zip(&element.key).map(|(field, range)| value(field, range));
                parts.collect::<Vec<_>>().join(" . ")
            };
            format!("{{ {} }}", elements.iter().map(key).collect::<Vec<_>>().join(", "))
        }
    }
}

fn is_v6(range: &Range) -> bool {
    match range {
        Range::Net(net) => net.addr().is_ipv6(),
        Range::Addresses(first, _) => first.is_ipv6(),
        _ => false,
    }
}

fn name(field: &Field, v6: bool) -> &str {
    match field {
        Field::Source if v6 => "ip6 saddr",
        Field::Source => "ip saddr",
        Field::Destination if v6 => "ip6 daddr",
        Field::Destination => "ip daddr",
        Field::Protocol => "meta l4proto",
        Field::SourcePort => "th sport",
        Field::DestinationPort => "th dport",
        Field::InDevice => "iifname",
        Field::OutDevice => "oifname",
        Field::Mark => "meta mark",
        Field::SourceType => "fib saddr type",
        Field::DestinationType => "fib daddr type",
        Field::State => "ct state",
        Field::Version => "meta nfproto",
        Field::Other(text) => text,
    }
}

fn value(field: &Field, range: &Range) -> String {
    match (field, range) {
        (Field::Protocol, Range::Numbers(6, 6)) => "tcp".to_owned(),
        (Field::Protocol, Range::Numbers(17, 17)) => "udp".to_owned(),
        (Field::Mark, Range::Numbers(first, last)) if first == last => format!("{first:#x}"),
        (_, Range::Net(net)) if net.prefix_len() == net.max_prefix_len() => net.addr().to_string(),
        (_, Range::Net(net)) => net.to_string(),
        (_, Range::Addresses(first, last)) => format!("{first}-{last}"),
        (_, Range::Numbers(first, last)) if first == last => first.to_string(),
        (_, Range::Numbers(first, last)) => format!("{first}-{last}"),
        (_, Range::Bits(mask, bits)) => format!("{bits:#x}/{mask:#x}"),
        (Field::InDevice | Field::OutDevice, Range::Word(word)) => format!("\"{word}\""),
        (_, Range::Word(word) | Range::Other(word)) => word.clone(),
        (_, Range::Any) => "*".to_owned(),
    }
}

fn effect(action: &Action) -> String {
    let port = |ports: Option<(u16, u16)>| match ports {
        None => String::new(),
        Some((first, last)) if first == last => format!(":{first}"),
        Some((first, last)) => format!(":{first}-{last}"),
    };
    let to = |kind: &str, nat: &Option<Nat>| match nat {
        None => kind.to_owned(),
        Some(Nat { addresses, ports }) => {
            let addresses = match addresses {
                None => String::new(),
                Some((first, last)) if first == last && first.is_ipv6() && ports.is_some() => {
                    format!("[{first}]")
                }
                Some((first, last)) if first == last => first.to_string(),
                Some((first, last)) => format!("{first}-{last}"),
            };
            format!("{kind} to {addresses}{}", port(*ports))
        }
    };
    match action {
        Action::Accept => "accept".to_owned(),
        Action::Return => "return".to_owned(),
        Action::Drop => "drop".to_owned(),
        Action::Reject => "reject".to_owned(),
        Action::Jump(chain) => format!("jump {chain}"),
        Action::Goto(chain) => format!("goto {chain}"),
        Action::Verdicts(..) => "vmap".to_owned(),
        Action::Dnat(nat) => to("dnat", nat),
        Action::Snat(nat) => to("snat", nat),
        Action::Masquerade => "masquerade".to_owned(),
        Action::Redirect(ports) => {
            let ports = port(*ports);
            if ports.is_empty() { "redirect".to_owned() } else { format!("redirect to {ports}") }
        }
        Action::Mark(_) => "meta mark set".to_owned(),
        Action::Other(text) => text.clone(),
    }
}
