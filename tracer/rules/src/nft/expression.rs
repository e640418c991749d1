//! Expressions of `nft -j`: fields of a packet, values, sets.

use serde_json::Value;

use super::statement::verdict;
use crate::model::{Element, Elements, Field, Range};
use crate::protocol;

/// The fields that a rule matches: one, or several together; with a mask if only some bits count.
pub(super) fn fields(left: &Value) -> (Vec<Field>, Option<u32>) {
    if let Some(parts) = left.get("concat").and_then(Value::as_array) {
        return (parts.iter().map(field).collect(), None);
    }
    if let Some([of, mask]) = left.get("&").and_then(Value::as_array).map(Vec::as_slice)
        && let Some(mask) = number(mask)
    {
        return (vec![field(of)], Some(mask));
    }
    (vec![field(left)], None)
}

fn field(expression: &Value) -> Field {
    known_field(expression).unwrap_or_else(|| Field::Other(written(expression)))
}

fn known_field(expression: &Value) -> Option<Field> {
    let (kind, inside) = expression.as_object()?.iter().next()?;
    let text = |name: &str| inside.get(name).and_then(Value::as_str);
    Some(match (kind.as_str(), text("key").or(text("field")).or(text("result"))?) {
        ("payload", "saddr") if is_ip(text("protocol")) => Field::Source,
        ("payload", "daddr") if is_ip(text("protocol")) => Field::Destination,
        ("payload", "protocol") if text("protocol") == Some("ip") => Field::Protocol,
        ("payload", "nexthdr") if text("protocol") == Some("ip6") => Field::Protocol,
        ("payload", "sport") => Field::SourcePort,
        ("payload", "dport") => Field::DestinationPort,
        ("meta", "l4proto") => Field::Protocol,
        ("meta", "nfproto" | "protocol") => Field::Version,
        ("meta", "iifname" | "iif") => Field::InDevice,
        ("meta", "oifname" | "oif") => Field::OutDevice,
        ("meta", "mark") => Field::Mark,
        ("ct", "state") => Field::State,
        ("fib", "type") => {
            let flags: Vec<_> = inside.get("flags")?.as_array()?.iter().filter_map(Value::as_str).collect();
            match flags.as_slice() {
                ["saddr"] => Field::SourceType,
                ["daddr"] => Field::DestinationType,
                _ => return None,
            }
        }
        _ => return None,
    })
}

fn is_ip(protocol: Option<&str>) -> bool {
    matches!(protocol, Some("ip" | "ip6"))
}

/// The protocol that a header's field is of, which `nft` leaves out of what it lists.
pub(super) fn implied_protocol(left: &Value) -> Option<u32> {
    if let Some(parts) = left.get("concat").and_then(Value::as_array) {
        return parts.iter().find_map(implied_protocol);
    }
    let protocol = left.get("payload")?.get("protocol")?.as_str()?;
    matches!(protocol, "tcp" | "udp" | "udplite" | "sctp" | "dccp" | "icmp" | "icmpv6")
        .then(|| protocol::number(protocol))
        .flatten()
}

/// The right side of a match.
pub(super) fn looked_up(right: &Value, fields: usize) -> Elements {
    match right {
        Value::String(name) if name.starts_with('@') => Elements::Named(name[1..].to_owned()),
        Value::Object(object) if object.contains_key("set") => {
            Elements::These(object.get("set").map_or_else(Vec::new, |list| elements(list, fields)))
        }
        Value::Array(_) => Elements::These(elements(right, fields)),
        single => Elements::These(element(single, fields).into_iter().collect()),
    }
}

/// The elements of a set or map. One that is not understood is kept as unknown.
pub(super) fn elements(list: &Value, fields: usize) -> Vec<Element> {
    match list {
        Value::Array(list) => list.iter().filter_map(|entry| element(entry, fields)).collect(),
        single => element(single, fields).into_iter().collect(),
    }
}

fn element(entry: &Value, fields: usize) -> Option<Element> {
    // In a map, an element is a pair.
    let (key, action) = match entry {
        Value::Array(pair) => (pair.first()?, pair.get(1).and_then(verdict)),
        key => (key, None),
    };
    let (key, comment) = match key.get("elem") {
        Some(elem) => (elem.get("val")?, elem.get("comment").and_then(Value::as_str)),
        None => (key, None),
    };
    let mut key: Vec<_> = match key.get("concat").and_then(Value::as_array) {
        Some(parts) => parts.iter().map(range).collect(),
        None => vec![range(key)],
    };
    // An element with fewer parts than there are fields never matches.
    key.resize_with(fields.max(key.len()), || Range::Other(String::new()));
    Some(Element { key, action, comment: comment.map(ToOwned::to_owned) })
}

/// One value, or a range of them.
pub(super) fn range(value: &Value) -> Range {
    known_range(value).unwrap_or_else(|| Range::Other(written(value)))
}

fn known_range(value: &Value) -> Option<Range> {
    match value {
        Value::Number(_) => Some(Range::number(number(value)?)),
        Value::String(word) => Some(word_range(word)),
        Value::Object(object) => {
            if let Some(prefix) = object.get("prefix") {
                let address = prefix.get("addr")?.as_str()?;
                let length = prefix.get("len")?.as_u64()?;
                return Some(Range::Net(format!("{address}/{length}").parse().ok()?));
            }
            match object.get("range")?.as_array()?.as_slice() {
                [Value::String(first), Value::String(last)] => {
                    Some(Range::Addresses(first.parse().ok()?, last.parse().ok()?))
                }
                [first, last] => Some(Range::Numbers(number(first)?, number(last)?)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn word_range(word: &str) -> Range {
    match word.parse() {
        Ok(address) => Range::address(address),
        Err(_) if word == "*" => Range::Any,
        Err(_) => Range::Word(word.to_owned()),
    }
}

/// The fields of a set's elements, by its type.
pub(super) fn typed(kind: &Value) -> Vec<Field> {
    let of_name = |name: &str| match name {
        "ipv4_addr" | "ipv6_addr" => Field::Source,
        "inet_proto" => Field::Protocol,
        "inet_service" => Field::DestinationPort,
        "mark" => Field::Mark,
        "ifname" => Field::InDevice,
        "ct_state" => Field::State,
        other => Field::Other(other.to_owned()),
    };
    match kind {
        Value::String(name) => vec![of_name(name)],
        Value::Array(names) => names.iter().map(|name| of_name(name.as_str().unwrap_or_default())).collect(),
        Value::Object(object) => object.get("typeof").map_or_else(Vec::new, |of| fields(of).0),
        _ => Vec::new(),
    }
}

/// Elements, with words for numbers (`tcp`, `http`) translated as these fields have them.
pub(super) fn of_fields(fields: &[Field], elements: Vec<Element>) -> Vec<Element> {
    let known = |element: Element| {
        let mut fields = fields.iter();
        let key = element.key.into_iter().map(|range| match fields.next() {
            Some(field) => of_field(field, range),
            None => range,
        });
        Element { key: key.collect(), ..element }
    };
    elements.into_iter().map(known).collect()
}

fn of_field(field: &Field, range: Range) -> Range {
    match (field, range) {
        (Field::Protocol, Range::Word(name)) => match protocol::number(&name) {
            Some(number) => Range::number(number),
            None => Range::Other(name),
        },
        // As `meta protocol` has it.
        (Field::Version, Range::Word(name)) if name == "ip" => Range::Word("ipv4".to_owned()),
        (Field::Version, Range::Word(name)) if name == "ip6" => Range::Word("ipv6".to_owned()),
        (Field::Mark | Field::SourcePort | Field::DestinationPort, Range::Word(name)) => Range::Other(name),
        (_, range) => range,
    }
}

pub(super) fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

/// The text of an expression that is not understood: nft's syntax for common kinds, else the JSON.
pub(super) fn written(value: &Value) -> String {
    in_words(value).unwrap_or_else(|| value.to_string())
}

fn in_words(value: &Value) -> Option<String> {
    let list = |values: &[Value], between: &str| values.iter().map(written).collect::<Vec<_>>().join(between);
    let (kind, inside) = match value {
        Value::String(text) => return Some(text.clone()),
        Value::Array(values) => return Some(list(values, ",")),
        Value::Object(object) => object.iter().next()?,
        _ => return None,
    };
    let text = |name: &str| inside.get(name).and_then(Value::as_str);
    Some(match kind.as_str() {
        "meta" | "ct" => format!("{kind} {}", text("key")?),
        "payload" => format!("{} {}", text("protocol")?, text("field")?),
        "&" => list(inside.as_array()?, " & "),
        "concat" => list(inside.as_array()?, " . "),
        "fib" => format!("fib {} {}", list(inside.get("flags")?.as_array()?, " . "), text("result")?),
        "numgen" => format!("numgen {} mod {}", text("mode")?, number(inside.get("mod")?)?),
        "jhash" => format!("jhash {} mod {}", written(inside.get("expr")?), number(inside.get("mod")?)?),
        _ => return None,
    })
}

/// The text of a statement that is a condition, such as a limit.
pub(super) fn statement_written(kind: &str, inside: &Value) -> String {
    let over = if inside.get("inv").and_then(Value::as_bool) == Some(true) { "over " } else { "" };
    let number = |name: &str| inside.get(name).and_then(number);
    match (kind, number("rate"), number("val"), inside.get("per").and_then(Value::as_str)) {
        ("limit", Some(rate), _, Some(per)) => format!("limit rate {over}{rate}/{per}"),
        ("ct count", _, Some(count), _) => format!("ct count {over}{count}"),
        _ => format!("{kind} {}", written(inside)),
    }
}
