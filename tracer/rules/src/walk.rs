//! The way of a packet through chains, as the kernel goes it, with every rule that can have been the one.
//!
//! Whether a rule applies may not be known. Then both is possible: what it does is followed, and so is what comes
//! after it. Only what is certain ends the way. The outcome of a chain is told for a packet that reaches it, so that
//! doubts add up from the inside out.

use std::collections::HashMap;

use super::evaluate::{Known, listed};
use super::index::{ChainId, Edge, Index, RuleId, any_listed};
use super::model::{Action, Base, Elements, Field, Rules};

/// Chains within chains, at most. The kernel has 16 for nftables.
const DEPTH: usize = 64;

/// Rules that are looked at for one question, at most.
const STEPS: u32 = 500_000;

/// A rule on a packet's way, and the element of its verdict map, if it was one's doing.
pub(super) type Step = (RuleId, Option<usize>);

/// A rule that can have been the one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The rules that led there.
    pub(super) way: Vec<Step>,
    pub(super) what: What,
    /// The packet's mark then, if it can be told.
    pub(super) mark: Option<u32>,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Rule(Step),
    /// What a chain does with packets that no rule decided on.
    Policy(ChainId),
}

/// What becomes of a packet that reaches a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It comes back.
    Passes,
    /// That cannot be told.
    Either,
    /// It is decided on.
    Ends,
    /// It is decided on by a rule that was looked for.
    Is,
}

/// One question, under way.
pub(super) struct Walk<'a> {
    pub(super) rules: &'a Rules,
    pub(super) index: &'a Index,
    pub(super) known: Known<'a>,
    /// Whether a rule that does this is one that is looked for.
    pub(super) wanted: &'a dyn Fn(RuleId, &Action) -> bool,
    /// Whether policies are looked for, too.
    pub(super) policies: bool,
    /// The only ways to go, by the chain that they set out from; all if `None`.
    pub(super) ways: Option<HashMap<ChainId, Vec<Edge>>>,
    pub(super) found: Vec<Found>,
    /// Whether something on the way was not looked at.
    pub(super) incomplete: bool,
    steps: u32,
    way: Vec<Step>,
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
            ways: None,
            found: Vec::new(),
            incomplete: false,
            steps: STEPS,
            way: Vec::new(),
        }
    }

    /// Goes through a chain that the kernel calls. Whether the packet goes no further than that for certain.
    pub(super) fn called(&mut self, base: Base, chain: ChainId) -> bool {
        let outcome = self.chain(chain);
        if matches!(outcome, Outcome::Passes | Outcome::Either) && base.drops && self.policies {
            self.found.push(Found { way: Vec::new(), what: What::Policy(chain), mark: self.known.mark });
            return outcome == Outcome::Passes;
        }
        outcome == Outcome::Is
    }

    fn chain(&mut self, chain: ChainId) -> Outcome {
        if self.way.len() >= DEPTH {
            self.incomplete = true;
            return Outcome::Either;
        }
        let mark = self.known.mark;
        // What may already have happened to the packet: it was decided on, or it went back.
        let (mut may_end, mut may_return) = (false, false);
        let passes = |may_end| if may_end { Outcome::Either } else { Outcome::Passes };
        let mut outcome = None;
        for (at, edges) in self.due(chain) {
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
                (Outcome::Ends | Outcome::Is, _) if certain => {
                    outcome = Some(match (may_return, may_end) {
                        (true, _) => Outcome::Either,
                        (false, true) => Outcome::Ends,
                        (false, false) => does,
                    });
                    break;
                }
                (Outcome::Passes, Returns::Yes) if certain => {
                    outcome = Some(passes(may_end));
                    break;
                }
                (Outcome::Either, Returns::Yes) if certain => {
                    outcome = Some(Outcome::Either);
                    break;
                }
                _ => {
                    may_end |= does != Outcome::Passes;
                    may_return |= returns != Returns::No;
                }
            }
        }
        if may_return && self.known.mark != mark {
            self.known.mark = None;
        }
        outcome.unwrap_or(passes(may_end))
    }

    /// The rules of a chain to look at, each with the ways that it leads.
    fn due(&self, chain: ChainId) -> Vec<(usize, Vec<Edge>)> {
        let edges = match &self.ways {
            None => self.index.out[chain].as_slice(),
            Some(ways) => ways.get(&chain).map_or_else(<&[Edge]>::default, Vec::as_slice),
        };
        let mut doing = self.index.doing[chain].iter().copied().peekable();
        let mut due: Vec<(usize, Vec<Edge>)> = Vec::new();
        for edge in edges {
            let at = edge.from.1;
            while let Some(earlier) = doing.next_if(|doing| *doing <= at) {
                if due.last().is_none_or(|(last, _)| *last != earlier) {
                    due.push((earlier, Vec::new()));
                }
            }
            match due.last_mut() {
                Some((last, edges)) if *last == at => edges.push(*edge),
                _ => due.push((at, vec![*edge])),
            }
        }
        due.extend(doing.map(|at| (at, Vec::new())));
        due
    }

    /// What one action comes to, and whether the packet then goes back to where the chain was called from.
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
                way: self.way.clone(),
                what: What::Rule((rule, element)),
                mark: self.known.mark,
            });
            return (Outcome::Is, Returns::No);
        }
        match action {
            Action::Accept
            | Action::Drop
            | Action::Reject
            | Action::Dnat(_)
            | Action::Snat(_)
            | Action::Masquerade
            | Action::Redirect(_) => (Outcome::Ends, Returns::No),
            Action::Return => (Outcome::Passes, Returns::Yes),
            Action::Mark(marking) => {
                let marked = self.known.mark.zip(*marking);
                self.known.mark =
                    marked.filter(|_| certain).map(|(mark, marking)| (mark & marking.keep) ^ marking.toggle);
                (Outcome::Passes, Returns::No)
            }
            Action::Jump(_) | Action::Goto(_) => {
                let Some(edge) = edge else {
                    // A chain that was left out.
                    self.incomplete = true;
                    return (Outcome::Either, Returns::No);
                };
                let mark = self.known.mark;
                self.way.push((rule, element));
                let outcome = self.chain(edge.to);
                self.way.pop();
                if !certain && self.known.mark != mark {
                    self.known.mark = None;
                }
                let returns = match outcome {
                    Outcome::Passes | Outcome::Either if edge.goes => Returns::Yes,
                    _ => Returns::No,
                };
                (outcome, returns)
            }
            Action::Verdicts(..) | Action::Other(_) => (Outcome::Either, Returns::No),
        }
    }

    /// What a verdict map comes to.
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
        let lasting = listed(elements, &table.sets).is_some();
        let mut led = edges.iter().map(|edge| (edge.element, Some(edge))).peekable();
        let mut choices: Vec<(usize, Option<&Edge>)> = Vec::new();
        if self.index.doing[rule.0].binary_search(&rule.1).is_ok() {
            for (place, element) in all.iter().enumerate() {
                match &element.action {
                    Some(Action::Jump(_) | Action::Goto(_)) => {
                        let edge = led.next_if(|(of, _)| *of == Some(place)).and_then(|(_, edge)| edge);
                        // Without a way, it leads where nothing of interest is, or to what was left out.
                        if edge.is_some() || self.ways.is_none() {
                            choices.push((place, edge));
                        }
                    }
                    Some(_) => choices.push((place, None)),
                    None => {}
                }
            }
        } else {
            choices.extend(led.filter_map(|(element, edge)| Some((element?, edge))));
        }
        let (mut may_end, mut may_return) = (false, false);
        for (place, edge) in choices {
            let element = &all[place];
            let holds = self.known.element(fields, element).filter(|holds| lasting || !holds);
            if holds == Some(false) {
                continue;
            }
            let Some(action) = &element.action else { continue };
            let holds = holds == Some(true);
            let (outcome, returns) = self.act(rule, Some(place), edge, action, certain && holds);
            if holds {
                return (outcome, returns);
            }
            may_end |= outcome != Outcome::Passes;
            may_return |= returns != Returns::No;
        }
        let outcome = if may_end { Outcome::Either } else { Outcome::Passes };
        (outcome, if may_return { Returns::Maybe } else { Returns::No })
    }
}

/// Whether the packet goes back to where the chain was called from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Returns {
    No,
    Maybe,
    Yes,
}
