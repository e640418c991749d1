//! Describes cluster changes during a trace, as styled phrases.

use anstyle::Style;

use super::phrase::{BAD, CHANGED, DIM, DOUBT, GOOD, NAME, PLAIN, Phrase};
use super::words::timestamp;
use podtrace_path::{Change, ChangeKind, Place};

/// How many pods are listed by name; the rest is only counted.
const LISTED: usize = 5;

/// The line between paths: time and description of the change.
pub(super) fn line(change: &Change) -> Phrase {
    let mut phrase = Phrase::new().with(DIM, "— ").with(DIM, time_of_day(change.at)).with(PLAIN, "  ");
    phrase.join(describe(change));
    phrase
}

/// Describes a change: `default/pod1 is now 10.42.0.17 on node1 (was 10.42.0.10)`.
pub(super) fn describe(change: &Change) -> Phrase {
    let Change { at: _, about, kind, now, was, added, removed, detail } = change;
    let mut phrase = Phrase::new().with(NAME, about);
    match kind {
        ChangeKind::Moved => {
            phrase.push(PLAIN, " is now ");
            phrase.push(CHANGED, now.as_ref().map(place).unwrap_or_default());
            if let Some(was) = was {
                let same_node = now.as_ref().is_some_and(|now| now.node == was.node);
                let was = if same_node { addresses(was) } else { place(was) };
                phrase.push(PLAIN, format!(" (was {was})"));
            }
        }
        ChangeKind::Renewed => {
            phrase.push(PLAIN, " was recreated at ");
            phrase.push(CHANGED, now.as_ref().map(place).unwrap_or_default());
        }
        ChangeKind::Gone => {
            phrase.push(BAD, " is gone");
            if let Some(was) = was {
                phrase.push(PLAIN, format!(" (was {})", place(was)));
            }
            phrase.push(PLAIN, "; tracing resumes when it returns");
        }
        ChangeKind::Back => {
            phrase.push(GOOD, " is back");
            if let Some(now) = now {
                phrase.push(PLAIN, ": ");
                phrase.push(CHANGED, place(now));
            }
        }
        ChangeKind::Endpoints => {
            phrase.push(PLAIN, " endpoints changed:");
            pods("+", CHANGED, added, &mut phrase);
            pods("−", DIM, removed, &mut phrase);
        }
        ChangeKind::Untraced => {
            phrase.push(DOUBT, " is not traced");
            if let Some(now) = now {
                phrase.push(PLAIN, format!(" at {}", place(now)));
            }
            phrase.push(PLAIN, "; the trace is incomplete");
        }
        ChangeKind::Traced => phrase.push(GOOD, " is traced from now on"),
    }
    if let Some(detail) = detail {
        phrase.push(PLAIN, format!(" ({detail})"));
    }
    phrase
}

fn pods(sign: &str, style: Style, names: &[String], phrase: &mut Phrase) {
    for name in names.iter().take(LISTED) {
        phrase.push(style, format!(" {sign}{name}"));
    }
    if names.len() > LISTED {
        phrase.push(style, format!(" {sign}{} more", names.len() - LISTED));
    }
}

fn place(place: &Place) -> String {
    match &place.node {
        Some(node) => format!("{} on {node}", addresses(place)),
        None => addresses(place),
    }
}

fn addresses(place: &Place) -> String {
    if place.ips.is_empty() {
        return "no address".to_owned();
    }
    place.ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Time of day in UTC, to the millisecond.
fn time_of_day(at: u64) -> String {
    timestamp(at).get(11..23).unwrap_or("?").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::plain::plain;

    fn place_of(ip: &str, node: &str) -> Option<Place> {
        Some(Place { ips: vec![ip.parse().unwrap()], node: Some(node.to_owned()) })
    }

    fn change(kind: ChangeKind) -> Change {
        Change {
            now: place_of("10.42.0.17", "node1"),
            was: place_of("10.42.0.10", "node1"),
            ..Change::of(1_800_000_000_123_456_789, "default/pod1", kind)
        }
    }

    #[test]
    fn a_change_is_one_line() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let service = Change {
            added: names(&["default/a", "default/b", "default/c", "default/d", "default/e", "default/f"]),
            removed: names(&["default/z"]),
            ..Change::of(0, "svc/default/web", ChangeKind::Endpoints)
        };
        for (change, expected) in [
            (change(ChangeKind::Moved), "default/pod1 is now 10.42.0.17 on node1 (was 10.42.0.10)"),
            (
                Change { was: place_of("10.42.1.10", "node2"), ..change(ChangeKind::Moved) },
                "default/pod1 is now 10.42.0.17 on node1 (was 10.42.1.10 on node2)",
            ),
            (change(ChangeKind::Renewed), "default/pod1 was recreated at 10.42.0.17 on node1"),
            (
                Change { now: None, ..change(ChangeKind::Gone) },
                "default/pod1 is gone (was 10.42.0.10 on node1); tracing resumes when it returns",
            ),
            (change(ChangeKind::Back), "default/pod1 is back: 10.42.0.17 on node1"),
            (
                service,
                "svc/default/web endpoints changed: +default/a +default/b +default/c +default/d +default/e +1 more −default/z",
            ),
            (
                Change { detail: Some("no agent".to_owned()), ..change(ChangeKind::Untraced) },
                "default/pod1 is not traced at 10.42.0.17 on node1; the trace is incomplete (no agent)",
            ),
        ] {
            assert_eq!(plain(&describe(&change)), expected);
        }
    }

    #[test]
    fn the_line_has_the_time_and_escapes_outside_text() {
        let hostile = Change::of(1_800_000_000_123_456_789, "default/\u{1b}[2J", ChangeKind::Gone);
        let line = plain(&line(&hostile));
        assert!(line.starts_with("— 08:00:00.123  default/"), "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
}
