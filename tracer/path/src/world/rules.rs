//! Which rule of a node's packet filter translated or dropped a packet: the path's knowledge as a question to the
//! node's rules, with the answers remembered.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use podtrace_rules::{Attribution, End, Entered, Finder, Hook, Loss, Packet, Rules, Translation};

use crate::model::Tuple;

/// Answers remembered of one node: a connection has many packets, all with the same answer.
const REMEMBERED: usize = 8192;

/// A translation that is asked about.
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
    /// Whether all rules are known and none translates.
    never_translates: bool,
    answers: RefCell<FxHashMap<Asked, Option<Arc<Attribution>>>>,
    redirected: RefCell<FxHashMap<Tuple, bool>>,
}

impl NodeRules {
    /// Takes rules that were read again. The former ones are kept: connections that they translated go on.
    pub(crate) fn replaced_by(self, rules: &Rules) -> Self {
        let new = Self::new(rules);
        let never_translates = new.never_translates && (self.never_translates || self.finder.is_none());
        Self { former: self.finder, never_translates, ..new }
    }

    pub(crate) fn new(rules: &Rules) -> Self {
        let mut all = rules.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
        let never_translates = rules.gaps.is_empty() && !all.any(|rule| rule.action.translates());
        Self {
            finder: Some(Finder::new(Rules { inside: BTreeMap::new(), ..rules.clone() })),
            former: None,
            never_translates,
            answers: RefCell::default(),
            redirected: RefCell::default(),
        }
    }

    /// Whether a packet to the node itself may be translated and leave it again.
    pub(crate) fn may_translate(&self) -> bool {
        !self.never_translates
    }

    /// Whether a rule certainly sends a packet to the node itself on to another address.
    pub(crate) fn redirects(&self, tuple: Tuple) -> bool {
        let Some(finder) = self.finder.as_ref().filter(|_| !self.never_translates) else { return false };
        let mut redirected = self.redirected.borrow_mut();
        if redirected.len() >= REMEMBERED {
            redirected.clear();
        }
        *redirected.entry(tuple).or_insert_with(|| finder.sends_on(packet(&tuple)))
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
        let Lost { tuple, in_device, out_device, state, at_device } = loss;
        let ask = |hook: &Hook| {
            let (in_device, out_device) = match hook {
                Hook::Ingress => (at_device, None),
                Hook::Egress => (None, at_device),
                _ => (in_device, out_device),
            };
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
    /// Its state in connection tracking.
    pub(crate) state: Option<&'a str>,
    /// The device at which it was dropped: rules of devices are asked for this one.
    pub(crate) at_device: Option<&'a str>,
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
        let known = NodeRules::default().replaced_by(&rules("10.42.0.11"));
        assert!(known.translated(asked("10.42.0.11")).is_some());
        assert!(known.translated(asked("10.42.1.11")).is_none());
        let known = known.replaced_by(&rules("10.42.1.11"));
        assert!(known.translated(asked("10.42.1.11")).is_some());
        assert!(known.translated(asked("10.42.0.11")).is_some(), "a connection of before");
        assert!(known.translated(asked("10.42.9.9")).is_none());
    }
}
