//! Translations: what happened to a packet between two points that saw it with other addresses or ports.

use std::sync::Arc;

use podtrace_rules::{Attribution, Kind};

use crate::join::track::{Sighting, Track};
use crate::model::{Nat, NatKind, ServiceRef, Tuple};
use crate::wire::packet::PacketExt as _;
use crate::world::World;
use crate::world::devices::DeviceId;
use crate::world::directory::Directory;
use crate::world::rule::Asked;

/// What changed between two points of a node: the destination first, as the kernel does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Before routing.
    pub(crate) destination: Option<Change>,
    /// After it.
    pub(crate) source: Option<Change>,
}

/// One translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    before: Tuple,
    pub(crate) after: Tuple,
}

impl Changes {
    pub(crate) fn between(before: Tuple, after: Tuple) -> Self {
        let halfway = Tuple { dst: after.dst, dport: after.dport, ..before };
        let change = |before: Tuple, after: Tuple| (before != after).then_some(Change { before, after });
        Self { destination: change(before, halfway), source: change(halfway, after) }
    }
}

/// Addresses and ports of a packet where it was seen.
pub(crate) fn tuple(track: &Track, seen: &Sighting) -> Tuple {
    seen.tuple.unwrap_or_else(|| track.packet.tuple())
}

/// Where a packet was translated: between two points of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) node: usize,
    pub(crate) came_in: Option<DeviceId>,
    pub(crate) goes_out: Option<DeviceId>,
    /// The packet as it came to the node, and its mark then.
    pub(crate) entered: Option<(Tuple, u32)>,
}

/// The translation of a packet that goes the way of its connection's answers, or the other.
pub(crate) fn nat(change: Change, answers: bool, place: Place, world: &World) -> Nat {
    let Change { before, after } = change;
    let own = |address| world.devices.is_own(place.node, address);
    let destination = (before.dst, before.dport) != (after.dst, after.dport);
    // Answers are translated back without asking a rule.
    let rule = if answers { None } else { rule(change, place, world) };
    let by_rule = rule.as_ref().map(|rule| rule.kind);
    let kind = match (destination, answers) {
        (true, false) if by_rule == Some(Kind::Redirect) => NatKind::Redirect,
        (true, false) if by_rule != Some(Kind::Dnat) && own(after.dst) => NatKind::Redirect,
        (true, false) => NatKind::Dnat,
        (true, true) if own(before.dst) => NatKind::UnMasquerade,
        (true, true) => NatKind::UnSnat,
        (false, false) if by_rule == Some(Kind::Masquerade) => NatKind::Masquerade,
        (false, false) if by_rule != Some(Kind::Snat) && own(after.src) => NatKind::Masquerade,
        (false, false) => NatKind::Snat,
        (false, true) if own(before.src) => NatKind::UnRedirect,
        (false, true) => NatKind::UnDnat,
    };
    let service = service(kind, &before, &after, rule.as_deref(), &world.directory);
    Nat { kind, before, after, service, rule }
}

fn rule(change: Change, place: Place, world: &World) -> Option<Arc<Attribution>> {
    let Place { node, came_in, goes_out, entered } = place;
    // Where a bridge hands its packets to IP's rules, it stands for its ports.
    let device = |id: Option<DeviceId>| {
        let info = world.devices.info(id?);
        Some(info.bridge.map_or(info, |bridge| world.devices.info(bridge)).name.clone())
    };
    let Change { before, after } = change;
    world.rules[node].translated(Asked {
        before,
        after,
        in_device: device(came_in),
        out_device: device(goes_out),
        entered,
    })
}

fn service(
    kind: NatKind,
    before: &Tuple,
    after: &Tuple,
    rule: Option<&Attribution>,
    directory: &Directory,
) -> Option<ServiceRef> {
    let ((address, port), pod) = match kind {
        NatKind::Dnat | NatKind::Redirect => ((before.dst, before.dport), after.dst),
        NatKind::UnDnat | NatKind::UnRedirect => ((after.src, after.sport), before.src),
        NatKind::Snat | NatKind::Masquerade | NatKind::UnSnat | NatKind::UnMasquerade => return None,
    };
    let port = port?;
    let endpoint: Option<Arc<str>> = directory.pod(pod).cloned();
    if let Some(service) = directory.service(address, port, before.proto) {
        return Some(ServiceRef { name: service.name.clone(), port, endpoint, endpoints: service.endpoints });
    }
    // One that the inventory does not have may be in kube-proxy's comments.
    let rule = rule?;
    let name = rule.service.as_deref()?.into();
    Some(ServiceRef { name, port, endpoint, endpoints: rule.endpoints.unwrap_or(0) })
}
