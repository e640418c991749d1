//! What a translated packet looks like belongs to its flow as well: so it is known on other nodes, and its answers
//! are known for answers.

use super::Joiner;
use crate::join::flow::Key;
use crate::observation::Observation;
use crate::world::World;

impl Joiner {
    /// Takes what an observation says of a path's translation.
    pub(super) fn link(&mut self, observation: &Observation, track: usize, world: &World) {
        let Some(packet) = &observation.packet else { return };
        let of = &self.tracks[track];
        let (flow, forward) = (of.flow, of.forward);
        let mut news = Vec::new();
        if !of.has_ends_of(packet) {
            let (key, low_to_high) = Key::of(packet);
            if self.flows.add_key(flow, key, low_to_high == forward) {
                news.push(key);
            }
        }
        if let Some(connection) = &observation.connection
            && connection.is_translated()
            && !of.linked
        {
            let opening = forward != connection.is_reply();
            for (key, low_to_high) in connection.keys() {
                if self.flows.add_key(flow, key, low_to_high == opening) {
                    news.push(key);
                }
            }
            self.tracks[track].linked = true;
        }
        for key in news {
            self.retry_unknown(key, world);
        }
    }
}
