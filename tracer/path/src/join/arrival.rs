//! Whether an observation is where a packet ends well, or a copy that went elsewhere.

use crate::join::track::Arrival;
use crate::model::Action;
use crate::observation::Observation;
use crate::wire::packet::Packet;
use crate::world::World;
use crate::world::devices::{DeviceInfo, action};

/// Whether the pod behind a veth has this packet's destination address. One of unknown addresses may have any.
fn is_for(device: &DeviceInfo, packet: &Packet, world: &World) -> bool {
    device.pod_addresses.contains(&packet.dst)
        || (device.pod.is_some() && world.directory.pod(packet.dst) == device.pod.as_ref())
        || (device.pod_addresses.is_empty() && world.directory.pod(packet.dst).is_none())
}

/// Whether this is a copy that a bridge flooded: at a pod that it is not for, or handed up by a bridge although
/// one of its ports leads to the destination.
pub(crate) fn is_stray(observation: &Observation, packet: &Packet, world: &World) -> bool {
    let Some(id) = observation.device else { return false };
    let device = world.devices.info(id);
    match action(observation.role, observation.point) {
        Action::PodIngress => !is_for(device, packet, world),
        Action::Route if observation.point == crate::model::Point::TcIngress => {
            // Asked only where a pod of this node is meant, for it takes a search.
            world.directory.home(packet.dst) == Some(&world.names[observation.node])
                && world.devices.port_to(observation.node, id, packet.dst).is_some()
        }
        _ => false,
    }
}

/// Where the packet ends by being seen here, if it does.
pub(crate) fn arrival(observation: &Observation, packet: &Packet, world: &World) -> Option<Arrival> {
    let device = world.devices.info(observation.device?);
    match action(observation.role, observation.point) {
        Action::PodIngress => Some(Arrival::Pod),
        Action::Route | Action::NodeIngress | Action::Decapsulate
            if observation.point == crate::model::Point::TcIngress
                && world.devices.is_own(observation.node, packet.dst) =>
        {
            Some(Arrival::Local(observation.node))
        }
        // Inside a tunnel it stays in the cluster.
        Action::NodeEgress if observation.outer.is_none() => match world.directory.home(packet.dst) {
            None => Some(Arrival::Outside(device.name.clone())),
            Some(home) if !world.directory.is_traced(home) => {
                Some(Arrival::OutOfSight(device.name.clone(), home.clone()))
            }
            Some(_) => None,
        },
        Action::NodeEgress => {
            let home = world.directory.home(packet.dst)?;
            (!world.directory.is_traced(home)).then(|| Arrival::OutOfSight(device.name.clone(), home.clone()))
        }
        _ => None,
    }
}
