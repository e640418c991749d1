//! Formats the verdict of a path: the mark at the start of its header, and the last lines with advice and doubts.

use super::phrase::{ADVICE, BAD, DIM, DOUBT, GOOD, LOUD, PLAIN, Phrase};
use super::timing::Unit;
use super::words::{INFERRED, drop_reason, final_drop};
use podtrace_path::{Action, Evidence, Hop, Path, Protocol, Verdict};

/// The mark at the start of a header: unobtrusive for a delivered packet, loud for any other. A line that begins with it is a
/// path's first, so that `grep '^✗'` finds them.
pub(super) fn mark(path: &Path) -> Phrase {
    match path.verdict {
        Verdict::Delivered if is_icmp_error(path) => Phrase::new().with(DOUBT, "! ERROR"),
        Verdict::Delivered => Phrase::new().with(GOOD, "✓"),
        Verdict::Dropped => Phrase::new().with(LOUD, "✗ DROPPED"),
        Verdict::Vanished => Phrase::new().with(LOUD, "? VANISHED"),
        Verdict::Rejected => Phrase::new().with(BAD, "✗ REFUSED"),
        Verdict::Open => Phrase::new().with(DOUBT, "… OPEN"),
    }
}

/// How an ICMP error's label begins.
const ERRORS: [&str; 6] = [
    "destination unreachable",
    "fragmentation needed",
    "packet too big",
    "time exceeded",
    "hop limit exceeded",
    "parameter problem",
];

/// Whether the packet is an ICMP error: it was delivered, and reports that another packet was not.
pub(in crate::output) fn is_icmp_error(path: &Path) -> bool {
    matches!(path.proto, Protocol::Icmp | Protocol::Icmpv6)
        && ERRORS.iter().any(|error| path.label.starts_with(error))
}

/// The last lines of a path: verdict, advice, doubt.
pub(super) fn lines(path: &Path, unit: Unit) -> Vec<Phrase> {
    let mut lines = vec![ending(path, unit)];
    lines.extend(all_advice(path).map(advice));
    lines.extend(doubt(path).map(|text| Phrase::new().with(DOUBT, text)));
    lines
}

/// Advice for a path that was not delivered.
pub(super) fn all_advice(path: &Path) -> impl Iterator<Item = &str> {
    let at_the_drop = match path.verdict {
        Verdict::Dropped => final_drop(path).and_then(|(_, drop)| drop.advice.as_deref()),
        Verdict::Delivered | Verdict::Vanished | Verdict::Rejected | Verdict::Open => None,
    };
    at_the_drop.into_iter().chain(path.advice.as_deref())
}

/// The doubt about a path whose parts were matched with a confidence below 1.
pub(super) fn doubt(path: &Path) -> Option<String> {
    (path.confidence < 1.0).then(|| {
        format!(
            "{INFERRED} matched with confidence {:.2}: other packets match too, so parts of this path may belong to \
             them",
            path.confidence
        )
    })
}

/// A line of advice.
pub(super) fn advice(text: &str) -> Phrase {
    Phrase::new().with(ADVICE, "  ↳ ").with(ADVICE, text)
}

/// The verdict on one line: how and where the path ended.
pub(super) fn ending(path: &Path, unit: Unit) -> Phrase {
    let duration = unit.duration(path.duration_ns, path.duration_error_ns);
    match path.verdict {
        Verdict::Delivered if is_icmp_error(path) => because(
            Phrase::new().with(DOUBT, "! ICMP error delivered").with(PLAIN, format!(" in {duration}")),
            path,
        ),
        Verdict::Delivered => {
            because(Phrase::new().with(GOOD, "✓ delivered").with(PLAIN, " in ").with(GOOD, duration), path)
        }
        Verdict::Dropped => dropped(path, &duration),
        Verdict::Vanished => {
            // The reason starts with the point where the packet was last seen.
            let place = if path.reason.is_some() { String::new() } else { format!("{},", last_seen(path)) };
            let phrase = Phrase::new().with(BAD, "? VANISHED").with(PLAIN, place);
            because(phrase.with(PLAIN, format!(" {duration} after its first hop")), path)
        }
        Verdict::Rejected => because(Phrase::new().with(BAD, "✗ REFUSED").with(PLAIN, last_seen(path)), path),
        Verdict::Open => {
            let phrase = Phrase::new().with(DOUBT, "… still in flight").with(PLAIN, " when tracing stopped,");
            because(phrase.with(PLAIN, last_seen(path)), path)
        }
    }
}

fn dropped(path: &Path, duration: &str) -> Phrase {
    let phrase = Phrase::new().with(BAD, "✗ DROPPED");
    let Some((hop, drop)) = final_drop(path) else {
        return because(phrase.with(PLAIN, last_seen(path)), path);
    };
    let place = match (&hop.pod, &hop.device) {
        (Some(pod), _) => format!(" inside {pod} on {}", hop.node),
        (None, Some(device)) => format!(" on {} at {device}", hop.node),
        (None, None) => format!(" on {}", hop.node),
    };
    phrase
        .with(PLAIN, place)
        .with(PLAIN, format!(", {duration} after its first hop: "))
        .with(BAD, drop_reason(drop))
}

/// Where the packet was last seen: ` after leaving node1 at eth0`; empty if nowhere.
fn last_seen(path: &Path) -> String {
    let Some(hop) = path.hops.iter().rev().find(|hop| hop.evidence == Evidence::Observed) else {
        return String::new();
    };
    let Hop { node, .. } = hop;
    let device = hop.device.as_deref().unwrap_or("no device");
    match hop.action {
        Action::NodeEgress => format!(" after leaving {node} at {device}"),
        Action::NodeIngress => format!(" after arriving on {node} at {device}"),
        Action::Encapsulate => format!(" after encapsulation by {device} on {node}"),
        Action::Decapsulate => format!(" after decapsulation by {device} on {node}"),
        Action::PodIngress => format!(" at {device} on {node}, the pod's veth"),
        Action::PodEgress => format!(" after leaving its pod at {device} on {node}"),
        Action::Drop => match &hop.pod {
            Some(pod) => format!(" inside {pod} on {node}"),
            None => format!(" at {device} on {node}"),
        },
        _ => format!(" after {device} on {node}"),
    }
}

fn because(mut phrase: Phrase, path: &Path) -> Phrase {
    if let Some(reason) = &path.reason {
        phrase.push(DIM, ": ");
        phrase.push(PLAIN, reason);
    }
    phrase
}
