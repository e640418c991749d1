//! Whether a packet's source address is its sender's: by where it enters, not by what it says.
//!
//! 1. At a pod's veth it is that pod's packet. If its source is the address of another pod or of a node, it is forged. The
//!    inventory may be late: an address that only this pod has on its devices is this pod's.
//! 2. Not every pod's veth is tapped. Where the veth of the pod that has the address is, and a packet with it is first seen
//!    on its node's bridge or behind that, it entered by another port. So did one with the node's address that leaves by a
//!    bridge's port without having passed the bridge.
//! 3. A tunnel packet that comes from elsewhere than a node is decapsulated all the same. What is inside is forged if it
//!    claims to be a pod's or a node's.

use std::net::IpAddr;

use podtrace_protocol::topology::Role;
use podtrace_protocol::wire::Packet;

use crate::model::{Action, Forged, Point};
use crate::observation::Observation;
use crate::world::World;
use crate::world::devices::DeviceInfo;

/// Whose address a packet has that is first seen here, if that is not its sender's.
pub(super) fn forgery(observation: &Observation, packet: &Packet, world: &World) -> Option<Box<Forged>> {
    let device = world.devices.info(observation.spot.device?);
    let claimed = world.directory.pod(packet.src).or_else(|| world.directory.node(packet.src))?;
    let tunnel_from = stranger_in_tunnel(observation, world);
    let pod = match (&device.pod, tunnel_from) {
        (_, Some(_)) => None,
        (Some(pod), None) if observation.action() == Action::PodEgress && pod != claimed => {
            let is_late = device.pod_addresses.contains(&packet.src)
                && !world.devices.is_held_elsewhere(pod, packet.src);
            Some(pod.clone()).filter(|_| !is_late)
        }
        _ => None,
    };
    let by_port = if tunnel_from.is_none() { other_port(observation, packet, world) } else { None };
    (pod.is_some() || tunnel_from.is_some() || by_port.is_some()).then(|| {
        let neighbour = observation.source_mac.filter(|_| by_port.is_some() && pod.is_none());
        let neighbour = neighbour.and_then(|mac| world.devices.pod_with_mac(observation.node(), mac));
        let neighbour = neighbour.filter(|pod| *pod != claimed).cloned();
        Box::new(Forged {
            claimed: claimed.clone(),
            node: world.name(observation.node()).clone(),
            device: by_port.unwrap_or(device).name.clone(),
            by_mac: pod.is_none() && neighbour.is_some(),
            pod: pod.or(neighbour),
            tunnel_from,
        })
    })
}

/// The bridge by another port of which a packet came that its source, a pod or node, would have sent past a tap.
pub(super) fn other_port<'a>(
    observation: &Observation,
    packet: &Packet,
    world: &'a World,
) -> Option<&'a DeviceInfo> {
    let is_new = observation.first_seen && observation.original.is_none() && !world.events_lost;
    let (node, time) = (observation.node(), observation.time);
    let device = world.devices.info(observation.spot.device.filter(|_| is_new)?);
    let taps = &world.nodes[node].taps;
    let is_port = observation.role == Role::PodVeth && observation.point() == Point::TcEgress;
    let bridge = match device.bridge {
        _ if observation.role == Role::Bridge && observation.point() == Point::TcIngress => device,
        Some(bridge) if is_port => world.devices.info(bridge),
        _ => return None,
    };
    let passed_unseen = match world.directory.pod(packet.src) {
        Some(pod) => {
            let mut veths = world.devices.veths_of(node, pod).peekable();
            veths.peek().is_some() && veths.all(|veth| taps.watch(&veth.name, true, time))
        }
        None => is_port && world.devices.is_own(node, packet.src) && taps.watch(&bridge.name, false, time),
    };
    passed_unseen.then_some(bridge)
}

/// Source of the tunnel packet that this one comes to the node in, if that is no node's.
pub(super) fn stranger_in_tunnel(observation: &Observation, world: &World) -> Option<IpAddr> {
    let outer = observation.outer.filter(|_| observation.point() == Point::TcIngress)?;
    let node = observation.node();
    let is_node = world.directory.node(outer.src).is_some() || world.devices.is_remote(node, outer.src);
    (!is_node && world.devices.is_own(node, outer.dst)).then_some(outer.src)
}
