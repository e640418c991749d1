//! Follows a packet through chains as the kernel does, and collects the rules that can have decided on it.
//!
//! 1. Rules are visited in order. [`Known::all`] says of each whether it matches: yes, no or unknown.
//! 2. A rule that does not match is skipped. One that matches does what it says: the packet is decided on, marked, sent
//!    to another chain or back.
//! 3. Of a rule that is unknown both are followed: its action, and the rules after it as if it had not matched.
//! 4. A rule with a wanted action is collected. It ends the walk only if it matches for certain and nothing before it may
//!    have decided on the packet or sent it back; else the walk goes on, and there are several candidates.
//!
//! Limits: [`DEPTH`] chains within chains and [`STEPS`] rules. Beyond these the result is marked as incomplete.

use std::collections::HashMap;

use super::evaluate::{Known, listed};
use super::index::{ChainId, Edge, Index, RuleId, any_listed};
use super::model::{Action, Base, Elements, Field, Rules};

/// Maximum depth of jumps. The kernel allows 16 in nftables.
const DEPTH: usize = 64;

/// Maximum number of rules visited for one question.
const STEPS: u32 = 500_000;

/// A rule, and the element of its verdict map whose action it took.
pub(super) type Step = (RuleId, Option<usize>);

/// A candidate: something that can have decided on the packet as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The jumps that jumps to it.
    pub(super) jumps: Vec<Step>,
    pub(super) decision: Decision,
    /// The packet's mark at that moment, if known.
    pub(super) mark: Option<u32>,
}

/// What decided on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Rule(Step),
    /// The policy of a base chain, for packets that no rule decided on.
    Policy(ChainId),
}

/// What happens to a packet in a chain, or by one action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It continues after the chain or action.
    Continues,
    /// It continues or is decided on.
    Unknown,
    /// It is decided on, by a rule that is not wanted.
    Decided,
    /// It is decided on by a wanted rule.
    Found,
}

/// The state of one question.
pub(super) struct Walk<'a> {
    pub(super) rules: &'a Rules,
    pub(super) index: &'a Index,
    pub(super) known: Known<'a>,
    /// Whether a rule with this action is wanted.
    pub(super) wanted: &'a dyn Fn(RuleId, &Action) -> bool,
    /// Whether policies are wanted too.
    pub(super) policies: bool,
    /// The only jumps to follow, by the chain they are in; all if `None`.
    pub(super) only: Option<HashMap<ChainId, Vec<Edge>>>,
    pub(super) found: Vec<Found>,
    /// Whether rules were not visited, or not read.
    pub(super) incomplete: bool,
    /// Rules that may still be visited.
    steps: u32,
    /// The jumps that jumps to the current chain.
    jumps: Vec<Step>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        rules: &'a Rules,
        index: &'a Index,
        known: Known<'a>,
        wanted: &'a dyn Fn(RuleId, &Action) -> bool,
    ) -> Self {
        Self {
            rules,
            index,
            known,
            wanted,
            policies: false,
            only: None,
            found: Vec::new(),
            incomplete: false,
            steps: STEPS,
            jumps: Vec::new(),
        }
    }

    /// Walks a base chain. Returns whether a wanted decision is certain, so that later base chains need no look.
    pub(super) fn base_chain(&mut self, base: Base, chain: ChainId) -> bool {
        let outcome = self.chain(chain);
        if matches!(outcome, Outcome::Continues | Outcome::Unknown) && base.drops && self.policies {
            self.found.push(Found {
                jumps: Vec::new(),
                decision: Decision::Policy(chain),
                mark: self.known.mark,
            });
            return outcome == Outcome::Continues;
        }
        outcome == Outcome::Found
    }

    fn chain(&mut self, chain: ChainId) -> Outcome {
        if self.jumps.len() >= DEPTH {
            self.incomplete = true;
            return Outcome::Unknown;
        }
        let mark = self.known.mark;
        // What rules before may have done: decided on the packet, or sent it back.
        let (mut may_end, mut may_return) = (false, false);
        let continues = |may_end| if may_end { Outcome::Unknown } else { Outcome::Continues };
        let mut outcome = None;
        for (at, edges) in self.rules_to_visit(chain) {
            if self.steps == 0 {
                self.incomplete = true;
                may_end = true;
                break;
            }
            self.steps -= 1;
            let rule = self.index.rule(self.rules, (chain, at));
            let sets = &self.index.table_of(self.rules, chain).sets;
            let applies = self.known.all(&rule.matches, sets);
            if applies == Some(false) {
                continue;
            }
            let certain = applies == Some(true);
            let (does, returns) = match &rule.action {
                Action::Verdicts(fields, elements) => {
                    self.verdicts((chain, at), &edges, fields, elements, certain)
                }
                action => self.act((chain, at), None, edges.first(), action, certain),
            };
            match (does, returns) {
                (Outcome::Decided | Outcome::Found, _) if certain => {
                    outcome = Some(match (may_return, may_end) {
                        (true, _) => Outcome::Unknown,
                        (false, true) => Outcome::Decided,
                        (false, false) => does,
                    });
                    break;
                }
                (Outcome::Continues, Returns::Yes) if certain => {
                    outcome = Some(continues(may_end));
                    break;
                }
                (Outcome::Unknown, Returns::Yes) if certain => {
                    outcome = Some(Outcome::Unknown);
                    break;
                }
                _ => {
                    may_end |= does != Outcome::Continues;
                    may_return |= returns != Returns::No;
                }
            }
        }
        if may_return && self.known.mark != mark {
            self.known.mark = None;
        }
        outcome.unwrap_or(continues(may_end))
    }

    /// Positions of the rules of a chain that matter, in order, each with its jumps.
    fn rules_to_visit(&self, chain: ChainId) -> Vec<(usize, Vec<Edge>)> {
        let edges = match &self.only {
            None => self.index.out[chain].as_slice(),
            Some(only) => only.get(&chain).map_or_else(<&[Edge]>::default, Vec::as_slice),
        };
        let mut acting = self.index.acting[chain].iter().copied().peekable();
        let mut visits: Vec<(usize, Vec<Edge>)> = Vec::new();
        for edge in edges {
            let at = edge.from.1;
            while let Some(earlier) = acting.next_if(|acting| *acting <= at) {
                if visits.last().is_none_or(|(last, _)| *last != earlier) {
                    visits.push((earlier, Vec::new()));
                }
            }
            match visits.last_mut() {
                Some((last, edges)) if *last == at => edges.push(*edge),
                _ => visits.push((at, vec![*edge])),
            }
        }
        visits.extend(acting.map(|at| (at, Vec::new())));
        visits
    }

    /// Takes an action. Returns what happens to the packet, and whether it goes back to the calling chain.
    fn act(
        &mut self,
        rule: RuleId,
        element: Option<usize>,
        edge: Option<&Edge>,
        action: &Action,
        certain: bool,
    ) -> (Outcome, Returns) {
        if (self.wanted)(rule, action) {
            self.found.push(Found {
                jumps: self.jumps.clone(),
                decision: Decision::Rule((rule, element)),
                mark: self.known.mark,
            });
            return (Outcome::Found, Returns::No);
        }
        match action {
            Action::Accept
            | Action::Drop
            | Action::Reject
            | Action::Dnat(_)
            | Action::Snat(_)
            | Action::Masquerade
            | Action::Redirect(_) => (Outcome::Decided, Returns::No),
            Action::Return => (Outcome::Continues, Returns::Yes),
            Action::Mark(marking) => {
                let marked = self.known.mark.zip(*marking);
                self.known.mark =
                    marked.filter(|_| certain).map(|(mark, marking)| (mark & marking.keep) ^ marking.toggle);
                (Outcome::Continues, Returns::No)
            }
            Action::Jump(_) | Action::Goto(_) => {
                let Some(edge) = edge else {
                    // The chain was left out when the rules were sent.
                    self.incomplete = true;
                    return (Outcome::Unknown, Returns::No);
                };
                let mark = self.known.mark;
                self.jumps.push((rule, element));
                let outcome = self.chain(edge.to);
                self.jumps.pop();
                if !certain && self.known.mark != mark {
                    self.known.mark = None;
                }
                let returns = match outcome {
                    Outcome::Continues | Outcome::Unknown if edge.is_goto => Returns::Yes,
                    _ => Returns::No,
                };
                (outcome, returns)
            }
            Action::Verdicts(..) | Action::Other(_) => (Outcome::Unknown, Returns::No),
        }
    }

    /// Takes the action of the first element of a verdict map that matches, or of each that may.
    fn verdicts(
        &mut self,
        rule: RuleId,
        edges: &[Edge],
        fields: &[Field],
        elements: &Elements,
        certain: bool,
    ) -> (Outcome, Returns) {
        let table = self.index.table_of(self.rules, rule.0);
        let all = any_listed(elements, table);
        let is_static = listed(elements, &table.sets).is_some();
        let mut jumps = edges.iter().map(|edge| (edge.element, Some(edge))).peekable();
        let mut choices: Vec<(usize, Option<&Edge>)> = Vec::new();
        if self.index.acting[rule.0].binary_search(&rule.1).is_ok() {
            for (place, element) in all.iter().enumerate() {
                match &element.action {
                    Some(Action::Jump(_) | Action::Goto(_)) => {
                        let edge = jumps.next_if(|(of, _)| *of == Some(place)).and_then(|(_, edge)| edge);
                        // Without an edge, it jumps to a chain that was left out, or that leads to no wanted rule.
                        if edge.is_some() || self.only.is_none() {
                            choices.push((place, edge));
                        }
                    }
                    Some(_) => choices.push((place, None)),
                    None => {}
                }
            }
        } else {
            choices.extend(jumps.filter_map(|(element, edge)| Some((element?, edge))));
        }
        let (mut may_end, mut may_return) = (false, false);
        for (place, edge) in choices {
            let element = &all[place];
            let holds = self.known.element(fields, element).filter(|holds| is_static || !holds);
            if holds == Some(false) {
                continue;
            }
            let Some(action) = &element.action else { continue };
            let holds = holds == Some(true);
            let (outcome, returns) = self.act(rule, Some(place), edge, action, certain && holds);
            if holds {
                return (outcome, returns);
            }
            may_end |= outcome != Outcome::Continues;
            may_return |= returns != Returns::No;
        }
        let outcome = if may_end { Outcome::Unknown } else { Outcome::Continues };
        (outcome, if may_return { Returns::Maybe } else { Returns::No })
    }
}

/// Whether the packet goes back to the calling chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Returns {
    No,
    Maybe,
    Yes,
}
