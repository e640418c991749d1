//! Parses what `nft -j list ruleset` prints.
//!
//! It is read as plain JSON rather than by a crate's types: these fail on the whole rule set if a newer nft prints one
//! statement that they do not know. Here, only that one condition becomes unknown. Objects are read one by one, so that
//! only what is kept takes memory.

mod expression;
mod statement;
mod text;

use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use self::expression::{elements, of_fields, typed};
use self::statement::statements;
use crate::model::{Action, Base, Chain, Family, Framework, Rule, Set, Table};

/// The tables of one listing, and which of them have rules that nft cannot express: those that iptables made with its own
/// matches and targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The tables.
    pub tables: Vec<Table>,
    /// Family and name of those that iptables made.
    pub foreign: Vec<(Family, String)>,
}

/// Reads a listing.
///
/// # Errors
/// If it is not JSON, or not printed by nft.
///
/// # Examples
///
/// ```
/// use podtrace_rules::{Finder, Hook, Kind, Loss, Rules, nft};
///
/// let listing = r#"{"nftables": [
///     {"table": {"family": "ip", "name": "guard", "handle": 1}},
///     {"chain": {"family": "ip", "table": "guard", "name": "forward", "handle": 1,
///                "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}}
/// ]}"#;
/// let tables = nft::parse(listing)?.tables;
/// let finder = Finder::new(Rules { tables, ..Rules::default() });
/// let dropped = finder.dropped(&Loss::at(Hook::Forward)).expect("the policy");
/// assert_eq!(dropped.kind, Kind::Policy);
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn parse(text: &str) -> Result<Listing, serde_json::Error> {
    let mut building = Building::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Whole(&mut building).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(building.listing)
}

#[derive(Default)]
struct Building {
    listing: Listing,
    tables: HashMap<(Family, String), usize>,
    chains: HashMap<(usize, String), usize>,
}

impl Building {
    fn object(&mut self, object: &Value) {
        let Some((kind, object)) = object.as_object().and_then(|object| object.iter().next()) else { return };
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        let Some((family, name)) = text("family").and_then(family).zip(text("name").or(text("chain"))) else {
            return;
        };
        if kind == "table" {
            self.table(family, name);
            return;
        }
        let Some(table) = text("table").map(|table| self.table(family, table)) else { return };
        match kind.as_str() {
            "chain" => {
                let chain = self.chain(table, name);
                (chain.base, chain.devices) = (base(object), devices(object));
            }
            "rule" => {
                let Some(list) = object.get("expr").and_then(Value::as_array) else { return };
                let read = statements(list, family);
                let key = (family, text("table").unwrap_or_default().to_owned());
                if read.foreign && !self.listing.foreign.contains(&key) {
                    self.listing.foreign.push(key);
                }
                let handle = object.get("handle").and_then(Value::as_u64);
                let comment = text("comment").map(ToOwned::to_owned);
                let chain = self.chain(table, name);
                for (matches, action) in read.effects {
                    // A named map has its actions, which may drop, in its elements.
                    let ends =
                        action.translates() || action.drops() || matches!(action, Action::Verdicts(..));
                    let text = if ends { text::rule(family, &matches, &action) } else { String::new() };
                    chain.rules.push(Rule { handle, matches, action, comment: comment.clone(), text });
                }
            }
            "set" | "map" => {
                let flags = object.get("flags").and_then(Value::as_array);
                let dynamic = flags.is_some_and(|flags| {
                    flags.iter().filter_map(Value::as_str).any(|flag| matches!(flag, "dynamic" | "timeout"))
                });
                let fields = object.get("type").map_or_else(Vec::new, typed);
                let elements = object.get("elem").map_or_else(Vec::new, |list| elements(list, fields.len()));
                let elements = of_fields(&fields, elements);
                let set = Set { name: name.to_owned(), dynamic, elements };
                self.listing.tables[table].sets.push(set);
            }
            _ => {}
        }
    }

    fn table(&mut self, family: Family, name: &str) -> usize {
        let tables = &mut self.listing.tables;
        *self.tables.entry((family, name.to_owned())).or_insert_with(|| {
            let framework = Framework::Nft;
            let name = name.to_owned();
            tables.push(Table { framework, family, name, chains: Vec::new(), sets: Vec::new() });
            tables.len() - 1
        })
    }

    fn chain(&mut self, table: usize, name: &str) -> &mut Chain {
        let chains = &mut self.listing.tables[table].chains;
        let number = *self.chains.entry((table, name.to_owned())).or_insert_with(|| {
            chains.push(Chain { name: name.to_owned(), base: None, devices: Vec::new(), rules: Vec::new() });
            chains.len() - 1
        });
        &mut chains[number]
    }
}

fn family(word: &str) -> Option<Family> {
    [Family::Ip, Family::Ip6, Family::Inet, Family::Bridge, Family::Netdev]
        .into_iter()
        .find(|family| family.word() == word)
}

/// `"dev": "eth0"` or `"dev": ["eth0", "eth1"]`.
fn devices(chain: &Value) -> Vec<String> {
    let of = |value: &Value| value.as_str().map(ToOwned::to_owned);
    match chain.get("dev") {
        Some(Value::Array(devices)) => devices.iter().filter_map(of).collect(),
        Some(device) => of(device).into_iter().collect(),
        None => Vec::new(),
    }
}

fn base(chain: &Value) -> Option<Base> {
    let text = |name: &str| chain.get(name).and_then(Value::as_str);
    let priority =
        chain.get("prio").and_then(Value::as_i64).and_then(|priority| i32::try_from(priority).ok());
    Some(Base {
        hook: text("hook")?.parse().ok()?,
        nat: text("type") == Some("nat"),
        priority: priority.unwrap_or(0),
        drops: text("policy") == Some("drop"),
    })
}

/// `{"nftables": […]}`
struct Whole<'a>(&'a mut Building);

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `nftables`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "nftables" {
                found = true;
                map.next_value_seed(Objects(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if found { Ok(()) } else { Err(serde::de::Error::missing_field("nftables")) }
    }
}

struct Objects<'a>(&'a mut Building);

impl<'de> DeserializeSeed<'de> for Objects<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Objects<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tables, chains and rules")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut objects: A) -> Result<(), A::Error> {
        while let Some(object) = objects.next_element::<Value>()? {
            self.0.object(&object);
        }
        Ok(())
    }
}
