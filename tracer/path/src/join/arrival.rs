//! Decides whether an observation is a packet's arrival, or a copy that a bridge flooded.

use podtrace_protocol::wire::Packet;

use crate::join::track::Arrival;
use crate::model::{Action, Point};
use crate::observation::Observation;
use crate::world::World;
use crate::world::devices::DeviceInfo;

/// What the pod at the other end of a veth is to a packet, by the packet's destination address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PodAtVeth {
    /// The receiver. So is a pod whose addresses are unknown, if the inventory has no other owner of the address.
    Receiver,
    /// Not the owner of the address, but a second pod that is configured with it.
    DuplicateHolder,
    /// A pod without this address.
    NotAddressed,
}

/// Compares the inventory's owner of the destination address with the pod that a veth belongs to, and with the addresses that
/// this pod has. If the inventory's owner no longer has the address, the pod that has it now is the receiver: the inventory
/// may be stale.
fn pod_at_veth(device: &DeviceInfo, packet: &Packet, world: &World) -> PodAtVeth {
    let holds = device.pod_addresses.contains(&packet.dst);
    match world.directory.pod(packet.dst) {
        Some(owner) if device.pod.as_ref() == Some(owner) => PodAtVeth::Receiver,
        Some(owner) if holds && world.devices.pod_holds(owner, packet.dst) => PodAtVeth::DuplicateHolder,
        Some(_) if holds => PodAtVeth::Receiver,
        Some(_) => PodAtVeth::NotAddressed,
        None if holds || device.pod_addresses.is_empty() => PodAtVeth::Receiver,
        None => PodAtVeth::NotAddressed,
    }
}

/// Whether this is a copy that a bridge flooded: at the veth of another pod, or passed up to the bridge device itself although
/// one of the bridge's ports leads to the destination pod.
pub(super) fn is_flooded_copy(observation: &Observation, packet: &Packet, world: &World) -> bool {
    let Some(device) = observation.spot.device else { return false };
    let node = observation.node();
    match observation.action() {
        Action::PodIngress => {
            pod_at_veth(world.devices.info(device), packet, world) == PodAtVeth::NotAddressed
        }
        Action::Route if observation.point() == Point::TcIngress => {
            // Only a pod of this node can be at a local port, and the search for the port is slow.
            world.directory.node_of(packet.dst) == Some(world.name(node))
                && world.devices.port_to(node, device, packet.dst).is_some()
        }
        _ => false,
    }
}

/// The arrival that an observation shows; `None` if the packet is still in transit. Flooded copies must be filtered out before.
pub(super) fn arrival(observation: &Observation, packet: &Packet, world: &World) -> Option<Arrival> {
    let device = world.devices.info(observation.spot.device?);
    let node = observation.node();
    match observation.action() {
        Action::PodIngress => match (pod_at_veth(device, packet, world), &device.pod) {
            (PodAtVeth::DuplicateHolder, Some(pod)) => {
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
        Action::NodeEgress => match world.directory.node_of(packet.dst) {
            Some(home) if !world.directory.is_traced(home) => {
                Some(Arrival::Untraced { device: device.name.clone(), node: home.clone() })
            }
            Some(_) => None,
            // A Service's address is routed nowhere outside, and a packet in a tunnel stays in the cluster.
            None if observation.outer.is_some() || world.directory.service_at(packet.dst).is_some() => None,
            None => Some(Arrival::Outside(device.name.clone())),
        },
        _ => None,
    }
}
