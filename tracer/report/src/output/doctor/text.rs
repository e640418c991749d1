//! The findings for people: what is wrong and what to type, on the first screen.

use super::Shown;
use crate::doctor::{Area, Examination, Issue, Severity};
use crate::output::layout::{Align, write_line, write_table};
use crate::output::phrase::{ADVICE, BAD, DIM, DOUBT, GOOD, LOUD, NAME, PLAIN, Phrase};
use crate::output::words::thousands;

/// Where the text behind a word such as `fix` begins.
const TEXT_AT: usize = 12;

/// Places that are named where the same was found, and consequences that are shown.
const NAMED: usize = 6;

pub(super) fn write(found: &Examination, shown: &Shown, width: usize) -> String {
    let mut out = String::new();
    write_line(&headline(found), 0, 0, width, &mut out);
    for issue in &found.issues {
        out.push('\n');
        finding(issue, width, &mut out);
    }
    if found.is_healthy() || shown.description {
        out.push('\n');
        areas(&found.areas, width, &mut out);
    }
    if !found.unseen.is_empty() {
        out.push('\n');
        for (node, text) in &found.unseen {
            let line = Phrase::new().with(DOUBT, "? ").with(NAME, node).with(PLAIN, ": ").with(PLAIN, text);
            write_line(&line, 0, 2, width, &mut out);
        }
    }
    if let Some(next) = &shown.next {
        out.push('\n');
        let why = if found.is_healthy() && found.unseen.is_empty() {
            "Nothing that stands still explains it. Watch a packet:"
        } else if found.is_healthy() {
            "What was looked at does not explain it. Watch a packet:"
        } else {
            "Then watch a packet:"
        };
        out.push_str(why);
        out.push('\n');
        Phrase::new().with(NAME, next).write_line(2, &mut out);
    }
    out
}

/// How much was found, and where it was looked.
fn headline(found: &Examination) -> Phrase {
    let count = |number: usize, word: &str| {
        let number_text = thousands(number as u64);
        (number > 0).then(|| format!("{number_text} {word}{}", if number == 1 { "" } else { "s" }))
    };
    let parts = [
        (LOUD, count(found.count(Severity::Fault), "fault")),
        (DOUBT, count(found.count(Severity::Warning), "warning")),
        (DIM, count(found.count(Severity::Note), "note")),
    ];
    let mut line = Phrase::new();
    if found.is_healthy() && found.nodes > 0 {
        if found.unseen.is_empty() {
            line.push(GOOD, "nothing wrong");
        } else {
            line.push(DOUBT, "nothing wrong found, and not all was looked at");
        }
    }
    for (style, text) in parts.into_iter().filter_map(|(style, text)| Some((style, text?))) {
        if !line.is_empty() {
            line.push(PLAIN, ", ");
        }
        line.push(style, text);
    }
    let nodes = count(found.nodes, "node").unwrap_or_else(|| "no node".to_owned());
    let pods = count(found.pods, "pod").unwrap_or_else(|| "no pod".to_owned());
    line.push(PLAIN, if line.is_empty() { "looked at " } else { " on " });
    line.with(PLAIN, format!("{nodes} with {pods}"))
}

fn finding(issue: &Issue, width: usize, out: &mut String) {
    let (style, word) = match issue.severity {
        Severity::Fault => (BAD, "FAULT"),
        Severity::Warning => (DOUBT, "WARNING"),
        Severity::Note => (DIM, "NOTE"),
    };
    let mut head = Phrase::new().with(style, word).with(PLAIN, "  ").with(NAME, issue.place());
    if issue.pod.is_some() {
        head.push(PLAIN, " on ");
        head.push(PLAIN, &issue.node);
    }
    if let Some(device) = &issue.device {
        head.push(PLAIN, ", ");
        head.push(PLAIN, device);
    }
    write_line(&head, 0, 2, width, out);
    write_line(&Phrase::new().with(PLAIN, &issue.found), 2, 0, width, out);
    let mut row = |word: &str, text: &str| {
        let line =
            Phrase::new().with(DIM, format!("{word:<TEXT_AT$}", TEXT_AT = TEXT_AT - 2)).with(PLAIN, text);
        write_line(&line, 2, TEXT_AT - 2, width, out);
    };
    row("expected", &issue.expected);
    row("so", &issue.effect);
    if !issue.also.is_empty() {
        row("also in", &some(&issue.also));
    }
    for consequence in issue.consequences.iter().take(NAMED) {
        row("leads to", &consequence.found);
    }
    if let Some(more) = issue.consequences.len().checked_sub(NAMED).filter(|more| *more > 0) {
        row("leads to", &format!("{more} more findings, which -o json lists"));
    }
    for possible in &issue.possible {
        row("possible", possible);
    }
    let place = issue.place();
    let on = if issue.pod.is_some() { "in" } else { "on" };
    if let Some(fix) = &issue.fix {
        command("fix", ADVICE, on, place, fix, out);
    }
    // Some of what follows from it does not mend by itself.
    for consequence in issue.consequences.iter().take(NAMED) {
        if let Some(fix) = &consequence.fix {
            let on = if consequence.pod.is_some() { "in" } else { "on" };
            command("then", ADVICE, on, consequence.place(), fix, out);
        }
    }
    if let Some(lasting) = &issue.lasting {
        let line = Phrase::new()
            .with(DIM, format!("{:<width$}", "to stay", width = TEXT_AT - 2))
            .with(PLAIN, lasting);
        write_line(&line, 2, TEXT_AT - 2, width, out);
    }
    for show in &issue.show {
        command("see", PLAIN, on, place, show, out);
    }
}

/// A command with the place where it is run: whole, so that it can be copied.
fn command(word: &str, style: anstyle::Style, on: &str, place: &str, text: &str, out: &mut String) {
    // kubectl runs anywhere.
    let place = if text.starts_with("kubectl ") { String::new() } else { format!("{on} {place}:  ") };
    let line = Phrase::new()
        .with(DIM, format!("{word:<width$}", width = TEXT_AT - 2))
        .with(DIM, place)
        .with(style, text);
    line.write_line(2, out);
}

fn some(names: &[String]) -> String {
    let named = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn areas(areas: &[Area], width: usize, out: &mut String) {
    let rows: Vec<_> = areas
        .iter()
        .map(|area| {
            let mark =
                if area.healthy { Phrase::new().with(GOOD, "✓") } else { Phrase::new().with(BAD, "✗") };
            vec![mark, Phrase::new().with(NAME, area.name), Phrase::new().with(PLAIN, &area.facts)]
        })
        .collect();
    write_table(&rows, &[Align::Left, Align::Left, Align::Left], width, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Kind;

    fn plain(found: &Examination, next: Option<&str>) -> String {
        let shown = Shown { description: false, next: next.map(str::to_owned) };
        anstream::adapter::strip_str(&write(found, &shown, 80)).to_string()
    }

    fn fault() -> Issue {
        Issue::at(Severity::Fault, Kind::NoTunnelEnd, "node1", Some("flannel.1"))
            .found(
                "flannel.1 on node1 has no forwarding entry for 0a:58:0a:2a:01:00, the tunnel of node2"
                    .to_owned(),
                "an entry",
            )
            .follows("Packets are dropped")
            .shown_by("`bridge fdb show dev flannel.1` and `ip route`")
            .fixed_by(Some("bridge fdb append 0a:58:0a:2a:01:00 dev flannel.1 dst 192.168.56.12".to_owned()))
    }

    #[test]
    fn a_finding_says_what_is_wrong_and_what_to_type() {
        let found = Examination { issues: vec![fault()], nodes: 2, pods: 1, ..Examination::default() };
        assert_eq!(
            plain(&found, None),
            "1 fault on 2 nodes with 1 pod\n\
             \n\
             FAULT  node1, flannel.1\n\
             \x20 flannel.1 on node1 has no forwarding entry for 0a:58:0a:2a:01:00, the tunnel\n\
             \x20 of node2\n\
             \x20 expected  an entry\n\
             \x20 so        Packets are dropped\n\
             \x20 fix       on node1:  bridge fdb append 0a:58:0a:2a:01:00 dev flannel.1 dst 192.168.56.12\n\
             \x20 see       on node1:  bridge fdb show dev flannel.1\n\
             \x20 see       on node1:  ip route\n"
        );
    }

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        let mut issue = fault();
        issue.also = vec!["default/\u{1b}[2J".to_owned()];
        let unseen = vec![("node\u{202e}3".to_owned(), "not looked at: \u{1b}]0;x".to_owned())];
        let found = Examination { issues: vec![issue], unseen, nodes: 1, pods: 1, ..Examination::default() };
        let text = plain(&found, Some("podtrace --from a --to b"));
        assert!(text.contains("default/\\u{1b}[2J") && text.contains("node\\u{202e}3"), "{text}");
        assert!(text.ends_with("Then watch a packet:\n  podtrace --from a --to b\n"), "{text}");
    }

    #[test]
    fn healthy_is_said_in_the_first_line() {
        let found = Examination { nodes: 2, pods: 4, ..Examination::default() };
        assert!(plain(&found, None).starts_with("nothing wrong on 2 nodes with 4 pods\n"));
        assert!(plain(&Examination::default(), None).starts_with("looked at no node with no pod\n"));
    }
}
