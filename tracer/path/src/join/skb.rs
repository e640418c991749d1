//! sk_buffs in flight: which tracks each belongs to, and where it was seen last.
//!
//! A track lists its sk_buffs (`Track::skb_ids`), and an sk_buff its tracks: several, where GRO merged their packets. Both
//! change together. At most [`MAX_SKBS`] are known at once.

use rustc_hash::FxHashMap;

use podtrace_protocol::wire::Packet;

use crate::join::shares::Shares;
use crate::join::track::TrackId;
use crate::join::waiting::WaitingId;
use crate::observation::SkbId;

/// Maximum number of identities: a flood must not use up the memory.
const MAX_SKBS: usize = 1 << 20;

/// The tracks that an sk_buff belongs to, or the unmatched packet that it is.
#[derive(Clone, Debug)]
pub(crate) enum SkbOwner {
    /// These tracks'.
    Matched(Shares),
    /// Not known yet: its observations wait here.
    Unmatched(WaitingId),
}

/// Where a packet was last seen, as far as a drop after that depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastPlace {
    /// Between its source and its destination.
    InTransit,
    /// At its destination.
    Destination,
    /// Where a bridge flooded a copy to.
    FloodedPort,
}

/// Which bytes of its TCP stream a packet holds, and its IP identification. Compared to notice that GRO or
/// GSO changed the payload: the packet is then matched by its bytes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    stream: Option<(u32, u32)>,
    id: u32,
}

impl Extent {
    pub(crate) fn of(packet: &Packet) -> Self {
        Self { stream: packet.stream(), id: packet.id }
    }
}

/// What is known of one sk_buff.
#[derive(Clone, Debug)]
pub(crate) struct SkbState {
    pub(crate) owner: SkbOwner,
    pub(crate) extent: Extent,
    pub(crate) last_place: LastPlace,
}

/// All sk_buffs in flight.
#[derive(Debug, Default)]
pub(crate) struct SkbTable {
    all: FxHashMap<SkbId, SkbState>,
}

impl SkbTable {
    pub(crate) fn get(&self, skb: SkbId) -> Option<&SkbState> {
        self.all.get(&skb)
    }

    pub(crate) fn get_mut(&mut self, skb: SkbId) -> Option<&mut SkbState> {
        self.all.get_mut(&skb)
    }

    /// The paths of a packet; `None` if they are not known.
    pub(crate) fn shares(&self, skb: SkbId) -> Option<&Shares> {
        match &self.all.get(&skb)?.owner {
            SkbOwner::Matched(shares) => Some(shares),
            SkbOwner::Unmatched(_) => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.all.len() < MAX_SKBS
    }

    pub(crate) fn insert(&mut self, skb: SkbId, owner: SkbOwner, packet: &Packet) {
        let state = SkbState { owner, extent: Extent::of(packet), last_place: LastPlace::InTransit };
        self.all.insert(skb, state);
    }

    pub(crate) fn remove(&mut self, skb: SkbId) {
        self.all.remove(&skb);
    }

    /// Takes a finished track out of an sk_buff's state, which ends with its last track.
    pub(crate) fn release(&mut self, skb: SkbId, track: TrackId) {
        let Some(state) = self.all.get_mut(&skb) else { return };
        let SkbOwner::Matched(shares) = &mut state.owner else { return };
        shares.remove(track);
        if shares.is_empty() {
            self.all.remove(&skb);
        }
    }
}
