//! A path under way: one packet as its source sent it, and where it has been seen so far.

use std::sync::Arc;

use podtrace_protocol::topology::Role;

use crate::finish::steps::{MOST_STEPS, Step};
use crate::join::journey::JourneyKey;
use crate::model::{Drop, Point, Tuple};
use crate::observation::connection::Connection;
use crate::observation::{NextHop, Observation};
use crate::wire::packet::{Encapsulation, Packet, PacketExt as _};
use crate::world::devices::DeviceId;

/// Sightings kept of one packet: more means that it goes in circles.
const MOST_SIGHTINGS: usize = 64;

/// One packet at one point, all its pieces together.
#[derive(Debug)]
pub(crate) struct Sighting {
    pub(crate) node: usize,
    /// Visits of nodes, in order.
    pub(crate) leg: u16,
    pub(crate) device: Option<DeviceId>,
    pub(crate) role: Role,
    pub(crate) point: Point,
    /// Of the first piece, by the node's clock.
    pub(crate) at: u64,
    pub(crate) bytes: u32,
    pub(crate) packets: u32,
    pub(crate) merged: bool,
    /// Stream bytes of the path seen here.
    pub(crate) covered: u32,
    /// Where it is not the one that the packet began with.
    pub(crate) tuple: Option<Tuple>,
    pub(crate) outer: Option<Encapsulation>,
    pub(crate) mark: u32,
    /// What connection tracking said of it.
    pub(crate) connection: Option<Box<Connection>>,
    pub(crate) drop: Option<Box<DropSeen>>,
    /// The route that the packet had here.
    pub(crate) next_hop: Option<NextHop>,
    /// Numbers of the records that say so.
    pub(crate) numbers: Vec<u64>,
}

/// A drop that the kernel reported.
#[derive(Debug)]
pub(crate) struct DropSeen {
    pub(crate) drop: Drop,
    /// Whether the copy that arrived is the one dropped, rather than another that nobody needed.
    pub(crate) of_arrived: bool,
}

/// Where a packet ends well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Went into the pod that has its destination address.
    Pod,
    /// Was for this node itself.
    Local(usize),
    /// Left the cluster by this device.
    Outside(Arc<str>),
    /// Left by this device for a node that is not traced.
    OutOfSight(Arc<str>, Arc<str>),
}

/// A path under way.
#[derive(Debug)]
pub(crate) struct Track {
    /// Never given twice, unlike its place in the table.
    pub(crate) serial: u64,
    pub(crate) packet: Packet,
    pub(crate) flow: usize,
    pub(crate) forward: bool,
    /// Stream bytes, unwrapped.
    pub(crate) span: Option<(u64, u64)>,
    pub(crate) segments: u32,
    pub(crate) sightings: Vec<Sighting>,
    /// What hooks of the stack saw between them.
    pub(crate) steps: Vec<Step>,
    pub(crate) journeys: Vec<JourneyKey>,
    /// On the common timeline.
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) arrival: Option<Arrival>,
    pub(crate) dropped: bool,
    /// How many packets fitted where one was chosen.
    pub(crate) ambiguity: u32,
    /// Whether it was seen from its beginning.
    pub(crate) whole: bool,
    pub(crate) events: u64,
    /// The pod that got it by mistake or by flooding.
    pub(crate) stray: Option<Arc<str>>,
    pub(crate) rejected: Option<String>,
    /// When the refusal was first seen.
    pub(crate) rejected_at: Option<i64>,
    /// Place and serial number of the path that is told first: the one that this one answers or refuses.
    pub(crate) after: Option<(usize, u64)>,
    /// Whether its flow knows what translation makes of its packets.
    pub(crate) linked: bool,
    /// Why its receiver had no use for it.
    pub(crate) superfluous: Option<&'static str>,
    pub(crate) hash: u64,
    /// The next one of equal content hash.
    pub(crate) next_same: Option<usize>,
}

impl Track {
    /// Bytes that a point has to see until it has seen all of it.
    pub(crate) fn size(&self) -> u32 {
        self.span.map_or(1, |(start, end)| u32::try_from(end - start).unwrap_or(u32::MAX))
    }

    fn at_point(&self, node: usize, device: Option<DeviceId>, point: Point) -> Option<usize> {
        self.sightings
            .iter()
            .rposition(|seen| seen.device == device && seen.point == point && seen.node == node)
    }

    /// Whether the point of this observation has seen all of it.
    pub(crate) fn is_covered_at(&self, observation: &Observation) -> bool {
        self.at_point(observation.node, observation.device, observation.point)
            .is_some_and(|at| self.sightings[at].covered >= self.size())
    }

    /// Adds an observation of `share` of its bytes. Tells whether the point has seen all of it now.
    pub(crate) fn sight(&mut self, observation: &Observation, share: u32, now: i64) -> bool {
        self.events += 1;
        self.last = self.last.max(now);
        self.first = self.first.min(now);
        let length = observation.packet.as_ref().map_or(self.packet.length, |packet| packet.length);
        // A packet put together with others has more stream bytes than this path's share.
        let carried = observation.packet.as_ref().and_then(Packet::stream).map_or(share, |(_, bytes)| bytes);
        let merged = self.span.is_some() && carried > share;
        let size = self.size();
        if let Some(at) = self.at_point(observation.node, observation.device, observation.point)
            && observation.point != Point::KfreeSkb
            && self.sightings[at].covered < size
        {
            let seen = &mut self.sightings[at];
            seen.at = seen.at.min(observation.at);
            seen.bytes = seen.bytes.saturating_add(length);
            seen.packets += 1;
            seen.merged |= merged;
            seen.covered = seen.covered.saturating_add(share);
            seen.numbers.push(observation.number);
            return seen.covered >= size;
        }
        if self.sightings.len() < MOST_SIGHTINGS {
            let tuple = observation.packet.as_ref().filter(|packet| !self.has_ends_of(packet));
            self.sightings.push(Sighting {
                node: observation.node,
                leg: self.leg(observation),
                device: observation.device,
                role: observation.role,
                point: observation.point,
                at: observation.at,
                bytes: length,
                packets: 1,
                merged,
                covered: share,
                tuple: tuple.map(Packet::tuple),
                outer: observation.outer,
                mark: observation.mark,
                connection: observation.connection.clone(),
                drop: None,
                next_hop: observation.next_hop,
                numbers: vec![observation.number],
            });
        }
        share >= size
    }

    /// Whether nothing is missing for it to have ended.
    pub(crate) fn is_over(&self) -> bool {
        self.arrival.is_some() || self.dropped || self.rejected.is_some()
    }

    /// Adds what a hook of the stack saw. Tells whether there was room for it.
    pub(crate) fn step(&mut self, observation: &Observation, now: i64) -> bool {
        let leg = self.latest_leg(observation.node).unwrap_or(0);
        let Some(step) = Step::of(observation, leg) else { return false };
        self.events += 1;
        self.last = self.last.max(now);
        // Of a packet in pieces the first one tells when, as at the taps.
        if self.steps.iter().any(|other| step.is_piece_of(other)) {
            return true;
        }
        let room = self.steps.len() < MOST_STEPS;
        if room {
            self.steps.push(step);
        }
        room
    }

    fn latest_leg(&self, node: usize) -> Option<u16> {
        self.sightings.iter().filter(|seen| seen.node == node).map(|seen| seen.leg).max()
    }

    /// Whether it began with the addresses and ports of this packet.
    pub(crate) fn has_ends_of(&self, packet: &Packet) -> bool {
        packet.src == self.packet.src
            && packet.dst == self.packet.dst
            && packet.ports() == self.packet.ports()
    }

    /// The visit that a new sighting belongs to: the latest of its node, unless it comes in from outside again.
    fn leg(&self, observation: &Observation) -> u16 {
        let enters = observation.point == Point::TcIngress
            && matches!(observation.role, Role::Uplink | Role::Other | Role::PodVeth);
        let next = || self.sightings.iter().map(|seen| seen.leg + 1).max().unwrap_or(0);
        match self.latest_leg(observation.node) {
            Some(leg) if !enters || !self.has_left(leg) => leg,
            _ => next(),
        }
    }

    fn has_left(&self, leg: u16) -> bool {
        self.sightings.iter().any(|seen| {
            seen.leg == leg
                && seen.point == Point::TcEgress
                && matches!(seen.role, Role::Uplink | Role::Other | Role::PodVeth)
        })
    }

    /// Puts the sightings in the order in which the packet passed them.
    pub(crate) fn sort(&mut self) {
        self.sightings.sort_by_key(|seen| (seen.leg, seen.at));
    }
}
