//! Label selectors, as kubectl takes them with `-l`.
//!
//! Input: text such as `app=web,tier!=db,env in (a, b),!canary`. Output: whether a pod's labels match. Every requirement
//! must hold. As in Kubernetes, `!=` and `notin` also hold for pods without the label.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A label selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    /// As typed.
    text: String,
    requirements: Vec<Requirement>,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

/// The text is not a label selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what}; a label selector is KEY=VALUE, KEY!=VALUE, KEY, !KEY, 'KEY in (A, B)' or 'KEY notin (A, B)', joined by commas"
)]
pub struct InvalidSelector {
    what: String,
}

impl Selector {
    /// The selector of all pods.
    #[must_use]
    pub fn all() -> Self {
        Self { text: String::new(), requirements: Vec::new() }
    }

    /// Whether every pod matches.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether labels match.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|Requirement { key, test }| {
            let value = labels.get(key);
            match test {
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
                Test::In(values) => value.is_some_and(|value| values.contains(value)),
                Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            }
        })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Selector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed: Result<Vec<_>, String> = parts(text).into_iter().map(requirement).collect();
        let requirements = parsed.map_err(|what| InvalidSelector { what })?;
        Ok(Self { text: text.trim().to_owned(), requirements })
    }
}

/// The text between commas that are not in parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0_usize);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let text = text.trim();
    let made = |name: &str, test| Ok(Requirement { key: key(name, text)?, test });
    if text.is_empty() {
        return Err("the label selector, or a part of it, is empty".to_owned());
    }
    if let Some((name, wanted)) = text.split_once("!=") {
        return made(name, Test::NotIn(vec![value(wanted, text)?]));
    }
    if let Some((name, wanted)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return made(name, Test::In(vec![value(wanted, text)?]));
    }
    if let Some(name) = text.strip_prefix('!') {
        return made(name, Test::Absent);
    }
    let Some((name, rest)) = text.split_once(char::is_whitespace) else { return made(text, Test::Exists) };
    let (is_in, list) = match rest.trim_start() {
        rest if rest.starts_with("in") => (true, &rest[2..]),
        rest if rest.starts_with("notin") => (false, &rest[5..]),
        _ => return Err(format!("cannot parse {text:?}")),
    };
    let list = list.trim().strip_prefix('(').and_then(|list| list.strip_suffix(')'));
    let list = list.ok_or_else(|| format!("{text:?} has no list in parentheses"))?;
    let values = list.split(',').map(|wanted| value(wanted, text)).collect::<Result<Vec<_>, _>>()?;
    made(name, if is_in { Test::In(values) } else { Test::NotIn(values) })
}

/// `[PREFIX/]NAME`.
fn key(name: &str, whole: &str) -> Result<String, String> {
    let name = name.trim();
    let is_valid = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    match name.is_empty() || !name.chars().all(is_valid) {
        true => Err(format!("{name:?} in {whole:?} is not a label")),
        false => Ok(name.to_owned()),
    }
}

fn value(text: &str, whole: &str) -> Result<String, String> {
    let text = text.trim();
    let is_valid = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match text.chars().all(is_valid) {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} in {whole:?} is not the value of a label")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn requirements_hold_as_in_kubernetes() {
        let web = labels("app=web tier=front app.kubernetes.io/name=shop");
        for (text, matches) in [
            ("app=web", true),
            ("app==web", true),
            ("app = web", true),
            ("app=db", false),
            ("app!=db", true),
            ("absent!=x", true),
            ("app!=web", false),
            ("app", true),
            ("absent", false),
            ("!absent", true),
            ("!app", false),
            ("app in (db, web)", true),
            ("app in (db)", false),
            ("app notin (db,cache)", true),
            ("absent notin (db)", true),
            ("app in (web,db),tier=front,!absent", true),
            ("app=web,tier=back", false),
            ("app.kubernetes.io/name=shop", true),
        ] {
            let selector: Selector = text.parse().unwrap();
            assert_eq!(selector.matches(&web), matches, "{text}");
            assert_eq!(selector.to_string(), text);
        }
    }

    #[test]
    fn errors_name_the_part() {
        for (text, part) in [
            ("", "is empty"),
            ("app=web,", "is empty"),
            ("=web", "\"\" in \"=web\" is not a label"),
            ("app=a b", "\"a b\" in \"app=a b\" is not the value"),
            ("app in web", "has no list in parentheses"),
            ("app near (web)", "cannot parse \"app near (web)\""),
            ("app\u{1b}", "is not a label"),
        ] {
            let error = text.parse::<Selector>().unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("KEY=VALUE"), "{text:?}: {error}");
        }
    }
}
