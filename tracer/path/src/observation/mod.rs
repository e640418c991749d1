//! One kernel record, understood: where a packet was, when, and what its headers say.
//!
//! Input: a record of a node and what is known of that node. Output: an [`Observation`]. Records of hooks or devices
//! that nobody knows are [`Unusable`].

pub(crate) mod connection;
pub(crate) mod key;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use podtrace_protocol::hook::Meaning;
use podtrace_protocol::record::RawEvent;
use podtrace_protocol::topology::Role;
use podtrace_protocol::wire::{Encapsulation, Packet, Reading, parse};
use tracer_common::{Event, flag};

use crate::model::{Action, Drop, Point};
use crate::node::NodeId;
use crate::observation::connection::Connection;
use crate::time::{Moment, NodeTime};
use crate::world::World;
use crate::world::devices::{DeviceId, Devices, action};

/// A packet within one node: the identity that the node's eBPF programs gave it. The same packet on another node has
/// another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SkbId {
    pub(crate) node: NodeId,
    pub(crate) identity: u64,
    /// 0 for the packet that has the identity now; unique for an earlier one.
    pub(crate) retired: u64,
}

impl SkbId {
    fn new(node: NodeId, identity: u64) -> Self {
        Self { node, identity, retired: 0 }
    }
}

/// Where an observation was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) node: NodeId,
    /// `None` for drops outside any known device.
    pub(crate) device: Option<DeviceId>,
    pub(crate) point: Point,
}

/// One packet at one point of one node.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    pub(crate) time: NodeTime,
    pub(crate) skb: SkbId,
    /// Number of its record among all that its node sent, from 0.
    pub(crate) record: u64,
    pub(crate) spot: Spot,
    /// The device's role; [`Role::Other`] without a device.
    pub(crate) role: Role,
    /// Whether it is the identity's first event.
    pub(crate) first_seen: bool,
    /// The packet that it is a copy of.
    pub(crate) original: Option<SkbId>,
    pub(crate) netns: u32,
    /// The kernel's number for the reason of a drop; 0 if it gives none.
    reason: u32,
    /// Address of the function that dropped the packet; 0 if it is no drop.
    location: u64,
    /// Wire packets that it stands for, before GSO segments it.
    pub(crate) segments: u32,
    /// `None` if its bytes could not be read: then only its identity says which packet it is.
    pub(crate) packet: Option<Packet>,
    /// Source address of its Ethernet header.
    pub(crate) source_mac: Option<[u8; 6]>,
    /// The tunnel header around it.
    pub(crate) outer: Option<Encapsulation>,
    /// Whether it looks like a tunnel's packet and is none: this node is neither of its ends, or a pod sent it.
    pub(crate) not_a_tunnel: bool,
    /// The route that the kernel has looked up for it.
    pub(crate) next_hop: Option<NextHop>,
    /// Whether the hook saw the outer packet of a tunnel.
    pub(crate) in_tunnel: bool,
    /// What the hook read besides; its meaning depends on the hook.
    pub(crate) aux: u32,
    pub(crate) mark: u32,
    /// Whether it matched by a node's address only: then it is traced if it is a traced packet, translated.
    pub(crate) only_if_translated: bool,
    /// What connection tracking says of it. Boxed: most packets have none.
    pub(crate) connection: Option<Box<Connection>>,
}

/// Where a packet's route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NextHop {
    pub(crate) device: DeviceId,
    pub(crate) gateway: Option<IpAddr>,
}

/// Why a record cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It is of a hook that this version does not know.
    Hook,
    /// It is of a device that the topology lacks.
    Device,
}

impl Observation {
    pub(crate) fn new(node: NodeId, record: u64, raw: RawEvent<'_>, world: &World) -> Result<Self, Unusable> {
        let event = raw.event;
        let devices = &world.devices;
        let point = world.nodes[node].kernel.point(event.hook).ok_or(Unusable::Hook)?;
        let is_tap = matches!(point, Point::TcIngress | Point::TcEgress);
        let device = devices.find(node, event.netns, event.ifindex);
        if device.is_none() && is_tap {
            return Err(Unusable::Device);
        }
        let (role, ethernet) = device.map_or((Role::Other, true), |id| {
            let info = devices.info(id);
            (info.role, info.ethernet)
        });
        let reading = Reading {
            ethernet: ethernet && event.flags & flag::FROM_NETWORK == 0,
            // Elsewhere a length counts from wherever the packet's data pointed. What sets out has no length in its
            // header yet.
            length: (is_tap || point.meaning() == Some(Meaning::LocalOut)).then_some(event.len),
            segmented: event.gso_segs > 1,
            vxlan_ports: devices.vxlan_ports(node),
        };
        let headers = if event.flags & flag::NO_BYTES == 0 { parse(raw.bytes, reading) } else { None };
        let looks_tunnelled = headers.as_ref().and_then(|headers| headers.outer);
        let not_a_tunnel = looks_tunnelled.is_some_and(|outer| {
            let is_end = devices.is_own(node, outer.src) || devices.is_own(node, outer.dst);
            role == Role::PodVeth || devices.pod_of(node, event.netns).is_some() || !is_end
        });
        let headers =
            if not_a_tunnel { parse(raw.bytes, Reading { vxlan_ports: &[], ..reading }) } else { headers };
        let (packet, outer) = match headers {
            Some(headers) => (Some(headers.packet), headers.outer),
            None => (None, None),
        };
        // A driver may leave the number of segments out and give their size alone.
        let payload = packet.as_ref().map_or(0, |packet| packet.payload);
        let by_size = if event.gso_size > 0 { payload.div_ceil(event.gso_size) } else { 1 };
        let connection = packet
            .as_ref()
            .zip(raw.conntrack)
            .and_then(|(packet, seen)| Connection::of(packet, &seen).map(Box::new));
        Ok(Self {
            time: NodeTime::from_nanos(event.at_ns),
            skb: SkbId::new(node, event.packet),
            record,
            spot: Spot { node, device, point },
            role,
            first_seen: event.flags & flag::FIRST_SEEN != 0,
            original: (event.parent != 0).then_some(SkbId::new(node, event.parent)),
            netns: event.netns,
            reason: event.reason,
            location: event.location,
            segments: u32::from(event.gso_segs).max(by_size).max(1),
            packet,
            source_mac: raw.bytes.get(6..12).filter(|_| reading.ethernet).and_then(|mac| mac.try_into().ok()),
            outer,
            not_a_tunnel,
            next_hop: next_hop(node, &event, devices),
            in_tunnel: event.flags & flag::IN_TUNNEL != 0,
            aux: event.aux,
            mark: event.mark,
            only_if_translated: event.flags & flag::VIA != 0,
            connection,
        })
    }

    /// Another packet has its identity now.
    pub(crate) fn retire(&mut self, serial: u64) {
        self.skb.retired = serial;
    }

    pub(crate) fn node(&self) -> NodeId {
        self.spot.node
    }

    pub(crate) fn point(&self) -> Point {
        self.spot.point
    }

    /// Whether the kernel reported that it dropped the packet.
    pub(crate) fn is_drop(&self) -> bool {
        self.spot.point == Point::KfreeSkb
    }

    /// What it means that the packet was seen here.
    pub(crate) fn action(&self) -> Action {
        action(self.role, self.spot.point)
    }

    /// When it was made, on the common timeline.
    pub(crate) fn moment(&self, world: &World) -> Moment {
        world.clocks.common(self.spot.node, self.time).unwrap_or(Moment::ORIGIN)
    }

    /// What the kernel said of the drop that it saw.
    pub(crate) fn drop(&self, world: &World) -> Drop {
        world.nodes[self.spot.node].kernel.drop(self.reason, self.location)
    }

    /// The pod whose namespace it was made in.
    pub(crate) fn pod<'a>(&self, world: &'a World) -> Option<&'a Arc<str>> {
        world.devices.pod_of(self.spot.node, self.netns)
    }

    /// What connection tracking says of it, if it is translated.
    pub(crate) fn translation(&self) -> Option<&Connection> {
        self.connection.as_deref().filter(|connection| connection.is_translated())
    }
}

/// The next hop, where the kernel has looked up a route to a device of this namespace.
fn next_hop(node: NodeId, event: &Event, devices: &Devices) -> Option<NextHop> {
    if event.route_ifindex == 0 {
        return None;
    }
    let device = devices.find(node, event.netns, event.route_ifindex)?;
    let gateway = Ipv6Addr::from(event.gateway);
    let gateway = (!gateway.is_unspecified()).then(|| gateway.to_canonical());
    Some(NextHop { device, gateway })
}
