//! Parses what `iptables-save` and `ip6tables-save` print.

mod rule;
mod value;
mod words;

use std::collections::HashMap;

use self::rule::Reader;
use self::words::words;
use crate::model::{Base, Chain, Family, Framework, Hook, Table};

/// The tables of one listing. Lines that are no table, chain or rule are skipped.
#[must_use]
pub fn parse(text: &str, family: Family) -> Vec<Table> {
    let mut tables = Vec::new();
    let mut table = None::<Building>;
    for line in text.lines() {
        match line.trim_start().as_bytes().first() {
            Some(b'*') => {
                tables.extend(table.take().map(|table| table.table));
                table = Some(Building::new(line.trim_start_matches(['*', ' ']).trim(), family));
            }
            Some(b':') => {
                if let Some(table) = &mut table {
                    table.chain(line.trim());
                }
            }
            // With -c, counters come first.
            Some(b'-' | b'[') => {
                if let Some(table) = &mut table {
                    table.rule(line.trim());
                }
            }
            _ => {}
        }
    }
    tables.extend(table.map(|table| table.table));
    tables
}

/// A table, as far as it has been read.
struct Building {
    table: Table,
    /// Positions of its chains by name: `-j` with one of these names is a jump, with any other a target.
    places: HashMap<String, usize>,
}

impl Building {
    fn new(name: &str, family: Family) -> Self {
        let table = Table {
            framework: Framework::Iptables,
            family,
            name: name.to_owned(),
            chains: Vec::new(),
            sets: Vec::new(),
        };
        Self { table, places: HashMap::new() }
    }

    /// `:KUBE-SERVICES - [0:0]`
    fn chain(&mut self, line: &str) {
        let mut words = line[1..].split_whitespace();
        let Some(name) = words.next() else { return };
        let policy = words.next().unwrap_or("-");
        self.places.insert(name.to_owned(), self.table.chains.len());
        let base = if policy == "-" { None } else { base(&self.table.name, name, policy == "DROP") };
        self.table.chains.push(Chain { name: name.to_owned(), base, devices: Vec::new(), rules: Vec::new() });
    }

    /// `-A KUBE-SERVICES -d 10.43.0.10/32 …`
    fn rule(&mut self, line: &str) {
        let line = match line.strip_prefix('[') {
            Some(counted) => counted.split_once(']').map_or("", |(_, rest)| rest.trim_start()),
            None => line,
        };
        let words = words(line);
        let [append, name, rest @ ..] = words.as_slice() else { return };
        if append != "-A" {
            return;
        }
        let Some(rule) = Reader::new(rest, &self.places).read() else { return };
        if let Some(place) = self.places.get(name) {
            self.table.chains[*place].rules.push(rule);
        }
    }
}

/// Where a built-in chain is called.
fn base(table: &str, chain: &str, drops: bool) -> Option<Base> {
    let hook = chain.parse().ok()?;
    let priority = match (table, hook) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", Hook::Input | Hook::Postrouting) => 100,
        ("nat", _) => -100,
        ("security", _) => 50,
        _ => 0,
    };
    Some(Base { hook, nat: table == "nat", priority, drops })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_know_where_they_are_called() {
        let text = "# Generated\n*filter\n:FORWARD DROP [1:2]\n:DOCKER - [0:0]\n[3:4] -A FORWARD -s 10.0.0.1/32 -j DROP\n\
                    COMMIT\n*nat\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n";
        let tables = parse(text, Family::Ip6);
        let names: Vec<_> = tables.iter().map(|table| (table.name.as_str(), table.family)).collect();
        assert_eq!(names, [("filter", Family::Ip6), ("nat", Family::Ip6)]);
        let forward = Base { hook: Hook::Forward, nat: false, priority: 0, drops: true };
        assert_eq!(tables[0].chains[0].base, Some(forward));
        assert_eq!(tables[0].chains[0].rules[0].text, "-s 10.0.0.1/32 -j DROP");
        assert_eq!(tables[0].chains[1].base, None);
        let postrouting = Base { hook: Hook::Postrouting, nat: true, priority: 100, drops: false };
        assert_eq!(tables[1].chains[0].base, Some(postrouting));
    }
}
