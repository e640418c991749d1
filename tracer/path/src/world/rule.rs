//! Which rule of a node's packet filter did it: what the path knows of a packet, as a question to the node's rules.

use std::cell::RefCell;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use podtrace_rules::{Attribution, End, Entered, Finder, Hook, Loss, Packet, Rules, Translation};

use crate::finish::steps::Draft;
use crate::model::{Action, ConnState, ConnectionSeen, Drop, DropCause, Tuple};
use crate::world::World;

/// Answers that are remembered, of one node: connections have many packets, and all the same answer.
const REMEMBERED: usize = 8192;

/// A translation that was asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub(crate) before: Tuple,
    pub(crate) after: Tuple,
    pub(crate) in_device: Option<Arc<str>>,
    pub(crate) out_device: Option<Arc<str>>,
    /// The packet as it came to the node, and its mark then.
    pub(crate) entered: Option<(Tuple, u32)>,
}

/// The rules of one node.
#[derive(Debug, Default)]
pub(crate) struct NodeRules {
    finder: Option<Finder>,
    /// The rules before these: connections that they translated go on.
    former: Option<Finder>,
    /// Whether none of them translates, as far as all are known.
    stays: bool,
    answers: RefCell<FxHashMap<Asked, Option<Arc<Attribution>>>>,
}

impl NodeRules {
    /// Rules that were read anew.
    pub(crate) fn renewed(self, rules: &Rules) -> Self {
        let renewed = Self::new(rules);
        let stays = renewed.stays && (self.stays || self.finder.is_none());
        Self { former: self.finder, stays, ..renewed }
    }

    pub(crate) fn new(rules: &Rules) -> Self {
        let mut all = rules.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
        let stays = rules.gaps.is_empty() && !all.any(|rule| rule.action.translates());
        Self { finder: Some(Finder::new(rules.clone())), former: None, stays, answers: RefCell::default() }
    }

    /// Whether packets to the node may be translated and go on.
    pub(crate) fn may_translate(&self) -> bool {
        !self.stays
    }

    /// The rule that made one of the other.
    pub(crate) fn translated(&self, asked: Asked) -> Option<Arc<Attribution>> {
        let finder = self.finder.as_ref()?;
        let mut answers = self.answers.borrow_mut();
        if let Some(known) = answers.get(&asked) {
            return known.clone();
        }
        let Asked { before, after, in_device, out_device, entered } = &asked;
        let end = if before.src == after.src && before.sport == after.sport {
            End::Destination
        } else {
            End::Source
        };
        let question = Translation {
            before: packet(before),
            after: packet(after),
            in_device: in_device.as_deref(),
            out_device: out_device.as_deref(),
            entered: entered.map(|(tuple, mark)| Entered { packet: packet(&tuple), mark: Some(mark) }),
            ..Translation::of(end)
        };
        let former = || self.former.as_ref().and_then(|former| former.translated(&question));
        let answer = finder.translated(&question).or_else(former).map(Arc::new);
        if answers.len() >= REMEMBERED {
            answers.clear();
        }
        answers.insert(asked, answer.clone());
        answer
    }

    /// The rule that dropped a packet at one of these hooks, if it can only have been at one.
    pub(crate) fn dropped(
        &self,
        hooks: &[Hook],
        bridge: Option<bool>,
        loss: Lost<'_>,
    ) -> Option<(Hook, Attribution)> {
        let finder = self.finder.as_ref()?;
        let Lost { tuple, in_device, out_device, state } = loss;
        let ask = |hook: &Hook| {
            let question =
                Loss { bridge, packet: packet(&tuple), in_device, out_device, state, ..Loss::at(*hook) };
            finder.dropped(&question).map(|answer| (*hook, answer))
        };
        let mut answers = hooks.iter().filter_map(ask);
        let first = answers.next()?;
        answers.next().is_none().then_some(first)
    }
}

/// A packet that was dropped, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost<'a> {
    pub(crate) tuple: Tuple,
    pub(crate) in_device: Option<&'a str>,
    pub(crate) out_device: Option<&'a str>,
    /// What it is to its connection.
    pub(crate) state: Option<&'a str>,
}

/// Names the rules that dropped packets on the nodes; what a pod's own rules say is not known.
pub(crate) fn name_droppers(drafts: &mut [Draft], world: &World) {
    for at in 0..drafts.len() {
        let (before, rest) = drafts.split_at_mut(at);
        let Some(draft) = rest.first_mut() else { continue };
        let Some(drop) = draft.hop.drop.as_mut().filter(|drop| is_by_rule(drop)) else { continue };
        if draft.hop.pod.is_some() {
            continue;
        }
        let leg = || before.iter().filter(|other| (other.node, other.leg) == (draft.node, draft.leg));
        let came_in = leg().rev().find(|other| other.at.is_some()).and_then(|other| other.device);
        let in_device = came_in.map(|id| {
            let info = world.devices.info(id);
            &*info.bridge.map_or(info, |bridge| world.devices.info(bridge)).name
        });
        let out_device = leg().rev().find_map(|other| other.hop.route.as_ref()).map(|route| &*route.device);
        let is_own = leg().any(|other| other.hop.action == Action::LocalOut);
        let for_node = world.devices.is_own(draft.node, draft.hop.tuple.dst);
        let (hooks, bridge) = hooks(drop.netfilter.as_deref(), is_own, for_node);
        let state = draft.hop.conntrack.as_ref().map(|connection| connection.state.word());
        drop.cause = cause(&hooks, draft.hop.conntrack.as_deref(), draft.node, world);
        if drop.cause.is_some() {
            continue;
        }
        let lost = Lost { tuple: draft.hop.tuple, in_device, out_device, state };
        drop.rule = world.rules[draft.node].dropped(&hooks, bridge, lost).map(|(_, rule)| Arc::new(rule));
    }
}

/// Whether connection tracking dropped it, which no rule tells of: it counts what it drops.
fn cause(
    hooks: &[Hook],
    connection: Option<&ConnectionSeen>,
    node: usize,
    world: &World,
) -> Option<DropCause> {
    let (first, last) = world.conntracked[node]?;
    match connection {
        // Where packets come to it first, none has a connection yet.
        None if last.drop > first.drop
            && hooks.iter().any(|hook| matches!(hook, Hook::Prerouting | Hook::Output)) =>
        {
            Some(DropCause::ConntrackTableFull { count: last.count, max: last.max })
        }
        // It is entered where the packet leaves, or comes to a socket.
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

/// The hooks at which a packet can have been dropped, and whether by the bridge's rules: where it was seen, else where
/// it can have come to.
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
pub(crate) fn is_by_rule(drop: &Drop) -> bool {
    drop.reason.as_deref() == Some("NETFILTER_DROP")
        || drop.location.as_deref().is_some_and(|location| {
            ["nf_hook_slow", "nft_do_chain", "ipt_do_table"].iter().any(|name| location.starts_with(name))
        })
}

fn packet(tuple: &Tuple) -> Packet {
    Packet {
        source: tuple.src,
        destination: tuple.dst,
        protocol: tuple.proto.number(),
        source_port: tuple.sport,
        destination_port: tuple.dport,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol;
    use podtrace_rules::{Family, iptables};

    fn rules(endpoint: &str) -> Rules {
        let text = format!(
            "*nat\n:PREROUTING ACCEPT [0:0]\n\
             -A PREROUTING -d 10.96.0.20/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination {endpoint}:8080\n\
             COMMIT\n"
        );
        Rules { tables: iptables::parse(&text, Family::Ip), ..Rules::default() }
    }

    fn asked(endpoint: &str) -> Asked {
        let to = |address: &str, port| Tuple {
            src: "10.42.0.10".parse().unwrap(),
            dst: address.parse().unwrap(),
            proto: Protocol::Tcp,
            sport: Some(40_000),
            dport: Some(port),
        };
        let (before, after) = (to("10.96.0.20", 80), to(endpoint, 8080));
        Asked { before, after, in_device: None, out_device: None, entered: None }
    }

    #[test]
    fn rules_that_were_read_anew_name_what_is_new_and_what_goes_on() {
        let known = NodeRules::default().renewed(&rules("10.42.0.11"));
        assert!(known.translated(asked("10.42.0.11")).is_some());
        assert!(known.translated(asked("10.42.1.11")).is_none());
        let known = known.renewed(&rules("10.42.1.11"));
        assert!(known.translated(asked("10.42.1.11")).is_some());
        assert!(known.translated(asked("10.42.0.11")).is_some(), "a connection of before");
        assert!(known.translated(asked("10.42.9.9")).is_none());
    }
}
