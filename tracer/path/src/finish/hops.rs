//! The hops of a path, in the order of its sightings: what was seen, and what must have happened around it.
//!
//! [`Drafter::around`] is the order in which the kernel does it.

use crate::finish::draft::{Draft, Drafter};
use crate::finish::inference::Stop;
use crate::finish::verdict::lost_by;
use crate::finish::{droppers, steps};
use crate::join::track::{Sighting, Track};
use crate::model::Hop;
use crate::world::World;

/// The hops of a path.
pub(crate) struct Hops {
    pub(crate) hops: Vec<Hop>,
    /// Time between the first hop and the last, in nanoseconds.
    pub(crate) duration_ns: i64,
    /// Bound of its error.
    pub(crate) error_ns: u64,
}

/// Makes the hops of a track whose sightings are in order.
pub(crate) fn hops(track: &Track, world: &World) -> Hops {
    let drafter = Drafter::new(track, world);
    let mut drafts = Vec::with_capacity(track.sightings.len() + 1);
    for stop in stops(track) {
        drafter.around(&stop, &mut drafts);
    }
    steps::assign(&track.steps, &mut drafts, &drafter.clock, world);
    droppers::name(&mut drafts, world);
    numbered(drafts)
}

/// The sightings that become hops, each with those beside it. Drops that do not count are left out.
fn stops(track: &Track) -> impl Iterator<Item = Stop<'_>> {
    let counts = |seen: &&Sighting| !seen.is_drop() || lost_by(track, seen).is_some();
    let sightings: Vec<&Sighting> = track.sightings.iter().filter(counts).collect();
    (0..sightings.len()).map(move |place| Stop {
        seen: sightings[place],
        before: place.checked_sub(1).map(|before| sightings[before]),
        after: sightings.get(place + 1).copied(),
    })
}

impl Drafter<'_> {
    /// Adds the hop of a sighting and those inferred around it.
    fn around(&self, stop: &Stop<'_>, drafts: &mut Vec<Draft>) {
        let seen = self.seen_hop(stop);
        let inferred = |hop| self.draft(stop, hop, false);
        // Sent by the node itself.
        drafts.extend(self.local_out(stop).map(inferred));
        drafts.extend(self.output_nat(stop).map(inferred));
        // On the way from the sighting before. The source is translated last.
        drafts.extend(self.bridge(stop).map(inferred));
        drafts.extend(self.source_nat(stop).map(inferred));
        // The destination is translated before the route is looked up, which a bridge's own hop stands for.
        let (nat_before, nat_after) = match (self.destination_nat(stop), stop.is_routed_here()) {
            (nat, true) => (nat, None),
            (nat, false) => (None, nat),
        };
        drafts.extend(nat_before.map(inferred));
        let local_in = self.local_in(stop, &seen);
        drafts.push(self.draft(stop, seen, true));
        drafts.extend(local_in.map(inferred));
        drafts.extend(nat_after.map(inferred));
        drafts.extend(self.route(stop).map(inferred));
    }

    fn draft(&self, stop: &Stop<'_>, hop: Hop, is_seen: bool) -> Draft {
        let Stop { seen, .. } = stop;
        Draft {
            hop,
            node: seen.node(),
            visit: seen.visit,
            device: seen.device(),
            time: is_seen.then_some(seen.time),
        }
    }
}

/// Numbers the hops.
fn numbered(drafts: Vec<Draft>) -> Hops {
    let mut made = Hops { hops: Vec::with_capacity(drafts.len()), duration_ns: 0, error_ns: 0 };
    for (index, draft) in drafts.into_iter().enumerate() {
        let mut hop = draft.hop;
        hop.index = u32::try_from(index).unwrap_or(u32::MAX);
        if let Some(at) = hop.at_ns {
            made.duration_ns = at;
            made.error_ns = hop.clock_error_ns;
        }
        made.hops.push(hop);
    }
    made
}
