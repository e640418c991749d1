//! Output of `podtrace diff`: what is different between two traces. For programs it is one JSON object.

use crate::diff::{CauseChange, Difference, RouteChange};
use crate::output::closing::causes::{place_and_reason, what};
use crate::output::closing::routes::way;
use crate::output::json::Visible;
use crate::output::layout::write_line;
use crate::output::phrase::{ADVICE, BAD, DIM, DOUBT, GOOD, NAME, PLAIN, Phrase};
use crate::output::timing::Unit;
use crate::output::words::thousands;
use serde::Serialize as _;

/// Routes and causes that are shown of each kind.
const SHOWN: usize = 12;

/// The difference as text; the traces have these names.
#[must_use]
pub fn write(difference: &Difference, names: [&str; 2], width: usize) -> String {
    let mut text = String::new();
    for ((sign, name), packets) in
        [("−", names[0]), ("+", names[1])].into_iter().zip([difference.before, difference.after])
    {
        let style = if packets.failed > 0 { BAD } else { GOOD };
        let line = Phrase::new()
            .with(DIM, format!("{sign} "))
            .with(NAME, name)
            .with(PLAIN, format!(": {} packets, ", thousands(packets.all)))
            .with(style, format!("{} failed", thousands(packets.failed)));
        write_line(&line, 0, 2, width, &mut text);
    }
    section(
        "CAUSES",
        difference.causes.iter().map(cause),
        difference.causes.is_empty(),
        "no failure in either trace",
        width,
        &mut text,
    );
    section(
        "ROUTES",
        difference.routes.iter().map(route),
        difference.routes.is_empty(),
        "none is new, gone, slower or quicker; the times of few packets are not compared",
        width,
        &mut text,
    );
    if !difference.complete {
        let line = Phrase::new().with(DOUBT, "a trace is incomplete, or has more causes or routes than it lists: what one lacks may have been there");
        text.push('\n');
        write_line(&line, 0, 2, width, &mut text);
    }
    text
}

/// The difference as one JSON object in a line.
///
/// # Errors
/// None in practice: every difference can be serialized.
pub fn to_json(difference: &Difference) -> serde_json::Result<String> {
    let mut line = Vec::new();
    difference.serialize(&mut serde_json::ser::Serializer::with_formatter(&mut line, Visible))?;
    line.push(b'\n');
    String::from_utf8(line).map_err(serde::ser::Error::custom)
}

fn section(
    name: &str,
    changes: impl Iterator<Item = Vec<Phrase>>,
    is_empty: bool,
    nothing: &str,
    width: usize,
    text: &mut String,
) {
    let mut heading = Phrase::new().with(NAME, name);
    if is_empty {
        heading.append(DIM, nothing);
    }
    text.push('\n');
    write_line(&heading, 0, 2, width, text);
    let mut hidden = 0;
    for (index, lines) in changes.enumerate() {
        if index >= SHOWN {
            hidden += 1;
            continue;
        }
        for (line, indent) in lines.iter().zip([2, 8, 4]) {
            write_line(line, indent, 6, width, text);
        }
    }
    if hidden > 0 {
        write_line(
            &Phrase::new().with(DIM, format!("and {hidden} more; -o json has them")),
            2,
            2,
            width,
            text,
        );
    }
}

/// How many before and after: `new ×3`, `gone, was ×3`, `×3 → ×5`.
fn numbers(before: u64, after: u64, is_bad: bool) -> Phrase {
    let (worse, better) = if is_bad { (BAD, GOOD) } else { (NAME, DIM) };
    match (before, after) {
        (0, after) => Phrase::new().with(worse, format!("+ new ×{}", thousands(after))),
        (before, 0) => Phrase::new().with(better, format!("− gone, was ×{}", thousands(before))),
        (before, after) => {
            Phrase::new().with(PLAIN, format!("  ×{} → ×{}", thousands(before), thousands(after)))
        }
    }
}

fn cause(change: &CauseChange) -> Vec<Phrase> {
    let CauseChange { before, after, cause } = change;
    let mut line = numbers(*before, *after, true);
    line.push(PLAIN, "  ");
    if *after > 0 {
        line.join(what(cause));
    } else {
        // What is gone is no alarm.
        line.push(PLAIN, what(cause).pieces().next().map_or("", |(_, text)| text));
        line.join(place_and_reason(cause).all(PLAIN));
    }
    let advice = cause.advice.as_ref().filter(|_| *before == 0);
    let advice = advice.map(|advice| Phrase::new().with(ADVICE, "  ↳ ").with(ADVICE, advice));
    std::iter::once(line).chain(advice).collect()
}

fn route(change: &RouteChange) -> Vec<Phrase> {
    let RouteChange { before, after, latency, route } = change;
    let mut line = numbers(*before, *after, false);
    if let Some((old, new)) = latency {
        let unit = Unit::for_up_to(old.p50_ns.max(new.p50_ns));
        let time = |ns: u64, error: u64| unit.duration(i64::try_from(ns).unwrap_or(i64::MAX), error);
        let style = if new.p50_ns > old.p50_ns { BAD } else { GOOD };
        line.push(PLAIN, "  median ");
        line.push(PLAIN, time(old.p50_ns, old.clock_error_ns));
        line.push(PLAIN, " → ");
        line.push(style, time(new.p50_ns, new.clock_error_ns));
    }
    vec![line, way(route, Unit::for_up_to(route.latency.p50_ns))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::compare;
    use crate::output::samples;

    #[test]
    fn what_is_new_and_gone_is_said_and_fits() {
        let one = samples::finished([samples::same_node(), samples::vanished()]);
        let two = samples::finished([samples::same_node(), samples::dropped(), samples::dropped()]);
        let text = write(&compare(&one, &two), ["monday.pcapng", "tuesday.pcapng"], 80);
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(
            text.starts_with("− monday.pcapng: 2 packets, 1 failed\n+ tuesday.pcapng: 3 packets, 2 failed\n"),
            "{text}"
        );
        assert!(
            text.contains("+ new ×2  DROPPED on ") && text.contains("− gone, was ×1  VANISHED"),
            "{text}"
        );
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let same = write(&compare(&one, &one), ["a", "b"], 80);
        assert!(same.contains("×1 → ×1") && same.contains("slower"), "{same}");
    }

    #[test]
    fn json_is_one_object_that_is_safe_to_show() {
        let mut hostile = samples::dropped();
        hostile.hops.iter_mut().for_each(|hop| hop.device = Some("et\u{1b}[2J".into()));
        let json = to_json(&compare(&samples::finished([]), &samples::finished([hostile]))).unwrap();
        assert!(json.ends_with("}\n") && !json.contains('\u{1b}'), "{json}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&value["after"]["failed"], &value["causes"][0]["before"]), (&1.into(), &0.into()));
    }
}
