//! By what equal packets of a flow are found: hashes of what forwarding and translation leave alone.
//!
//! Datagrams over IPv6, and those of unconnected sockets over IPv4, have no identification: a thousand of one length under
//! way at once differ in their payload only. So its first bytes count, except where a capture ends before them.

use std::hash::{Hash as _, Hasher as _};

use rustc_hash::FxHasher;

use podtrace_protocol::wire::Packet;

use crate::join::flow::DirectedFlow;

/// Hashes of a packet's content, equal for packets of one direction of a flow that are [`Packet::same_as`] one another: the
/// first if both captures reach as far, the second in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContentHash {
    /// Of the headers and the payload's first bytes; of the headers alone if those were not captured.
    pub(crate) whole: u64,
    /// Of the headers.
    pub(crate) headers: u64,
}

impl ContentHash {
    pub(crate) fn of(packet: &Packet, flow: DirectedFlow) -> Self {
        let mut hasher = FxHasher::default();
        (flow, packet.content()).hash(&mut hasher);
        let headers = hasher.finish();
        let whole = match packet.payload_start() {
            Some(start) if !start.is_empty() => {
                start.hash(&mut hasher);
                hasher.finish()
            }
            _ => headers,
        };
        Self { whole, headers }
    }

    /// Both, once if they are one.
    pub(crate) fn each(self) -> impl Iterator<Item = u64> {
        let headers = (self.headers != self.whole).then_some(self.headers);
        std::iter::once(self.whole).chain(headers)
    }
}
