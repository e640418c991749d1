//! The parts of a namespace's state that explain drops: from netlink messages, and from `/proc/sys/net`.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::parse;
use podtrace_protocol::topology::state::{
    ForwardingEntry, Neighbour, NeighbourState, PolicyAction, PolicyRule, Refusal, RefusingRoute,
};

/// Settings of the whole namespace.
const GLOBAL: [&str; 12] = [
    "ipv4/ip_forward",
    "ipv4/icmp_echo_ignore_all",
    "ipv4/conf/all/forwarding",
    "ipv4/conf/all/rp_filter",
    "ipv4/conf/all/proxy_arp",
    "ipv6/icmp/echo_ignore_all",
    "ipv6/conf/all/forwarding",
    "ipv6/conf/all/disable_ipv6",
    "bridge/bridge-nf-call-iptables",
    "bridge/bridge-nf-call-ip6tables",
    "bridge/bridge-nf-call-arptables",
    "netfilter/nf_conntrack_max",
];
/// Settings of one device, below `ipv4/conf/DEVICE` or `ipv6/conf/DEVICE`.
const OF_DEVICE: [(&str, &str); 5] = [
    ("ipv4", "forwarding"),
    ("ipv4", "rp_filter"),
    ("ipv4", "proxy_arp"),
    ("ipv6", "forwarding"),
    ("ipv6", "disable_ipv6"),
];
/// Rules that every namespace begins with: local, main and default.
const ORDINARY: [(u32, u32); 3] = [(0, 255), (32766, 254), (32767, 253)];

/// Reads the settings of the caller's own namespace. What the kernel does not have is left out.
pub(super) fn sysctls<'a>(devices: impl Iterator<Item = &'a str>) -> BTreeMap<String, i64> {
    let of_devices = devices.flat_map(|device| {
        // A name with a slash in it would lead elsewhere; the kernel allows none.
        OF_DEVICE.iter().map(move |(family, name)| format!("{family}/conf/{device}/{name}"))
    });
    let paths = GLOBAL.into_iter().map(str::to_owned).chain(of_devices);
    let value = |path: &str| fs::read_to_string(format!("/proc/sys/net/{path}")).ok()?.trim().parse().ok();
    paths.filter_map(|path| Some((value(&path)?, path))).map(|(value, path)| (path, value)).collect()
}

/// An entry of the neighbour table; `None` if it is for no address.
pub(super) fn neighbour(entry: &parse::Neighbour) -> Option<Neighbour> {
    let parse::Neighbour { device, address, mac, state } = *entry;
    // Multicast and broadcast are resolved by rule.
    let address = address.filter(|address| !address.is_multicast() && state != NeighbourState::NoArp)?;
    Some(Neighbour { device, address, mac, state })
}

/// An entry of a forwarding table; `None` if it is for no address.
pub(super) fn forwarding(entry: &parse::Neighbour) -> Option<ForwardingEntry> {
    let parse::Neighbour { device, address, mac, state: _ } = *entry;
    // Multicast groups that devices listen to stand in these tables as well.
    let mac = mac.filter(|mac| mac[0] & 1 == 0)?;
    Some(ForwardingEntry { device, mac, remote: address })
}

/// A route that refuses what it matches; `None` for any other.
pub(super) fn refusing(message: &RouteMessage) -> Option<RefusingRoute> {
    let refusal = match message.header.kind {
        RouteType::BlackHole => Refusal::Blackhole,
        RouteType::Unreachable => Refusal::Unreachable,
        RouteType::Prohibit => Refusal::Prohibit,
        _ => return None,
    };
    let mut destination: IpAddr = match message.header.address_family {
        AddressFamily::Inet => [0; 4].into(),
        AddressFamily::Inet6 => [0; 16].into(),
        _ => return None,
    };
    let mut table = u32::from(message.header.table);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => destination = (*ip).into(),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => destination = (*ip).into(),
            RouteAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    let destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    Some(RefusingRoute { destination, table, refusal })
}

/// A rule of the routing policy database; `None` for those that are always there.
pub(super) fn policy(message: &RuleMessage) -> Option<PolicyRule> {
    let header = &message.header;
    let mut rule = PolicyRule {
        priority: 0,
        from: None,
        to: None,
        input: None,
        conditional: false,
        action: PolicyAction::Other,
    };
    let mut table = u32::from(header.table);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Source(ip) => rule.from = IpNet::new(*ip, header.src_len).ok(),
            RuleAttribute::Destination(ip) => rule.to = IpNet::new(*ip, header.dst_len).ok(),
            RuleAttribute::Iifname(name) => rule.input = Some(name.clone()),
            RuleAttribute::Table(number) => table = *number,
            RuleAttribute::FwMark(_)
            | RuleAttribute::Oifname(_)
            | RuleAttribute::TunId(_)
            | RuleAttribute::L3MDev(true)
            | RuleAttribute::UidRange(_)
            | RuleAttribute::IpProtocol(_)
            | RuleAttribute::SourcePortRange(_)
            | RuleAttribute::DestinationPortRange(_) => rule.conditional = true,
            _ => {}
        }
    }
    rule.action = match header.action {
        RuleAction::ToTable => PolicyAction::Lookup(table),
        RuleAction::Blackhole => PolicyAction::Refuse(Refusal::Blackhole),
        RuleAction::Unreachable => PolicyAction::Refuse(Refusal::Unreachable),
        RuleAction::Prohibit => PolicyAction::Refuse(Refusal::Prohibit),
        _ => PolicyAction::Other,
    };
    let is_ordinary = rule.action == PolicyAction::Lookup(table)
        && ORDINARY.contains(&(rule.priority, table))
        && (rule.from, rule.to, &rule.input, rule.conditional) == (None, None, &None, false);
    (!is_ordinary).then_some(rule)
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::rule::RuleHeader;

    use super::*;

    fn rule(action: RuleAction, attributes: Vec<RuleAttribute>) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header =
            RuleHeader { family: AddressFamily::Inet, src_len: 32, action, ..RuleHeader::default() };
        message.attributes = attributes;
        message
    }

    #[test]
    fn only_rules_that_somebody_added_are_kept() {
        let ordinary = vec![RuleAttribute::Priority(32766), RuleAttribute::Table(254)];
        assert_eq!(policy(&rule(RuleAction::ToTable, ordinary)), None);
        let source = RuleAttribute::Source([10, 42, 0, 10].into());
        let added = policy(&rule(RuleAction::Prohibit, vec![RuleAttribute::Priority(100), source.clone()]));
        let added = added.expect("a rule of its own");
        assert_eq!((added.priority, added.from), (100, Some("10.42.0.10/32".parse().unwrap())));
        assert_eq!((added.action, added.conditional), (PolicyAction::Refuse(Refusal::Prohibit), false));
        let marked = policy(&rule(RuleAction::ToTable, vec![source, RuleAttribute::FwMark(1)]));
        assert!(marked.expect("a rule of its own").conditional);
    }

    #[test]
    fn routes_that_refuse_are_told_from_those_that_lead_somewhere() {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.destination_prefix_length = 24;
        message.attributes = vec![
            RouteAttribute::Destination(RouteAddress::Inet([10, 42, 1, 0].into())),
            RouteAttribute::Table(254),
        ];
        assert_eq!(refusing(&message), None);
        message.header.kind = RouteType::BlackHole;
        let found = refusing(&message).expect("a route that refuses");
        assert_eq!((found.destination, found.table), ("10.42.1.0/24".parse().unwrap(), 254));
        assert_eq!(found.refusal, Refusal::Blackhole);
    }
}
