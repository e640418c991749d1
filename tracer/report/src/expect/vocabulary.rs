//! The words of the language, and which of them a mistyped one may have meant.

use std::fmt;
use std::sync::LazyLock;

use serde::de::{DeserializeOwned, IntoDeserializer as _, value::StrDeserializer};

use podtrace_path::{Action, Protocol};

/// Below this likeness a word is no suggestion.
const ALIKE: f64 = 0.75;

/// What an expression may say of a path, for suggestions and for the message that lists them.
pub(super) const OF_A_PATH: [&str; 25] = [
    "verdict",
    "delivered",
    "dropped",
    "vanished",
    "rejected",
    "open",
    "from",
    "to",
    "proto",
    "direction",
    "request",
    "reply",
    "devices",
    "actions",
    "nodes",
    "via",
    "encapsulated",
    "nat",
    "no-nat",
    "drop",
    "hops",
    "max-hop-latency",
    "duration",
    "confidence",
    "not",
];

/// What it may say of the whole trace.
pub(super) const OF_THE_TRACE: [&str; 7] = ["any", "all", "none", "count", "paths", "loss", "complete"];

/// Joins parts.
pub(super) const CONNECTIVES: [&str; 2] = ["and", "or"];

/// The value whose name in the JSON this is; else the names there are. Whatever the model learns to name, the
/// language knows at once.
pub(super) fn value<T: DeserializeOwned>(name: &str) -> Result<T, &'static [&'static str]> {
    let deserializer: StrDeserializer<'_, Names> = name.into_deserializer();
    T::deserialize(deserializer).map_err(|Names(names)| names)
}

/// The protocol of this name or number.
pub(super) fn protocol(name: &str) -> Result<Protocol, &'static [&'static str]> {
    match name {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "icmp" => Ok(Protocol::Icmp),
        "icmpv6" => Ok(Protocol::Icmpv6),
        "sctp" => Ok(Protocol::Sctp),
        number => {
            let known = [1, 6, 17, 58, 132];
            let other = number.parse().ok().filter(|number| !known.contains(number));
            other.map(Protocol::Other).ok_or(&["tcp", "udp", "icmp", "icmpv6", "sctp"])
        }
    }
}

/// Name of a protocol, as [`protocol`] takes it.
pub(super) fn protocol_name(protocol: Protocol) -> String {
    match protocol {
        Protocol::Tcp => "tcp".to_owned(),
        Protocol::Udp => "udp".to_owned(),
        Protocol::Icmp => "icmp".to_owned(),
        Protocol::Icmpv6 => "icmpv6".to_owned(),
        Protocol::Sctp => "sctp".to_owned(),
        Protocol::Other(number) => number.to_string(),
    }
}

/// Name of an action.
pub(super) fn action(action: Action) -> &'static str {
    let found = ACTIONS.iter().find(|(_, known)| *known == action);
    found.map_or("unknown", |(name, _)| name)
}

/// All actions with their names.
pub(super) static ACTIONS: LazyLock<Vec<(&'static str, Action)>> = LazyLock::new(|| {
    let names = value::<Action>("").err().unwrap_or_default();
    names.iter().filter_map(|name| Some((*name, value(name).ok()?))).collect()
});

/// `; did you mean …?`, or nothing if nothing is like it.
pub(super) fn suggestion<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    let word = word.to_lowercase();
    // One letter too many, too few, wrong or out of place is a slip, however short the word.
    let slip = |candidate| word.len() > 2 && strsim::damerau_levenshtein(&word, candidate) == 1;
    let likeness = |candidate| if slip(candidate) { 1.0 } else { strsim::jaro_winkler(&word, candidate) };
    words
        .into_iter()
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, nearest)| format!("; did you mean `{nearest}`?"))
}

/// `a, b or c`.
pub(super) fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// An error that keeps the names that serde would have taken.
#[derive(Debug)]
struct Names(&'static [&'static str]);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&list(self.0))
    }
}

impl std::error::Error for Names {}

impl serde::de::Error for Names {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self(expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podtrace_path::{NatKind, Verdict};

    #[test]
    fn names_are_those_of_the_json() {
        assert_eq!(value::<Verdict>("delivered"), Ok(Verdict::Delivered));
        assert_eq!(value::<NatKind>("dnat"), Ok(NatKind::Dnat));
        assert!(value::<Verdict>("lost").unwrap_err().contains(&"vanished"));
        assert_eq!(action(Action::PodEgress), "pod-egress");
        for (name, action) in ACTIONS.iter() {
            assert_eq!(serde_json::to_value(action).unwrap(), *name);
        }
        assert!(ACTIONS.len() >= 13);
    }

    #[test]
    fn protocols_have_one_name_each() {
        assert_eq!(protocol("icmp"), Ok(Protocol::Icmp));
        assert_eq!(protocol("89"), Ok(Protocol::Other(89)));
        assert!(protocol("6").is_err() && protocol("ospf").is_err());
    }

    #[test]
    fn only_what_is_alike_is_suggested() {
        assert_eq!(suggestion("delivred", OF_A_PATH), "; did you mean `delivered`?");
        assert_eq!(suggestion("AND", CONNECTIVES), "; did you mean `and`?");
        assert_eq!(suggestion("xyzzy", OF_A_PATH), "");
    }
}
