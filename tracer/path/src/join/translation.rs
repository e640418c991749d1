//! Translated packets belong to their flow too: so they are recognised on other nodes, and their answers as answers.

use super::Joiner;
use crate::join::flow::DirectedFlow;
use crate::join::track::TrackId;
use crate::observation::Observation;
use crate::observation::connection::Connection;
use crate::observation::key::{DirectedKey, FlowKey};

impl Joiner {
    /// Takes what an observation of a path says of its translation.
    pub(super) fn learn_translation(&mut self, observation: &Observation, id: TrackId) {
        let Some(packet) = &observation.packet else { return };
        let mut new = Vec::new();
        let track = &self.tracks[id];
        let (flow, is_changed, is_known) = (track.flow, !track.has_ends_of(packet), track.translation_known);
        if is_changed {
            self.add_key(flow, DirectedKey::of(packet), &mut new);
        }
        if !is_known && let Some(connection) = observation.translation() {
            self.add_connection(flow, connection, &mut new);
            self.tracks[id].translation_known = true;
        }
        self.awaited.extend(new);
    }

    fn add_connection(&mut self, flow: DirectedFlow, connection: &Connection, new: &mut Vec<FlowKey>) {
        let original = if connection.is_reply() { flow.back() } else { flow };
        for key in connection.keys() {
            self.add_key(original, key, new);
        }
    }

    fn add_key(&mut self, flow: DirectedFlow, key: DirectedKey, new: &mut Vec<FlowKey>) {
        if self.flows.add_key(flow, key) {
            new.push(key.key);
        }
    }
}
