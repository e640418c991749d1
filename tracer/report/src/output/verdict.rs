//! How a path ended: the mark that leads its header and the lines that close it.

use super::phrase::{ADVICE, BAD, DIM, DOUBT, GOOD, LOUD, PLAIN, Phrase};
use super::timing::Unit;
use super::words::{INFERRED, drop_reason, final_drop};
use podtrace_path::{Action, Evidence, Hop, Path, Verdict};

/// What a header begins with: one quiet mark for a packet that arrived, a loud word for one that did not.
pub(super) fn mark(verdict: Verdict) -> Phrase {
    match verdict {
        Verdict::Delivered => Phrase::new().with(GOOD, "✓"),
        Verdict::Dropped => Phrase::new().with(LOUD, " ✗ DROPPED "),
        Verdict::Vanished => Phrase::new().with(LOUD, " ? VANISHED "),
        Verdict::Rejected => Phrase::new().with(BAD, "✗ REJECTED"),
        Verdict::Open => Phrase::new().with(DOUBT, "… OPEN"),
    }
}

/// The last lines of a path.
pub(super) fn lines(path: &Path, unit: Unit) -> Vec<Phrase> {
    let mut lines = vec![ending(path, unit)];
    lines.extend(all_advice(path).map(advice));
    lines.extend(doubt(path).map(|text| Phrase::new().with(DOUBT, text)));
    lines
}

/// What to do about a path that ended badly.
pub(super) fn all_advice(path: &Path) -> impl Iterator<Item = &str> {
    let at_the_drop = match path.verdict {
        Verdict::Dropped => final_drop(path).and_then(|(_, drop)| drop.advice.as_deref()),
        Verdict::Delivered | Verdict::Vanished | Verdict::Rejected | Verdict::Open => None,
    };
    at_the_drop.into_iter().chain(path.advice.as_deref())
}

/// Why not all of the path can be trusted.
pub(super) fn doubt(path: &Path) -> Option<String> {
    (path.confidence < 1.0).then(|| {
        format!(
            "{INFERRED} joined with confidence {:.2}: other packets fitted as well, so parts of this path may be \
             theirs",
            path.confidence
        )
    })
}

/// A line that says what to do.
pub(super) fn advice(text: &str) -> Phrase {
    Phrase::new().with(ADVICE, "  ↳ ").with(ADVICE, text)
}

/// How it ended and where, on one line.
pub(super) fn ending(path: &Path, unit: Unit) -> Phrase {
    let duration = unit.duration(path.duration_ns, path.duration_error_ns);
    match path.verdict {
        Verdict::Delivered => {
            because(Phrase::new().with(GOOD, "✓ delivered").with(PLAIN, " in ").with(GOOD, duration), path)
        }
        Verdict::Dropped => dropped(path, &duration),
        Verdict::Vanished => {
            let phrase = Phrase::new().with(BAD, "? VANISHED").with(PLAIN, last_seen(path));
            because(phrase.with(PLAIN, format!(", {duration} after its first hop")), path)
        }
        Verdict::Rejected => {
            because(Phrase::new().with(BAD, "✗ REJECTED").with(PLAIN, last_seen(path)), path)
        }
        Verdict::Open => {
            let phrase = Phrase::new().with(DOUBT, "… still under way").with(PLAIN, " when tracing stopped,");
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

/// Where it was seen last, if anywhere.
fn last_seen(path: &Path) -> String {
    let Some(hop) = path.hops.iter().rev().find(|hop| hop.evidence == Evidence::Observed) else {
        return String::new();
    };
    let Hop { node, .. } = hop;
    let device = hop.device.as_deref().unwrap_or("no device");
    match hop.action {
        Action::NodeEgress => format!(" after it left {node} by {device}"),
        Action::NodeIngress => format!(" after it arrived at {node} by {device}"),
        Action::Encapsulate => format!(" after {device} on {node} encapsulated it"),
        Action::Decapsulate => format!(" after {device} on {node} decapsulated it"),
        Action::PodIngress => format!(" at {device} on {node}, the way into the pod"),
        Action::PodEgress => format!(" after it left its pod by {device} on {node}"),
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
