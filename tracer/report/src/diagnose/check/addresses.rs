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
        let who: Vec<_> = holders
            .iter()
            .map(|(place, device)| {
                format!("{}'s {} on {}", quoted(place.name()), quoted(device), quoted(&place.node.name))
            })
            .collect();
        let (place, device) = holders[1];
        let problem = format!("{address} is held more than once: {}", who.join(" and "));
        let finding = Finding::at(place, device, Kind::AddressTwice, Subject::Address(address));
        found.push(finding.says(problem, format!("ip addr show to {address}")));
    }
}

/// Whether two namespaces with this address are in each other's way.
fn is_unique(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}
