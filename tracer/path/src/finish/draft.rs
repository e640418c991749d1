//! Hops in the making.

use std::sync::Arc;

use podtrace_protocol::topology::Role;

use crate::finish::verdict::fatal_drop;
use crate::join::sighting::Sighting;
use crate::join::track::Track;
use crate::model::{Action, Evidence, Hop, HopEvent, Source, Tuple};
use crate::node::{NodeId, PerNode};
use crate::time::{Nanos, NodeTime};
use crate::world::World;
use crate::world::devices::DeviceId;

/// A hop, and what of its origin is needed to complete it.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) hop: Hop,
    pub(crate) node: NodeId,
    /// Index of the visit of a node along the path, see [`Sighting::visit`].
    pub(crate) visit: i16,
    /// The device of the sighting that it was made of, or stands beside.
    pub(crate) device: Option<DeviceId>,
    /// When it was seen; `None` if it is inferred.
    pub(crate) time: Option<NodeTime>,
}

/// Times since the first hop.
#[derive(Debug)]
pub(crate) struct HopClock {
    first: Option<(NodeId, NodeTime)>,
    /// Each node's clock minus the first hop's node's, and the bound of the error. Computed once a node, not once a hop.
    differences: PerNode<(Nanos, u64)>,
}

/// A time since the first hop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SinceFirst {
    pub(crate) at_ns: i64,
    /// Bound of its error.
    pub(crate) error_ns: u64,
}

impl HopClock {
    pub(crate) fn new(track: &Track, world: &World) -> Self {
        let first = track.sightings.first().map(|first| (first.node(), first.time));
        let difference =
            |node| first.map_or((Nanos::ZERO, 0), |(base, _)| world.clocks.difference(base, node));
        Self { first, differences: world.nodes.ids().map(difference).collect() }
    }

    pub(crate) fn since_first(&self, node: NodeId, time: NodeTime) -> SinceFirst {
        let (difference, error_ns) = self.differences[node];
        let base = self.first.map_or(Nanos::ZERO, |(_, first)| first.reading());
        SinceFirst { at_ns: (time.reading() - base - difference).get(), error_ns }
    }
}

/// Makes the hops of one track.
#[derive(Debug)]
pub(crate) struct Drafter<'a> {
    pub(crate) track: &'a Track,
    pub(crate) world: &'a World,
    pub(crate) clock: HopClock,
}

impl<'a> Drafter<'a> {
    pub(crate) fn new(track: &'a Track, world: &'a World) -> Self {
        Self { track, world, clock: HopClock::new(track, world) }
    }

    pub(crate) fn device_name(&self, device: Option<DeviceId>) -> Option<Arc<str>> {
        device.map(|device| self.world.devices.info(device).name.clone())
    }

    /// The hop of a sighting.
    pub(crate) fn observed(&self, seen: &Sighting) -> Hop {
        let SinceFirst { at_ns, error_ns } = self.clock.since_first(seen.node(), seen.time);
        let device = self.device_name(seen.device());
        let event = HopEvent { point: seen.point(), device: device.clone(), at_ns, detail: None };
        let source = |record: &u64| Source { node: seen.node().index(), number: *record };
        Hop {
            device,
            point: Some(seen.point()),
            action: seen.action(),
            at_ns: Some(at_ns),
            clock_error_ns: error_ns,
            evidence: Evidence::Observed,
            conntrack: seen.connection.as_ref().map(|connection| Box::new(connection.report())),
            pod: self.pod(seen),
            drop: fatal_drop(self.track, seen).map(|drop| drop.drop.clone()),
            events: vec![event],
            sources: seen.records.iter().map(source).collect(),
            ..self.inferred(seen, seen.action(), None, self.track.tuple_at(seen))
        }
    }

    /// The pod behind a veth, or the one in whose namespace the packet was dropped: a veth's end on the node is not in it.
    fn pod(&self, seen: &Sighting) -> Option<Arc<str>> {
        let device = self.world.devices.info(seen.device()?);
        device.pod.clone().filter(|_| !seen.is_drop() || device.role != Role::PodVeth)
    }

    /// A hop that nothing observed, beside a sighting.
    pub(crate) fn inferred(
        &self,
        beside: &Sighting,
        action: Action,
        device: Option<DeviceId>,
        tuple: Tuple,
    ) -> Hop {
        Hop {
            index: 0,
            node: self.world.name(beside.node()).clone(),
            device: self.device_name(device),
            point: None,
            action,
            at_ns: None,
            clock_error_ns: self.clock.since_first(beside.node(), beside.time).error_ns,
            evidence: Evidence::Inferred,
            tuple,
            bytes: beside.bytes,
            packets: beside.packets,
            merged: beside.merged,
            outer: None,
            nat: None,
            conntrack: None,
            route: None,
            pod: None,
            drop: None,
            neighbour: None,
            queued_ns: None,
            flooded: false,
            events: Vec::new(),
            sources: Vec::new(),
        }
    }
}
