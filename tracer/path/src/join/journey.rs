//! Journeys: the events of one packet within one node, and the paths that it belongs to.

use rustc_hash::FxHashMap;

use podtrace_protocol::wire::Packet;

use crate::join::shares::Shares;
use crate::join::track::TrackId;
use crate::join::waiting::WaitingId;
use crate::observation::LocalPacket;

/// Most journeys under way at once: a flood must not use up the memory.
const MOST_JOURNEYS: usize = 1 << 20;

/// Whose journey it is.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    /// These paths'.
    Tracks(Shares),
    /// Not known yet: its observations wait here.
    Waiting(WaitingId),
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

/// Which bytes of its TCP stream a packet holds, and its IP identification: GRO changes both.
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

/// The way of one packet through one node.
#[derive(Clone, Debug)]
pub(crate) struct Journey {
    pub(crate) owner: Owner,
    pub(crate) extent: Extent,
    pub(crate) last_place: LastPlace,
}

/// All journeys under way.
#[derive(Debug, Default)]
pub(crate) struct Journeys {
    all: FxHashMap<LocalPacket, Journey>,
}

impl Journeys {
    pub(crate) fn get(&self, local: LocalPacket) -> Option<&Journey> {
        self.all.get(&local)
    }

    pub(crate) fn get_mut(&mut self, local: LocalPacket) -> Option<&mut Journey> {
        self.all.get_mut(&local)
    }

    /// The paths of a packet; `None` if they are not known.
    pub(crate) fn shares(&self, local: LocalPacket) -> Option<&Shares> {
        match &self.all.get(&local)?.owner {
            Owner::Tracks(shares) => Some(shares),
            Owner::Waiting(_) => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.all.len() < MOST_JOURNEYS
    }

    pub(crate) fn insert(&mut self, local: LocalPacket, owner: Owner, packet: &Packet) {
        let journey = Journey { owner, extent: Extent::of(packet), last_place: LastPlace::InTransit };
        self.all.insert(local, journey);
    }

    pub(crate) fn remove(&mut self, local: LocalPacket) {
        self.all.remove(&local);
    }

    /// Takes a finished path out of a journey. The journey ends with its last path.
    pub(crate) fn release(&mut self, local: LocalPacket, track: TrackId) {
        let Some(journey) = self.all.get_mut(&local) else { return };
        let Owner::Tracks(shares) = &mut journey.owner else { return };
        shares.remove(track);
        if shares.is_empty() {
            self.all.remove(&local);
        }
    }
}
