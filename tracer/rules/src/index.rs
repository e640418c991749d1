//! Look-up tables over a rule set, built once: chains by number, jumps between chains in both directions, and which rules
//! translate to an address. They make a question take microseconds with tens of thousands of rules.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::model::{Action, Base, Chain, Element, Elements, Family, Hook, Nat, Rule, Rules, Table};

/// Number of a chain, counted over all tables.
pub(super) type ChainId = usize;

/// A rule: its chain, and its position there.
pub(super) type RuleId = (ChainId, usize);

/// A jump or goto from a rule to a chain of the same table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) from: RuleId,
    /// The element of the rule's verdict map that jumps, if it is one.
    pub(super) element: Option<usize>,
    pub(super) to: ChainId,
    /// A goto: the packet does not come back to the rule after it.
    pub(super) is_goto: bool,
}

/// The look-up tables.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// Table and position there, by number of the chain.
    places: Vec<(usize, usize)>,
    /// Jumps out of a chain, in the order of its rules.
    pub(super) out: Vec<Vec<Edge>>,
    /// Jumps into a chain.
    pub(super) into: Vec<Vec<Edge>>,
    /// Positions of a chain's rules that do something else than jump, in order.
    pub(super) acting: Vec<Vec<usize>>,
    /// Rules that change the destination to one address, by that address.
    to_address: HashMap<IpAddr, Vec<RuleId>>,
    /// Other rules that change the destination.
    to_others: Vec<RuleId>,
    /// Rules that change the source.
    of_source: Vec<RuleId>,
    /// Whether rules of a table set marks, by number of the table.
    marking: Vec<bool>,
    /// Base chains, in the order in which the kernel calls them.
    bases: Vec<(Base, ChainId)>,
}

impl Index {
    pub(super) fn new(rules: &Rules) -> Self {
        let mut index = Self::default();
        for (table, of_table) in rules.tables.iter().enumerate() {
            index.table(table, of_table);
        }
        index.bases.sort_by_key(|(base, chain)| (base.priority, *chain));
        index.into = vec![Vec::new(); index.places.len()];
        for edge in index.out.iter().flatten() {
            index.into[edge.to].push(*edge);
        }
        index
    }

    fn table(&mut self, number: usize, table: &Table) {
        let first = self.places.len();
        let rules = table.chains.iter().flat_map(|chain| &chain.rules);
        self.marking.push(rules.into_iter().any(|rule| matches!(rule.action, Action::Mark(_))));
        let names: HashMap<_, _> = table
            .chains
            .iter()
            .enumerate()
            .map(|(place, chain)| (chain.name.as_str(), first + place))
            .collect();
        for (place, chain) in table.chains.iter().enumerate() {
            let id = first + place;
            self.places.push((number, place));
            self.bases.extend(chain.base.map(|base| (base, id)));
            let mut out = Vec::new();
            let mut acting = Vec::new();
            for (at, rule) in chain.rules.iter().enumerate() {
                let from = (id, at);
                let mut leads = |action: &Action, element| match action {
                    Action::Jump(name) | Action::Goto(name) => {
                        let is_goto = matches!(action, Action::Goto(_));
                        match names.get(name.as_str()) {
                            Some(to) => out.push(Edge { from, element, to: *to, is_goto }),
                            // The chain was left out when the rules were sent: what happens there is unknown.
                            None => acting.push(at),
                        }
                    }
                    Action::Verdicts(..) => {}
                    _ => acting.push(at),
                };
                match &rule.action {
                    Action::Verdicts(_, elements) => {
                        for (place, element) in any_listed(elements, table).iter().enumerate() {
                            if let Some(action) = &element.action {
                                leads(action, Some(place));
                            }
                        }
                    }
                    action => leads(action, None),
                }
                self.translates(rule, from);
            }
            acting.dedup();
            self.out.push(out);
            self.acting.push(acting);
        }
    }

    fn translates(&mut self, rule: &Rule, id: RuleId) {
        match &rule.action {
            Action::Dnat(Some(Nat { addresses: Some((first, last)), .. })) if first == last => {
                self.to_address.entry(*first).or_default().push(id);
            }
            Action::Dnat(_) | Action::Redirect(_) => self.to_others.push(id),
            Action::Snat(_) | Action::Masquerade => self.of_source.push(id),
            _ => {}
        }
    }

    /// Rules that may change a destination to this address.
    pub(super) fn to(&self, address: IpAddr) -> impl Iterator<Item = RuleId> {
        self.to_address.get(&address).into_iter().flatten().chain(&self.to_others).copied()
    }

    /// Rules that change the source.
    pub(super) fn sources(&self) -> impl Iterator<Item = RuleId> {
        self.of_source.iter().copied()
    }

    /// Whether rules of this chain's table set marks.
    pub(super) fn marks(&self, chain: ChainId) -> bool {
        self.marking[self.places[chain].0]
    }

    pub(super) fn table_of<'r>(&self, rules: &'r Rules, chain: ChainId) -> &'r Table {
        &rules.tables[self.places[chain].0]
    }

    pub(super) fn chain<'r>(&self, rules: &'r Rules, chain: ChainId) -> &'r Chain {
        let (table, place) = self.places[chain];
        &rules.tables[table].chains[place]
    }

    pub(super) fn rule<'r>(&self, rules: &'r Rules, (chain, at): RuleId) -> &'r Rule {
        &self.chain(rules, chain).rules[at]
    }

    /// Base chains at these hooks that see these families, in the kernel's order.
    pub(super) fn base_chains<'i>(
        &'i self,
        rules: &'i Rules,
        hooks: &'i [Hook],
        families: &'i [Family],
    ) -> impl Iterator<Item = (Base, ChainId)> {
        self.bases.iter().copied().filter(move |(base, chain)| {
            hooks.contains(&base.hook) && families.contains(&self.table_of(rules, *chain).family)
        })
    }

    /// The jumps that lead to one of these chains, directly or not, by the chain they are in.
    pub(super) fn leading_to(&self, targets: impl Iterator<Item = ChainId>) -> HashMap<ChainId, Vec<Edge>> {
        let mut seen: HashSet<ChainId> = HashSet::new();
        let mut waiting: Vec<_> = targets.filter(|chain| seen.insert(*chain)).collect();
        let mut leading: HashMap<ChainId, Vec<Edge>> = HashMap::new();
        while let Some(chain) = waiting.pop() {
            for edge in &self.into[chain] {
                leading.entry(edge.from.0).or_default().push(*edge);
                if seen.insert(edge.from.0) {
                    waiting.push(edge.from.0);
                }
            }
        }
        for edges in leading.values_mut() {
            edges.sort_by_key(|edge| (edge.from.1, edge.element));
        }
        leading
    }
}

/// The elements at the time of reading, also of sets that the kernel changes.
pub(super) fn any_listed<'a>(elements: &'a Elements, table: &'a Table) -> &'a [Element] {
    match elements {
        Elements::These(elements) => elements,
        Elements::Named(name) => {
            table.sets.iter().find(|set| set.name == *name).map_or(&[], |set| set.elements.as_slice())
        }
    }
}
