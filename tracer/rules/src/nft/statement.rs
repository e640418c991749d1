//! Parses statements of `nft -j`: a rule's conditions and actions.

use serde_json::Value;

use super::expression::{
    fields, implied_protocol, looked_up, number, of_fields, range, statement_written, written,
};
use crate::model::{Action, Elements, Family, Field, Marking, Match, Nat, Range};

/// Statements without an effect on the packet's path.
const PASSING: [&str; 13] = [
    "counter",
    "log",
    "notrack",
    "ct helper",
    "ct timeout",
    "ct expectation",
    "flow",
    "set",
    "map",
    "dup",
    "secmark",
    "last",
    "meter",
];

/// A parsed rule.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Its actions, each with the conditions before it: a rule can change a mark and then jump.
    pub(super) effects: Vec<(Vec<Match>, Action)>,
    /// Whether it has a match or target of iptables, which nft lists by name only.
    pub(super) foreign: bool,
}

/// Parses the statements of a rule in a table of this family.
pub(super) fn statements(list: &[Value], family: Family) -> Read {
    let mut read = Read::default();
    let mut matches = Vec::new();
    for statement in list {
        let Some((kind, inside)) = statement.as_object().and_then(|object| object.iter().next()) else {
            continue;
        };
        match kind.as_str() {
            "match" => matches.extend(matched(inside)),
            "mangle" => {
                if let Some(marking) = mangled(inside) {
                    read.effects.push((matches.clone(), Action::Mark(marking)));
                }
            }
            "vmap" => {
                let Some((key, data)) = inside.get("key").zip(inside.get("data")) else { continue };
                matches.extend(implied(key));
                let (fields, mask) = fields(key);
                // Masked keys are rare, and their elements count as unknown.
                let fields = if mask.is_some() { vec![Field::Other(written(key))] } else { fields };
                let elements = known_elements(&fields, looked_up(data, fields.len()));
                read.effects.push((matches.clone(), Action::Verdicts(fields, elements)));
            }
            "xt" => {
                read.foreign = true;
                let name = inside.get("name").and_then(Value::as_str).unwrap_or("xt").to_owned();
                if inside.get("type").and_then(Value::as_str) == Some("target") {
                    read.effects.push((matches.clone(), Action::Other(name)));
                } else if name != "comment" {
                    matches.push(Match::Other(name));
                }
            }
            "reject" => {
                matches.extend(rejected(inside, family, &matches));
                read.effects.push((matches.clone(), Action::Reject));
            }
            kind if PASSING.contains(&kind) => {}
            kind => match verdict(statement) {
                Some(action) => read.effects.push((matches.clone(), action)),
                // limit, quota, ct count, and statements of newer versions of nft.
                None => matches.push(Match::Other(statement_written(kind, inside))),
            },
        }
    }
    read
}

/// A statement that ends the rule.
pub(super) fn verdict(statement: &Value) -> Option<Action> {
    let (kind, inside) = statement.as_object()?.iter().next()?;
    let chain = || Some(inside.get("target")?.as_str()?.to_owned());
    Some(match kind.as_str() {
        "accept" => Action::Accept,
        "drop" => Action::Drop,
        "return" => Action::Return,
        "reject" => Action::Reject,
        "jump" => Action::Jump(chain()?),
        "goto" => Action::Goto(chain()?),
        "dnat" => Action::Dnat(nat(inside)),
        "snat" => Action::Snat(nat(inside)),
        "masquerade" => Action::Masquerade,
        "redirect" => Action::Redirect(inside.get("port").and_then(ports)),
        "queue" | "tproxy" | "synproxy" | "fwd" => Action::Other(kind.clone()),
        _ => return None,
    })
}

/// The IP version that a reject rule applies to, which nft does not list in tables of both versions. The type of the ICMP
/// error reveals it; with a reset it is unknown.
fn rejected(inside: &Value, family: Family, matches: &[Match]) -> Option<Match> {
    if !matches!(family, Family::Inet | Family::Bridge) {
        return None;
    }
    let version = |name: &str| Some(Match::Is(Field::Version, vec![Range::Word(name.to_owned())]));
    let is_known = matches
        .iter()
        .any(|matched| matches!(matched, Match::Is(Field::Version | Field::Source | Field::Destination, _)));
    match inside.get("type").and_then(Value::as_str) {
        _ if is_known => None,
        Some("icmp") => version("ipv4"),
        Some("icmpv6") => version("ipv6"),
        Some("tcp reset") => Some(Match::Other(String::new())),
        _ => None,
    }
}

fn implied(left: &Value) -> Option<Match> {
    implied_protocol(left).map(|number| Match::Is(Field::Protocol, vec![Range::number(number)]))
}

fn matched(inside: &Value) -> Vec<Match> {
    let Some((left, right)) = inside.get("left").zip(inside.get("right")) else {
        return vec![Match::Other(written(inside))];
    };
    let mut matches: Vec<_> = implied(left).into_iter().collect();
    let operator = inside.get("op").and_then(Value::as_str).unwrap_or("==");
    let (fields, mask) = fields(left);
    let matched = match operator {
        "==" | "!=" | "in" => compared(&fields, mask, right),
        operator => ordered(&fields, mask, operator, right),
    };
    let matched = matched.unwrap_or_else(|| Match::Other(written(inside)));
    matches.push(matched.negated(operator == "!="));
    matches
}

fn compared(fields: &[Field], mask: Option<u32>, right: &Value) -> Option<Match> {
    match (fields, mask) {
        ([field], Some(mask)) => Some(Match::Is(field.clone(), vec![Range::Bits(mask, number(right)?)])),
        (_, Some(_)) => None,
        ([field], None) => Some(match known_elements(fields, looked_up(right, 1)) {
            Elements::These(elements) => {
                Match::Is(field.clone(), elements.into_iter().flat_map(|element| element.key).collect())
            }
            named @ Elements::Named(_) => Match::In(fields.to_vec(), named),
        }),
        (_, None) => Some(Match::In(fields.to_vec(), known_elements(fields, looked_up(right, fields.len())))),
    }
}

/// `<`, `>`, `<=`, `>=`
fn ordered(fields: &[Field], mask: Option<u32>, operator: &str, right: &Value) -> Option<Match> {
    let ([field], None, limit) = (fields, mask, number(right)?) else { return None };
    let most = match field {
        Field::SourcePort | Field::DestinationPort => u16::MAX.into(),
        _ => u32::MAX,
    };
    let range = match operator {
        "<" => Range::Numbers(0, limit.checked_sub(1)?),
        "<=" => Range::Numbers(0, limit),
        ">" => Range::Numbers(limit.checked_add(1)?, most),
        ">=" => Range::Numbers(limit, most),
        _ => return None,
    };
    Some(Match::Is(field.clone(), vec![range]))
}

/// The elements, with words for numbers translated as these fields have them.
fn known_elements(fields: &[Field], elements: Elements) -> Elements {
    match elements {
        Elements::These(elements) => Elements::These(of_fields(fields, elements)),
        named @ Elements::Named(_) => named,
    }
}

/// How a mark is changed; `None` if the statement changes something else.
fn mangled(inside: &Value) -> Option<Option<Marking>> {
    if inside.get("key")?.get("meta")?.get("key")?.as_str()? != "mark" {
        return None;
    }
    let value = inside.get("value")?;
    if let Some(mark) = number(value) {
        return Some(Some(Marking { keep: 0, toggle: mark }));
    }
    let operation = value.as_object().and_then(|value| value.iter().next());
    let Some((operator, [of, bits])) =
        operation.and_then(|(operator, parts)| Some((operator, parts.as_array()?.as_slice())))
    else {
        return Some(None);
    };
    let of_mark = of.get("meta").and_then(|meta| meta.get("key")).and_then(Value::as_str) == Some("mark");
    let Some(bits) = number(bits).filter(|_| of_mark) else { return Some(None) };
    Some(match operator.as_str() {
        "|" => Some(Marking { keep: !bits, toggle: bits }),
        "&" => Some(Marking { keep: bits, toggle: 0 }),
        "^" => Some(Marking { keep: u32::MAX, toggle: bits }),
        _ => None,
    })
}

/// The new addresses and ports; `None` if they depend on a map or are not understood.
fn nat(inside: &Value) -> Option<Nat> {
    let addresses = match inside.get("addr") {
        None => None,
        Some(address) => Some(match range(address) {
            Range::Net(net) => (net.network(), net.broadcast()),
            Range::Addresses(first, last) => (first, last),
            _ => return None,
        }),
    };
    let ports = match inside.get("port") {
        None => None,
        Some(port) => Some(ports(port)?),
    };
    (addresses.is_some() || ports.is_some()).then_some(Nat { addresses, ports })
}

fn ports(value: &Value) -> Option<(u16, u16)> {
    let Range::Numbers(first, last) = range(value) else { return None };
    Some((u16::try_from(first).ok()?, u16::try_from(last).ok()?))
}
