//! Reduces a rule set to what fits into one frame to the tracer.
//!
//! 1. Without loss: chains that no packet reaches, jumps to chains that do nothing, sets that no rule uses, and tables that
//!    neither translate, mark nor drop are removed.
//! 2. If the rest is still too large: sets lose their elements and chains are removed, the last ones first. A jump to a
//!    removed chain then has an unknown effect, and a [`Gap`] says how much is missing. Tables with NAT are kept first.

use std::collections::{HashMap, HashSet};

use super::model::{Action, Chain, Elements, Gap, Match, Rules, Set, Table};

/// Maximum size as JSON in bytes. A rule takes about 200; a frame may be a third larger.
pub const BUDGET: usize = 12 << 20;

/// Removes what has no effect, then what does not fit into `budget` bytes of JSON.
///
/// # Examples
///
/// ```
/// use podtrace_rules::{BUDGET, Family, Rules, iptables, keep};
///
/// let listing = "*filter\n:INPUT ACCEPT [0:0]\n:UNUSED - [0:0]\n-A UNUSED -j DROP\nCOMMIT\n";
/// let rules = Rules { tables: iptables::parse(listing, Family::Ip), ..Rules::default() };
/// // No hook leads to the only rule.
/// assert!(keep(rules, BUDGET).tables.iter().all(|table| table.chains.iter().all(|chain| chain.rules.is_empty())));
/// ```
pub fn keep(mut rules: Rules, budget: usize) -> Rules {
    for table in &mut rules.tables {
        without_idle_chains(table);
        without_unreached_chains(table);
    }
    rules.tables.retain(matters);
    // Tables with NAT first: a drop is explained by the kernel's reason too, a translation only by its rule.
    rules
        .tables
        .sort_by_key(|table| !table.chains.iter().any(|chain| chain.base.is_some_and(|base| base.nat)));
    let mut left = budget;
    for table in &mut rules.tables {
        let before = table.chains.len() + table.sets.len();
        let missing = within(table, &mut left);
        if missing > 0 {
            let text = format!(
                "{missing} of {before} chains and sets of table {:?} ({} {}) were left out: its rules are too many to \
                 be sent",
                table.name, table.framework, table.family
            );
            rules.gaps.push(Gap { family: Some(table.family), text });
        }
    }
    rules
}

/// Whether a table can translate, mark or drop a packet.
fn matters(table: &Table) -> bool {
    let of_rule =
        |action: &Action| action.translates() || action.drops() || matches!(action, Action::Mark(_));
    table.chains.iter().any(|chain| {
        chain.base.is_some_and(|base| base.drops)
            || chain.rules.iter().any(|rule| any_action(&rule.action, table, &of_rule))
    })
}

fn any_action(action: &Action, table: &Table, test: &impl Fn(&Action) -> bool) -> bool {
    match action {
        Action::Verdicts(_, elements) => super::index::any_listed(elements, table)
            .iter()
            .any(|element| element.action.as_ref().is_some_and(test)),
        action => test(action),
    }
}

/// Calls `each` with the names of the chains that an action jumps to.
fn targets<'a>(action: &'a Action, table: &'a Table, each: &mut impl FnMut(&'a str)) {
    let mut of_one = |action: &'a Action| {
        if let Action::Jump(name) | Action::Goto(name) = action {
            each(name);
        }
    };
    match action {
        Action::Verdicts(_, elements) => {
            super::index::any_listed(elements, table)
                .iter()
                .filter_map(|element| element.action.as_ref())
                .for_each(of_one);
        }
        action => of_one(action),
    }
}

/// Removes jumps to chains that do nothing: a packet always comes back unchanged.
fn without_idle_chains(table: &mut Table) {
    // From the chains that do something, backwards along the jumps.
    let mut callers: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut busy: HashSet<&str> = HashSet::new();
    let mut waiting = Vec::new();
    let does = |action: &Action| !matches!(action, Action::Return | Action::Jump(_) | Action::Goto(_));
    let known: HashSet<&str> = table.chains.iter().map(|chain| chain.name.as_str()).collect();
    for chain in &table.chains {
        for rule in &chain.rules {
            let mut leads_away = false;
            targets(&rule.action, table, &mut |target| {
                callers.entry(target).or_default().push(&chain.name);
                leads_away |= !known.contains(target);
            });
            if (leads_away || any_action(&rule.action, table, &does)) && busy.insert(&chain.name) {
                waiting.push(chain.name.as_str());
            }
        }
    }
    while let Some(chain) = waiting.pop() {
        for caller in callers.get(chain).into_iter().flatten() {
            if busy.insert(caller) {
                waiting.push(caller);
            }
        }
    }
    let idle: HashSet<String> = known.difference(&busy).map(|name| (*name).to_owned()).collect();
    for chain in &mut table.chains {
        chain.rules.retain_mut(|rule| match &rule.action {
            Action::Jump(name) => !idle.contains(name),
            // After a goto, the packet returns to the caller of this chain.
            Action::Goto(name) if idle.contains(name) => {
                rule.action = Action::Return;
                true
            }
            _ => true,
        });
    }
}

/// Removes chains that no packet reaches, and sets that no rule uses.
fn without_unreached_chains(table: &mut Table) {
    let order: HashSet<String> =
        in_order(table).into_iter().map(|place| table.chains[place].name.clone()).collect();
    table.chains.retain(|chain| {
        let idle_base = chain.base.is_some_and(|base| !base.drops) && chain.rules.is_empty();
        order.contains(&chain.name) && !idle_base
    });
    let used = used_sets(&table.chains);
    table.sets.retain(|set| used.contains(&set.name));
}

/// Positions of the chains that packets reach, depth first from the base chains: if some have to be removed, the first of
/// many Services stay complete.
fn in_order(table: &Table) -> Vec<usize> {
    let places: HashMap<&str, usize> =
        table.chains.iter().enumerate().map(|(place, chain)| (chain.name.as_str(), place)).collect();
    let bases = table.chains.iter().enumerate().filter(|(_, chain)| chain.base.is_some());
    // A stack: the last is next.
    let mut waiting: Vec<usize> = bases.map(|(place, _)| place).rev().collect();
    let mut seen = HashSet::new();
    let mut order = Vec::new();
    while let Some(place) = waiting.pop() {
        if !seen.insert(place) {
            continue;
        }
        order.push(place);
        let leads = waiting.len();
        for rule in &table.chains[place].rules {
            targets(&rule.action, table, &mut |target| waiting.extend(places.get(target)));
        }
        waiting[leads..].reverse();
    }
    order
}

fn used_sets(chains: &[Chain]) -> HashSet<String> {
    let mut used = HashSet::new();
    let mut of_match = |matched: &Match| {
        let mut matched = matched;
        while let Match::Not(contrary) = matched {
            matched = contrary;
        }
        if let Match::In(_, Elements::Named(name)) = matched {
            used.insert(name.clone());
        }
    };
    let rules = || chains.iter().flat_map(|chain| &chain.rules);
    rules().flat_map(|rule| &rule.matches).for_each(&mut of_match);
    used.extend(rules().filter_map(|rule| match &rule.action {
        Action::Verdicts(_, Elements::Named(name)) => Some(name.clone()),
        _ => None,
    }));
    used
}

/// Removes what does not fit: elements of sets first, then the last chains. Returns how many sets and chains.
fn within(table: &mut Table, left: &mut usize) -> usize {
    let mut missing = 0;
    for set in &mut table.sets {
        if !spend(left, size(set)) {
            *set = Set { name: std::mem::take(&mut set.name), dynamic: true, elements: Vec::new() };
            missing += 1;
        }
    }
    let mut kept = HashSet::new();
    for place in in_order(table) {
        let chain = &table.chains[place];
        if spend(left, size(chain)) {
            kept.insert(chain.name.clone());
        } else {
            missing += 1;
        }
    }
    table.chains.retain(|chain| kept.contains(&chain.name));
    missing
}

fn spend(left: &mut usize, size: usize) -> bool {
    match left.checked_sub(size) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}

/// Size as JSON in bytes.
fn size(value: &impl serde::Serialize) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // Counting cannot fail, and JSON can express these types.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Family;
    use crate::{iptables, nft};

    fn names(rules: &Rules) -> Vec<(String, Vec<String>)> {
        let chains = |table: &Table| table.chains.iter().map(|chain| chain.name.clone()).collect();
        rules.tables.iter().map(|table| (table.name.clone(), chains(table))).collect()
    }

    fn iptables(text: &str) -> Rules {
        Rules { tables: iptables::parse(text, Family::Ip), ..Rules::default() }
    }

    #[test]
    fn what_nothing_comes_of_is_left_out() {
        let kept = keep(
            iptables(
                "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -s 10.0.0.1/32 -j ACCEPT\nCOMMIT\n\
                 *nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n:IDLE - [0:0]\n\
                 :IDLER - [0:0]\n:ALONE - [0:0]\n-A PREROUTING -j A\n-A PREROUTING -j IDLER\n-A A -g B\n\
                 -A B -j DNAT --to-destination 10.0.0.2\n-A B -g IDLE\n-A IDLER -j IDLE\n-A IDLE -j RETURN\n\
                 -A ALONE -j DNAT --to-destination 10.0.0.3\nCOMMIT\n\
                 *filter\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n",
            ),
            BUDGET,
        );
        assert_eq!(
            names(&kept),
            [
                ("nat".to_owned(), ["PREROUTING", "A", "B"].map(ToOwned::to_owned).to_vec()),
                ("filter".to_owned(), vec!["FORWARD".to_owned()]),
            ]
        );
        let b = &kept.tables[0].chains[2];
        assert_eq!(b.rules.last().map(|rule| &rule.action), Some(&Action::Return));
        assert_eq!(kept.gaps, []);
    }

    #[test]
    fn sets_that_no_rule_looks_into_are_left_out() {
        let tables = nft::parse(include_str!("samples/kube-proxy.nft.json")).expect("a listing").tables;
        let kept = keep(Rules { tables, ..Rules::default() }, BUDGET);
        let sets: Vec<_> = kept.tables[0].sets.iter().map(|set| set.name.as_str()).collect();
        assert_eq!(
            sets,
            [
                "cluster-ips",
                "nodeport-ips",
                "no-endpoint-services",
                "no-endpoint-nodeports",
                "service-ips",
                "service-nodeports"
            ]
        );
        let text = r#"{"nftables": [{"set": {"family": "ip", "table": "t", "name": "s", "elem": ["10.0.0.1"]}},
            {"chain": {"family": "ip", "table": "t", "name": "c", "hook": "input", "type": "filter", "policy": "drop"}}]}"#;
        let tables = nft::parse(text).expect("a listing").tables;
        let kept = keep(Rules { tables, ..Rules::default() }, BUDGET);
        assert_eq!(kept.tables[0].sets, []);
    }

    #[test]
    fn what_is_too_much_is_left_out_and_that_is_told() {
        let rules = iptables(include_str!("samples/kube-proxy.iptables"));
        let whole = keep(rules.clone(), BUDGET);
        let size = size(&whole.tables);
        for budget in [0, 1000, size / 2, size * 3 / 4] {
            let part = keep(rules.clone(), budget);
            assert!(super::size(&part.tables) <= budget + 1000, "{budget}");
            assert!(!part.gaps.is_empty(), "{budget}");
            assert!(part.gaps.iter().all(|gap| gap.text.contains("were left out")), "{:?}", part.gaps);
        }
        assert_eq!(whole.gaps, []);
    }
}
