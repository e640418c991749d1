//! What must have happened around a sighting, though no tap saw it: bridging, routing, translation, and the node's own
//! stack as source or destination.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use podtrace_protocol::topology::Role;
use podtrace_protocol::wire::Encapsulation;

use crate::finish::draft::Drafter;
use crate::finish::translation::{Change, Changes, Place, nat};
use crate::join::sighting::Sighting;
use crate::model::{Action, Direction, Evidence, Hop, Outer, Point, RouteTaken};
use crate::node::NodeId;
use crate::observation::NextHop;
use crate::world::World;
use crate::world::devices::DeviceId;

static VXLAN: LazyLock<Arc<str>> = LazyLock::new(|| "vxlan".into());

/// A sighting and those beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SightingContext<'a> {
    pub(crate) current: &'a Sighting,
    pub(crate) previous: Option<&'a Sighting>,
    pub(crate) next: Option<&'a Sighting>,
}

impl<'a> SightingContext<'a> {
    /// The next sighting, if it is of the same visit of the node.
    fn next_in_visit(&self) -> Option<&'a Sighting> {
        self.next.filter(|next| (next.node(), next.visit) == (self.current.node(), self.current.visit))
    }

    /// The previous sighting with this one as its next: what happened between the two.
    fn at_previous(&self) -> Option<Self> {
        Some(Self { current: self.previous?, previous: None, next: Some(self.current) })
    }

    /// Whether this is ingress on the bridge device: its own hop already shows the route, so no route is inferred, and DNAT comes
    /// before it.
    pub(crate) fn is_routed_here(&self) -> bool {
        self.current.action() == Action::Route && self.current.point() == Point::TcIngress
    }
}

impl Drafter<'_> {
    /// The hop of the sighting itself, with what those beside it say of it.
    pub(crate) fn seen_hop(&self, context: &SightingContext<'_>) -> Hop {
        let seen = context.current;
        let mut hop = self.observed(seen);
        if let Some(change) = self.changes(context).destination.filter(|_| context.is_routed_here()) {
            hop.tuple = change.after;
        }
        hop.outer = self.tunnel_header(seen);
        if hop.action == Action::Route {
            hop.route = self.route_taken(seen, hop.tuple.dst);
            if seen.role == Role::Bridge && self.ends_locally(seen) {
                // Handed up to the node itself: no route was looked up for going on.
                hop.action = Action::Bridge;
                hop.route = None;
            }
        }
        hop
    }

    /// A packet of the node's own comes out of its stack, where no tap is.
    pub(crate) fn local_out(&self, context: &SightingContext<'_>) -> Option<Hop> {
        let seen = context.current;
        self.is_sent_here(context)
            .then(|| self.inferred(seen, Action::LocalOut, seen.device(), self.track.tuple()))
    }

    fn is_sent_here(&self, context: &SightingContext<'_>) -> bool {
        context.previous.is_none()
            && self.track.start_seen
            && matches!(context.current.point(), Point::TcEgress | Point::KfreeSkb)
            && self.world.devices.is_own(context.current.node(), self.track.packet.src)
    }

    /// The translations of a packet of the node's own before it is first seen: of the destination when it was sent, of
    /// the source where it leaves.
    pub(crate) fn output_nat(&self, context: &SightingContext<'_>) -> impl Iterator<Item = Hop> {
        let seen = context.current;
        let sent = self.track.tuple();
        let Changes { destination, source } = if self.is_sent_here(context) {
            Changes::between(sent, self.track.tuple_at(seen))
        } else {
            Changes::default()
        };
        let entered = Some((sent, seen.mark));
        let place = Place { node: seen.node(), came_in: None, goes_out: seen.device(), entered };
        let direction = self.direction(seen, None);
        [destination, source]
            .into_iter()
            .flatten()
            .map(move |change| self.nat_hop(seen, change, direction, place, seen.device()))
    }

    /// Between two ports of one bridge there is that bridge, though bridged packets pass no tap of it.
    pub(crate) fn bridge(&self, context: &SightingContext<'_>) -> Option<Hop> {
        let SightingContext { current: seen, previous: before, .. } = context;
        let before = before.filter(|before| before.node() == seen.node())?;
        let bridge = self.bridge_of(before)?;
        let passes = before.point() == Point::TcIngress
            && seen.point() == Point::TcEgress
            && self.bridge_of(seen) == Some(bridge);
        // The source is translated after it.
        let tuple = self.source_change(context).map_or(self.track.tuple_at(seen), |change| change.before);
        passes.then(|| self.inferred(seen, Action::Bridge, Some(bridge), tuple))
    }

    fn bridge_of(&self, seen: &Sighting) -> Option<DeviceId> {
        self.world.devices.info(seen.device()?).bridge
    }

    /// The translation of the source on the way from the sighting before.
    pub(crate) fn source_nat(&self, context: &SightingContext<'_>) -> Option<Hop> {
        let previous = context.at_previous()?;
        let change = self.source_change(context)?;
        let device = previous.next_in_visit().and_then(Sighting::device).or(previous.current.device());
        Some(self.nat_between(&previous, change, device))
    }

    fn source_change(&self, context: &SightingContext<'_>) -> Option<Change> {
        self.changes(&context.at_previous()?).source
    }

    /// The translation of the destination on the way to the next sighting.
    pub(crate) fn destination_nat(&self, context: &SightingContext<'_>) -> Option<Hop> {
        let change = self.changes(context).destination?;
        Some(self.nat_between(context, change, context.current.device()))
    }

    /// What changed between a sighting and the next one of the same visit.
    fn changes(&self, context: &SightingContext<'_>) -> Changes {
        let tuple = |seen| self.track.tuple_at(seen);
        context
            .next_in_visit()
            .map_or_else(Changes::default, |next| Changes::between(tuple(context.current), tuple(next)))
    }

    /// A translation between a sighting and the next one.
    fn nat_between(&self, context: &SightingContext<'_>, change: Change, device: Option<DeviceId>) -> Hop {
        let (seen, next) = (context.current, context.next_in_visit());
        let entered = self.visit(seen).next().map(|first| (self.track.tuple_at(first), first.mark));
        let place = Place {
            node: seen.node(),
            came_in: seen.device().filter(|_| seen.point() == Point::TcIngress),
            goes_out: next.filter(|next| next.point() == Point::TcEgress).and_then(Sighting::device),
            entered,
        };
        self.nat_hop(seen, change, self.direction(seen, next), place, device)
    }

    fn nat_hop(
        &self,
        beside: &Sighting,
        change: Change,
        direction: Direction,
        place: Place,
        device: Option<DeviceId>,
    ) -> Hop {
        let nat = Some(nat(change, direction, place, self.world));
        Hop { nat, ..self.inferred(beside, Action::Nat, device, change.after) }
    }

    /// Which direction of its connection the packet goes: connection tracking says so where it has been asked.
    fn direction(&self, seen: &Sighting, next: Option<&Sighting>) -> Direction {
        let connection = next.and_then(|next| next.connection.as_ref()).or(seen.connection.as_ref());
        connection.map_or(self.track.flow.direction, |connection| connection.direction())
    }

    /// Delivery to the node itself, after the last tap.
    pub(crate) fn local_in(&self, context: &SightingContext<'_>, hop: &Hop) -> Option<Hop> {
        let seen = context.current;
        (context.next.is_none_or(Sighting::is_drop) && self.ends_locally(seen))
            .then(|| self.inferred(seen, Action::LocalIn, seen.device(), hop.tuple))
    }

    fn ends_locally(&self, seen: &Sighting) -> bool {
        let last = self.track.sightings.iter().rfind(|seen| !seen.is_drop());
        self.track.is_in_stack_of(seen.node()) && last.is_some_and(|last| std::ptr::eq(last, seen))
    }

    /// Between two devices of which neither is a bridge, a route leads from one to the other, or back by the same one. It also
    /// leads to the device that drops a packet which came in by another. Not from a bridge's port, nor to one that drops: such a
    /// packet is routed behind the bridge, and if the bridge did not see it, something else took it there. Nor into a
    /// tunnel's device, which takes what is decapsulated.
    pub(crate) fn route(&self, context: &SightingContext<'_>) -> Option<Hop> {
        let (seen, next) = (context.current, context.next_in_visit()?);
        let device = next.device()?;
        let is_bridge = |seen: &Sighting| seen.role == Role::Bridge;
        let goes_out = next.point() == Point::TcEgress
            || (next.is_drop()
                && seen.device() != Some(device)
                && self.bridge_of(next).is_none()
                && seen.outer.is_none());
        let passes = seen.point() == Point::TcIngress && goes_out;
        let is_bridge_port = self.bridge_of(seen).is_some();
        if !passes || is_bridge(seen) || is_bridge(next) || is_bridge_port {
            return None;
        }
        let tuple =
            self.changes(context).destination.map_or(self.track.tuple_at(seen), |change| change.after);
        let route = Some(route_entry(seen.node(), tuple.dst, device, self.world));
        Some(Hop { route, ..self.inferred(seen, Action::Route, seen.device(), tuple) })
    }

    /// Sightings of the same visit of a node.
    fn visit(&self, seen: &Sighting) -> impl DoubleEndedIterator<Item = &Sighting> {
        let visit = seen.visit;
        self.track.sightings.iter().filter(move |other| other.visit == visit)
    }

    /// The tunnel header that the packet has, gets or loses at this sighting.
    fn tunnel_header(&self, seen: &Sighting) -> Option<Outer> {
        let header = match seen.action() {
            Action::NodeEgress | Action::NodeIngress => seen.outer,
            Action::Encapsulate => self
                .visit(seen)
                .find(|other| {
                    other.time >= seen.time && other.point() == Point::TcEgress && other.outer.is_some()
                })
                .and_then(|after| after.outer),
            Action::Decapsulate => self
                .visit(seen)
                .rfind(|other| {
                    other.time <= seen.time && other.point() == Point::TcIngress && other.outer.is_some()
                })
                .and_then(|before| before.outer),
            _ => None,
        };
        header.map(outer)
    }

    /// The route that the packet took at this sighting, or from here on.
    fn route_taken(&self, seen: &Sighting, destination: IpAddr) -> Option<RouteTaken> {
        let onward = match seen.point() {
            Point::TcEgress => Some(seen),
            _ => self.visit(seen).find(|other| other.time >= seen.time && other.point() == Point::TcEgress),
        };
        let looked_up = self.route_looked_up(seen, onward);
        let device =
            onward.and_then(Sighting::device).or_else(|| looked_up.map(|next_hop| next_hop.device))?;
        // Routes that refuse, and those to the node itself, name the loopback device: nothing leaves by it.
        if &*self.world.devices.info(device).name == LOOPBACK {
            return None;
        }
        let mut route = route_entry(seen.node(), destination, device, self.world);
        if let Some(next_hop) = looked_up.filter(|next_hop| next_hop.device == device) {
            route.gateway = next_hop.gateway;
            route.evidence = Evidence::Observed;
        }
        Some(route)
    }

    /// The next hop that the kernel had looked up when the packet went on, or when it was dropped.
    fn route_looked_up(&self, seen: &Sighting, onward: Option<&Sighting>) -> Option<NextHop> {
        let at_step = || {
            let steps = &self.track.steps;
            steps.iter().rfind(|step| step.visit == seen.visit && step.time >= seen.time)?.next_hop
        };
        let at_drop = || self.visit(seen).find(|other| other.is_drop())?.next_hop;
        onward.and_then(|onward| onward.next_hop).or_else(at_step).or_else(at_drop)
    }
}

/// The kernel's name for it, in every namespace.
const LOOPBACK: &str = "lo";

fn outer(header: Encapsulation) -> Outer {
    let Encapsulation { vni, src, dst, sport, dport, overhead } = header;
    Outer { kind: VXLAN.clone(), vni: Some(vni), src, dst, sport: Some(sport), dport: Some(dport), overhead }
}

/// The entry of a node's routing table that leads to a destination by a device.
fn route_entry(node: NodeId, destination: IpAddr, device: DeviceId, world: &World) -> RouteTaken {
    let entry = world.devices.route(node, destination, device);
    RouteTaken {
        destination: entry.map(|entry| match entry.destination.prefix_len() {
            0 => "default".to_owned(),
            _ => entry.destination.to_string(),
        }),
        device: world.devices.info(device).name.clone(),
        gateway: entry.and_then(|entry| entry.gateway),
        evidence: Evidence::Inferred,
    }
}
