//! Drops: which paths they end, and which of them mean nothing.

use super::{Joiner, begins_here, look_again};
use crate::join::fit::Fit;
use crate::join::journey::{Holder, Share, Whereabouts};
use crate::join::refusal::{self, Meaning};
use crate::join::track::DropSeen;
use crate::model::Point;
use crate::observation::Observation;
use crate::world::World;

impl Joiner {
    pub(super) fn observe_drop(&mut self, observation: &Observation, world: &World) {
        let key = (observation.node, observation.identity);
        let mut shares = std::mem::take(&mut self.shares);
        shares.clear();
        let whereabouts = match self.journeys.get(key) {
            Some(journey) => {
                match &journey.holder {
                    Holder::One(share) => shares.push(*share),
                    Holder::Many(many) => shares.extend_from_slice(many),
                    Holder::Waiting(at) => {
                        self.waiting[*at].observations.push(observation.clone());
                        self.shares = shares;
                        return;
                    }
                }
                journey.whereabouts
            }
            None if self.is_anothers(observation) => {
                self.apart.aside += 1;
                self.shares = shares;
                return;
            }
            None => {
                let fit = match &observation.packet {
                    Some(_) => self.resolve(observation, &mut shares, world),
                    None => Fit::None,
                };
                match (fit, &observation.packet) {
                    (Fit::None, Some(packet)) if observation.first_seen => {
                        if begins_here(observation, packet, world) {
                            self.begin_or_wait(observation, packet, world);
                        } else {
                            self.wait(observation, false, world);
                        }
                        self.shares = shares;
                        return;
                    }
                    // Its path has been told, long before the skb was freed.
                    (Fit::None, _) => {
                        self.apart.aside += 1;
                        self.shares = shares;
                        return;
                    }
                    _ => Whereabouts::Way,
                }
            }
        };
        self.drop_of(observation, &shares, whereabouts, world);
        self.shares = shares;
    }

    pub(super) fn drop_of(
        &mut self,
        observation: &Observation,
        shares: &[Share],
        place: Whereabouts,
        world: &World,
    ) {
        let now = world.moment(observation);
        let drop = world.drop(observation);
        for share in shares {
            let track = &mut self.tracks[share.track];
            let of_arrived = match refusal::meaning(observation, &drop, track, place, world) {
                Meaning::Victim { of_arrived } => of_arrived,
                Meaning::Superfluous(words) => {
                    track.superfluous.get_or_insert(words);
                    self.apart.aside += 1;
                    continue;
                }
                Meaning::Nothing => {
                    self.apart.aside += 1;
                    continue;
                }
            };
            track.sight(observation, share.bytes, now);
            if !track.dropped {
                self.timers.extend(look_again(track, share.track, now));
            }
            track.dropped = true;
            if let Some(seen) = track.sightings.last_mut()
                && seen.point == Point::KfreeSkb
            {
                seen.drop = Some(Box::new(DropSeen { drop: drop.clone(), of_arrived }));
            }
        }
    }
}
