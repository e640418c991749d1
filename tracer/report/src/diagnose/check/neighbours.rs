//! Neighbour entries against the devices that have the addresses.

use std::net::IpAddr;

use podtrace_protocol::topology::state::NeighbourState;

use crate::diagnose::facts::{Facts, Place};
use crate::diagnose::finding::{Finding, Kind, Subject};
use crate::diagnose::words::{ip, mac, quoted};

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    for place in facts.places() {
        for entry in &place.namespace.state.neighbours {
            let Some(device) = place.namespace.device(entry.device) else { continue };
            let Some(known) = entry.mac else { continue };
            // An address of the namespace itself is not resolved here, and one that several have is another finding.
            let Some(owner) = only_owner(facts, place, entry.address) else { continue };
            let Some(right) = owner.1 else { continue };
            if right == known {
                continue;
            }
            let whose = whose(facts, known);
            let (name, address) = (quoted(&device.name), entry.address);
            let ip = ip(address);
            let permanent = if entry.state == NeighbourState::Permanent { ", permanently" } else { "" };
            let problem = format!(
                "{}'s neighbour entry for {address} on {name} has {}{permanent}, which is {whose}; {} has {}",
                quoted(place.name()),
                mac(known),
                quoted(&owner.0),
                mac(right),
            );
            let finding = Finding::at(place, &device.name, Kind::WrongNeighbour, Subject::To(address));
            found.push(
                finding
                    .says(problem, format!("{ip} neigh show {address} dev {name}"))
                    .fixed_by(format!("{ip} neigh del {address} dev {name}")),
            );
        }
    }
}

/// The device that an address is at, seen from a namespace: a pod's, or one of the same node. Gives its owner's name and
/// link-layer address.
fn only_owner(facts: &Facts, from: Place<'_>, address: IpAddr) -> Option<(String, Option<[u8; 6]>)> {
    let mut holders = facts.holders(address).filter(|(place, device)| {
        place.namespace.inode != from.namespace.inode && device.ethernet && place.node.name == from.node.name
    });
    let (place, device) = holders.next()?;
    holders.next().is_none().then(|| (place.name().to_owned(), device.mac))
}

/// Whose a link-layer address is, in words.
fn whose(facts: &Facts, address: [u8; 6]) -> String {
    match facts.with_mac(address).next() {
        Some((place, device)) => format!("{}'s {}", quoted(place.name()), quoted(&device.name)),
        None => "no traced device's".to_owned(),
    }
}
