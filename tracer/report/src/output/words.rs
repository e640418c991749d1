//! Descriptions of hops and their parts, as styled phrases for the text outputs and the HTML page.
//!
//! What a hop changed is emphasized; what was inferred is dimmed and marked with [`INFERRED`].

use std::net::{IpAddr, SocketAddr};

use anstyle::Style;

use super::phrase::{BAD, CHANGED, DIM, PLAIN, Phrase};
use super::timing::span;
use podtrace_path::{
    Action, Drop, DropCause, End, Evidence, Hop, Nat, NatKind, Neighbour, Outer, Path, Protocol, Resolution,
    RouteTaken, ServiceRef, Tuple, Verdict,
};

/// Marks everything that was inferred, not observed.
pub(super) const INFERRED: &str = "≈";

/// Describes what happened at a hop: its action, and what changed since the previous hop.
pub(super) fn describe_hop(hop: &Hop, previous: Option<&Hop>) -> Phrase {
    describe(hop, previous, action)
}

/// The same for a hop of a path whose last lines are near: the drop that ended it is explained there, and only named here.
pub(super) fn describe_hop_of(path: &Path, hop: &Hop, previous: Option<&Hop>) -> Phrase {
    let ended = final_drop(path).filter(|_| path.verdict == Verdict::Dropped);
    if ended.is_some_and(|(last, _)| last.index == hop.index) {
        describe(hop, previous, dropped)
    } else {
        describe_hop(hop, previous)
    }
}

fn describe(hop: &Hop, previous: Option<&Hop>, action: fn(&Hop) -> Phrase) -> Phrase {
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
    } else if let Some(previous) = previous {
        tuple_change(&previous.tuple, &hop.tuple, &mut phrase);
    }
    size_change(hop, previous, &mut phrase);
    match &hop.neighbour {
        None | Some(Neighbour { outcome: Resolution::Known, .. }) => {}
        Some(failed @ Neighbour { outcome: Resolution::Failed, .. }) => {
            phrase.append(BAD, resolution(failed));
        }
        Some(requested) => phrase.append(CHANGED, resolution(requested)),
    }
    phrase
}

/// Result of resolving the next hop's MAC address.
pub(super) fn resolution(neighbour: &Neighbour) -> String {
    let Neighbour { address, outcome, waited_ns } = neighbour;
    match outcome {
        Resolution::Known => format!("{address} (in the neighbour table)"),
        Resolution::Answered => format!("neighbour {address} resolved in {}", span(*waited_ns)),
        Resolution::Asked => format!("neighbour {address} requested"),
        Resolution::Failed => format!("neighbour {address} not resolved: no reply in {}", span(*waited_ns)),
    }
}

/// `10.0.0.1:80`, `[fd00::1]:80`, or without a port the address alone.
pub(crate) fn address(ip: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| ip.to_string(), |port| SocketAddr::new(ip, port).to_string())
}

/// Name of an endpoint: its Service, else its pod, else its node; `None` if only the address is known.
pub(crate) fn endpoint_name(endpoint: &End) -> Option<String> {
    match (&endpoint.service, &endpoint.pod, &endpoint.node) {
        (Some(service), ..) => Some(format!("svc/{service}")),
        (None, Some(pod), _) => Some(pod.to_string()),
        (None, None, Some(node)) => Some(format!("node/{node}")),
        (None, None, None) => None,
    }
}

/// Name of a protocol.
pub(crate) fn protocol(protocol: Protocol) -> String {
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

/// Start of a path, by its first node's clock: RFC 3339, UTC, with nanoseconds.
pub(super) fn start_time(path: &Path) -> String {
    timestamp(path.started_at)
}

/// Nanoseconds since 1970 as RFC 3339 in UTC, with nanoseconds.
pub(super) fn timestamp(nanoseconds: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(nanoseconds))
        .map_or_else(|_| "?".to_owned(), |time| format!("{time:.9}"))
}

/// Time of day in UTC to the microsecond: `05:00:00.000088`.
pub(super) fn time_of_day(nanoseconds: u64) -> String {
    timestamp(nanoseconds).get(11..26).unwrap_or("?").to_owned()
}

/// Name of the hop's device, or `–` without one.
pub(super) fn device(hop: &Hop) -> Phrase {
    let style = match hop.evidence {
        Evidence::Observed => PLAIN,
        Evidence::Inferred => DIM,
    };
    Phrase::new().with(style, hop.device.as_deref().unwrap_or("–"))
}

/// A number of bytes: `14,480 B`.
pub(super) fn bytes(number: u32) -> String {
    format!("{} B", thousands(u64::from(number)))
}

/// A number with thousands separators: `14,480`.
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
pub(crate) fn drop_reason(drop: &Drop) -> String {
    let reason = match (&drop.reason, &drop.location) {
        (Some(reason), Some(location)) => format!("{reason} in {location}"),
        (Some(reason), None) => reason.clone(),
        (None, Some(location)) => format!("in {location}"),
        (None, None) => "the kernel reported no reason".to_owned(),
    };
    let reason = match drop.cause {
        Some(DropCause::ConntrackTableFull { .. }) => format!("{reason}: conntrack table full"),
        Some(DropCause::ConntrackClash) => format!("{reason}: conntrack insert failed"),
        None => reason,
    };
    match (&drop.rule, &drop.netfilter) {
        (Some(rule), _) => format!("{reason}, by {rule}"),
        (None, Some(hook)) => format!("{reason}, by a rule at netfilter hook {hook}"),
        (None, None) => reason,
    }
}

/// The hop at which the path was dropped.
pub(super) fn final_drop(path: &Path) -> Option<(&Hop, &Drop)> {
    path.hops.iter().rev().find_map(|hop| hop.drop.as_ref().map(|drop| (hop, drop)))
}

/// Describes a hop's action: `from pod1`, `routed  10.42.1.0/24 dev cni0`, …
fn action(hop: &Hop) -> Phrase {
    let phrase = Phrase::new();
    if let Some(drop) = &hop.drop {
        return dropped(hop).with(PLAIN, "  ").with(BAD, drop_reason(drop));
    }
    match hop.action {
        Action::PodEgress => pod(phrase.with(PLAIN, "from "), hop),
        Action::PodIngress => pod(phrase.with(PLAIN, "to "), hop),
        Action::Bridge if hop.flooded => phrase.with(CHANGED, "flooded to all ports"),
        Action::Bridge => phrase.with(PLAIN, "bridged"),
        Action::Route => routed(hop),
        Action::LocalIn => phrase.with(PLAIN, "to ").with(PLAIN, &hop.node).with(PLAIN, " itself"),
        Action::LocalOut => phrase.with(PLAIN, "from ").with(PLAIN, &hop.node).with(PLAIN, " itself"),
        Action::Nat => {
            phrase.with(CHANGED, hop.nat.as_ref().map_or("translated", |nat| kind_of_nat(nat.kind)))
        }
        // Without a header it is not known that it was encapsulated: the tunnel may have had no peer for it.
        Action::Encapsulate if hop.outer.is_none() => phrase.with(PLAIN, "to the tunnel"),
        Action::Encapsulate => tunnel("encapsulated", '+', PLAIN, hop.outer.as_ref()),
        Action::Decapsulate => tunnel("decapsulated", '−', DIM, hop.outer.as_ref()),
        Action::NodeEgress => phrase.with(PLAIN, "left ").with(PLAIN, &hop.node),
        Action::NodeIngress => phrase.with(PLAIN, "arrived at ").with(PLAIN, &hop.node),
        Action::Queue => phrase.with(PLAIN, "queued"),
        Action::Drop => phrase.with(BAD, "✗ dropped"),
    }
}

/// `✗ dropped`, and inside which pod.
fn dropped(hop: &Hop) -> Phrase {
    let phrase = Phrase::new().with(BAD, "✗ dropped");
    if hop.pod.is_some() { pod(phrase.with(PLAIN, " inside "), hop) } else { phrase }
}

/// Adds the pod's name without its namespace, which is in the header.
fn pod(phrase: Phrase, hop: &Hop) -> Phrase {
    match &hop.pod {
        Some(pod) => phrase.with(PLAIN, pod.rsplit_once('/').map_or(&**pod, |(_, name)| name)),
        None => phrase.with(DIM, "an unknown pod"),
    }
}

/// `routed` with the route that was taken.
fn routed(hop: &Hop) -> Phrase {
    // Without a route nobody knows whether one was found.
    let Some(taken) = &hop.route else { return Phrase::new().with(PLAIN, "to be routed") };
    let mut phrase = Phrase::new().with(PLAIN, "routed");
    phrase.push(PLAIN, "  ");
    match taken.evidence {
        Evidence::Observed => phrase.push(PLAIN, route(taken)),
        // An inferred hop is marked as a whole.
        Evidence::Inferred if hop.evidence == Evidence::Inferred => phrase.push(PLAIN, route(taken)),
        Evidence::Inferred => phrase.push(DIM, format!("{INFERRED} {}", route(taken))),
    }
    phrase
}

/// A route in the format of `ip route`.
pub(super) fn route(taken: &RouteTaken) -> String {
    let RouteTaken { destination, device, gateway, evidence } = taken;
    let destination = match (destination, evidence) {
        (Some(destination), _) => format!("{destination} "),
        // The kernel used a route that was not read: it is from another table, or newer.
        (None, Evidence::Observed) => String::new(),
        (None, Evidence::Inferred) => "no matching route in the table, ".to_owned(),
    };
    let gateway = gateway.map_or_else(String::new, |gateway| format!("via {gateway} "));
    format!("{destination}{gateway}dev {device}")
}

/// `encapsulated` or `decapsulated`, with the tunnel header.
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

/// Adds the addresses, the Service and the rule of a translation.
fn translation(nat: &Nat, phrase: &mut Phrase) {
    let Nat { kind: _, before, after, service, rule } = nat;
    changed_addresses(before, after, phrase);
    if let Some(service) = service {
        let ServiceRef { name, port, endpoint, endpoints } = service;
        let service = format!("svc/{name}:{port}");
        let endpoint = match endpoint {
            Some(endpoint) if *endpoints > 1 => format!("{endpoint}, 1 of {endpoints}"),
            Some(endpoint) => endpoint.to_string(),
            None => "an address that is none of its endpoints".to_owned(),
        };
        let text = if nat.kind == NatKind::UnDnat || nat.kind == NatKind::UnRedirect {
            format!("reply from {service}")
        } else {
            format!("{service} → {endpoint}")
        };
        phrase.append(CHANGED, text);
    }
    if let Some(rule) = rule {
        phrase.append(DIM, format!("by {}", rule.brief()));
    }
}

/// Name of a kind of translation.
pub(crate) fn kind_of_nat(kind: NatKind) -> &'static str {
    match kind {
        NatKind::Dnat => "dnat",
        NatKind::Redirect => "redirect",
        NatKind::Snat => "snat",
        NatKind::Masquerade => "masquerade",
        NatKind::UnDnat => "reverse dnat",
        NatKind::UnRedirect => "reverse redirect",
        NatKind::UnSnat => "reverse snat",
        NatKind::UnMasquerade => "reverse masquerade",
    }
}

/// Adds a change of addresses for which no translation was observed.
fn tuple_change(before: &Tuple, after: &Tuple, phrase: &mut Phrase) {
    if before != after {
        phrase.append(CHANGED, "now");
        changed_addresses(before, after, phrase);
    }
}

/// Adds `src A → B` and `dst A → B` for the sides that changed.
fn changed_addresses(before: &Tuple, after: &Tuple, phrase: &mut Phrase) {
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

/// Adds what changed in number and size of the packets (segmentation, fragmentation) and in merging (GRO).
fn size_change(hop: &Hop, previous: Option<&Hop>, phrase: &mut Phrase) {
    let previous_packets = previous.map_or(1, |previous| previous.packets);
    if hop.packets != previous_packets {
        let text = if hop.packets == 1 {
            format!("single packet, {}", bytes(hop.bytes))
        } else {
            format!("×{} packets, {}", hop.packets, bytes(hop.bytes))
        };
        phrase.append(CHANGED, text);
    } else if let Some(previous) = previous.filter(|previous| previous.bytes != hop.bytes) {
        phrase.append(CHANGED, format!("{} → {}", bytes(previous.bytes), bytes(hop.bytes)));
    } else if hop.packets > 1 {
        phrase.append(DIM, format!("×{}", hop.packets));
    }
    match (previous.is_some_and(|previous| previous.merged), hop.merged) {
        (false, true) => phrase.append(CHANGED, "merged with other segments"),
        (true, true) => phrase.append(DIM, "still merged"),
        (true, false) => phrase.append(CHANGED, "no longer merged"),
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
    fn thousands_are_separated() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }
}
