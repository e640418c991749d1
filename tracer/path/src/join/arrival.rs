//! Decides whether an observation is a packet's arrival, or a copy that a bridge flooded.

use podtrace_protocol::wire::Packet;

use crate::join::track::Arrival;
use crate::model::{Action, Point};
use crate::observation::Observation;
use crate::world::World;
use crate::world::devices::DeviceInfo;

/// The pod behind a veth, compared with a packet's destination address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// The packet's receiver. A pod whose addresses are unknown counts as one.
    Receiver,
    /// Another pod, which has the address too.
    OtherHolder,
    /// A pod without this address.
    Stranger,
}

/// A veth belongs to one pod, whatever addresses that pod has. If the pod that owns the destination address by the inventory
/// no longer has it, the pod that has it now is the receiver: the inventory may be late.
fn behind(device: &DeviceInfo, packet: &Packet, world: &World) -> Behind {
    let holds = device.pod_addresses.contains(&packet.dst);
    match world.directory.pod(packet.dst) {
        Some(owner) if device.pod.as_ref() == Some(owner) => Behind::Receiver,
        Some(owner) if holds && world.devices.pod_holds(owner, packet.dst) => Behind::OtherHolder,
        Some(_) if holds => Behind::Receiver,
        Some(_) => Behind::Stranger,
        None if holds || device.pod_addresses.is_empty() => Behind::Receiver,
        None => Behind::Stranger,
    }
}

/// Whether this is a copy that a bridge flooded: at the veth of another pod, or passed up to the host although one of the
/// bridge's ports leads to the destination.
pub(super) fn is_flooded_copy(observation: &Observation, packet: &Packet, world: &World) -> bool {
    let Some(device) = observation.spot.device else { return false };
    let node = observation.node();
    match observation.action() {
        Action::PodIngress => behind(world.devices.info(device), packet, world) == Behind::Stranger,
        Action::Route if observation.point() == Point::TcIngress => {
            // The search for the port is made only for pods of this node.
            world.directory.home(packet.dst) == Some(world.name(node))
                && world.devices.port_to(node, device, packet.dst).is_some()
        }
        _ => false,
    }
}

/// The arrival that an observation shows; `None` if the packet goes on. Flooded copies must be filtered out before.
pub(super) fn arrival(observation: &Observation, packet: &Packet, world: &World) -> Option<Arrival> {
    let device = world.devices.info(observation.spot.device?);
    let node = observation.node();
    match observation.action() {
        Action::PodIngress => match (behind(device, packet, world), &device.pod) {
            (Behind::OtherHolder, Some(pod)) => {
                Some(Arrival::DuplicateAddress { holder: pod.clone(), node: None })
            }
            _ => Some(Arrival::Pod(node)),
        },
        Action::Route if packet.dst.is_multicast() && observation.point() == Point::TcIngress => {
            Some(Arrival::Link(device.name.clone()))
        }
        Action::Route | Action::NodeIngress | Action::Decapsulate
            if observation.point() == Point::TcIngress && world.devices.is_own(node, packet.dst) =>
        {
            Some(match world.directory.pod(packet.dst) {
                Some(_) => Arrival::DuplicateAddress { holder: world.name(node).clone(), node: Some(node) },
                None => Arrival::Local(node),
            })
        }
        Action::NodeEgress => match world.directory.home(packet.dst) {
            Some(home) if !world.directory.is_traced(home) => {
                Some(Arrival::Untraced { device: device.name.clone(), node: home.clone() })
            }
            Some(_) => None,
            // Nobody outside has a Service's address, and inside a tunnel it stays in the cluster.
            None if observation.outer.is_some() || world.directory.service_at(packet.dst).is_some() => None,
            None => Some(Arrival::Outside(device.name.clone())),
        },
        _ => None,
    }
}
