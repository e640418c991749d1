//! Which rule of the packet filter dropped a packet, or whether connection tracking did.

use std::sync::Arc;

use podtrace_rules::Hook;

use crate::finish::draft::Draft;
use crate::model::{Action, ConnState, ConnectionSeen, Drop, DropCause, Outer, Point, Protocol, Tuple};
use crate::node::NodeId;
use crate::world::devices::DeviceId;
use crate::world::rules::Lost;
use crate::world::{ConntrackCounters, World};

/// Names what dropped packets on the nodes and inside pods.
pub(crate) fn name(drafts: &mut [Draft], world: &World) {
    for place in 0..drafts.len() {
        let (before, rest) = drafts.split_at_mut(place);
        if let [draft, ..] = rest {
            name_one(draft, before, world);
        }
    }
}

fn name_one(draft: &mut Draft, before: &[Draft], world: &World) {
    let Draft { hop, node, visit, device, .. } = draft;
    let Some(drop) = hop.drop.as_mut().filter(|drop| is_by_filter(drop)) else { return };
    if let Some(pod) = hop.pod.as_deref() {
        let is_own = before.iter().all(|other| other.hop.action == Action::Drop);
        let (hooks, bridge) = hooks(drop.netfilter.as_deref(), is_own, true);
        let device = hop.device.as_deref();
        let (in_device, out_device) = if is_own { (None, device) } else { (device, None) };
        let lost =
            Lost { tuple: hop.tuple, in_device, out_device, state: None, at_device: hop.device.as_deref() };
        let inside = world.nodes[*node].inside.get(pod);
        let rule = inside.and_then(|rules| rules.dropped(&hooks, bridge, lost));
        drop.rule = rule.map(|(_, rule)| Arc::new(rule));
        return;
    }
    let same_visit = || before.iter().rev().filter(|other| (other.node, other.visit) == (*node, *visit));
    // A packet that is in a tunnel is an outer one to the filter.
    let last = same_visit().next();
    let arrived = last.filter(|last| last.hop.action == Action::NodeIngress);
    let arrived = arrived.and_then(|last| last.hop.outer.as_ref()).map(outer_tuple);
    let sent = last.filter(|last| last.hop.action == Action::Encapsulate);
    let sent = sent.and_then(|tunnel| sent_tuple(*node, tunnel.device, &hop.tuple, world));
    let tuple = arrived.or(sent).unwrap_or(hop.tuple);
    let is_own = sent.is_some() || same_visit().any(|other| other.hop.action == Action::LocalOut);
    let for_node = world.devices.is_own(*node, tuple.dst);
    let (mut hooks, bridge) = hooks(drop.netfilter.as_deref(), is_own, for_node);
    if drop.netfilter.is_none() {
        hooks.extend(at_device(*device, last));
    }
    drop.cause = cause(&hooks, hop.conntrack.as_deref(), world.nodes[*node].conntrack);
    if drop.cause.is_some() {
        return;
    }
    let came_in = same_visit().find(|other| other.time.is_some()).and_then(|other| other.device);
    let in_device = came_in.map(|device| {
        let info = world.devices.info(device);
        &*info.bridge.map_or(info, |bridge| world.devices.info(bridge)).name
    });
    let out_device = same_visit().find_map(|other| other.hop.route.as_ref()).map(|route| &*route.device);
    let state = hop.conntrack.as_ref().map(|connection| connection.state.word());
    let lost = Lost { tuple, in_device, out_device, state, at_device: hop.device.as_deref() };
    drop.rule = world.nodes[*node].rules.dropped(&hooks, bridge, lost).map(|(_, rule)| Arc::new(rule));
}

/// The hook of the device at which a packet may have been dropped: taps come before the rules for what comes in, and after
/// them for what goes out.
fn at_device(device: Option<DeviceId>, last: Option<&Draft>) -> Option<Hook> {
    let device = device?;
    let seen = last.filter(|last| last.device == Some(device) && last.time.is_some());
    match seen.and_then(|last| last.hop.point) {
        Some(Point::TcIngress) => Some(Hook::Ingress),
        Some(_) => None,
        None => Some(Hook::Egress),
    }
}

/// What this tunnel of this node makes of a packet, as far as that is known before it is seen to leave.
fn sent_tuple(node: NodeId, tunnel: Option<DeviceId>, inner: &Tuple, world: &World) -> Option<Tuple> {
    let dport = tunnel.and_then(|tunnel| world.devices.info(tunnel).vxlan_port);
    let src = world.directory.listed_address(world.name(node))?;
    let dst = world.directory.listed_address(world.directory.node_of(inner.dst)?)?;
    Some(Tuple { src, dst, proto: Protocol::Udp, sport: None, dport })
}

fn outer_tuple(outer: &Outer) -> Tuple {
    let Outer { kind: _, vni: _, src, dst, sport, dport, overhead: _ } = outer;
    Tuple { src: *src, dst: *dst, proto: Protocol::Udp, sport: *sport, dport: *dport }
}

/// Whether connection tracking dropped it: there is no rule then, but its counters of drops grew.
fn cause(
    hooks: &[Hook],
    connection: Option<&ConnectionSeen>,
    counters: Option<ConntrackCounters>,
) -> Option<DropCause> {
    let ConntrackCounters { first, last } = counters?;
    match connection {
        // Where packets first reach connection tracking, they have no connection yet.
        None if last.drop > first.drop
            && hooks.iter().any(|hook| matches!(hook, Hook::Prerouting | Hook::Output)) =>
        {
            Some(DropCause::ConntrackTableFull { count: last.count, max: last.max })
        }
        // A connection is confirmed where its first packet leaves the node or reaches a socket.
        Some(connection)
            if last.insert_failed > first.insert_failed
                && connection.state == ConnState::New
                && !connection.status.iter().any(|word| word == "confirmed")
                && hooks.iter().any(|hook| matches!(hook, Hook::Postrouting | Hook::Input)) =>
        {
            Some(DropCause::ConntrackClash)
        }
        _ => None,
    }
}

/// The hooks at which a packet can have been dropped, and whether by the bridge's rules: the one where it was seen, else
/// all that it can have reached.
fn hooks(seen: Option<&str>, is_own: bool, for_node: bool) -> (Vec<Hook>, Option<bool>) {
    let (name, bridge) = match seen {
        Some(name) => match name.strip_prefix("bridge ") {
            Some(name) => (Some(name), Some(true)),
            None => (Some(name), Some(false)),
        },
        None => (None, None),
    };
    let hooks = match name {
        Some("PREROUTING") => vec![Hook::Prerouting],
        Some("INPUT") => vec![Hook::Input],
        Some("FORWARD") => vec![Hook::Forward],
        Some("OUTPUT") => vec![Hook::Output],
        Some("POSTROUTING") => vec![Hook::Postrouting],
        Some(_) => Vec::new(),
        None if is_own => vec![Hook::Output, Hook::Postrouting],
        None if for_node => vec![Hook::Prerouting, Hook::Input],
        None => vec![Hook::Prerouting, Hook::Forward, Hook::Postrouting],
    };
    (hooks, bridge)
}

/// Whether the packet filter dropped it.
pub(crate) fn is_by_filter(drop: &Drop) -> bool {
    drop.reason.as_deref() == Some("NETFILTER_DROP")
        || drop.location.as_deref().is_some_and(|location| {
            ["nf_hook_slow", "nft_do_chain", "ipt_do_table"].iter().any(|name| location.starts_with(name))
        })
}
