//! What is expected of paths: JSON subsets and hops as short strings, both with `*` for whatever there is.

use serde_json::Value;

use crate::kernel;

/// Whether `text` is as `pattern` says, where `*` stands for any characters.
#[must_use]
pub fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| fits(rest, &text[at..]))
        }),
    }
}

/// Whether `actual` holds all of `expected`: objects may hold more, lists may not, strings are patterns.
///
/// # Errors
///
/// Every place that differs, one a line.
pub fn subset(expected: &Value, actual: &Value) -> Result<(), String> {
    let mut differences = Vec::new();
    compare("", expected, actual, &mut differences);
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
}

fn compare(at: &str, expected: &Value, actual: &Value, differences: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            for (name, expected) in expected {
                let at = format!("{at}.{name}");
                match actual.get(name) {
                    Some(actual) => compare(&at, expected, actual, differences),
                    None => differences.push(format!("{at}: is missing")),
                }
            }
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            for (number, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                compare(&format!("{at}[{number}]"), expected, actual, differences);
            }
        }
        (Value::String(pattern), Value::String(text)) if fits(pattern, text) => {}
        (expected, actual) if expected == actual => {}
        (Value::Number(expected), Value::Number(actual)) if expected.as_f64() == actual.as_f64() => {}
        _ => differences.push(format!("{at}: expected {expected}, got {actual}")),
    }
}

/// A hop in four words: node, device (`-` if none), action, evidence.
#[must_use]
pub fn hop(hop: &Value) -> String {
    let word = |name: &str| hop[name].as_str().unwrap_or("-").to_owned();
    ["node", "device", "action", "evidence"].map(word).join(" ")
}

/// Whether the hops are as the patterns say, in order and number. The evidence `stack` is `observed` on kernels whose
/// network stack can be hooked, and `inferred` on others.
///
/// # Errors
///
/// Both lists, the differing lines marked.
pub fn hops(expected: &[String], actual: &[Value]) -> Result<(), String> {
    let actual: Vec<String> = actual.iter().map(hop).collect();
    let stack = if kernel::has_kprobes() { "observed" } else { "inferred" };
    let expected: Vec<String> = expected
        .iter()
        .map(|hop| hop.strip_suffix("stack").map_or_else(|| hop.clone(), |hop| format!("{hop}{stack}")))
        .collect();
    if expected.len() == actual.len() && expected.iter().zip(&actual).all(|(pattern, hop)| fits(pattern, hop))
    {
        return Ok(());
    }
    let mut text = "these hops were expected:\n".to_owned();
    for pattern in &expected {
        text += &format!("    {pattern}\n");
    }
    text += "these were reported:\n";
    for (number, hop) in actual.iter().enumerate() {
        let fits = expected.get(number).is_some_and(|pattern| fits(pattern, hop));
        text += &format!("  {} {hop}\n", if fits { ' ' } else { '!' });
    }
    Err(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text) in
            [("a", "a"), ("*", ""), ("*", "abc"), ("a*c", "abbc"), ("veth*", "veth01"), ("*x*", "axb")]
        {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("a*c", "abcd"), ("veth*", "cni0"), ("*x*", "abc")] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_subset_may_leave_out_but_not_differ() {
        let actual = json!({"a": {"b": "left node1", "c": 1.0}, "d": [1, 2]});
        for expected in [json!({}), json!({"a": {"b": "left *"}}), json!({"a": {"c": 1}, "d": [1, 2]})] {
            assert_eq!(subset(&expected, &actual), Ok(()));
        }
        for (expected, difference) in [
            (json!({"e": null}), ".e: is missing"),
            (json!({"a": {"b": "right *"}}), ".a.b: expected \"right *\", got \"left node1\""),
            (json!({"d": [1]}), ".d: expected [1], got [1,2]"),
            (json!({"d": [1, 3]}), ".d[1]: expected 3, got 2"),
        ] {
            assert_eq!(subset(&expected, &actual), Err(difference.to_owned()));
        }
    }

    #[test]
    fn hops_are_compared_in_order_and_number() {
        let actual = [
            json!({"node": "node1", "device": "veth1", "action": "pod-egress", "evidence": "observed"}),
            json!({"node": "node1", "device": null, "action": "drop", "evidence": "observed"}),
        ];
        let expected = ["node1 veth* pod-egress observed".to_owned(), "node1 - drop observed".to_owned()];
        assert_eq!(hops(&expected, &actual), Ok(()));
        assert!(hops(&expected[..1], &actual).unwrap_err().contains("  ! node1 - drop observed"));
        assert!(hops(&expected, &actual[..1]).is_err());
    }
}
