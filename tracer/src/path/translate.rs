//! Translations: what happened to a packet between two points that saw it with other addresses or ports.

use std::sync::Arc;

use super::directory::Directory;
use super::model::{Nat, NatKind, ServiceRef, Tuple};
use super::track::{Sighting, Track};
use super::world::World;

/// What changed between two points of a node: the destination first, as the kernel does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Before routing.
    pub(super) destination: Option<Change>,
    /// After it.
    pub(super) source: Option<Change>,
}

/// One translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    before: Tuple,
    pub(super) after: Tuple,
}

impl Changes {
    pub(super) fn between(before: Tuple, after: Tuple) -> Self {
        let halfway = Tuple { dst: after.dst, dport: after.dport, ..before };
        let change = |before: Tuple, after: Tuple| (before != after).then_some(Change { before, after });
        Self { destination: change(before, halfway), source: change(halfway, after) }
    }
}

/// Addresses and ports of a packet where it was seen.
pub(super) fn tuple(track: &Track, seen: &Sighting) -> Tuple {
    seen.tuple.unwrap_or_else(|| track.packet.tuple())
}

/// The translation of a packet that goes the way of its connection's answers, or the other.
pub(super) fn nat(change: Change, answers: bool, node: usize, world: &World) -> Nat {
    let Change { before, after } = change;
    let own = |address| world.devices.is_own(node, address);
    let destination = (before.dst, before.dport) != (after.dst, after.dport);
    let kind = match (destination, answers) {
        (true, false) if own(after.dst) => NatKind::Redirect,
        (true, false) => NatKind::Dnat,
        (true, true) if own(before.dst) => NatKind::UnMasquerade,
        (true, true) => NatKind::UnSnat,
        (false, false) if own(after.src) => NatKind::Masquerade,
        (false, false) => NatKind::Snat,
        (false, true) if own(before.src) => NatKind::UnRedirect,
        (false, true) => NatKind::UnDnat,
    };
    Nat { kind, before, after, service: service(kind, &before, &after, &world.directory) }
}

fn service(kind: NatKind, before: &Tuple, after: &Tuple, directory: &Directory) -> Option<ServiceRef> {
    let ((address, port), pod) = match kind {
        NatKind::Dnat | NatKind::Redirect => ((before.dst, before.dport), after.dst),
        NatKind::UnDnat | NatKind::UnRedirect => ((after.src, after.sport), before.src),
        NatKind::Snat | NatKind::Masquerade | NatKind::UnSnat | NatKind::UnMasquerade => return None,
    };
    let port = port?;
    let service = directory.service(address, port, before.proto)?;
    let endpoint: Option<Arc<str>> = directory.pod(pod).cloned();
    Some(ServiceRef { name: service.name.clone(), port, endpoint, endpoints: service.endpoints })
}
