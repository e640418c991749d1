//! Follows a packet through chains as the kernel does, and collects the rules that may have issued a verdict on it, such
//! as the rules that may have dropped it.
//!
//! Input: rules, what is known of the packet, and which actions the caller wants. Output: candidates.
//!
//! 1. Rules are visited in order. [`Known::matches`] returns for each whether it matches: yes, no or unknown.
//! 2. A rule that does not match is skipped. One that matches is applied: it ends the evaluation of the base chain, sets
//!    the packet's mark, jumps, or returns to the calling chain.
//! 3. If it is unknown whether a rule matches, both branches are followed: its action, and the rules after it. The state of
//!    both is merged; a mark in which they differ becomes unknown.
//! 4. A rule with a wanted action becomes a candidate; only an action that terminates can be wanted. A rule that certainly
//!    matches, and terminates or returns, ends its chain. The chain's outcome then depends on the uncertain rules before it:
//!
//! | an earlier rule may have returned | … may have terminated | the chain's outcome |
//! | --- | --- | --- |
//! | yes | any | `Unknown` |
//! | no | yes | `Terminated`: possibly by a rule that is not wanted |
//! | no | no | that of the rule: `Terminated` or `Wanted` |
//!
//! Limits: [`MAX_JUMP_DEPTH`] nested jumps and [`MAX_RULES`] rules. Beyond these the result is marked as incomplete.

use std::collections::HashMap;

use super::evaluate::{Known, listed};
use super::index::{ChainId, Edge, Index, RuleId, any_listed};
use super::model::{Action, Base, Elements, Field, Rules};

/// Maximum number of nested jumps. nftables allows 16; iptables has no fixed limit.
const MAX_JUMP_DEPTH: usize = 64;

/// Maximum number of rules visited in one query.
const MAX_RULES: u32 = 500_000;

/// A rule that matched, and, if it has a verdict map, the position of the element that matched.
pub(super) type RuleHit = (RuleId, Option<usize>);

/// A rule or policy that may have issued the wanted verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Jumps from the base chain to it, outermost first.
    pub(super) jumps: Vec<RuleHit>,
    pub(super) decision: Decision,
    /// The packet's mark when it was reached, if known.
    pub(super) mark: Option<u32>,
}

/// What issued a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Rule(RuleHit),
    /// The policy of a base chain, for packets that no rule terminated.
    Policy(ChainId),
}

/// What a chain, or one action, does to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The packet continues after the chain or action.
    Continues,
    /// Unknown which: it continues or is terminated.
    Unknown,
    /// It is terminated, possibly by a rule that is not wanted.
    Terminated,
    /// It is terminated by a wanted rule.
    Wanted,
}

/// State of one query.
pub(super) struct Walk<'a> {
    pub(super) rules: &'a Rules,
    pub(super) index: &'a Index,
    pub(super) known: Known<'a>,
    /// Whether a rule with this action is wanted.
    pub(super) wanted: &'a dyn Fn(RuleId, &Action) -> bool,
    /// Whether policies are wanted too.
    pub(super) want_policies: bool,
    /// Jumps to follow, keyed by the calling chain; `None` allows all.
    pub(super) allowed_jumps: Option<HashMap<ChainId, Vec<Edge>>>,
    pub(super) candidates: Vec<Candidate>,
    /// Set when a limit was reached, or a chain is missing.
    pub(super) incomplete: bool,
    /// Number of rules that may still be visited.
    budget: u32,
    /// Jumps from the base chain to the current one.
    jumps: Vec<RuleHit>,
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
            want_policies: false,
            allowed_jumps: None,
            candidates: Vec::new(),
            incomplete: false,
            budget: MAX_RULES,
            jumps: Vec::new(),
        }
    }

    /// Walks a base chain. Returns whether a wanted verdict is certain, so that later base chains can be skipped.
    pub(super) fn walk_base_chain(&mut self, base: Base, chain: ChainId) -> bool {
        let outcome = self.walk_chain(chain);
        if matches!(outcome, Outcome::Continues | Outcome::Unknown) && base.drops && self.want_policies {
            self.candidates.push(Candidate {
                jumps: Vec::new(),
                decision: Decision::Policy(chain),
                mark: self.known.mark,
            });
            return outcome == Outcome::Continues;
        }
        outcome == Outcome::Wanted
    }

    fn walk_chain(&mut self, chain: ChainId) -> Outcome {
        if self.jumps.len() >= MAX_JUMP_DEPTH {
            self.incomplete = true;
            return Outcome::Unknown;
        }
        // Possible effects of earlier uncertain rules, and the packet's marks when one of them may have returned.
        let (mut may_end, mut may_return) = (false, false);
        let mut marks_at_return = Vec::new();
        let end_of_chain = |may_end| if may_end { Outcome::Unknown } else { Outcome::Continues };
        let mut outcome = None;
        for (position, edges) in self.rules_to_visit(chain) {
            if self.budget == 0 {
                self.incomplete = true;
                // A rule that was not visited may terminate the packet.
                may_end = true;
                break;
            }
            self.budget -= 1;
            let rule = self.index.rule(self.rules, (chain, position));
            let sets = &self.index.table_of(self.rules, chain).sets;
            let applies = self.known.matches(&rule.matches, sets);
            if applies == Some(false) {
                continue;
            }
            let certain = applies == Some(true);
            let (rule_outcome, returns) = match &rule.action {
                Action::Verdicts(fields, elements) => {
                    self.apply_map((chain, position), &edges, fields, elements, certain)
                }
                action => self.apply((chain, position), None, edges.first(), action, certain),
            };
            match (rule_outcome, returns) {
                (Outcome::Terminated | Outcome::Wanted, _) if certain => {
                    outcome = Some(match (may_return, may_end) {
                        (true, _) => Outcome::Unknown,
                        (false, true) => Outcome::Terminated,
                        (false, false) => rule_outcome,
                    });
                    break;
                }
                (Outcome::Continues, Returns::Yes) if certain => {
                    outcome = Some(end_of_chain(may_end));
                    break;
                }
                (Outcome::Unknown, Returns::Yes) if certain => {
                    outcome = Some(Outcome::Unknown);
                    break;
                }
                _ => {
                    may_end |= rule_outcome != Outcome::Continues;
                    if returns != Returns::No {
                        may_return = true;
                        marks_at_return.push(self.known.mark);
                    }
                }
            }
        }
        // The packet may have returned with an earlier mark.
        if marks_at_return.iter().any(|mark| *mark != self.known.mark) {
            self.known.mark = None;
        }
        outcome.unwrap_or(end_of_chain(may_end))
    }

    /// Positions of the rules of a chain that have an effect, in order, each with its jumps to follow: several if it is a
    /// verdict map.
    fn rules_to_visit(&self, chain: ChainId) -> Vec<(usize, Vec<Edge>)> {
        let edges = match &self.allowed_jumps {
            None => self.index.out[chain].as_slice(),
            Some(allowed) => allowed.get(&chain).map_or_else(<&[Edge]>::default, Vec::as_slice),
        };
        let mut effective = self.index.acting[chain].iter().copied().peekable();
        let mut visits: Vec<(usize, Vec<Edge>)> = Vec::new();
        for edge in edges {
            let position = edge.from.1;
            while let Some(earlier) = effective.next_if(|effective| *effective <= position) {
                if visits.last().is_none_or(|(last, _)| *last != earlier) {
                    visits.push((earlier, Vec::new()));
                }
            }
            match visits.last_mut() {
                Some((last, edges)) if *last == position => edges.push(*edge),
                _ => visits.push((position, vec![*edge])),
            }
        }
        visits.extend(effective.map(|position| (position, Vec::new())));
        visits
    }

    /// Applies an action. Returns what it does to the packet, and whether the packet returns to the calling chain.
    fn apply(
        &mut self,
        rule: RuleId,
        element: Option<usize>,
        edge: Option<&Edge>,
        action: &Action,
        certain: bool,
    ) -> (Outcome, Returns) {
        if (self.wanted)(rule, action) {
            self.candidates.push(Candidate {
                jumps: self.jumps.clone(),
                decision: Decision::Rule((rule, element)),
                mark: self.known.mark,
            });
            return (Outcome::Wanted, Returns::No);
        }
        match action {
            Action::Accept
            | Action::Drop
            | Action::Reject
            | Action::Dnat(_)
            | Action::Snat(_)
            | Action::Masquerade
            | Action::Redirect(_) => (Outcome::Terminated, Returns::No),
            Action::Return => (Outcome::Continues, Returns::Yes),
            Action::Mark(change) => {
                // mark = (mark & keep) ^ toggle, as `meta mark set` and `-j MARK` compute it.
                let known = self.known.mark.zip(*change).filter(|_| certain);
                self.known.mark = known.map(|(mark, change)| (mark & change.keep) ^ change.toggle);
                (Outcome::Continues, Returns::No)
            }
            Action::Jump(_) | Action::Goto(_) => {
                let Some(edge) = edge else {
                    // The agent did not send the chain, because of its size limit or because it seemed irrelevant.
                    self.incomplete = true;
                    return (Outcome::Unknown, Returns::No);
                };
                let mark = self.known.mark;
                self.jumps.push((rule, element));
                let outcome = self.walk_chain(edge.to);
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

    /// Applies a verdict map: the first element that certainly matches, and each before it that may match.
    fn apply_map(
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
                        // No edge: the chain was not sent, or leads to no wanted rule.
                        if edge.is_some() || self.allowed_jumps.is_none() {
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
            let (outcome, returns) = self.apply(rule, Some(place), edge, action, certain && holds);
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

/// Whether the packet returns from the current chain to the calling one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Returns {
    No,
    Maybe,
    Yes,
}
