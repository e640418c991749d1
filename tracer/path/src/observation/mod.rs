//! One kernel record with its topology: where a packet was, when, and what it was there.

pub(crate) mod connection;

use std::net::{IpAddr, Ipv6Addr};

use podtrace_protocol::hook::Meaning;
use podtrace_protocol::record::RawEvent;
use podtrace_protocol::topology::Role;
use tracer_common::{Event, flag};

use crate::model::Point;
use crate::observation::connection::Connection;
use crate::wire::packet::{Encapsulation, Packet, Reading, parse};
use crate::world::World;
use crate::world::devices::{DeviceId, Devices};

/// One packet at one point of one node.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    /// The node's monotonic clock.
    pub(crate) at: u64,
    /// Identity on the node.
    pub(crate) identity: u64,
    pub(crate) node: usize,
    /// Number of its record among all that its node sent, from 0.
    pub(crate) number: u64,
    /// `None` for drops outside any known device.
    pub(crate) device: Option<DeviceId>,
    pub(crate) role: Role,
    pub(crate) point: Point,
    pub(crate) first_seen: bool,
    /// Identity of the packet that it is a copy of.
    pub(crate) parent: Option<u64>,
    pub(crate) netns: u32,
    pub(crate) reason: u32,
    pub(crate) location: u64,
    /// Wire packets that it stands for.
    pub(crate) segments: u32,
    /// `None` if its bytes could not be read; then its identity alone tells what it is.
    pub(crate) packet: Option<Packet>,
    pub(crate) outer: Option<Encapsulation>,
    /// The route that the kernel has looked up for it.
    pub(crate) next_hop: Option<NextHop>,
    /// Whether what was seen is the packet around it.
    pub(crate) in_tunnel: bool,
    /// What the hook read besides.
    pub(crate) aux: u32,
    pub(crate) mark: u32,
    /// Whether it may be of interest only if it is another packet, translated.
    pub(crate) via: bool,
    /// What connection tracking says of it. Boxed: most packets have none.
    pub(crate) connection: Option<Box<Connection>>,
}

/// Where a packet's route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NextHop {
    pub(crate) device: DeviceId,
    pub(crate) gateway: Option<IpAddr>,
}

/// Why a record says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It is of a hook that this version does not know.
    Hook,
    /// It was made at a device that the topology does not have.
    Device,
}

impl Observation {
    pub(crate) fn new(node: usize, number: u64, raw: RawEvent<'_>, world: &World) -> Result<Self, Unusable> {
        let event = raw.event;
        let devices = &world.devices;
        let point = world.kernels[node].point(event.hook).ok_or(Unusable::Hook)?;
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
            at: event.at_ns,
            identity: event.packet,
            node,
            number,
            device,
            role,
            point,
            first_seen: event.flags & flag::FIRST_SEEN != 0,
            parent: (event.parent != 0).then_some(event.parent),
            netns: event.netns,
            reason: event.reason,
            location: event.location,
            segments: u32::from(event.gso_segs).max(by_size).max(1),
            packet,
            outer,
            next_hop: next_hop(node, &event, devices),
            in_tunnel: event.flags & flag::IN_TUNNEL != 0,
            aux: event.aux,
            mark: event.mark,
            via: event.flags & flag::VIA != 0,
            connection,
        })
    }
}

/// Routes lead to devices of the node's own namespace: a packet that is seen in a pod's has none here.
fn next_hop(node: usize, event: &Event, devices: &Devices) -> Option<NextHop> {
    if event.route_ifindex == 0 {
        return None;
    }
    let device = devices.find(node, event.netns, event.route_ifindex)?;
    let gateway = Ipv6Addr::from(event.gateway);
    let gateway = (!gateway.is_unspecified()).then(|| gateway.to_canonical());
    Some(NextHop { device, gateway })
}
