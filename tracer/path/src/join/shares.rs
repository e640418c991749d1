//! Which paths a packet within a node belongs to: one nearly always, several where GRO has merged segments.

use crate::join::track::TrackId;

/// A path's part of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) track: TrackId,
    /// TCP stream bytes; 1 for a packet that carries none.
    pub(crate) bytes: u32,
}

/// The paths that a packet belongs to. One is held without an allocation.
#[derive(Clone, Debug, Default)]
pub(crate) enum Shares {
    #[default]
    None,
    One(Share),
    Many(Vec<Share>),
}

impl Shares {
    pub(crate) fn push(&mut self, share: Share) {
        match self {
            Self::None => *self = Self::One(share),
            Self::One(first) => *self = Self::Many(vec![*first, share]),
            Self::Many(shares) => shares.push(share),
        }
    }

    pub(crate) fn as_slice(&self) -> &[Share] {
        match self {
            Self::None => &[],
            Self::One(share) => std::slice::from_ref(share),
            Self::Many(shares) => shares,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// The only share; `None` if there is none or are several.
    pub(crate) fn only(&self) -> Option<Share> {
        match self.as_slice() {
            [share] => Some(*share),
            _ => None,
        }
    }

    /// Takes a path out.
    pub(crate) fn remove(&mut self, track: TrackId) {
        match self {
            Self::None => {}
            Self::One(share) if share.track == track => *self = Self::None,
            Self::One(_) => {}
            Self::Many(shares) => shares.retain(|share| share.track != track),
        }
    }
}
