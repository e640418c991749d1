//! What the path engine asks of a packet besides its headers.

use std::hash::{Hash as _, Hasher as _};

pub(crate) use podtrace_protocol::wire::{
    Encapsulation, Packet, Quoted, Reading, Transport, parse, protocol as number, tcp_flag as tcp,
};
use rustc_hash::FxHasher;

use crate::model::{Protocol, Tuple};

/// A packet as paths have it.
pub(crate) trait PacketExt {
    /// Addresses and ports.
    fn tuple(&self) -> Tuple;
    /// The protocol as users read it.
    fn proto(&self) -> Protocol;
    /// Equal for packets that are [`Packet::same_as`] one another on the same way of the same flow.
    fn content_hash(&self, flow: usize, forward: bool) -> u64;
}

impl PacketExt for Packet {
    fn tuple(&self) -> Tuple {
        let (sport, dport) = self.ports().unzip();
        Tuple { src: self.src, dst: self.dst, proto: self.proto(), sport, dport }
    }

    fn proto(&self) -> Protocol {
        Protocol::of_number(self.protocol)
    }

    fn content_hash(&self, flow: usize, forward: bool) -> u64 {
        let mut hasher = FxHasher::default();
        (flow, forward, self.content()).hash(&mut hasher);
        hasher.finish()
    }
}
