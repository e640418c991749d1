//! The hops of a path: those observed, in the order of the sightings, and those inferred before and after each.
//!
//! [`Drafter::push_hops_for`] has the order in which the kernel processes a packet.

use crate::finish::draft::{Draft, Drafter};
use crate::finish::inference::SightingContext;
use crate::finish::verdict::fatal_drop;
use crate::finish::{droppers, steps};
use crate::join::sighting::Sighting;
use crate::join::track::Track;
use crate::model::Hop;
use crate::world::World;

/// The hops of a path.
pub(crate) struct Hops {
    pub(crate) hops: Vec<Hop>,
    /// Time between the first hop and the last, in nanoseconds.
    pub(crate) duration_ns: i64,
    /// Upper bound of the error of `duration_ns`.
    pub(crate) error_ns: u64,
}

/// Makes the hops of a track. Its sightings must be sorted by time.
pub(crate) fn hops(track: &Track, world: &World) -> Hops {
    let drafter = Drafter::new(track, world);
    let mut drafts = Vec::with_capacity(track.sightings.len() + 1);
    for context in with_context(track) {
        drafter.push_hops_for(&context, &mut drafts);
    }
    steps::assign(&track.steps, &mut drafts, &drafter.clock, world);
    droppers::name(&mut drafts, world);
    numbered(drafts)
}

/// The sightings that become hops, each with its previous and next one. Skips drops that did not end the packet.
fn with_context(track: &Track) -> impl Iterator<Item = SightingContext<'_>> {
    let is_relevant = |seen: &&Sighting| !seen.is_drop() || fatal_drop(track, seen).is_some();
    let sightings: Vec<&Sighting> = track.sightings.iter().filter(is_relevant).collect();
    (0..sightings.len()).map(move |place| SightingContext {
        current: sightings[place],
        previous: place.checked_sub(1).map(|previous| sightings[previous]),
        next: sightings.get(place + 1).copied(),
    })
}

impl Drafter<'_> {
    /// Adds the hop of a sighting, and the inferred ones before and after it.
    fn push_hops_for(&self, context: &SightingContext<'_>, drafts: &mut Vec<Draft>) {
        let seen = self.seen_hop(context);
        let inferred = |hop| self.draft(context, hop, false);
        // LOCAL_OUT: sent by the node itself, and its NAT.
        drafts.extend(self.local_out(context).map(inferred));
        drafts.extend(self.output_nat(context).map(inferred));
        // Between the previous sighting and this one: bridging, then SNAT in POSTROUTING.
        drafts.extend(self.bridge(context).map(inferred));
        drafts.extend(self.source_nat(context).map(inferred));
        // DNAT in PREROUTING comes before routing. If this sighting is the routing hop, it goes before it, else after it.
        let (nat_before, nat_after) = match (self.destination_nat(context), context.is_routed_here()) {
            (nat, true) => (nat, None),
            (nat, false) => (None, nat),
        };
        drafts.extend(nat_before.map(inferred));
        let local_in = self.local_in(context, &seen);
        drafts.push(self.draft(context, seen, true));
        drafts.extend(local_in.map(inferred));
        drafts.extend(nat_after.map(inferred));
        drafts.extend(self.route(context).map(inferred));
    }

    fn draft(&self, context: &SightingContext<'_>, hop: Hop, is_seen: bool) -> Draft {
        let SightingContext { current: seen, .. } = context;
        Draft {
            hop,
            node: seen.node(),
            visit: seen.visit,
            device: seen.device(),
            time: is_seen.then_some(seen.time),
        }
    }
}

/// Numbers the hops. The duration is the time of the last one that has a time.
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
