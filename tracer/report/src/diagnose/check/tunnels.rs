//! The ends of tunnels against each other: forwarding entries, network identifier, UDP port, local address.

use std::net::IpAddr;

use podtrace_protocol::topology::{Device, DeviceKind, Vxlan};

use crate::diagnose::facts::{Facts, Node, Place, has};
use crate::diagnose::finding::{Finding, Kind, Subject};
use crate::diagnose::words::{mac, quoted};

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    for (place, device, vxlan) in tunnels(facts) {
        local_address(place, device, vxlan, found);
        mtu(place, device, found);
        forwarding(facts, place, device, found);
        settings(facts, place, device, vxlan, found);
    }
}

/// All VXLAN devices of the nodes' own namespaces.
fn tunnels(facts: &Facts) -> impl Iterator<Item = (Place<'_>, &Device, &Vxlan)> {
    facts.places().filter(|place| place.namespace.pod.is_none()).flat_map(|place| {
        place.namespace.devices.iter().filter_map(move |device| match &device.kind {
            DeviceKind::Vxlan(vxlan) => Some((place, device, vxlan)),
            _ => None,
        })
    })
}

/// A tunnel cannot send from an address that its node does not have.
fn local_address(place: Place<'_>, device: &Device, vxlan: &Vxlan, found: &mut Vec<Finding>) {
    let Some(local) = vxlan.local.filter(|local| !place.node.has(*local)) else { return };
    let name = quoted(&device.name);
    let problem =
        format!("{name} on {} sends from {local}, which no device of the node has", quoted(&place.node.name));
    let finding = Finding::at(place, &device.name, Kind::TunnelAddress, Subject::Device);
    found.push(finding.says(problem, format!("ip -d link show {name}")));
}

/// Bytes that VXLAN adds to a packet: outer IP, UDP and VXLAN headers, and the inner Ethernet header.
fn overhead(vxlan: &Vxlan) -> u32 {
    if vxlan.local.is_some_and(|local| local.is_ipv6()) { 70 } else { 50 }
}

/// The largest packet that the network below a tunnel takes whole, with the headers that the tunnel adds; `None` where the
/// device below is not known.
pub(in crate::diagnose) fn room(node: &Node, device: &Device) -> Option<u32> {
    let DeviceKind::Vxlan(vxlan) = &device.kind else { return None };
    let own = node.topology.node()?;
    let holds = |other: &&Device| vxlan.local.is_some_and(|local| has(other, local));
    let below =
        vxlan.underlay.and_then(|index| own.device(index)).or_else(|| own.devices.iter().find(holds))?;
    Some(below.mtu.saturating_sub(overhead(vxlan)))
}

/// What a tunnel makes of a packet has to fit the device below.
fn mtu(place: Place<'_>, device: &Device, found: &mut Vec<Finding>) {
    let Some(room) = room(place.node, device).filter(|room| *room < device.mtu) else { return };
    let name = quoted(&device.name);
    let problem = format!(
        "{name} of {} has MTU {}, so that its largest packets leave as fragments: without them it can be {room} at most, \
         the MTU of the device below less the tunnel's headers",
        quoted(&place.node.name),
        device.mtu
    );
    let finding = Finding::at(place, &device.name, Kind::TunnelMtu, Subject::Device);
    found.push(
        finding
            .says(problem, format!("ip -d link show {name}"))
            .fixed_by(format!("ip link set {name} mtu {room}")),
    );
}

/// A forwarding entry for another node's tunnel has to lead to that node.
fn forwarding(facts: &Facts, place: Place<'_>, device: &Device, found: &mut Vec<Finding>) {
    let state = &place.namespace.state;
    let name = quoted(&device.name);
    for neighbour in state.neighbours.iter().filter(|neighbour| neighbour.device == device.index) {
        let Some(address) = neighbour.mac else { continue };
        let entry =
            state.forwarding.iter().find(|entry| entry.device == device.index && entry.mac == address);
        let peer = tunnels(facts)
            .find(|(other, peer, _)| other.node.name != place.node.name && peer.mac == Some(address));
        let Some((other, _, theirs)) = peer else { continue };
        let right = theirs.local.filter(|local| other.node.has(*local)).or_else(|| underlay(other.node));
        match (entry.and_then(|entry| entry.remote), right) {
            (None, right) => {
                let problem = format!(
                    "{name} on {} has no forwarding entry for {}, the tunnel of {}",
                    quoted(&place.node.name),
                    mac(address),
                    quoted(&other.node.name),
                );
                let finding =
                    Finding::at(place, &device.name, Kind::NoTunnelEnd, Subject::To(neighbour.address))
                        .says(problem, format!("bridge fdb show dev {name}"));
                found.push(match right {
                    Some(right) => {
                        finding.fixed_by(format!("bridge fdb append {} dev {name} dst {right}", mac(address)))
                    }
                    None => finding,
                });
            }
            (Some(remote), Some(right)) if !other.node.has(remote) => {
                let problem = format!(
                    "{name} on {} sends what is for {} to {remote}, by its forwarding entry for {}; {} is {right}",
                    quoted(&place.node.name),
                    quoted(&other.node.name),
                    mac(address),
                    quoted(&other.node.name),
                );
                found.push(
                    Finding::at(place, &device.name, Kind::WrongTunnelEnd, Subject::To(neighbour.address))
                        .diverting_to(remote)
                        .says(problem, format!("bridge fdb show dev {name}"))
                        .fixed_by(format!("bridge fdb replace {} dev {name} dst {right}", mac(address))),
                );
            }
            _ => {}
        }
    }
}

/// The address by which other nodes reach this node's tunnel.
fn underlay(node: &Node) -> Option<IpAddr> {
    let own = node.topology.node()?;
    let local = own.devices.iter().find_map(|device| match &device.kind {
        DeviceKind::Vxlan(vxlan) => vxlan.local,
        _ => None,
    });
    local.filter(|local| node.has(*local)).or_else(|| node.addresses.first().copied())
}

/// Tunnels of one name are one tunnel: both ends need one identifier and one port.
fn settings(facts: &Facts, place: Place<'_>, device: &Device, vxlan: &Vxlan, found: &mut Vec<Finding>) {
    let others = tunnels(facts)
        .filter(|(other, peer, _)| other.node.name != place.node.name && peer.name == device.name);
    for (other, _, theirs) in others {
        // Each pair once.
        if other.node.name < place.node.name {
            continue;
        }
        for (what, ours, theirs) in
            [("id", vxlan.vni, theirs.vni), ("UDP port", u32::from(vxlan.port), u32::from(theirs.port))]
        {
            if ours == theirs {
                continue;
            }
            let name = quoted(&device.name);
            let problem = format!(
                "{name} has {what} {ours} on {} and {theirs} on {}",
                quoted(&place.node.name),
                quoted(&other.node.name)
            );
            let finding = Finding::at(place, &device.name, Kind::TunnelMismatch, Subject::Device);
            found.push(finding.says(problem, format!("ip -d link show {name}")));
        }
    }
}
