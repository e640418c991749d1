//! The closing lines of a text trace: what it amounts to, and loudly what it lacks.

use super::phrase::{BAD, DIM, DOUBT, GOOD, LOUD, PLAIN, Phrase};
use super::words::{INFERRED, thousands};
use podtrace_path::{EventCounts, Evidence, Path, Summary, Verdict, VerdictCounts};

/// So many numbers of paths are told before the rest is only counted.
const NUMBERS: usize = 10;

/// What a text output remembers of the paths it told, to close with.
#[derive(Debug, Default)]
pub(super) struct Told {
    inferred: bool,
    doubtful: Vec<u64>,
    more_doubtful: u64,
    lacks: Option<String>,
}

impl Told {
    /// Takes note of a path.
    pub(super) fn note(&mut self, path: &Path) {
        self.inferred |= path.hops.iter().any(|hop| {
            hop.evidence == Evidence::Inferred
                || hop.route.as_ref().is_some_and(|route| route.evidence == Evidence::Inferred)
        });
        if matches!(path.verdict, Verdict::Vanished | Verdict::Open) {
            if self.doubtful.len() < NUMBERS {
                self.doubtful.push(path.id);
            } else {
                self.more_doubtful += 1;
            }
        }
    }

    /// Takes note of why a recording is not whole.
    pub(super) fn lacks(&mut self, what: &str) {
        self.lacks = Some(what.to_owned());
    }

    /// The closing lines.
    pub(super) fn lines(&self, summary: &Summary) -> Vec<Phrase> {
        let Summary { paths, events, complete } = summary;
        let mut first = counts(paths);
        first.push(DIM, " · ");
        first.push(PLAIN, count(events.produced, "event"));
        if *complete {
            first.push(PLAIN, ", all accounted for");
        }
        let mut lines = vec![first];
        if !*complete {
            lines.push(Phrase::new().with(LOUD, " INCOMPLETE ").with(PLAIN, " ").with(BAD, self.why(events)));
            lines.push(self.consequences());
        }
        if events.unmatched > 0 {
            let text = format!(
                "{} part of no path: their packets were already under way when tracing began, or their first hop \
                 was not seen",
                match events.unmatched {
                    1 => "1 event is".to_owned(),
                    number => format!("{} events are", thousands(number)),
                }
            );
            lines.push(Phrase::new().with(DOUBT, text));
        }
        if self.inferred {
            lines.push(Phrase::new().with(DIM, format!("{INFERRED} inferred from what was seen around it")));
        }
        lines
    }

    fn why(&self, events: &EventCounts) -> String {
        let lost = lost(events);
        match &self.lacks {
            None => lost.unwrap_or_else(|| UNKNOWN.to_owned()),
            Some(lacks) => {
                let lost = lost.map(|lost| format!("{lost}; ")).unwrap_or_default();
                format!("{lost}the recording is not whole: {lacks}")
            }
        }
    }

    /// Which of the paths told cannot be trusted now.
    fn consequences(&self) -> Phrase {
        let mut phrase =
            Phrase::new().with(PLAIN, "  any path may lack hops, and whole paths may be missing");
        if !self.doubtful.is_empty() {
            let numbers: Vec<_> = self.doubtful.iter().map(|id| format!("#{id}")).collect();
            phrase.push(PLAIN, format!("; {}", numbers.join(", ")));
            if self.more_doubtful > 0 {
                phrase.push(PLAIN, format!(" and {} more", thousands(self.more_doubtful)));
            }
            phrase.push(PLAIN, " may have gone on unseen");
        }
        phrase
    }
}

fn counts(paths: &VerdictCounts) -> Phrase {
    let VerdictCounts { delivered, dropped, vanished, rejected, open } = *paths;
    let kinds = [
        (delivered, "delivered", GOOD),
        (dropped, "DROPPED", BAD),
        (vanished, "VANISHED", BAD),
        (rejected, "REJECTED", BAD),
        (open, "open", DOUBT),
    ];
    let mut phrase = Phrase::new().with(PLAIN, count(kinds.iter().map(|kind| kind.0).sum(), "path"));
    let told = kinds.into_iter().filter(|kind| kind.0 > 0);
    for (index, (number, name, style)) in told.enumerate() {
        phrase.push(PLAIN, if index == 0 { ": " } else { ", " });
        phrase.push(style, format!("{} {name}", thousands(number)));
    }
    phrase
}

/// What a trace lost, in one line for standard error; `None` if it is complete.
#[must_use]
pub fn losses(summary: &Summary) -> Option<String> {
    let causes = || lost(&summary.events).unwrap_or_else(|| UNKNOWN.to_owned());
    (!summary.complete).then(|| format!("this trace is incomplete: {}", causes()))
}

/// What is said where no count tells what is missing.
const UNKNOWN: &str = "not every event is accounted for, or packets may have passed where nobody looked";

/// What was lost, by cause; `None` where no count tells.
fn lost(events: &EventCounts) -> Option<String> {
    let EventCounts { produced, delivered, lost_ring, lost_map, missed_probes, unmatched: _ } = *events;
    let unaccounted = produced.saturating_sub(delivered.saturating_add(lost_ring));
    let causes = [
        (lost_ring, "event", "lost to a full ring buffer"),
        (lost_map, "packet identity", "not stored, the map was full"),
        (missed_probes, "run", "of a kernel program skipped by the kernel"),
        (unaccounted, "event", "unaccounted for"),
    ];
    let told: Vec<_> = causes
        .into_iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, thing, what)| format!("{} {what}", count(number, thing)))
        .collect();
    (!told.is_empty()).then(|| told.join(", "))
}

fn count(number: u64, thing: &str) -> String {
    match (number, thing.strip_suffix('y')) {
        (1, _) => format!("1 {thing}"),
        (_, Some(stem)) => format!("{} {stem}ies", thousands(number)),
        (_, None) => format!("{} {thing}s", thousands(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    fn told(paths: &[Path], summary: &Summary) -> String {
        let mut told = Told::default();
        for path in paths {
            told.note(path);
        }
        let mut out = String::new();
        for line in told.lines(summary) {
            line.write_line(0, &mut out);
        }
        anstream::adapter::strip_str(&out).to_string()
    }

    #[test]
    fn a_whole_trace_says_so_in_one_line() {
        let mut summary = Summary { complete: true, ..Summary::default() };
        summary.paths.delivered = 4;
        (summary.events.produced, summary.events.delivered) = (1_040, 1_040);
        assert_eq!(told(&[], &summary), "4 paths: 4 delivered · 1,040 events, all accounted for\n");
    }

    #[test]
    fn a_trace_that_lost_something_never_looks_whole() {
        let mut summary = Summary::default();
        summary.paths.vanished = 1;
        summary.events = EventCounts {
            produced: 40,
            delivered: 36,
            lost_ring: 3,
            lost_map: 2,
            missed_probes: 1,
            unmatched: 1,
        };
        assert_eq!(
            told(&[samples::vanished()], &summary),
            "1 path: 1 VANISHED · 40 events\n \
             INCOMPLETE  3 events lost to a full ring buffer, 2 packet identities not stored, the map was full, \
             1 run of a kernel program skipped by the kernel, 1 event unaccounted for\n  \
             any path may lack hops, and whole paths may be missing; #5 may have gone on unseen\n\
             1 event is part of no path: their packets were already under way when tracing began, or their first \
             hop was not seen\n\
             ≈ inferred from what was seen around it\n"
        );
    }

    #[test]
    fn why_a_recording_is_not_whole_is_among_the_causes() {
        let mut notes = Told::default();
        notes.lacks("bytes 7 to 9 are damaged\u{1b}");
        let said = |summary: &Summary| {
            let mut out = String::new();
            notes.lines(summary)[1].write_line(0, &mut out);
            anstream::adapter::strip_str(&out).to_string()
        };
        let mut summary = Summary::default();
        let damage = "the recording is not whole: bytes 7 to 9 are damaged\\u{1b}\n";
        assert_eq!(said(&summary), format!(" INCOMPLETE  {damage}"));
        summary.events = EventCounts { produced: 3, delivered: 2, lost_ring: 1, ..EventCounts::default() };
        assert_eq!(said(&summary), format!(" INCOMPLETE  1 event lost to a full ring buffer; {damage}"));
    }

    #[test]
    fn incomplete_without_a_cause_is_still_told() {
        assert_eq!(
            losses(&Summary::default()).unwrap(),
            "this trace is incomplete: not every event is accounted for, or packets may have passed where nobody looked"
        );
        assert_eq!(losses(&Summary { complete: true, ..Summary::default() }), None);
        let text = told(&[], &Summary::default());
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("INCOMPLETE  not every event is accounted for"), "{text}");
    }
}
