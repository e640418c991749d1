//! Addresses that more than one namespace has.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::diagnose::facts::{Facts, Place};
use crate::diagnose::finding::{Finding, Kind, Subject};
use crate::diagnose::words::quoted;

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    let mut holders: BTreeMap<IpAddr, Vec<(Place<'_>, &str)>> = BTreeMap::new();
    for place in facts.places() {
        for device in &place.namespace.devices {
            for address in device.addresses.iter().map(IpNet::addr) {
                if is_unique(address) {
                    holders.entry(address).or_default().push((place, &device.name));
                }
            }
        }
    }
    for (address, holders) in holders {
        let first = holders[0].0;
        // Of nodes' own namespaces two may be one: an agent that looks at one node by two names.
        let of_pod = holders.iter().any(|(place, _)| place.namespace.pod.is_some());
        let elsewhere = holders.iter().any(|(place, _)| place.namespace.inode != first.namespace.inode);
        if !of_pod || !elsewhere {
            continue;
        }
        let is_owner = |place: &Place<'_>| {
            facts.owner(address).is_some_and(|owner| place.namespace.pod.as_deref() == Some(owner))
        };
        let is_pod = |place: &Place<'_>| place.namespace.pod.is_some();
        let first_of = |test: &dyn Fn(&Place<'_>) -> bool| holders.iter().position(|(place, _)| test(place));
        let right = first_of(&is_owner).or_else(|| first_of(&is_pod)).unwrap_or(0);
        let (owner, of_owner) = holders[right];
        for (place, device) in holders.iter().filter(|(place, _)| place.name() != owner.name()) {
            let problem = format!(
                "{address} is also held by {} ({}), besides {} ({} on {})",
                quoted(place.name()),
                quoted(device),
                quoted(owner.name()),
                quoted(of_owner),
                quoted(&owner.node.name),
            );
            let finding = Finding::at(*place, device, Kind::AddressTwice, Subject::Address(address));
            found.push(finding.says(problem, format!("ip addr show to {address}")));
        }
    }
}

/// Whether two namespaces with this address are in each other's way.
fn is_unique(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}
