//! What hooks of the network stack saw of a path between its sightings at devices: which hop each one belongs to, and
//! what it adds to it. With no such hooks the hops are the same, and inferred.

use podtrace_protocol::hook::{Meaning, netfilter_hook};

use crate::model::{Action, Evidence, Hop, HopEvent, Neighbour, Point, Resolution, Source};
use crate::observation::{NextHop, Observation};
use crate::world::World;
use crate::world::clock::signed;
use crate::world::devices::DeviceId;
use crate::world::rule::is_by_rule;

/// Steps kept of one path: more means that it goes in circles, or in very many pieces.
pub(crate) const MOST_STEPS: usize = 256;

/// `NUD_VALID` of the kernel: states in which a neighbour's link address is known.
const NUD_VALID: u32 = 0x80 | 0x40 | 0x02 | 0x10 | 0x04 | 0x08;

/// One packet, or all pieces of it, at one hook of the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) node: usize,
    /// The visit of the node that it belongs to.
    pub(crate) leg: u16,
    pub(crate) device: Option<DeviceId>,
    pub(crate) point: Point,
    pub(crate) meaning: Meaning,
    /// By the node's clock.
    pub(crate) at: u64,
    pub(crate) identity: u64,
    /// Number of its record.
    pub(crate) number: u64,
    pub(crate) next_hop: Option<NextHop>,
    /// Whether it was the outer packet.
    pub(crate) in_tunnel: bool,
    pub(crate) aux: u32,
}

impl Step {
    /// What an observation at a hook of the stack is to a path.
    pub(crate) fn of(observation: &Observation, leg: u16) -> Option<Self> {
        Some(Self {
            node: observation.node,
            leg,
            device: observation.device,
            point: observation.point,
            meaning: observation.point.meaning()?,
            at: observation.at,
            identity: observation.identity,
            number: observation.number,
            next_hop: observation.next_hop,
            in_tunnel: observation.in_tunnel,
            aux: observation.aux,
        })
    }

    /// Whether both are pieces of one packet at the same hook.
    pub(crate) fn is_piece_of(&self, other: &Self) -> bool {
        (self.node, self.leg, self.device, self.point, self.aux)
            == (other.node, other.leg, other.device, other.point, other.aux)
            && self.identity != other.identity
    }

    /// The kind of hop that it is part of; `None` if it may be part of any.
    fn action(&self) -> Option<Action> {
        match self.meaning {
            Meaning::TunnelOut => Some(Action::Encapsulate),
            Meaning::TunnelIn => Some(Action::Decapsulate),
            // What becomes of the outer packet belongs to the tunnel's hop or the uplink's.
            _ if self.in_tunnel => None,
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

    /// Whether it is what this hop tells, as far as that is a translation.
    fn translates(&self, hop: &Hop) -> bool {
        let of_source = self.aux == tracer_common::manip::SOURCE;
        let Some(nat) = &hop.nat else { return true };
        self.meaning != Meaning::Nat || of_source != nat.kind.is_of_destination()
    }

    fn detail(&self) -> Option<String> {
        match self.meaning {
            Meaning::Nat if self.aux == tracer_common::manip::SOURCE => Some("source".to_owned()),
            Meaning::Nat => Some("destination".to_owned()),
            Meaning::Netfilter => Some(netfilter_hook(self.aux)),
            Meaning::Neighbour if self.aux & NUD_VALID == 0 => Some("unresolved".to_owned()),
            _ => None,
        }
    }
}

/// A hop in the making: what of its origin is needed to place steps.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) hop: Hop,
    pub(crate) node: usize,
    pub(crate) leg: u16,
    pub(crate) device: Option<DeviceId>,
    /// By the node's clock; `None` if it is inferred.
    pub(crate) at: Option<u64>,
}

/// Gives each step to the hop it belongs to. `since` makes times of a node's clock ones since the first hop.
pub(crate) fn place(
    steps: &[Step],
    drafts: &mut [Draft],
    since: impl Fn(usize, u64) -> (i64, u64),
    world: &World,
) {
    let mut steps: Vec<&Step> = steps.iter().collect();
    steps.sort_by_key(|step| (step.leg, step.at));
    let owners: Vec<Option<usize>> = steps.iter().map(|step| owner(step, drafts)).collect();
    for (step, owner) in steps.iter().zip(&owners) {
        let Some(draft) = owner.map(|owner| &mut drafts[owner]) else { continue };
        let (at_ns, error) = since(step.node, step.at);
        let hop = &mut draft.hop;
        if hop.evidence == Evidence::Inferred && step.action() == Some(hop.action) {
            hop.evidence = Evidence::Observed;
            hop.point = Some(step.point);
            hop.at_ns = Some(at_ns);
            hop.clock_error_ns = error;
        }
        hop.sources.push(Source { node: step.node, number: step.number });
        hop.events.push(HopEvent {
            point: step.point,
            device: step.device.map(|device| world.devices.info(device).name.clone()),
            at_ns,
            detail: step.detail(),
        });
        match step.meaning {
            Meaning::BridgeFlood => hop.flooded |= hop.action == Action::Bridge,
            Meaning::Queued => hop.queued_ns = draft.at.map(|at| signed(step.at) - signed(at)),
            _ => {}
        }
    }
    for draft in drafts.iter_mut() {
        draft.hop.events.sort_by_key(|event| event.at_ns);
    }
    routes_after_translation(drafts);
    for (number, draft) in drafts.iter_mut().enumerate() {
        let own = steps.iter().zip(&owners).filter(|(_, owner)| **owner == Some(number));
        let visits: Vec<&Step> =
            own.map(|(step, _)| *step).filter(|step| step.meaning == Meaning::Neighbour).collect();
        draft.hop.neighbour = neighbour(&visits, &draft.hop);
    }
    netfilter_drops(&steps, drafts);
    failed_neighbours(drafts);
}

/// The hop that a step belongs to.
fn owner(step: &Step, drafts: &[Draft]) -> Option<usize> {
    let here =
        || drafts.iter().enumerate().filter(|(_, draft)| (draft.node, draft.leg) == (step.node, step.leg));
    if let Some(action) = step.action() {
        // Of two hops of the kind, the one that is nearer. An inferred one has no time: it is as near as can be.
        let nearest = here()
            .filter(|(_, draft)| draft.hop.action == action && step.translates(&draft.hop))
            .min_by_key(|(_, draft)| draft.at.map_or(0, |at| at.abs_diff(step.at)));
        if let Some((number, _)) = nearest {
            return Some(number);
        }
    }
    // Else the hop it comes after; a queue's is the one at its device.
    let before = |draft: &Draft| draft.hop.action != Action::Drop && draft.at.is_some_and(|at| at <= step.at);
    if step.meaning == Meaning::Queued {
        let (number, _) = here().rfind(|(_, draft)| draft.device == step.device && before(draft))?;
        return Some(number);
    }
    let after = here().rfind(|(_, draft)| before(draft)).or_else(|| here().next());
    after.map(|(number, _)| number)
}

/// A route that is looked up after a translation that was seen has the time of what was seen of it then.
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

/// What came of the next hop's link address, by the visits of the function that looks it up: a packet that has to
/// wait for an answer comes by a second time.
fn neighbour(visits: &[&Step], hop: &Hop) -> Option<Neighbour> {
    let (first, last) = (visits.first()?, visits.last()?);
    let destination = match &hop.outer {
        Some(outer) if first.in_tunnel => outer.dst,
        _ => hop.tuple.dst,
    };
    let address = first.next_hop.and_then(|next_hop| next_hop.gateway).unwrap_or(destination);
    let outcome = match (first.aux & NUD_VALID != 0, visits.len()) {
        (true, _) => Resolution::Known,
        (false, 1) => Resolution::Asked,
        (false, _) => Resolution::Answered,
    };
    let waited_ns = match outcome {
        Resolution::Answered => signed(last.at) - signed(first.at),
        _ => 0,
    };
    Some(Neighbour { address, outcome, waited_ns })
}

/// A packet that was dropped at a netfilter hook was dropped at the one it came to last.
fn netfilter_drops(steps: &[&Step], drafts: &mut [Draft]) {
    for draft in drafts {
        let Some(drop) = &mut draft.hop.drop else { continue };
        let Some(at) = draft.at.filter(|_| is_by_rule(drop)) else { continue };
        let last = steps.iter().rev().find(|step| {
            step.meaning == Meaning::Netfilter
                && (step.node, step.leg) == (draft.node, draft.leg)
                && step.at <= at
        });
        drop.netfilter = last.map(|step| netfilter_hook(step.aux));
    }
}

/// A packet that waited for an answer and was dropped waited in vain.
fn failed_neighbours(drafts: &mut [Draft]) {
    for at in 1..drafts.len() {
        if drafts[at].hop.drop.is_none() {
            continue;
        }
        let dropped = drafts[at].at;
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
                (asked, dropped, route.at, route.hop.at_ns)
            {
                neighbour.waited_ns = signed(dropped) - signed(at) - (asked.at_ns - hop_at);
            }
        }
    }
}
