//! What keeps a pod from sending at all: no route, a gateway that is nobody's, neighbours that do not answer.

use std::net::IpAddr;

use podtrace_protocol::topology::state::NeighbourState;
use podtrace_protocol::topology::{Device, DeviceKind, is_link_local};

use crate::diagnose::facts::{Facts, Place};
use crate::diagnose::finding::{Finding, Kind, Subject};
use crate::diagnose::words::{ip, quoted, sysctl};

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    for place in facts.places() {
        if place.namespace.pod.is_some() {
            default_routes(place, found);
            echoes(place, found);
        }
        unanswered(facts, place, found);
    }
}

/// A pod that has an address needs a route beyond its own network, and a gateway that is its node's.
fn default_routes(place: Place<'_>, found: &mut Vec<Finding>) {
    for is_v4 in [true, false] {
        let of_family = |address: IpAddr| address.is_ipv4() == is_v4;
        let holds = |device: &&Device| {
            device.kind != DeviceKind::Loopback
                && device
                    .addresses
                    .iter()
                    .any(|address| of_family(address.addr()) && !is_link_local(address.addr()))
        };
        let Some(device) = place.namespace.devices.iter().find(holds) else { continue };
        let command = if is_v4 { "ip" } else { "ip -6" };
        let pod = quoted(place.name());
        let finding = |kind, problem| {
            let subject = Subject::Family { ipv6: !is_v4 };
            Finding::at(place, &device.name, kind, subject).says(problem, format!("{command} route"))
        };
        let routes = &place.namespace.routes;
        let default = routes
            .iter()
            .filter(|route| route.destination.prefix_len() == 0 && of_family(route.destination.addr()))
            .min_by_key(|route| route.metric);
        let Some(default) = default else {
            // A link that is down has lost its routes: that is said of the link.
            if device.up {
                found.push(finding(Kind::NoRoute, format!("{pod} has no default route")));
            }
            continue;
        };
        let Some(gateway) = default.gateway.filter(|gateway| !is_link_local(*gateway)) else { continue };
        if place.node.has(gateway) {
            continue;
        }
        // Where pods hang on no bridge, plugins answer ARP for any address by the veth, so that the gateway is nobody's.
        let bridge = place
            .node
            .topology
            .host_veth_of(place.name())
            .and_then(|veth| place.node.topology.bridge_of(veth.index));
        let Some(bridge) = bridge else { continue };
        let right = bridge.addresses.iter().map(ipnet::IpNet::addr).find(|address| of_family(*address));
        let bridge_has =
            right.map_or_else(String::new, |right| format!("; {} has {right}", quoted(&bridge.name)));
        let problem = format!(
            "{pod}'s default route is by {gateway}, which no device of {} has{bridge_has}",
            quoted(&place.node.name)
        );
        let finding = finding(Kind::WrongGateway, problem);
        found.push(match right {
            Some(right) => finding.fixed_by(format!("{command} route replace default via {right}")),
            None => finding,
        });
    }
}

/// A pod that answers no pings.
fn echoes(place: Place<'_>, found: &mut Vec<Finding>) {
    for (path, ipv6) in [("ipv4/icmp_echo_ignore_all", false), ("ipv6/icmp/echo_ignore_all", true)] {
        if place.namespace.state.sysctls.get(path).is_none_or(|value| *value == 0) {
            continue;
        }
        let path = sysctl(path);
        let problem = format!("{} does not answer pings: {path} is not 0", quoted(place.name()));
        found.push(
            Finding::at(place, "", Kind::EchoIgnored, Subject::Family { ipv6 })
                .says(problem, format!("sysctl {path}"))
                .fixed_by(format!("sysctl -w {path}=0")),
        );
    }
}

/// Neighbours that were asked for and did not answer.
fn unanswered(facts: &Facts, place: Place<'_>, found: &mut Vec<Finding>) {
    for entry in &place.namespace.state.neighbours {
        if !matches!(entry.state, NeighbourState::Failed | NeighbourState::Incomplete) {
            continue;
        }
        let Some(device) = place.namespace.device(entry.device) else { continue };
        let (address, name) = (entry.address, quoted(&device.name));
        let asked = if address.is_ipv4() { "ARP" } else { "neighbour solicitation" };
        let holder = facts.holders(address).next();
        let whose = holder.map_or_else(
            || "which no traced device has".to_owned(),
            |(holder, device)| format!("which {}'s {} has", quoted(holder.name()), quoted(&device.name)),
        );
        let problem = format!(
            "nobody answers {}'s {asked} requests for {address} on {name}, {whose}",
            quoted(place.name())
        );
        found.push(
            Finding::at(place, &device.name, Kind::Unanswered, Subject::To(address))
                .says(problem, format!("{} neigh show {address} dev {name}", ip(address)))
                .possibly_by(silencers(place, device, holder, asked)),
        );
    }
}

/// What may keep a pod from being answered: its owner's device, and what filters at the node's end of its veth.
fn silencers(
    place: Place<'_>,
    asking: &Device,
    holder: Option<(Place<'_>, &Device)>,
    asked: &str,
) -> Vec<String> {
    let mut possible = Vec::new();
    // What a tunnel resolves is not asked for.
    let is_asked = place.namespace.pod.is_some() || asking.kind == DeviceKind::Bridge;
    if !is_asked {
        return possible;
    }
    let node = quoted(&place.node.name);
    if let Some((holder, device)) = holder {
        let veth = holder.namespace.pod.as_deref().and_then(|pod| holder.node.topology.host_veth_of(pod));
        if let Some(veth) = veth.filter(|veth| !veth.up) {
            let (veth, at) = (quoted(&veth.name), quoted(&holder.node.name));
            possible.push(format!("{veth} of {at} is down (on {at}: `ip -d link show {veth}`)"));
        }
        let state = match (device.up, device.carrier) {
            (false, _) => "is down",
            (true, Some(false)) => "has no carrier",
            (true, _) => "does not answer",
        };
        let (name, at) = (quoted(&device.name), quoted(holder.name()));
        possible.push(format!("{name} of {at} {state} (in {at}: `ip -d link show {name}`)"));
    }
    let families = if asked == "ARP" { "the bridge or arp family" } else { "the bridge or netdev family" };
    let rules = format!("a rule of {families} drops {asked} packets (on {node}: `nft list ruleset`)");
    let pod = place.namespace.pod.as_deref();
    if let Some(veth) = pod.and_then(|pod| place.node.topology.host_veth_of(pod)) {
        let veth = quoted(&veth.name);
        possible.push(format!(
            "a filter at {veth} of {node} drops {asked} packets (on {node}: `tc filter show dev {veth} ingress`)"
        ));
    }
    possible.push(rules);
    possible
}
