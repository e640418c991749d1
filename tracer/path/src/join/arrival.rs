//! Whether an observation is where a packet arrives, or a copy that a bridge flooded.

use podtrace_protocol::wire::Packet;

use crate::join::track::Arrival;
use crate::model::{Action, Point};
use crate::observation::Observation;
use crate::world::World;
use crate::world::devices::DeviceInfo;

/// Whether the pod behind a veth has this packet's destination address. A pod of unknown addresses may have any.
fn is_for(device: &DeviceInfo, packet: &Packet, world: &World) -> bool {
    device.pod_addresses.contains(&packet.dst)
        || (device.pod.is_some() && world.directory.pod(packet.dst) == device.pod.as_ref())
        || (device.pod_addresses.is_empty() && world.directory.pod(packet.dst).is_none())
}

/// Whether this is a copy that a bridge flooded: at a pod that it is not for, or handed up by a bridge although one of
/// its ports leads to the destination.
pub(super) fn is_flooded_copy(observation: &Observation, packet: &Packet, world: &World) -> bool {
    let Some(device) = observation.spot.device else { return false };
    let node = observation.node();
    match observation.action() {
        Action::PodIngress => !is_for(world.devices.info(device), packet, world),
        Action::Route if observation.point() == Point::TcIngress => {
            // The search for the port is made only for pods of this node.
            world.directory.home(packet.dst) == Some(world.name(node))
                && world.devices.port_to(node, device, packet.dst).is_some()
        }
        _ => false,
    }
}

/// Where the packet arrives by being seen here; `None` if it goes on.
pub(super) fn arrival(observation: &Observation, packet: &Packet, world: &World) -> Option<Arrival> {
    let device = world.devices.info(observation.spot.device?);
    let node = observation.node();
    match observation.action() {
        Action::PodIngress => Some(Arrival::Pod(node)),
        Action::Route | Action::NodeIngress | Action::Decapsulate
            if observation.point() == Point::TcIngress && world.devices.is_own(node, packet.dst) =>
        {
            Some(Arrival::Local(node))
        }
        Action::NodeEgress => match world.directory.home(packet.dst) {
            Some(home) if !world.directory.is_traced(home) => {
                Some(Arrival::Untraced { device: device.name.clone(), node: home.clone() })
            }
            Some(_) => None,
            // Inside a tunnel it stays in the cluster.
            None => observation.outer.is_none().then(|| Arrival::Outside(device.name.clone())),
        },
        _ => None,
    }
}
