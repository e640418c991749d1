//! Why paths failed: the most frequent causes first, with their advice.

use super::{end, heading, more};
use crate::output::layout::write_line;
use crate::output::phrase::{ADVICE, BAD, DIM, PLAIN, Phrase};
use crate::output::words::{drop_reason, thousands, time_of_day};
use crate::totals::{Cause, Finished, failed};
use podtrace_path::Verdict;

/// The section with at most so many lines; empty if nothing failed.
///
/// As many causes as fit, with the first one's advice; the others' advice where there is room left.
pub(super) fn section(finished: &Finished, width: usize, lines: usize) -> String {
    let Finished { causes, totals, .. } = finished;
    let mut text = String::new();
    if causes.is_empty() {
        return text;
    }
    let failures = failed(&totals.paths);
    let about = if failures == 1 {
        "1 packet failed".to_owned()
    } else {
        format!("{} packets failed", thousands(failures))
    };
    write_line(&heading("CAUSES", &about), 0, 2, width, &mut text);
    // One line is kept for the heading, and one for what does not fit.
    let mut room = lines.saturating_sub(2);
    let mut blocks: Vec<(String, String)> = Vec::new();
    for (index, cause) in causes.iter().enumerate() {
        let (mut block, mut advice) = (String::new(), String::new());
        describe(cause, width, &mut block);
        advise(cause, width, &mut advice);
        let needed = block.lines().count() + if index == 0 { advice.lines().count() } else { 0 };
        if index > 0 && needed > room {
            break;
        }
        room = room.saturating_sub(needed);
        blocks.push((block, advice));
    }
    for (index, (block, advice)) in blocks.iter().enumerate() {
        text.push_str(block);
        let needed = advice.lines().count();
        if index == 0 {
            text.push_str(advice);
        } else if needed <= room {
            room -= needed;
            text.push_str(advice);
        }
    }
    let shown = blocks.len();
    let hidden = causes.len() - shown;
    let paths = causes[shown..].iter().map(|cause| cause.count).sum::<u64>() + totals.unlisted_cause_paths;
    if paths > 0 {
        let more_causes =
            if totals.unlisted_cause_paths > 0 { format!("more than {hidden}") } else { hidden.to_string() };
        let causes = if hidden == 1 { "cause" } else { "causes" };
        let packets = if paths == 1 { "packet" } else { "packets" };
        more(&format!("and {more_causes} more {causes} of {} {packets}", thousands(paths)), width, &mut text);
    }
    text
}

/// What happened, where and why: `DROPPED on node1 at eth0: QDISC_DROP`.
pub(in crate::output) fn what(cause: &Cause) -> Phrase {
    let verdict = match cause.verdict {
        Verdict::Dropped => "DROPPED",
        Verdict::Vanished => "VANISHED",
        Verdict::Rejected => "REFUSED",
        Verdict::Delivered | Verdict::Open => "",
    };
    let mut phrase = Phrase::new().with(BAD, verdict);
    phrase.join(place_and_reason(cause));
    phrase
}

/// Where and why: ` on node1 at eth0: QDISC_DROP`.
pub(in crate::output) fn place_and_reason(cause: &Cause) -> Phrase {
    let mut phrase = Phrase::new().with(PLAIN, place(cause));
    match (&cause.drop, &cause.reason, cause.verdict) {
        (Some(drop), _, Verdict::Dropped) => phrase.push(BAD, format!(": {}", drop_reason(drop))),
        (_, Some(reason), _) => phrase.push(PLAIN, format!(": {reason}")),
        (Some(drop), None, _) => phrase.push(BAD, format!(": {}", drop_reason(drop))),
        (None, None, _) => {}
    }
    phrase
}

/// Where it happened. Without a drop it happened somewhere after the place where the packets were seen last.
fn place(cause: &Cause) -> String {
    let Cause { pod, node, device, verdict, .. } = cause;
    let Some(node) = node else { return String::new() };
    let at = match (pod, device) {
        (Some(pod), _) => format!("inside {pod} on {node}"),
        (None, Some(device)) => format!("on {node} at {device}"),
        (None, None) => format!("on {node}"),
    };
    match verdict {
        _ if cause.drop.is_some() => format!(" {at}"),
        // The reason begins with that place.
        Verdict::Vanished if cause.reason.is_some() => String::new(),
        _ => format!(", last seen {at}"),
    }
}

fn describe(cause: &Cause, width: usize, text: &mut String) {
    let mut phrase = Phrase::new().with(BAD, format!("{} × ", thousands(cause.count)));
    phrase.join(what(cause));
    write_line(&phrase, 2, 4, width, text);
    let flows =
        if cause.flows == 1 { "1 flow".to_owned() } else { format!("{} flows", thousands(cause.flows)) };
    let mut phrase = Phrase::new().with(DIM, format!("{flows}, "));
    let times = if cause.count == 1 {
        format!("at {}", time_of_day(cause.first_at))
    } else {
        format!("{} to {}", time_of_day(cause.first_at), time_of_day(cause.last_at))
    };
    phrase.push(DIM, times);
    phrase.push(DIM, format!(", first #{} ", cause.example));
    phrase.join(end(&cause.from));
    phrase.push(PLAIN, " → ");
    phrase.join(end(&cause.to));
    write_line(&phrase, 6, 0, width, text);
}

fn advise(cause: &Cause, width: usize, text: &mut String) {
    if let Some(advice) = &cause.advice {
        write_line(&Phrase::new().with(ADVICE, "  ↳ ").with(ADVICE, advice), 4, 0, width, text);
    }
}
