//! Which of several texts fits a drop whose function and reason have more than one cause: what the rest of the path says
//! decides.

use std::collections::BTreeSet;

use podtrace_path::{Action, Direction, Drop, Evidence, Hop, Path, Protocol, Verdict};

use super::reasons::{
    ADDRESSED_ELSEWHERE, BLACKHOLE, LOOP, NEIGHBOUR, NEIGHBOUR_IN_POD, NETFILTER, NETFILTER_IN_POD,
    NETFILTER_OF_TUNNEL, NO_CONNECTION, NO_HAIRPIN, NO_PEER, NO_ROUTE, NO_ROUTE_OF_TUNNEL, NO_SERVICE,
    NO_SERVICE_UNTRACKED, NO_SOCKET, NO_TUNNEL, NOT_BRIDGED, NOT_TAKEN, NOT_THIS_DEVICE, PROHIBIT,
    REDIRECTED, SMALL_TTL, TTL, UNREACHABLE,
};

/// The text that fits, given the one for the drop's function and reason alone.
pub(super) fn text(general: &'static str, drop: &Drop, hop: &Hop, path: &Path) -> &'static str {
    match general {
        NO_SOCKET if is_in_tunnel(hop, path) => NO_TUNNEL,
        NO_PEER if skips_routing(hop, path) => REDIRECTED,
        NO_SOCKET if belongs_to_a_connection(path) => NO_CONNECTION,
        // Where nothing listens, TCP answers by a reset.
        NO_SOCKET
            if path.proto == Protocol::Tcp && drop.reason.is_none() && path.verdict != Verdict::Rejected =>
        {
            NOT_TAKEN
        }
        NO_ROUTE if enters_tunnel(hop, path) => NO_ROUTE_OF_TUNNEL,
        NO_ROUTE if path.to.service.is_some() && path.to.ip == hop.tuple.dst => {
            if hop.conntrack.is_some() {
                NO_SERVICE
            } else {
                NO_SERVICE_UNTRACKED
            }
        }
        NO_ROUTE => refused_by(drop, path),
        TTL if passes_twice(path) => LOOP,
        TTL if is_whole(path) => SMALL_TTL,
        NEIGHBOUR if hop.pod.is_some() => NEIGHBOUR_IN_POD,
        NETFILTER if hop.pod.is_some() => NETFILTER_IN_POD,
        NETFILTER if is_in_tunnel(hop, path) || enters_tunnel(hop, path) => NETFILTER_OF_TUNNEL,
        NOT_BRIDGED if is_for_its_sender(path) => NO_HAIRPIN,
        NOT_THIS_DEVICE if hop.pod.is_some() => ADDRESSED_ELSEWHERE,
        general => general,
    }
}

/// Whether the packet arrived at this node in a tunnel and was not taken out of it.
pub(super) fn is_in_tunnel(hop: &Hop, path: &Path) -> bool {
    last_here(hop, path).is_some_and(|last| last.action == Action::NodeIngress && last.outer.is_some())
}

/// Whether the last that was seen of it on this node is that its tunnel took it in.
pub(super) fn enters_tunnel(hop: &Hop, path: &Path) -> bool {
    last_here(hop, path).is_some_and(|last| last.action == Action::Encapsulate)
}

/// Whether it came straight from a pod's veth to the tunnel: no hop routed it, not even an inferred one.
fn skips_routing(hop: &Hop, path: &Path) -> bool {
    let mut before = path.hops.iter().rev().filter(|other| other.index < hop.index && other.node == hop.node);
    before.next().is_some_and(|last| last.action == Action::Encapsulate)
        && before.next().is_some_and(|last| last.action == Action::PodEgress)
}

/// The hop on the same node before a drop.
fn last_here<'a>(hop: &Hop, path: &'a Path) -> Option<&'a Hop> {
    path.hops.iter().take_while(|other| other.index < hop.index).filter(|other| other.node == hop.node).last()
}

/// Whether a Service led the packet back to the pod that sent it.
fn is_for_its_sender(path: &Path) -> bool {
    let receiver = path.translated.as_deref().map_or(&path.to, |translated| &translated.to);
    receiver.pod.is_some() && receiver.pod == path.from.pod
}

/// Whether the path is all of one packet's, from its sender on.
fn is_whole(path: &Path) -> bool {
    let begins = |hop: &Hop| matches!(hop.action, Action::PodEgress | Action::LocalOut);
    path.confidence >= 1.0 && path.hops.first().is_some_and(begins)
}

/// Whether it does not open a connection: then no listener is missing.
fn belongs_to_a_connection(path: &Path) -> bool {
    match path.proto {
        Protocol::Tcp => path.label != "SYN",
        Protocol::Udp => path.flow.direction == Direction::Reply,
        Protocol::Icmp | Protocol::Icmpv6 | Protocol::Sctp | Protocol::Other(_) => false,
    }
}

/// The TTL with which a packet was sent, given that it expired at `hop` and that its whole path was seen: each node that
/// routed it before took one off. The node where it expired did not.
pub(super) fn initial_ttl(hop: &Hop, path: &Path) -> u32 {
    let sender = path.hops.first().filter(|first| first.action == Action::LocalOut).map(|first| &first.node);
    let forwarded = |other: &&Hop| {
        other.action == Action::Route
            && other.index < hop.index
            && other.node != hop.node
            && Some(&other.node) != sender
    };
    let forwarded =
        path.hops.iter().filter(forwarded).map(|other| &other.node).collect::<BTreeSet<_>>().len();
    u32::try_from(forwarded).unwrap_or(u32::MAX).saturating_add(1)
}

/// The kinds of routes that refuse differ in what the sender is answered.
fn refused_by(drop: &Drop, path: &Path) -> &'static str {
    let answer = path.reason.as_deref().unwrap_or_default();
    if answer.contains("administratively prohibited") {
        PROHIBIT
    } else if answer.contains("host unreachable") {
        UNREACHABLE
    } else if drop.reason.as_deref() == Some("NOT_SPECIFIED") && !answer.contains("unreachable") {
        BLACKHOLE
    } else {
        NO_ROUTE
    }
}

/// Whether it was seen at one point twice, as in a loop.
fn passes_twice(path: &Path) -> bool {
    let seen = |hop: &&Hop| hop.evidence == Evidence::Observed && hop.action != Action::Drop;
    let hops: Vec<&Hop> = path.hops.iter().filter(seen).collect();
    hops.iter().enumerate().any(|(at, hop)| {
        let point = |hop: &Hop| (hop.node.clone(), hop.device.clone(), hop.action);
        hops[..at].iter().any(|other| point(other) == point(hop))
    })
}

/// The text for a packet of IPv6: the same commands look at IPv4 only.
pub(super) fn for_ipv6(text: &str) -> String {
    [
        // IPv6 has no reverse path filter but rules.
        ("`sysctl net.ipv4.conf.all.rp_filter`", "`nft list ruleset`"),
        ("`ip route", "`ip -6 route"),
        ("`ip neigh", "`ip -6 neigh"),
        ("`ip rule", "`ip -6 rule"),
        ("`iptables", "`ip6tables"),
        ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"),
        ("net.ipv4.conf", "net.ipv6.conf"),
        ("net.ipv4.icmp_echo_ignore_all", "net.ipv6.icmp.echo_ignore_all"),
        ("IpInHdrErrors", "Ip6InHdrErrors"),
        ("IpReasmFails", "Ip6ReasmFails"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (of_ipv4, of_ipv6)| text.replace(of_ipv4, of_ipv6))
}

#[cfg(test)]
mod tests {
    use super::super::advice::advice;
    use super::*;
    use crate::output::samples;

    fn dropped(reason: &str, location: &str) -> (Path, Drop) {
        let path = samples::dropped();
        let drop =
            Drop { reason: Some(reason.to_owned()), location: Some(location.to_owned()), ..Drop::default() };
        (path, drop)
    }

    fn said(path: &Path, drop: &Drop) -> String {
        advice(drop, &path.hops[2], path).unwrap_or_default()
    }

    #[test]
    fn a_route_that_refuses_is_no_missing_route() {
        for (reason, answer, part) in [
            (
                "NOT_SPECIFIED",
                Some("ICMP unreachable, administratively prohibited from 10.42.0.1"),
                "type prohibit",
            ),
            ("NOT_SPECIFIED", Some("ICMP host unreachable from 10.42.0.1"), "type unreachable"),
            ("NOT_SPECIFIED", Some("NOT_SPECIFIED"), "type blackhole"),
            (
                "IP_INNOROUTES",
                Some("ICMP network unreachable from 10.42.0.1"),
                "no route to 10.42.1.10, or a route",
            ),
        ] {
            let (mut path, drop) = dropped(reason, "ip_error");
            path.reason = answer.map(str::to_owned);
            let said = said(&path, &drop);
            assert!(said.contains(part) && !said.contains("CNI"), "{answer:?}: {said}");
            assert_eq!(part.contains("no route"), said.contains("no route"), "{said}");
        }
    }

    #[test]
    fn a_tunnel_lacks_a_peer_only_for_what_was_routed_to_it() {
        let (mut path, drop) = dropped("NO_TX_TARGET", "vxlan_xmit");
        let tunnel = path.hops[1].clone();
        let hop = |index, action| Hop { index, action, drop: None, ..tunnel.clone() };
        path.hops = vec![hop(0, Action::PodEgress), hop(1, Action::Route), hop(2, Action::Encapsulate)];
        path.hops.push(Hop { drop: Some(drop.clone()), ..hop(3, Action::Drop) });
        let advice_for =
            |path: &Path| advice(&drop, &path.hops[path.hops.len() - 1], path).unwrap_or_default();
        assert!(advice_for(&path).contains("has no peer"), "{}", advice_for(&path));
        path.hops.remove(1);
        let redirected = advice_for(&path);
        assert!(redirected.contains("tc filter show dev") && !redirected.contains("no peer"), "{redirected}");
    }

    #[test]
    fn an_answer_that_nobody_wants_is_no_missing_listener() {
        for (label, listens) in [("SYN", true), ("SYN-ACK", false), ("RST-ACK", false), ("ACK", false)] {
            let (mut path, drop) = dropped("NO_SOCKET", "tcp_v4_rcv");
            (path.proto, path.label) = (Protocol::Tcp, label.to_owned());
            assert_eq!(said(&path, &drop).contains("listens"), listens, "{label}");
        }
        // Without a reason: one that was refused was answered by a reset.
        for (verdict, listens) in [(Verdict::Rejected, true), (Verdict::Dropped, false)] {
            let (mut path, mut drop) = dropped("NO_SOCKET", "tcp_v4_rcv");
            (path.proto, path.label, path.verdict) = (Protocol::Tcp, "SYN".to_owned(), verdict);
            drop.reason = None;
            assert_eq!(said(&path, &drop).contains("listens"), listens, "{verdict:?}");
        }
        // Kernels that know reasons say so where no socket was found.
        let (mut path, drop) = dropped("NOT_SPECIFIED", "tcp_v4_rcv");
        (path.proto, path.label) = (Protocol::Tcp, "SYN".to_owned());
        assert!(!said(&path, &drop).contains("listens"));
    }

    #[test]
    fn a_small_time_to_live_is_no_loop() {
        let (mut path, drop) = dropped("IP_INHDR", "ip_forward");
        assert!(said(&path, &drop).contains("with a TTL of "), "{}", said(&path, &drop));
        assert!(!said(&path, &drop).contains("routing loop"));
        let again = path.hops[1].clone();
        path.hops.insert(2, again);
        assert!(said(&path, &drop).contains("routing loop"));
    }

    #[test]
    fn what_a_pods_own_rules_drop_is_looked_for_in_the_pod() {
        let (mut path, drop) = dropped("NETFILTER_DROP", "nf_hook_slow");
        assert!(said(&path, &drop).contains("rule on node1"));
        path.hops[2].pod = Some("default/pod1".into());
        let said = said(&path, &drop);
        assert!(said.contains("inside default/pod1") && !said.contains("on node1"), "{said}");
    }

    #[test]
    fn commands_are_of_the_packets_family_and_name_devices_as_sysctl_does() {
        let (mut path, drop) = dropped("IP_INADDRERRORS", "ip_error");
        path.hops[2].device = Some("flannel.1".into());
        assert!(said(&path, &drop).contains("net.ipv4.conf.flannel/1.forwarding"));
        path.hops[2].tuple.dst = "fd00::1".parse().unwrap();
        let text = said(&path, &drop);
        assert!(text.contains("net.ipv6.conf.all.forwarding net.ipv6.conf.flannel/1.forwarding"), "{text}");
        let (mut path, drop) = dropped("IP_INNOROUTES", "ip6_pkt_discard");
        path.hops[2].tuple.dst = "fd00::1".parse().unwrap();
        assert!(said(&path, &drop).contains("`ip -6 route get fd00::1"), "{}", said(&path, &drop));
    }
}
