//! What hooks of the network stack saw of a path between its sightings: which hop each step belongs to, and what it adds.
//!
//! Without such hooks the hops are the same, only inferred.
//!
//! 1. Each step is given to the hop of its kind that is nearest in time, of the same visit of the node; else to the hop
//!    that it comes after ([`owner`]).
//! 2. An inferred hop of the step's kind is observed now, at the step's time.
//! 3. What several steps say together is added: how the next hop's link address was found, at which netfilter hook the
//!    packet was dropped.

use podtrace_protocol::hook::{Meaning, netfilter_hook};

use crate::finish::draft::{Draft, HopClock, SinceFirst};
use crate::finish::droppers::is_by_filter;
use crate::join::sighting::Step;
use crate::model::{Action, Evidence, Hop, HopEvent, Neighbour, Resolution, Source};
use crate::world::World;

/// `NUD_VALID` of the kernel: states in which a neighbour's link address is known.
const NUD_VALID: u32 = 0x80 | 0x40 | 0x02 | 0x10 | 0x04 | 0x08;

/// The kind of hop that a step is part of; `None` if it may be part of any.
fn action(step: &Step) -> Option<Action> {
    match step.meaning {
        Meaning::TunnelOut => Some(Action::Encapsulate),
        Meaning::TunnelIn => Some(Action::Decapsulate),
        // The outer packet's steps belong to the tunnel's hop or the uplink's.
        _ if step.in_tunnel => None,
        Meaning::BridgeForward | Meaning::BridgeFlood => Some(Action::Bridge),
        Meaning::Forward | Meaning::Output | Meaning::Neighbour => Some(Action::Route),
        Meaning::LocalIn => Some(Action::LocalIn),
        Meaning::LocalOut => Some(Action::LocalOut),
        Meaning::Nat => Some(Action::Nat),
        Meaning::BridgeInput
        | Meaning::BridgeUp
        | Meaning::BridgeOutput
        | Meaning::Receive
        | Meaning::Netfilter
        | Meaning::Conntrack
        | Meaning::Queued => None,
    }
}

/// Whether a step may be part of this hop, as far as that is a translation.
fn translates(step: &Step, hop: &Hop) -> bool {
    let of_source = step.aux == tracer_common::manip::SOURCE;
    let Some(nat) = &hop.nat else { return true };
    step.meaning != Meaning::Nat || of_source != nat.kind.is_of_destination()
}

fn detail(step: &Step) -> Option<String> {
    match step.meaning {
        Meaning::Nat if step.aux == tracer_common::manip::SOURCE => Some("source".to_owned()),
        Meaning::Nat => Some("destination".to_owned()),
        Meaning::Netfilter => Some(netfilter_hook(step.aux)),
        Meaning::Neighbour if !is_resolved(step) => Some("unresolved".to_owned()),
        _ => None,
    }
}

/// Whether the next hop's link address was known at this step.
fn is_resolved(step: &Step) -> bool {
    step.aux & NUD_VALID != 0
}

/// Gives each step to the hop it belongs to.
pub(crate) fn assign(steps: &[Step], drafts: &mut [Draft], clock: &HopClock, world: &World) {
    let mut steps: Vec<&Step> = steps.iter().collect();
    steps.sort_by_key(|step| (step.visit, step.time));
    let owners: Vec<Option<usize>> = steps.iter().map(|step| owner(step, drafts)).collect();
    for (step, owner) in steps.iter().zip(&owners) {
        if let Some(owner) = *owner {
            add(step, &mut drafts[owner], clock, world);
        }
    }
    for draft in drafts.iter_mut() {
        draft.hop.events.sort_by_key(|event| event.at_ns);
    }
    routes_after_translation(drafts);
    for (number, draft) in drafts.iter_mut().enumerate() {
        let own = steps.iter().zip(&owners).filter(|(_, owner)| **owner == Some(number));
        let lookups: Vec<&Step> =
            own.map(|(step, _)| *step).filter(|step| step.meaning == Meaning::Neighbour).collect();
        draft.hop.neighbour = neighbour(&lookups, &draft.hop);
    }
    netfilter_drops(&steps, drafts);
    failed_neighbours(drafts);
}

/// Adds a step to its hop.
fn add(step: &Step, draft: &mut Draft, clock: &HopClock, world: &World) {
    let SinceFirst { at_ns, error_ns } = clock.since_first(step.spot.node, step.time);
    let hop = &mut draft.hop;
    if hop.evidence == Evidence::Inferred && action(step) == Some(hop.action) {
        hop.evidence = Evidence::Observed;
        hop.point = Some(step.spot.point);
        hop.at_ns = Some(at_ns);
        hop.clock_error_ns = error_ns;
    }
    hop.sources.push(Source { node: step.spot.node.index(), number: step.record });
    hop.events.push(HopEvent {
        point: step.spot.point,
        device: step.spot.device.map(|device| world.devices.info(device).name.clone()),
        at_ns,
        detail: detail(step),
    });
    match step.meaning {
        Meaning::BridgeFlood => hop.flooded |= hop.action == Action::Bridge,
        Meaning::Queued => hop.queued_ns = draft.time.map(|time| (step.time - time).get()),
        _ => {}
    }
}

/// The hop that a step belongs to.
fn owner(step: &Step, drafts: &[Draft]) -> Option<usize> {
    let here = || {
        drafts
            .iter()
            .enumerate()
            .filter(|(_, draft)| (draft.node, draft.visit) == (step.spot.node, step.visit))
    };
    if let Some(action) = action(step) {
        // Of two hops of the kind, the one that is nearer. An inferred one has no time: it is as near as can be.
        let nearest = here()
            .filter(|(_, draft)| draft.hop.action == action && translates(step, &draft.hop))
            .min_by_key(|(_, draft)| draft.time.map_or(0, |time| time.abs_diff(step.time)));
        if let Some((number, _)) = nearest {
            return Some(number);
        }
    }
    // Else the hop it comes after; a queue's is the one at its device.
    let before =
        |draft: &Draft| draft.hop.action != Action::Drop && draft.time.is_some_and(|time| time <= step.time);
    if step.meaning == Meaning::Queued {
        let (number, _) = here().rfind(|(_, draft)| draft.device == step.spot.device && before(draft))?;
        return Some(number);
    }
    let after = here().rfind(|(_, draft)| before(draft)).or_else(|| here().next());
    after.map(|(number, _)| number)
}

/// A route that is looked up after a translation gets the time of its first event after that.
fn routes_after_translation(drafts: &mut [Draft]) {
    for at in 1..drafts.len() {
        let (before, rest) = drafts.split_at_mut(at);
        let (Some(before), Some(route)) = (before.last(), rest.first_mut()) else { continue };
        let Some(translated) = before.hop.at_ns.filter(|_| before.hop.action == Action::Nat) else {
            continue;
        };
        if route.hop.action != Action::Route || route.hop.at_ns.is_none_or(|at| at >= translated) {
            continue;
        }
        if let Some(event) = route.hop.events.iter().find(|event| event.at_ns >= translated) {
            (route.hop.at_ns, route.hop.point) = (Some(event.at_ns), Some(event.point));
        }
    }
}

/// How the next hop's link address was found: a packet that has to wait for an answer is looked up a second time.
fn neighbour(lookups: &[&Step], hop: &Hop) -> Option<Neighbour> {
    let (first, last) = (lookups.first()?, lookups.last()?);
    let destination = match &hop.outer {
        Some(outer) if first.in_tunnel => outer.dst,
        _ => hop.tuple.dst,
    };
    let address = first.next_hop.and_then(|next_hop| next_hop.gateway).unwrap_or(destination);
    let outcome = match (is_resolved(first), lookups.len()) {
        (true, _) => Resolution::Known,
        (false, 1) => Resolution::Asked,
        (false, _) => Resolution::Answered,
    };
    let waited_ns = match outcome {
        Resolution::Answered => (last.time - first.time).get(),
        _ => 0,
    };
    Some(Neighbour { address, outcome, waited_ns })
}

/// A packet that the packet filter dropped was dropped at the netfilter hook it came to last.
fn netfilter_drops(steps: &[&Step], drafts: &mut [Draft]) {
    for draft in drafts {
        let Some(drop) = &mut draft.hop.drop else { continue };
        let Some(dropped) = draft.time.filter(|_| is_by_filter(drop)) else { continue };
        let last = steps.iter().rev().find(|step| {
            step.meaning == Meaning::Netfilter
                && (step.spot.node, step.visit) == (draft.node, draft.visit)
                && step.time <= dropped
        });
        drop.netfilter = last.map(|step| netfilter_hook(step.aux));
    }
}

/// If a packet that waited for a neighbour's answer was dropped, none came.
fn failed_neighbours(drafts: &mut [Draft]) {
    for at in 1..drafts.len() {
        if drafts[at].hop.drop.is_none() {
            continue;
        }
        let dropped = drafts[at].time;
        let Some(route) = drafts[..at].iter_mut().rev().find(|draft| draft.hop.neighbour.is_some()) else {
            continue;
        };
        if let Some(neighbour) = &mut route.hop.neighbour
            && neighbour.outcome == Resolution::Asked
        {
            neighbour.outcome = Resolution::Failed;
            let asked =
                route.hop.events.iter().rfind(|event| event.point.meaning() == Some(Meaning::Neighbour));
            if let (Some(asked), Some(dropped), Some(at), Some(hop_at)) =
                (asked, dropped, route.time, route.hop.at_ns)
            {
                neighbour.waited_ns = (dropped - at).get() - (asked.at_ns - hop_at);
            }
        }
    }
}
