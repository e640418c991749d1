//! What happened at a hop, in words: what the hop changed stands out, what was concluded recedes.

use std::net::{IpAddr, SocketAddr};

use anstyle::Style;

use super::phrase::{BAD, CHANGED, DIM, PLAIN, Phrase};
use super::timing::span;
use podtrace_path::{
    Action, Drop, DropCause, End, Evidence, Hop, Nat, NatKind, Neighbour, Outer, Path, Protocol, Resolution,
    RouteTaken, ServiceRef, Tuple,
};

/// The mark of everything that was concluded and not seen.
pub(super) const INFERRED: &str = "≈";

/// What happened at a hop; `before` is the hop before it.
pub(super) fn what(hop: &Hop, before: Option<&Hop>) -> Phrase {
    let mut phrase = match hop.evidence {
        Evidence::Observed => action(hop),
        Evidence::Inferred => {
            let mut phrase = Phrase::new().with(PLAIN, format!("{INFERRED} "));
            phrase.join(action(hop));
            phrase.push(PLAIN, " (inferred)");
            phrase.all(DIM)
        }
    };
    if let Some(nat) = &hop.nat {
        translation(nat, &mut phrase);
    } else if let Some(before) = before {
        differences(&before.tuple, &hop.tuple, &mut phrase);
    }
    shape(hop, before, &mut phrase);
    match &hop.neighbour {
        None | Some(Neighbour { outcome: Resolution::Known, .. }) => {}
        Some(failed @ Neighbour { outcome: Resolution::Failed, .. }) => {
            phrase.append(BAD, resolution(failed));
        }
        Some(asked) => phrase.append(CHANGED, resolution(asked)),
    }
    phrase
}

/// What came of looking up the next hop's link address.
pub(super) fn resolution(neighbour: &Neighbour) -> String {
    let Neighbour { address, outcome, waited_ns } = neighbour;
    match outcome {
        Resolution::Known => format!("{address}, whose link address was known"),
        Resolution::Answered => format!("asked who has {address}, answered after {}", span(*waited_ns)),
        Resolution::Asked => format!("asked who has {address}"),
        Resolution::Failed => format!("asked who has {address}: no answer in {}", span(*waited_ns)),
    }
}

/// Address and port the way they are written: `10.0.0.1:80`, `[fd00::1]:80`, or the address alone.
pub(super) fn address(ip: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| ip.to_string(), |port| SocketAddr::new(ip, port).to_string())
}

/// Who an end is, without its address: the Service or the pod, else the node.
pub(super) fn who(end: &End) -> Option<String> {
    match (&end.service, &end.pod, &end.node) {
        (Some(service), ..) => Some(format!("svc/{service}")),
        (None, Some(pod), _) => Some(pod.to_string()),
        (None, None, Some(node)) => Some(format!("node/{node}")),
        (None, None, None) => None,
    }
}

/// Name of a protocol.
pub(super) fn protocol(protocol: Protocol) -> String {
    match protocol {
        Protocol::Tcp => "tcp".to_owned(),
        Protocol::Udp => "udp".to_owned(),
        Protocol::Icmp => "icmp".to_owned(),
        Protocol::Icmpv6 => "icmpv6".to_owned(),
        Protocol::Sctp => "sctp".to_owned(),
        Protocol::Other(number) => format!("ip protocol {number}"),
    }
}

/// `10.42.0.10:4711 → 10.42.1.10:80`.
pub(super) fn tuple(tuple: &Tuple) -> String {
    format!("{} → {}", address(tuple.src, tuple.sport), address(tuple.dst, tuple.dport))
}

/// When a path began, by its first node's clock.
pub(super) fn started(path: &Path) -> String {
    moment(path.started_at)
}

/// Nanoseconds since 1970 as a date and a time in UTC.
pub(super) fn moment(at: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at))
        .map_or_else(|_| "?".to_owned(), |time| format!("{time:.9}"))
}

/// The device, or what stands for none.
pub(super) fn device(hop: &Hop) -> Phrase {
    let style = match hop.evidence {
        Evidence::Observed => PLAIN,
        Evidence::Inferred => DIM,
    };
    Phrase::new().with(style, hop.device.as_deref().unwrap_or("–"))
}

/// Number with thousands apart, and its unit: `14,480 B`.
pub(super) fn bytes(number: u32) -> String {
    format!("{} B", thousands(u64::from(number)))
}

/// Number with thousands apart.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Why and where a packet was dropped: `NETFILTER_DROP in nf_hook_slow`.
pub(super) fn drop_reason(drop: &Drop) -> String {
    let what = match (&drop.reason, &drop.location) {
        (Some(reason), Some(location)) => format!("{reason} in {location}"),
        (Some(reason), None) => reason.clone(),
        (None, Some(location)) => format!("in {location}"),
        (None, None) => "the kernel tells no reason".to_owned(),
    };
    let what = match drop.cause {
        Some(DropCause::ConntrackTableFull { .. }) => format!("{what}: connection tracking's table is full"),
        Some(DropCause::ConntrackClash) => format!("{what}: lost a race for its connection"),
        None => what,
    };
    match (&drop.rule, &drop.netfilter) {
        (Some(rule), _) => format!("{what}, by {rule}"),
        (None, Some(hook)) => format!("{what}, by the rules of netfilter's {hook}"),
        (None, None) => what,
    }
}

/// The hop at which the path ended by a drop.
pub(super) fn final_drop(path: &Path) -> Option<(&Hop, &Drop)> {
    path.hops.iter().rev().find_map(|hop| hop.drop.as_ref().map(|drop| (hop, drop)))
}

fn action(hop: &Hop) -> Phrase {
    let phrase = Phrase::new();
    if let Some(drop) = &hop.drop {
        let phrase = phrase.with(BAD, "✗ dropped");
        let phrase = if hop.pod.is_some() { pod(phrase.with(PLAIN, " inside "), hop) } else { phrase };
        return phrase.with(PLAIN, "  ").with(BAD, drop_reason(drop));
    }
    match hop.action {
        Action::PodEgress => pod(phrase.with(PLAIN, "from "), hop),
        Action::PodIngress => pod(phrase.with(PLAIN, "to "), hop),
        Action::Bridge if hop.flooded => phrase.with(CHANGED, "flooded to every port"),
        Action::Bridge => phrase.with(PLAIN, "bridged"),
        Action::Route => routed(hop),
        Action::LocalIn => phrase.with(PLAIN, "to ").with(PLAIN, &hop.node).with(PLAIN, " itself"),
        Action::LocalOut => phrase.with(PLAIN, "from ").with(PLAIN, &hop.node).with(PLAIN, " itself"),
        Action::Nat => {
            phrase.with(CHANGED, hop.nat.as_ref().map_or("translated", |nat| kind_of_nat(nat.kind)))
        }
        Action::Encapsulate => tunnel("encapsulated", '+', PLAIN, hop.outer.as_ref()),
        Action::Decapsulate => tunnel("decapsulated", '−', DIM, hop.outer.as_ref()),
        Action::NodeEgress => phrase.with(PLAIN, "left ").with(PLAIN, &hop.node),
        Action::NodeIngress => phrase.with(PLAIN, "arrived at ").with(PLAIN, &hop.node),
        Action::Queue => phrase.with(PLAIN, "queued"),
        Action::Drop => phrase.with(BAD, "✗ dropped"),
    }
}

fn pod(phrase: Phrase, hop: &Hop) -> Phrase {
    match &hop.pod {
        // The namespace stands in the header.
        Some(pod) => phrase.with(PLAIN, pod.rsplit_once('/').map_or(&**pod, |(_, name)| name)),
        None => phrase.with(DIM, "an unknown pod"),
    }
}

fn routed(hop: &Hop) -> Phrase {
    let mut phrase = Phrase::new().with(PLAIN, "routed");
    let Some(taken) = &hop.route else { return phrase };
    phrase.push(PLAIN, "  ");
    match taken.evidence {
        Evidence::Observed => phrase.push(PLAIN, route(taken)),
        // All of the hop is marked then.
        Evidence::Inferred if hop.evidence == Evidence::Inferred => phrase.push(PLAIN, route(taken)),
        Evidence::Inferred => phrase.push(DIM, format!("{INFERRED} {}", route(taken))),
    }
    phrase
}

/// A route as `ip route` has it.
pub(super) fn route(taken: &RouteTaken) -> String {
    let RouteTaken { destination, device, gateway, evidence } = taken;
    let destination = match (destination, evidence) {
        (Some(destination), _) => format!("{destination} "),
        // The kernel has told where to, which is in another table then or newer than what was read.
        (None, Evidence::Observed) => String::new(),
        (None, Evidence::Inferred) => "by no route in the table ".to_owned(),
    };
    let gateway = gateway.map_or_else(String::new, |gateway| format!("via {gateway} "));
    format!("{destination}{gateway}dev {device}")
}

fn tunnel(verb: &str, sign: char, style: Style, outer: Option<&Outer>) -> Phrase {
    let mut phrase = Phrase::new().with(CHANGED, verb);
    let Some(outer) = outer else { return phrase };
    let Outer { kind, vni, src, dst, sport, dport, overhead } = outer;
    phrase.append(CHANGED, format!("{sign}{overhead} B"));
    phrase.append(style, kind);
    if let Some(vni) = vni {
        phrase.push(style, format!(" vni {vni}"));
    }
    phrase.append(style, format!("{} → {}", address(*src, *sport), address(*dst, *dport)));
    phrase
}

fn translation(nat: &Nat, phrase: &mut Phrase) {
    let Nat { kind: _, before, after, service, rule } = nat;
    changed_ends(before, after, phrase);
    if let Some(service) = service {
        let ServiceRef { name, port, endpoint, endpoints } = service;
        let service = format!("svc/{name}:{port}");
        let endpoint = match endpoint {
            Some(endpoint) if *endpoints > 1 => format!("{endpoint}, 1 of {endpoints}"),
            Some(endpoint) => endpoint.to_string(),
            None => format!("one of {endpoints}"),
        };
        let text = if nat.kind == NatKind::UnDnat || nat.kind == NatKind::UnRedirect {
            format!("answers for {service}")
        } else {
            format!("{service} → {endpoint}")
        };
        phrase.append(CHANGED, text);
    }
    if let Some(rule) = rule {
        phrase.append(DIM, format!("by {}", rule.brief()));
    }
}

/// What a translation is called.
fn kind_of_nat(kind: NatKind) -> &'static str {
    match kind {
        NatKind::Dnat => "dnat",
        NatKind::Redirect => "redirect",
        NatKind::Snat => "snat",
        NatKind::Masquerade => "masquerade",
        NatKind::UnDnat => "dnat undone",
        NatKind::UnRedirect => "redirect undone",
        NatKind::UnSnat => "snat undone",
        NatKind::UnMasquerade => "masquerade undone",
    }
}

/// A translation that nothing told of, told by the packet itself.
fn differences(before: &Tuple, after: &Tuple, phrase: &mut Phrase) {
    if before != after {
        phrase.append(CHANGED, "now");
        changed_ends(before, after, phrase);
    }
}

fn changed_ends(before: &Tuple, after: &Tuple, phrase: &mut Phrase) {
    for (name, before, after) in [
        ("src", (before.src, before.sport), (after.src, after.sport)),
        ("dst", (before.dst, before.dport), (after.dst, after.dport)),
    ] {
        if before != after {
            phrase.append(DIM, format!("{name} "));
            phrase.push(PLAIN, address(before.0, before.1));
            phrase.push(CHANGED, format!(" → {}", address(after.0, after.1)));
        }
    }
}

/// How many packets it is, how large, and whether it travels in another's company.
fn shape(hop: &Hop, before: Option<&Hop>, phrase: &mut Phrase) {
    let packets_before = before.map_or(1, |before| before.packets);
    if hop.packets != packets_before {
        let text = if hop.packets == 1 {
            format!("one packet again, {}", bytes(hop.bytes))
        } else {
            format!("×{} packets, {}", hop.packets, bytes(hop.bytes))
        };
        phrase.append(CHANGED, text);
    } else if let Some(before) = before.filter(|before| before.bytes != hop.bytes) {
        phrase.append(CHANGED, format!("{} → {}", bytes(before.bytes), bytes(hop.bytes)));
    } else if hop.packets > 1 {
        phrase.append(DIM, format!("×{}", hop.packets));
    }
    match (before.is_some_and(|before| before.merged), hop.merged) {
        (false, true) => phrase.append(CHANGED, "merged with others' bytes"),
        (true, true) => phrase.append(DIM, "still merged"),
        (true, false) => phrase.append(CHANGED, "on its own again"),
        (false, false) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_carry_their_port() {
        assert_eq!(address("10.0.0.1".parse().unwrap(), Some(80)), "10.0.0.1:80");
        assert_eq!(address("fd00::1".parse().unwrap(), Some(80)), "[fd00::1]:80");
        assert_eq!(address("fd00::1".parse().unwrap(), None), "fd00::1");
    }

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }
}
