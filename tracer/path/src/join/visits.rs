//! The order in which a packet passed nodes, and taps on a node, whatever the order in which events are read.

use podtrace_protocol::topology::Role;

use crate::join::sighting::Sighting;
use crate::join::track::{Arrival, Track};
use crate::model::{Action, Point};
use crate::node::NodeId;
use crate::observation::Observation;
use crate::time::{Moment, NodeTime};

impl Track {
    /// Whether all of it has passed where this observation was made, and cannot pass there again: no packet starts twice,
    /// within one visit of a node none passes a device twice in one direction, and none enters a node again by a device
    /// of a kind that it has not left by.
    pub(crate) fn has_passed(&self, observation: &Observation) -> bool {
        let Some(place) = self.sighting_at(observation.spot) else { return false };
        let seen = &self.sightings[place];
        let starts = place == 0 && self.start_seen && seen.action() == Action::PodEgress;
        let is_pod = |role| role == Role::PodVeth;
        let may_return = self.sightings.iter().any(|left| {
            left.visit == seen.visit && is_exit(left) && is_pod(left.role) == is_pod(observation.role)
        });
        let again =
            self.visit_under_way(observation) == Some(seen.visit) || (is_entry(observation) && !may_return);
        seen.covered >= self.size() && (starts || again)
    }

    /// Whether it had been farther on its way through the observation's node when that was made, and does not enter it again.
    pub(crate) fn was_beyond(&self, observation: &Observation) -> bool {
        if is_entry(observation) {
            return false;
        }
        let visit = self.latest_visit(observation.node());
        let place = place_in_node(observation.role, observation.point());
        self.sightings.iter().any(|seen| {
            Some(seen.visit) == visit
                && seen.time < observation.time
                && place_in_node(seen.role, seen.point()) > place
                && place.is_some()
        })
    }

    /// Whether it had left this node for another one before a moment.
    pub(crate) fn has_left_before(&self, node: NodeId, moment: Moment) -> bool {
        let Some(visit) = self.latest_visit(node) else { return false };
        self.sightings
            .iter()
            .any(|seen| seen.node() != node && seen.visit > visit && seen.moment < moment && !seen.is_drop())
    }

    pub(super) fn latest_visit(&self, node: NodeId) -> Option<i16> {
        self.sightings.iter().filter(|seen| seen.node() == node).map(|seen| seen.visit).max()
    }

    /// The visit that a new sighting belongs to. A node that it had not been seen on comes after the others, or before them.
    pub(super) fn visit_of(&self, observation: &Observation, at: Moment) -> i16 {
        let visits = || self.sightings.iter().map(|seen| seen.visit);
        if let Some(visit) = self.visit_under_way(observation) {
            visit
        } else if self.latest_visit(observation.node()).is_none() && self.is_before(observation, at) {
            visits().min().map_or(0, |first| first.saturating_sub(1))
        } else {
            visits().max().map_or(0, |last| last.saturating_add(1))
        }
    }

    /// The latest visit of an observation's node, unless the packet enters it again.
    fn visit_under_way(&self, observation: &Observation) -> Option<i16> {
        let visit = self.latest_visit(observation.node())?;
        (!is_entry(observation) || !self.has_left(visit, observation.time)).then_some(visit)
    }

    /// Whether a node that it was not seen on yet came before the others: what clocks that are a little wrong say last may
    /// be the first. A packet that has arrived goes nowhere, and it goes out of one node before it goes into another.
    fn is_before(&self, observation: &Observation, at: Moment) -> bool {
        if self.start_seen || observation.is_drop() {
            return false;
        }
        let mut others = self.sightings.iter().map(|seen| goes_out(seen.role, seen.point()));
        match goes_out(observation.role, observation.point()) {
            _ if matches!(self.arrival, Some(Arrival::Pod(_))) => true,
            Some(out) if others.all(|other| other == Some(!out)) => out,
            _ => self.sightings.iter().all(|seen| at < seen.moment),
        }
    }

    /// Whether it had left the node that it was on by this visit. What waited is taken late, when later pieces have left.
    fn has_left(&self, visit: i16, time: NodeTime) -> bool {
        self.sightings.iter().any(|seen| seen.visit == visit && is_exit(seen) && seen.time < time)
    }
}

/// Whether a packet is on its way out of a node at a tap, or on its way in; `None` where that is not known of the device.
fn goes_out(role: Role, point: Point) -> Option<bool> {
    match (role, point) {
        (Role::PodVeth | Role::Bridge, Point::TcIngress) | (Role::Tunnel | Role::Uplink, Point::TcEgress) => {
            Some(true)
        }
        (Role::PodVeth | Role::Bridge, Point::TcEgress) | (Role::Tunnel | Role::Uplink, Point::TcIngress) => {
            Some(false)
        }
        _ => None,
    }
}

/// How far a packet is on its way through a node at a tap; `None` where that is not known of the device.
fn place_in_node(role: Role, point: Point) -> Option<u8> {
    match (role, point) {
        (Role::PodVeth | Role::Uplink, Point::TcIngress) => Some(0),
        (Role::Bridge | Role::Tunnel, Point::TcIngress) => Some(1),
        (Role::Bridge | Role::Tunnel, Point::TcEgress) => Some(2),
        (Role::PodVeth | Role::Uplink, Point::TcEgress) => Some(3),
        _ => None,
    }
}

/// Whether a packet comes into the node's own namespace here, from a pod or from outside.
pub(super) fn is_entry(observation: &Observation) -> bool {
    observation.point() == Point::TcIngress && leads_out(observation.role)
}

/// Whether a packet leaves the node's own namespace here, to a pod or to the outside.
fn is_exit(seen: &Sighting) -> bool {
    seen.point() == Point::TcEgress && leads_out(seen.role)
}

fn leads_out(role: Role) -> bool {
    matches!(role, Role::Uplink | Role::Other | Role::PodVeth)
}
