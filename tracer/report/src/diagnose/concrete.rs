//! Makes advice concrete: the MTU, link-layer address and next hop that the trace knows, in place of words for them.
//!
//! Input: the text for a drop's reason, the hop, the path, and the nodes' state. Where nothing is known, or what is known does
//! not fit the drop, the text stays as it is.

use std::net::IpAddr;

use super::facts::Facts;
use super::words::{mac, quoted};
use podtrace_path::{Hop, Path, RouteTaken};
use podtrace_protocol::topology::Device;

/// Words of [`super::reasons`] that are replaced.
const NEXT_MTU: &str = "the MTU of the outgoing device on";
const NEXT_MAC: &str = "the next hop's MAC address";

/// The text with what is known of the node.
pub(super) fn with_facts(text: String, hop: &Hop, path: &Path, facts: &Facts) -> String {
    let text = match next_mtu(hop, path, facts) {
        Some(known) => text.replacen(NEXT_MTU, &format!("{known}, the outgoing device on"), 1),
        None => text,
    };
    let text = match next_hop(hop, path).filter(|_| text.contains(NEXT_MAC)) {
        Some(address) => text
            .replacen(NEXT_MAC, &format!("the MAC address of {address}, the next hop"), 1)
            .replace("`ip neigh show dev", &format!("`ip neigh show {address} dev")),
        None => text,
    };
    match own_mac(hop, facts) {
        Some((device, own)) => {
            let words = format!("its destination MAC address is not {device}'s");
            text.replacen(&words, &format!("{words} ({own})"), 1)
        }
        None => text,
    }
}

/// `the MTU 1400 of flannel.1`, if it is what the packet exceeds.
fn next_mtu(hop: &Hop, path: &Path, facts: &Facts) -> Option<String> {
    let route = last_route(hop, path)?;
    let device = device(hop, &route.device, facts)?;
    (device.mtu < hop.bytes).then(|| format!("the MTU {} of {}", device.mtu, quoted(&device.name)))
}

/// The next hop, from the look-up itself or the route. Inside a tunnel, the route is not that of the outer packet.
fn next_hop(hop: &Hop, path: &Path) -> Option<IpAddr> {
    if let Some(neighbour) = &hop.neighbour {
        return Some(neighbour.address);
    }
    let route = last_route(hop, path).filter(|_| hop.outer.is_none())?;
    // The drop is behind the route, on the device that it leads to.
    let fits = hop.device.as_deref() == Some(&*route.device);
    fits.then(|| route.gateway.unwrap_or(hop.tuple.dst))
}

fn own_mac(hop: &Hop, facts: &Facts) -> Option<(String, String)> {
    let device = device(hop, hop.device.as_deref()?, facts)?;
    Some((quoted(&device.name), mac(device.mac?)))
}

/// The route that the packet took last on this node, up to this hop.
fn last_route<'a>(hop: &Hop, path: &'a Path) -> Option<&'a RouteTaken> {
    let before = path.hops.iter().filter(|other| other.index <= hop.index);
    before.rev().take_while(|other| other.node == hop.node).find_map(|other| other.route.as_ref())
}

/// A device of the node's own namespace.
fn device<'a>(hop: &Hop, name: &str, facts: &'a Facts) -> Option<&'a Device> {
    if hop.pod.is_some() {
        return None;
    }
    facts.node(&hop.node)?.topology.node()?.devices.iter().find(|device| device.name == name)
}
