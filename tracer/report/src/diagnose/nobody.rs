//! Packets that were translated to an address that nobody has.

use std::net::IpAddr;

use podtrace_path::{Hop, Nat, NatKind, Path, Protocol, Verdict};
use podtrace_protocol::topology::DeviceKind;

use super::facts::Facts;
use super::words::{protocol, quoted};

/// What to say of a packet that was not delivered, if its translation leads to nobody.
pub(super) fn advice(path: &Path, facts: &Facts) -> Option<String> {
    if path.verdict == Verdict::Delivered {
        return None;
    }
    let (hop, nat) = path.hops.iter().find_map(|hop| {
        let nat = hop.nat.as_ref().filter(|nat| nat.kind == NatKind::Dnat)?;
        Some((hop, nat))
    })?;
    let address = nat.after.dst;
    if !is_pods(address, facts) || has_holder(address, facts) {
        return None;
    }
    let known = format!("no pod that is known to this trace has {address}");
    match (&nat.rule, &nat.service) {
        (Some(rule), _) => {
            let rule = rule.to_string().replace('`', "'");
            Some(format!(
                "{known}, and a rule on {} sends the packet there ({rule}): it is stale, or its pod is gone. On {}: `nft \
                 list ruleset` or `iptables-save -t nat`",
                quoted(&hop.node),
                quoted(&hop.node)
            ))
        }
        // Rules have been read: where they lead to the Service's endpoints, they are named.
        (None, Some(_)) => Some(stale_entry(&known, hop, nat)),
        (None, None) => None,
    }
}

/// An entry of connection tracking that outlived what made it.
fn stale_entry(known: &str, hop: &Hop, nat: &Nat) -> String {
    let family = if nat.before.dst.is_ipv4() { "" } else { " -f ipv6" };
    let entry = match nat.before.proto {
        Protocol::Tcp | Protocol::Udp | Protocol::Sctp => format!(
            "{family} -p {} --orig-dst {} --reply-src {}",
            protocol(nat.before.proto),
            nat.before.dst,
            nat.after.dst
        ),
        Protocol::Icmp | Protocol::Icmpv6 | Protocol::Other(_) => {
            format!("{family} --orig-dst {} --reply-src {}", nat.before.dst, nat.after.dst)
        }
    };
    format!(
        "{known}, and no rule that was read leads there: possibly a stale conntrack entry still does. On {}: `conntrack \
         -L{entry}`; to fix it: `conntrack -D{entry}`",
        quoted(&hop.node)
    )
}

/// Whether an address belongs to a network of pods: a node's route leads there by a bridge or a tunnel.
fn is_pods(address: IpAddr, facts: &Facts) -> bool {
    facts.nodes().iter().any(|node| {
        let route = node.topology.route_to(address).filter(|route| route.destination.prefix_len() > 0);
        let device = route.and_then(|route| node.topology.node().and_then(|own| own.device(route.device)));
        device.is_some_and(|device| matches!(device.kind, DeviceKind::Bridge | DeviceKind::Vxlan(_)))
    })
}

fn has_holder(address: IpAddr, facts: &Facts) -> bool {
    facts.owner(address).is_some()
        || facts.holders(address).next().is_some()
        || facts.nodes().iter().any(|node| node.has(address))
}
