//! Routes, rules and settings by which a namespace refuses to forward.

use std::net::IpAddr;

use ipnet::IpNet;
use podtrace_protocol::topology::DeviceKind;
use podtrace_protocol::topology::state::{PolicyAction, PolicyRule};

use crate::diagnose::facts::{Facts, Place};
use crate::diagnose::finding::{Finding, Kind, Subject};
use crate::diagnose::words::{quoted, sysctl};

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    for place in facts.places() {
        refusing_routes(place, found);
        refusing_rules(place, found);
        diverting_rules(place, found);
        if place.namespace.pod.is_none() {
            forwarding(place, found);
        }
    }
}

fn refusing_routes(place: Place<'_>, found: &mut Vec<Finding>) {
    for route in &place.namespace.state.refusing {
        let destination = route.destination;
        // CNIs keep one for a node's whole pod network, so that packets to a pod that is gone do not leave; and the
        // kernel's own tables hold IPv6 ones. They refuse only what no longer route leads to.
        let ip = if destination.addr().is_ipv6() { "ip -6" } else { "ip" };
        let table = if route.table == 254 { String::new() } else { format!(" table {}", route.table) };
        let problem = format!(
            "{} has a {} route for {destination}{}",
            quoted(place.name()),
            route.refusal,
            table.replace(" table", " in table"),
        );
        let finding = Finding::at(place, "", Kind::Refused, Subject::Between(None, Some(destination)));
        found.push(
            finding
                .says(problem, format!("{ip} route show type {}{table}", route.refusal))
                .fixed_by(format!("{ip} route del {} {destination}{table}", route.refusal)),
        );
    }
}

fn refusing_rules(place: Place<'_>, found: &mut Vec<Finding>) {
    for rule in &place.namespace.state.policy {
        let PolicyRule { priority, from, to, input, conditional, action } = rule;
        let PolicyAction::Refuse(refusal) = action else { continue };
        let network = from.or(*to);
        let ip = if network.is_some_and(|network| network.addr().is_ipv6()) { "ip -6" } else { "ip" };
        let mut written = format!("from {}", from.map_or_else(|| "all".to_owned(), |from| from.to_string()));
        if let Some(to) = to {
            written = format!("{written} to {to}");
        }
        if let Some(input) = input {
            written = format!("{written} iif {}", quoted(input));
        }
        let more = if *conditional { " (and more conditions)" } else { "" };
        let problem =
            format!("{}'s policy rule {priority} is `{written} {refusal}`{more}", quoted(place.name()),);
        let device = input.as_deref().unwrap_or_default();
        let finding = Finding::at(place, device, Kind::Refused, Subject::Between(*from, *to));
        found.push(
            finding
                .says(problem, format!("{ip} rule show"))
                .fixed_by(format!("{ip} rule del pref {priority}")),
        );
    }
}

/// Rules that have packets routed by another table than the main one. Ordinary where a CNI or a VPN put them.
fn diverting_rules(place: Place<'_>, found: &mut Vec<Finding>) {
    for rule in &place.namespace.state.policy {
        let PolicyRule { priority, from, to, input: _, conditional, action } = rule;
        let PolicyAction::Lookup(table) = action else { continue };
        let network = from.or(*to);
        // Whether a rule with other conditions matches is not known.
        let (Some(network), false, false) = (network, *conditional, [253, 254, 255].contains(table)) else {
            continue;
        };
        let ip = if network.addr().is_ipv6() { "ip -6" } else { "ip" };
        let end =
            |word: &str, end: &Option<IpNet>| end.map_or_else(String::new, |end| format!(" {word} {end}"));
        let problem = format!(
            "an `{ip} rule` of {} ({priority}) has packets{}{} routed by table {table}",
            quoted(place.name()),
            end("from", from),
            end("to", to),
        );
        let finding = Finding::at(place, "", Kind::Diverted, Subject::Between(*from, *to));
        found.push(finding.says(problem, format!("{ip} rule show` and `{ip} route show table {table}")));
    }
}

/// Whether a bridge of the node has an IPv6 address that is no link's own: pods behind it use the node as their gateway.
fn has_ipv6_pods(place: Place<'_>) -> bool {
    let is_pods = |address: &IpNet| match address.addr() {
        IpAddr::V6(address) => !address.is_unicast_link_local(),
        IpAddr::V4(_) => false,
    };
    let mut bridges = place.namespace.devices.iter().filter(|device| device.kind == DeviceKind::Bridge);
    bridges.any(|bridge| bridge.addresses.iter().any(is_pods))
}

fn forwarding(place: Place<'_>, found: &mut Vec<Finding>) {
    let state = &place.namespace.state;
    let own = &place.node.name;
    if state.sysctls.get("ipv4/ip_forward") == Some(&0) {
        let path = sysctl("ipv4/ip_forward");
        let problem = format!("{} forwards no IPv4 packets: {path} is 0", quoted(own));
        found.push(
            Finding::at(place, "", Kind::ForwardingOff, Subject::Family { ipv6: false })
                .says(problem, format!("sysctl {path}"))
                .fixed_by(format!("sysctl -w {path}=1")),
        );
    }
    let forwards = state.sysctls.get("ipv4/ip_forward") != Some(&0);
    for device in place.namespace.devices.iter().filter(|_| forwards) {
        let path = format!("ipv4/conf/{}/forwarding", device.name);
        if state.sysctls.get(&path) == Some(&0) && device.name != "lo" {
            let path = sysctl(&path);
            let problem = format!(
                "{} forwards no IPv4 packets that come in by {}: {path} is 0",
                quoted(own),
                quoted(&device.name)
            );
            found.push(
                Finding::at(place, &device.name, Kind::ForwardingOff, Subject::Device)
                    .says(problem, format!("sysctl {path}"))
                    .fixed_by(format!("sysctl -w {path}=1")),
            );
        }
    }
    if state.sysctls.get("ipv6/conf/all/forwarding") == Some(&0) && has_ipv6_pods(place) {
        let path = sysctl("ipv6/conf/all/forwarding");
        let problem = format!("{} forwards no IPv6 packets: {path} is 0", quoted(own));
        found.push(
            Finding::at(place, "", Kind::ForwardingOff, Subject::Family { ipv6: true })
                .says(problem, format!("sysctl {path}"))
                .fixed_by(format!("sysctl -w {path}=1")),
        );
    }
    let all = state.sysctls.get("ipv4/conf/all/rp_filter").copied().unwrap_or(0);
    for device in &place.namespace.devices {
        let name = format!("ipv4/conf/{}/rp_filter", device.name);
        let Some(of_device) = state.sysctls.get(&name).copied() else { continue };
        // The kernel takes the greater of the two: 1 is strict, 2 is loose.
        if all.max(of_device) != 1 {
            continue;
        }
        let path = sysctl(&name);
        let problem = format!(
            "the reverse path filter of {} on {} is strict: {path} is {of_device}, and {} is {all}",
            quoted(&device.name),
            quoted(own),
            sysctl("ipv4/conf/all/rp_filter"),
        );
        found.push(
            Finding::at(place, &device.name, Kind::ReversePath, Subject::Device)
                .says(problem, format!("sysctl {path} {}", sysctl("ipv4/conf/all/rp_filter")))
                .fixed_by(format!("sysctl -w {path}=2")),
        );
    }
}
