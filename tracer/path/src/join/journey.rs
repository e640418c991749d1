//! Journeys: the hop events of one packet identity on one node, and the paths they belong to.

use rustc_hash::FxHashMap;

use crate::wire::packet::Packet;

/// Journeys that may be under way at once, so that a flood cannot eat the machine.
const MOST_JOURNEYS: usize = 1 << 20;

/// Node, and identity on it.
pub(crate) type JourneyKey = (usize, u64);

/// A path's part in a journey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) track: usize,
    /// Stream bytes; 1 for packets without.
    pub(crate) bytes: u32,
}

/// Whose journey it is.
#[derive(Clone, Debug)]
pub(crate) enum Holder {
    /// One path's: the usual case.
    One(Share),
    /// Several paths': GRO put their bytes together.
    Many(Vec<Share>),
    /// Not known yet: its observations wait here.
    Waiting(usize),
}

/// Where a journey was last seen, as far as a drop afterwards depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// On its way.
    Way,
    /// At the pod it was for.
    Destination,
    /// Somewhere a copy went by flooding.
    Astray,
}

/// What a packet's bytes say about which of a stream's bytes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    stream: Option<(u32, u32)>,
    id: u32,
}

impl Stamp {
    pub(crate) fn of(packet: &Packet) -> Self {
        Self { stream: packet.stream(), id: packet.id }
    }
}

/// One identity's way through one node.
#[derive(Clone, Debug)]
pub(crate) struct Journey {
    pub(crate) holder: Holder,
    pub(crate) stamp: Stamp,
    pub(crate) whereabouts: Whereabouts,
}

/// All journeys under way.
#[derive(Debug, Default)]
pub(crate) struct Journeys {
    all: FxHashMap<JourneyKey, Journey>,
}

impl Journeys {
    pub(crate) fn get(&self, key: JourneyKey) -> Option<&Journey> {
        self.all.get(&key)
    }

    pub(crate) fn get_mut(&mut self, key: JourneyKey) -> Option<&mut Journey> {
        self.all.get_mut(&key)
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.all.len() < MOST_JOURNEYS
    }

    pub(crate) fn insert(&mut self, key: JourneyKey, holder: Holder, stamp: Stamp) {
        self.all.insert(key, Journey { holder, stamp, whereabouts: Whereabouts::Way });
    }

    pub(crate) fn remove(&mut self, key: JourneyKey) {
        self.all.remove(&key);
    }

    /// Takes a path that is told out of a journey; the journey ends with its last path.
    pub(crate) fn release(&mut self, key: JourneyKey, track: usize) {
        let Some(journey) = self.all.get_mut(&key) else { return };
        let ended = match &mut journey.holder {
            Holder::One(share) => share.track == track,
            Holder::Many(shares) => {
                shares.retain(|share| share.track != track);
                shares.is_empty()
            }
            Holder::Waiting(_) => false,
        };
        if ended {
            self.all.remove(&key);
        }
    }
}
