//! One kernel record with its topology: where a packet was, when, and what it was there.

use crate::capture::RawEvent;
use crate::topology::Role;
use tracer_common::flag;

use super::devices::{DeviceId, Devices};
use super::model::Point;
use super::packet::{Encapsulation, Packet, Reading, parse};

/// One packet at one point of one node.
#[derive(Clone, Debug)]
pub(super) struct Observation {
    /// The node's monotonic clock.
    pub(super) at: u64,
    /// Identity on the node.
    pub(super) identity: u64,
    pub(super) node: usize,
    /// Number of its record among all that its node sent, from 0.
    pub(super) number: u64,
    /// `None` for drops outside any known device.
    pub(super) device: Option<DeviceId>,
    pub(super) role: Role,
    pub(super) point: Point,
    pub(super) first_seen: bool,
    pub(super) netns: u32,
    pub(super) reason: u32,
    pub(super) location: u64,
    /// Wire packets that it stands for.
    pub(super) segments: u32,
    /// `None` if its bytes could not be read; then its identity alone tells what it is.
    pub(super) packet: Option<Packet>,
    pub(super) outer: Option<Encapsulation>,
}

/// Why a record says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is of a hook that this version does not know.
    Hook,
    /// It was made at a device that the topology does not have.
    Device,
}

impl Observation {
    pub(super) fn new(
        node: usize,
        number: u64,
        raw: RawEvent<'_>,
        devices: &Devices,
    ) -> Result<Self, Unusable> {
        let event = raw.event;
        let point = Point::of_hook(event.hook).ok_or(Unusable::Hook)?;
        let dropped = point == Point::KfreeSkb;
        let device = devices.find(node, event.netns, event.ifindex);
        if device.is_none() && !dropped {
            return Err(Unusable::Device);
        }
        let (role, ethernet) = device.map_or((Role::Other, true), |id| {
            let info = devices.info(id);
            (info.role, info.ethernet)
        });
        let reading = Reading {
            ethernet: ethernet && event.flags & flag::FROM_NETWORK == 0,
            // A dropped skb's length counts from wherever its data pointed.
            length: (!dropped).then_some(event.len),
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
        Ok(Self {
            at: event.at_ns,
            identity: event.packet,
            node,
            number,
            device,
            role,
            point,
            first_seen: event.flags & flag::FIRST_SEEN != 0,
            netns: event.netns,
            reason: event.reason,
            location: event.location,
            segments: u32::from(event.gso_segs).max(by_size).max(1),
            packet,
            outer,
        })
    }
}
