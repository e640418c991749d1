//! Translations: what happened between two points that saw a packet with different addresses or ports, and which rule
//! and Service it was by.

use std::sync::Arc;

use podtrace_rules::{Attribution, Kind};

use crate::model::{Direction, Nat, NatKind, ServiceRef, Tuple};
use crate::node::NodeId;
use crate::world::World;
use crate::world::devices::DeviceId;
use crate::world::directory::Directory;
use crate::world::rules::Asked;

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
    pub(crate) before: Tuple,
    pub(crate) after: Tuple,
}

impl Changes {
    pub(crate) fn between(before: Tuple, after: Tuple) -> Self {
        let halfway = Tuple { dst: after.dst, dport: after.dport, ..before };
        let change = |before: Tuple, after: Tuple| (before != after).then_some(Change { before, after });
        Self { destination: change(before, halfway), source: change(halfway, after) }
    }
}

/// Where a packet was translated: between two points of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) node: NodeId,
    pub(crate) came_in: Option<DeviceId>,
    pub(crate) goes_out: Option<DeviceId>,
    /// The packet as it came to the node, and its mark then.
    pub(crate) entered: Option<(Tuple, u32)>,
}

/// The translation of a packet that goes in this direction of its connection.
pub(crate) fn nat(change: Change, direction: Direction, place: Place, world: &World) -> Nat {
    let Change { before, after } = change;
    // Replies are translated back without asking a rule.
    let rule = if direction == Direction::Reply { None } else { rule(change, place, world) };
    let kind = kind(change, direction, rule.as_ref().map(|rule| rule.kind), place.node, world);
    let service = service(kind, &before, &after, rule.as_deref(), &world.directory);
    Nat { kind, before, after, service, rule }
}

fn kind(change: Change, direction: Direction, by_rule: Option<Kind>, node: NodeId, world: &World) -> NatKind {
    let Change { before, after } = change;
    let own = |address| world.devices.is_own(node, address);
    let of_destination = (before.dst, before.dport) != (after.dst, after.dport);
    match (of_destination, direction) {
        (true, Direction::Request) if by_rule == Some(Kind::Redirect) => NatKind::Redirect,
        (true, Direction::Request) if by_rule != Some(Kind::Dnat) && own(after.dst) => NatKind::Redirect,
        (true, Direction::Request) => NatKind::Dnat,
        (true, Direction::Reply) if own(before.dst) => NatKind::UnMasquerade,
        (true, Direction::Reply) => NatKind::UnSnat,
        (false, Direction::Request) if by_rule == Some(Kind::Masquerade) => NatKind::Masquerade,
        (false, Direction::Request) if by_rule != Some(Kind::Snat) && own(after.src) => NatKind::Masquerade,
        (false, Direction::Request) => NatKind::Snat,
        (false, Direction::Reply) if own(before.src) => NatKind::UnRedirect,
        (false, Direction::Reply) => NatKind::UnDnat,
    }
}

fn rule(change: Change, place: Place, world: &World) -> Option<Arc<Attribution>> {
    let Place { node, came_in, goes_out, entered } = place;
    // A bridge that hands its packets to IP's rules stands for its ports there.
    let device = |id: Option<DeviceId>| {
        let info = world.devices.info(id?);
        Some(info.bridge.map_or(info, |bridge| world.devices.info(bridge)).name.clone())
    };
    let Change { before, after } = change;
    world.nodes[node].rules.translated(Asked {
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
    // A Service that the inventory lacks may be named in kube-proxy's comments.
    let rule = rule?;
    let name = rule.service.as_deref()?.into();
    Some(ServiceRef { name, port, endpoint, endpoints: rule.endpoints.unwrap_or(0) })
}
