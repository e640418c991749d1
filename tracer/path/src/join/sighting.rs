//! What was seen of a track's packet at one place: a sighting at a tap or drop, a step at a hook of the network stack.

use podtrace_protocol::hook::Meaning;
use podtrace_protocol::topology::Role;
use podtrace_protocol::wire::Encapsulation;

use crate::model::{Action, Drop, Point, Tuple};
use crate::node::NodeId;
use crate::observation::connection::Connection;
use crate::observation::{NextHop, Observation, Spot};
use crate::time::{Moment, NodeTime};
use crate::world::devices::{DeviceId, action};

/// One packet at one tap, or dropped; all its pieces together.
#[derive(Debug)]
pub(crate) struct Sighting {
    pub(crate) spot: Spot,
    /// Number of the visit of a node along the whole path: the first node's is 0, the next node's 1, the first node entered
    /// again 2; below 0 for nodes before those that were read first.
    pub(crate) visit: i16,
    pub(crate) role: Role,
    /// When the first piece was seen.
    pub(crate) time: NodeTime,
    /// When the last piece was seen.
    pub(super) last_time: NodeTime,
    /// `time` on the common timeline, by the clock offset known at that moment.
    pub(super) moment: Moment,
    /// Length of the IP packet; the sum over its pieces.
    pub(crate) bytes: u32,
    /// Number of sk_buffs seen.
    pub(crate) packets: u32,
    /// Whether GRO merged it with other packets.
    pub(crate) merged: bool,
    /// Bytes of the track seen here, see [`Track::size`](super::track::Track::size).
    pub(crate) covered: u32,
    /// Addresses and ports, if NAT has changed them.
    pub(crate) tuple: Option<Tuple>,
    pub(crate) outer: Option<Encapsulation>,
    pub(crate) mark: u32,
    /// The connection tracking entry of the sk_buff.
    pub(crate) connection: Option<Box<Connection>>,
    pub(crate) drop: Option<Box<DropSeen>>,
    pub(crate) next_hop: Option<NextHop>,
    /// Indices of the records that it was made of.
    pub(crate) records: Vec<u64>,
}

impl Sighting {
    pub(crate) fn node(&self) -> NodeId {
        self.spot.node
    }

    pub(crate) fn device(&self) -> Option<DeviceId> {
        self.spot.device
    }

    pub(crate) fn point(&self) -> Point {
        self.spot.point
    }

    pub(crate) fn is_drop(&self) -> bool {
        self.spot.point == Point::KfreeSkb
    }

    /// The action that this sighting stands for.
    pub(crate) fn action(&self) -> Action {
        action(self.role, self.spot.point)
    }
}

/// A drop that the kernel reported.
#[derive(Debug)]
pub(crate) struct DropSeen {
    pub(crate) drop: Drop,
    /// Whether the receiver's stack dropped it. Otherwise it may have been a surplus copy.
    pub(crate) in_receiver: bool,
}

impl DropSeen {
    /// Whether nobody listens at the packet's port.
    pub(super) fn is_no_socket(&self) -> bool {
        self.drop.reason.as_deref() == Some("NO_SOCKET")
    }
}

/// One packet at one hook of the network stack; all its pieces together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) spot: Spot,
    /// See [`Sighting::visit`].
    pub(crate) visit: i16,
    pub(crate) meaning: Meaning,
    pub(crate) time: NodeTime,
    identity: u64,
    /// Index of its record.
    pub(crate) record: u64,
    pub(crate) next_hop: Option<NextHop>,
    /// Whether the hook saw the outer packet of a tunnel.
    pub(crate) in_tunnel: bool,
    /// What the hook reports besides the packet, such as a netfilter hook's number.
    pub(crate) aux: u32,
}

impl Step {
    /// Converts an observation; `None` if no hook of the network stack made it.
    pub(super) fn from_observation(observation: &Observation, visit: i16) -> Option<Self> {
        Some(Self {
            spot: observation.spot,
            visit,
            meaning: observation.point().meaning()?,
            time: observation.time,
            identity: observation.skb.identity,
            record: observation.record,
            next_hop: observation.next_hop,
            in_tunnel: observation.in_tunnel,
            aux: observation.aux,
        })
    }

    /// Whether `other`, a step of the same track, is another piece of its packet at the same hook.
    pub(super) fn is_piece_of(&self, other: &Self) -> bool {
        (self.spot, self.visit, self.aux) == (other.spot, other.visit, other.aux)
            && self.identity != other.identity
    }
}
