//! Formats a rule in nft's syntax.

use std::net::IpAddr;

use crate::model::{Action, Element, Elements, Family, Field, Match, Nat, Range};
use crate::protocol;

/// The rule in one line without its comment, in a table of a family.
pub(super) fn rule(family: Family, matches: &[Match], action: &Action) -> String {
    let mut words: Vec<_> = matches.iter().map(|matched| condition(family, matched, "")).collect();
    words.push(match action {
        Action::Verdicts(fields, elements) => looked_up(family, fields, "vmap ", elements),
        action => effect(action),
    });
    // A match that nft does not list has no text.
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

fn condition(family: Family, matched: &Match, operator: &str) -> String {
    match matched {
        Match::Is(field, ranges) => {
            let values = match ranges.as_slice() {
                [Range::Bits(mask, bits)] => {
                    let operator = if operator.is_empty() { "== " } else { operator };
                    return format!("{} & {mask:#x} {operator}{bits:#x}", name(field, Family::Inet));
                }
                [range] => value(field, range),
                ranges => {
                    format!(
                        "{{ {} }}",
                        ranges.iter().map(|range| value(field, range)).collect::<Vec<_>>().join(", ")
                    )
                }
            };
            format!("{} {operator}{values}", name(field, version(ranges)))
        }
        Match::In(fields, elements) => looked_up(family, fields, operator, elements),
        Match::Not(contrary) => condition(family, contrary, "!= "),
        Match::Other(text) => text.clone(),
    }
}

fn looked_up(family: Family, fields: &[Field], operator: &str, elements: &Elements) -> String {
    let family = match elements {
        Elements::These(elements) => version(elements.iter().flat_map(|element| &element.key)),
        Elements::Named(_) => family,
    };
    let names: Vec<_> = fields.iter().map(|field| name(field, family)).collect();
    format!("{} {operator}{}", names.join(" . "), listed(fields, elements))
}

fn listed(fields: &[Field], elements: &Elements) -> String {
    match elements {
        Elements::Named(name) => format!("@{name}"),
        Elements::These(elements) => {
            let key = |element: &Element| {
                let parts = fields.iter().zip(&element.key).map(|(field, range)| value(field, range));
                let key = parts.collect::<Vec<_>>().join(" . ");
                match &element.action {
                    Some(action) => format!("{key} : {}", effect(action)),
                    None => key,
                }
            };
            format!("{{ {} }}", elements.iter().map(key).collect::<Vec<_>>().join(", "))
        }
    }
}

/// The IP version of the addresses.
fn version<'a>(ranges: impl IntoIterator<Item = &'a Range>) -> Family {
    let address = ranges.into_iter().find_map(|range| match range {
        Range::Net(net) => Some(net.addr()),
        Range::Addresses(first, _) => Some(*first),
        _ => None,
    });
    match address {
        Some(IpAddr::V4(_)) => Family::Ip,
        Some(IpAddr::V6(_)) => Family::Ip6,
        None => Family::Inet,
    }
}

fn name(field: &Field, family: Family) -> &str {
    match field {
        Field::Source if family == Family::Ip => "ip saddr",
        Field::Source if family == Family::Ip6 => "ip6 saddr",
        // For a set in a table of both versions, the model does not hold the version.
        Field::Source => "saddr",
        Field::Destination if family == Family::Ip => "ip daddr",
        Field::Destination if family == Family::Ip6 => "ip6 daddr",
        Field::Destination => "daddr",
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
        (Field::Protocol, Range::Numbers(first, last)) if first == last => {
            protocol::name(*first).map_or_else(|| first.to_string(), ToOwned::to_owned)
        }
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
