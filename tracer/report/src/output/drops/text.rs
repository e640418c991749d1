//! What was dropped, for people: the answer first, a block for each cause, what is harmless in one line, what is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Dropped, Watched};
use crate::output::closing::causes::place_and_reason;
use crate::output::layout::write_line;
use crate::output::phrase::{ADVICE, BAD, DIM, DOUBT, GOOD, LOUD, NAME, PLAIN, Phrase};
use crate::output::summary::losses;
use crate::output::words::{address, bytes, endpoint_name, protocol, thousands, time_of_day};
use crate::totals::{Loss, Losses, Pair};
use podtrace_path::{DropFates, End, Path, Summary, Verdict};

/// Pairs of ends that are named of a cause.
const PAIRS: usize = 3;

/// Causes whose packet is shown in full.
const BLOCKS: usize = 20;

/// Nodes that are named.
const NODES: usize = 4;

/// Everything, at the end.
pub(super) fn write(dropped: &Dropped<'_>, width: usize) -> String {
    let Dropped { losses, summary, damage, .. } = dropped;
    let mut text = String::new();
    write_line(&answer(dropped), 0, 2, width, &mut text);
    for loss in losses.iter().take(BLOCKS) {
        text.push('\n');
        block(loss, width, &mut text);
    }
    let rest: u64 = losses.iter().skip(BLOCKS).map(|loss| loss.cause.count).sum::<u64>() + dropped.unlisted;
    if rest > 0 {
        let more = format!("and {} of further causes; -o json has them", count(rest, "packet"));
        text.push('\n');
        write_line(&Phrase::new().with(DIM, more), 2, 2, width, &mut text);
    }
    if let Some(line) = harmless(&summary.drops, losses.is_empty()) {
        text.push('\n');
        write_line(&line, 0, 2, width, &mut text);
    }
    if summary.drops.unexplained > 0 {
        let unexplained = format!(
            "unexplained: {} of packets whose path is not known, or was not over",
            count(summary.drops.unexplained, "drop")
        );
        write_line(&Phrase::new().with(DOUBT, unexplained), 0, 2, width, &mut text);
    }
    if let Some(missing) = missing(summary, *damage) {
        let line = Phrase::new().with(LOUD, " INCOMPLETE ").with(PLAIN, " ").with(BAD, missing);
        write_line(&line, 0, 2, width, &mut text);
    }
    text
}

/// The causes so far, in at most so many lines.
pub(super) fn table(losses: &Losses, harmless: u64, width: usize, lines: usize) -> String {
    let mut text = String::new();
    let mut head = found(losses.failed(), losses.paths());
    head.push(DIM, format!(" so far; {harmless} harmless", harmless = thousands(harmless)));
    write_line(&head, 0, 2, width, &mut text);
    // One line is kept for what does not fit.
    let mut room = lines.saturating_sub(text.lines().count() + 1);
    let all = losses.finished();
    for (index, loss) in all.iter().enumerate() {
        let mut block = String::new();
        short(loss, width, &mut block);
        let needed = block.lines().count();
        if needed > room {
            let more = format!("and {}", count((all.len() - index) as u64, "more cause"));
            write_line(&Phrase::new().with(DIM, more), 2, 2, width, &mut text);
            break;
        }
        room -= needed;
        text.push_str(&block);
    }
    text
}

/// Why the numbers may be too low; `None` if they are exact. Events of packets that were in flight when tracing began are no
/// loss: their drops are counted.
pub(super) fn missing(summary: &Summary, damage: Option<&str>) -> Option<String> {
    let damage = damage.map(|damage| format!("the recording is damaged: {damage}"));
    let lost = losses(summary).map(|text| text.trim_start_matches("this trace is incomplete: ").to_owned());
    let events = &summary.events;
    let only_unmatched = events.unmatched > 0
        && events.produced == events.delivered
        && events.lost_ring + events.lost_map + events.missed_probes == 0
        && summary.unwatched.is_empty()
        && summary.shed.is_nothing();
    match (damage, lost.filter(|_| !only_unmatched)) {
        (None, None) => None,
        (damage, lost) => {
            let all: Vec<_> = lost.into_iter().chain(damage).collect();
            Some(format!("drops may be missing: {}", all.join("; ")))
        }
    }
}

/// The first line: how much of what, where, and in which time.
fn answer(dropped: &Dropped<'_>) -> Phrase {
    let Dropped { losses, paths, failed, summary, watched, damage, unlisted } = dropped;
    let harmless = summary.drops.harmless();
    let mut phrase = if *failed > 0 {
        let causes = losses.len() as u64 + u64::from(*unlisted > 0);
        let mut phrase = found(*failed, *paths);
        phrase.push(PLAIN, format!(", {}", count(causes, "cause")));
        phrase
    } else {
        let is_sure = missing(summary, *damage).is_none() && summary.drops.unexplained == 0;
        let (style, text) = if is_sure { (GOOD, "NO DROPS") } else { (DOUBT, "NO DROPS SEEN") };
        let mut phrase = Phrase::new().with(style, text);
        match harmless {
            0 => {}
            1 => phrase.push(PLAIN, " but 1 harmless one"),
            number => phrase.push(PLAIN, format!(" but {} harmless ones", thousands(number))),
        }
        phrase.push(PLAIN, format!(": {}", count(*paths, "packet")));
        phrase
    };
    phrase.push(PLAIN, where_and_when(watched));
    phrase
}

fn found(failed: u64, paths: u64) -> Phrase {
    match failed {
        0 => Phrase::new().with(GOOD, "no drops").with(PLAIN, format!(": {}", count(paths, "packet"))),
        failed => {
            let of = format!("  {} of {}", thousands(failed), count(paths, "packet"));
            Phrase::new().with(BAD, "FAILED").with(PLAIN, of)
        }
    }
}

/// ` on node1, node2 in 10.0 s`.
fn where_and_when(watched: &Watched) -> String {
    let Watched { nodes, over } = watched;
    let place = match nodes.len() {
        0 => String::new(),
        1..=NODES => format!(" on {}", nodes.join(", ")),
        number => format!(" on {number} nodes"),
    };
    let over = over.map(|over: Duration| format!(" in {:.1} s", over.as_secs_f64()));
    place + &over.unwrap_or_default()
}

/// What happened, how often, where and why.
fn head(loss: &Loss) -> Phrase {
    let cause = &loss.cause;
    let mut phrase = match cause.verdict {
        Verdict::Dropped => Phrase::new().with(LOUD, "✗ DROPPED"),
        Verdict::Vanished => Phrase::new().with(LOUD, "? VANISHED"),
        Verdict::Rejected => Phrase::new().with(BAD, "✗ REFUSED"),
        Verdict::Delivered | Verdict::Open => Phrase::new(),
    };
    phrase.push(BAD, format!(" ×{}", thousands(cause.count)));
    phrase.join(place_and_reason(cause));
    phrase
}

/// A cause with all that is known of it.
fn block(loss: &Loss, width: usize, text: &mut String) {
    short(loss, width, text);
    let Loss { cause, path, .. } = loss;
    let mut example = Phrase::new().with(DIM, format!("#{} {} ", path.id, time_of_day(path.started_at)));
    example.push(NAME, format!("{} {}", protocol(path.proto), path.label));
    let tuple = |end: &End| address(end.ip, end.port);
    example.append(PLAIN, format!("{} → {}", tuple(&path.from), tuple(&path.to)));
    example.append(PLAIN, bytes(path.bytes));
    row("e.g.", example, width, text);
    row("way", way(path), width, text);
    if let Some(advice) = &cause.advice {
        write_line(&Phrase::new().with(ADVICE, "  ↳ ").with(ADVICE, advice), 0, 0, width, text);
    }
}

/// A cause with whom it hits and when.
fn short(loss: &Loss, width: usize, text: &mut String) {
    let Loss { cause, pairs, unlisted_pairs, .. } = loss;
    write_line(&head(loss), 0, 4, width, text);
    row("hits", hit(pairs, *unlisted_pairs), width, text);
    let flows = count(cause.flows, "flow");
    let when = if cause.count == 1 {
        format!("{flows}, at {}", time_of_day(cause.first_at))
    } else {
        format!("{flows}, {} to {}", time_of_day(cause.first_at), time_of_day(cause.last_at))
    };
    row("when", Phrase::new().with(DIM, when), width, text);
}

/// A row behind its word.
fn row(word: &str, phrase: Phrase, width: usize, text: &mut String) {
    let mut line = Phrase::new().with(DIM, format!("{word:<6}"));
    line.join(phrase);
    write_line(&line, 4, 6, width, text);
}

/// `default/pod1 → default/pod3:5201 tcp ×4,400`.
fn hit(pairs: &[Pair], unlisted: u64) -> Phrase {
    let mut phrase = Phrase::new();
    for (index, pair) in pairs.iter().take(PAIRS).enumerate() {
        let name = |end: &End| endpoint_name(end).unwrap_or_else(|| address(end.ip, None));
        let port = pair.to.port.map_or_else(String::new, |port| format!(":{port}"));
        phrase.push(PLAIN, if index > 0 { ", " } else { "" });
        phrase.push(NAME, name(&pair.from));
        phrase.push(PLAIN, " → ");
        phrase.push(NAME, name(&pair.to));
        phrase.push(PLAIN, format!("{port} {}", protocol(pair.proto)));
        if pairs.len() > 1 || unlisted > 0 {
            phrase.push(PLAIN, format!(" ×{}", thousands(pair.count)));
        }
    }
    let rest = pairs.iter().skip(PAIRS).map(|pair| pair.count).sum::<u64>() + unlisted;
    if rest > 0 {
        phrase.push(DIM, format!(" and ×{} between others", thousands(rest)));
    }
    phrase
}

/// The devices that a packet passed, by node: `node1: veth1a2b → cni0 → eth0 ✗`.
fn way(path: &Path) -> Phrase {
    let mut phrase = Phrase::new();
    let (mut node, mut device): (Option<&str>, Option<&str>) = (None, None);
    for hop in &path.hops {
        let here = hop.device.as_deref();
        let is_new_node = node != Some(&*hop.node);
        if is_new_node {
            if node.is_some() {
                phrase.push(PLAIN, " ~ ");
            }
            phrase.push(NAME, &hop.node);
            phrase.push(PLAIN, ": ");
            (node, device) = (Some(&*hop.node), None);
        }
        if here.is_none() || here == device {
            continue;
        }
        if device.is_some() {
            phrase.push(PLAIN, " → ");
        }
        phrase.push(PLAIN, here.unwrap_or_default());
        device = here;
    }
    phrase.push(BAD, if path.verdict == Verdict::Vanished { " ?" } else { " ✗" });
    phrase
}

/// What is dropped on healthy networks, too; `None` if nothing.
fn harmless(fates: &DropFates, is_all: bool) -> Option<Phrase> {
    let mut kinds: BTreeMap<&str, (u64, Vec<&str>)> = BTreeMap::new();
    for kind in &fates.harmless {
        let (number, reasons) = kinds.entry(&kind.what).or_default();
        *number += kind.count;
        let reason = kind.reason.as_deref().or(kind.location.as_deref());
        reasons.extend(reason.filter(|reason| !reasons.contains(reason)));
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, (number, _))| std::cmp::Reverse(*number));
    if kinds.is_empty() {
        return None;
    }
    let mut phrase = Phrase::new();
    phrase.push(DIM, if is_all { "harmless: " } else { "harmless besides: " });
    for (index, (what, (number, reasons))) in kinds.into_iter().enumerate() {
        phrase.push(DIM, if index > 0 { "; " } else { "" });
        phrase.push(PLAIN, format!("{} × {what}", thousands(number)));
        if !reasons.is_empty() {
            phrase.push(DIM, format!(" ({})", reasons.join(", ")));
        }
    }
    Some(phrase)
}

/// `1 packet`, `2 packets`.
fn count(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", thousands(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;
    use podtrace_path::HarmlessDrop;

    fn shown(paths: impl IntoIterator<Item = Path>, summary: &Summary, width: usize) -> String {
        let mut losses = Losses::default();
        paths.into_iter().for_each(|path| losses.add(&path));
        let watched = Watched { nodes: vec!["node1".to_owned()], over: Some(Duration::from_millis(10_040)) };
        let text = write(&Dropped::of(&losses, summary, None, &watched), width);
        anstream::adapter::strip_str(&text).to_string()
    }

    fn complete() -> Summary {
        Summary { complete: true, ..Summary::default() }
    }

    #[test]
    fn a_healthy_network_has_harmless_drops_only() {
        let mut summary = complete();
        let kind = |reason: &str, count| HarmlessDrop {
            what: "an echo reply that its socket has a copy of".to_owned(),
            reason: Some(reason.to_owned()),
            location: None,
            count,
        };
        summary.drops.harmless = vec![kind("NO_SOCKET", 30), kind("ICMP_CSUM", 8)];
        let text = shown([samples::cross_node_request()], &summary, 80);
        assert_eq!(
            text,
            "NO DROPS but 38 harmless ones: 1 packet on node1 in 10.0 s\n\n\
             harmless: 38 × an echo reply that its socket has a copy of (NO_SOCKET,\n  ICMP_CSUM)\n"
        );
    }

    #[test]
    fn causes_are_in_order_of_their_numbers_and_fit() {
        let dropped = (1..=7).map(|id| Path { id, ..samples::dropped() });
        let text = shown(dropped.chain([samples::vanished()]), &complete(), 80);
        assert!(
            text.starts_with("FAILED  8 of 8 packets, 2 causes on node1 in 10.0 s\n\n✗ DROPPED ×7 on "),
            "{text}"
        );
        assert!(text.contains("\n? VANISHED ×1"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn what_was_lost_is_said_and_leaves_doubt() {
        let mut summary = Summary::default();
        summary.events.lost_ring = 5;
        let text = shown([samples::cross_node_request()], &summary, 200);
        assert!(text.starts_with("NO DROPS SEEN: 1 packet"), "{text}");
        assert!(
            text.contains("INCOMPLETE  drops may be missing: 5 events lost to a full ring buffer"),
            "{text}"
        );
    }

    #[test]
    fn a_table_has_as_many_lines_as_there_is_room() {
        let mut losses = Losses::default();
        for number in 0..30 {
            let mut path = samples::dropped();
            path.hops.iter_mut().for_each(|hop| hop.device = Some(format!("eth{number}").into()));
            losses.add(&path);
        }
        for lines in [6, 10, 22] {
            let text = table(&losses, 4, 80, lines);
            assert!(text.lines().count() <= lines && text.contains(" more causes"), "{text}");
        }
    }
}
