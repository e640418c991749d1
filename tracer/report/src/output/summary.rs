//! The last lines of the text outputs: counts of paths and events, and what the trace lost.
//!
//! Input: every path while it is reported, the damage of a recording, and at the end the [`Summary`]. Output: lines. An
//! incomplete trace names its losses by cause, and the paths that may have got further.

use super::phrase::{BAD, DIM, DOUBT, GOOD, LOUD, PLAIN, Phrase};
use super::words::{INFERRED, thousands};
use podtrace_path::{EventCounts, Evidence, Path, Sample, Shed, Summary, Unwatched, Verdict, VerdictCounts};

/// How many doubtful paths are listed by number; the rest is only counted.
const LISTED: usize = 10;

/// What the summary lines need to know about the reported paths.
#[derive(Debug, Default)]
pub(super) struct SummaryNotes {
    /// Whether any hop or route was inferred.
    inferred: bool,
    /// Numbers of the first vanished and open paths: lost events may have hidden how they continued.
    doubtful: Vec<u64>,
    more_doubtful: u64,
    /// Damage of the recording, if one is read.
    damage: Option<String>,
}

impl SummaryNotes {
    /// Adds a reported path.
    pub(super) fn add_path(&mut self, path: &Path) {
        self.inferred |= path.hops.iter().any(|hop| {
            hop.evidence == Evidence::Inferred
                || hop.route.as_ref().is_some_and(|route| route.evidence == Evidence::Inferred)
        });
        if matches!(path.verdict, Verdict::Vanished | Verdict::Open) {
            if self.doubtful.len() < LISTED {
                self.doubtful.push(path.id);
            } else {
                self.more_doubtful += 1;
            }
        }
    }

    /// Sets what is damaged in the recording.
    pub(super) fn set_damage(&mut self, damage: &str) {
        self.damage = Some(damage.to_owned());
    }

    /// The summary lines.
    pub(super) fn lines(&self, summary: &Summary) -> Vec<Phrase> {
        let Summary { paths, events, complete, unwatched: _, shed: _, sample, drops: _ } = summary;
        let mut first = counts(paths);
        first.push(DIM, " · ");
        first.push(PLAIN, count(events.produced, "event"));
        if *complete {
            first.push(PLAIN, ", all accounted for");
        }
        let mut lines = vec![first];
        lines.extend(sample.as_ref().map(self::sample));
        if !*complete {
            lines.push(
                Phrase::new().with(LOUD, " INCOMPLETE ").with(PLAIN, " ").with(BAD, self.losses(summary)),
            );
            lines.push(self.consequences());
        }
        if events.unmatched > 0 {
            let text = format!(
                "{} to no path: the packets were already in flight when tracing started, or their first hop was \
                 missed",
                match events.unmatched {
                    1 => "1 event belongs".to_owned(),
                    number => format!("{} events belong", thousands(number)),
                }
            );
            lines.push(Phrase::new().with(DOUBT, text));
        }
        if self.inferred {
            lines.push(Phrase::new().with(DIM, format!("{INFERRED} inferred from other hops, not observed")));
        }
        lines
    }

    /// What is missing, by cause.
    fn losses(&self, summary: &Summary) -> String {
        let lost = lost(summary);
        match &self.damage {
            None => lost.unwrap_or_else(|| UNKNOWN.to_owned()),
            Some(damage) => {
                let lost = lost.map(|lost| format!("{lost}; ")).unwrap_or_default();
                format!("{lost}the recording is damaged: {damage}")
            }
        }
    }

    /// What the losses mean for the reported paths.
    fn consequences(&self) -> Phrase {
        let mut phrase = Phrase::new().with(PLAIN, "  hops and entire paths may be missing");
        if !self.doubtful.is_empty() {
            let numbers: Vec<_> = self.doubtful.iter().map(|id| format!("#{id}")).collect();
            phrase.push(PLAIN, format!("; {}", numbers.join(", ")));
            if self.more_doubtful > 0 {
                phrase.push(PLAIN, format!(" and {} more", thousands(self.more_doubtful)));
            }
            phrase.push(PLAIN, " may have got further");
        }
        phrase
    }
}

/// `sampled 1 in 100: …`.
pub(super) fn sample(sample: &Sample) -> Phrase {
    let Sample { one_in, unsampled_events } = sample;
    let all = format!("sampled 1 in {}", thousands(u64::from(one_in.get())));
    let others = count(*unsampled_events, "event");
    let rest = format!(": all counts are of the sample; {others} of other packets skipped in the kernel");
    Phrase::new().with(DOUBT, all).with(PLAIN, rest)
}

/// `4 paths: 3 delivered, 1 DROPPED`.
fn counts(paths: &VerdictCounts) -> Phrase {
    let VerdictCounts { delivered, dropped, vanished, rejected, open } = *paths;
    let kinds = [
        (delivered, "delivered", GOOD),
        (dropped, "DROPPED", BAD),
        (vanished, "VANISHED", BAD),
        (rejected, "REFUSED", BAD),
        (open, "open", DOUBT),
    ];
    let mut phrase = Phrase::new().with(PLAIN, count(kinds.iter().map(|kind| kind.0).sum(), "path"));
    for (index, (number, name, style)) in kinds.into_iter().filter(|kind| kind.0 > 0).enumerate() {
        phrase.push(PLAIN, if index == 0 { ": " } else { ", " });
        phrase.push(style, format!("{} {name}", thousands(number)));
    }
    phrase
}

/// What a trace lost, as one line for stderr; `None` if it is complete.
#[must_use]
pub fn losses(summary: &Summary) -> Option<String> {
    let causes = || lost(summary).unwrap_or_else(|| UNKNOWN.to_owned());
    (!summary.complete).then(|| format!("this trace is incomplete: {}", causes()))
}

/// Used when no counter explains what is missing.
const UNKNOWN: &str =
    "some events are unaccounted for, or packets may have passed points that were not traced";

/// What was lost, by cause; `None` if no counter explains it.
fn lost(summary: &Summary) -> Option<String> {
    let EventCounts { produced, delivered, lost_ring, lost_map, missed_probes, unmatched: _ } =
        summary.events;
    let unaccounted = produced.saturating_sub(delivered.saturating_add(lost_ring));
    let causes = [
        (lost_ring, "event", "lost to a full ring buffer"),
        (lost_map, "packet identity", "lost to a full map"),
        (missed_probes, "eBPF program run", "skipped by the kernel"),
        (unaccounted, "event", "unaccounted for"),
    ];
    let causes: Vec<_> = causes
        .into_iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, thing, cause)| format!("{} {cause}", count(number, thing)))
        .chain(shed(summary.shed))
        .chain(unwatched(&summary.unwatched))
        .collect();
    (!causes.is_empty()).then(|| causes.join(", "))
}

/// What was given up; `None` if nothing.
fn shed(shed: Shed) -> Option<String> {
    let Shed { paths, events, flows } = shed;
    let given_up = [
        (paths, "packet", "given up in flight"),
        (events, "event", "discarded"),
        (flows, "flow", "forgotten early"),
    ];
    let given_up: Vec<_> = given_up
        .into_iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, thing, what)| format!("{} {what}", count(number, thing)))
        .collect();
    (!given_up.is_empty())
        .then(|| format!("{} to stay within the memory limit (--max-memory)", given_up.join(", ")))
}

/// Where packets passed unseen; `None` if nowhere.
fn unwatched(places: &[Unwatched]) -> Option<String> {
    let named = places
        .iter()
        .take(LISTED)
        .map(|Unwatched { node, device, point }| format!("{node} {device} {point}"));
    let named = named.collect::<Vec<_>>().join(", ");
    match places.len().saturating_sub(LISTED) {
        _ if places.is_empty() => None,
        0 => Some(format!("nothing was seen at {named}")),
        more => Some(format!("nothing was seen at {named} and {more} more points")),
    }
}

/// `1 event`, `2 events`, `2 identities`.
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

    fn text(paths: &[Path], summary: &Summary) -> String {
        let mut notes = SummaryNotes::default();
        for path in paths {
            notes.add_path(path);
        }
        let mut out = String::new();
        for line in notes.lines(summary) {
            line.write_line(0, &mut out);
        }
        anstream::adapter::strip_str(&out).to_string()
    }

    #[test]
    fn a_whole_trace_says_so_in_one_line() {
        let mut summary = Summary { complete: true, ..Summary::default() };
        summary.paths.delivered = 4;
        (summary.events.produced, summary.events.delivered) = (1_040, 1_040);
        assert_eq!(text(&[], &summary), "4 paths: 4 delivered · 1,040 events, all accounted for\n");
    }

    #[test]
    fn a_sample_says_what_it_is_and_what_it_skipped() {
        let sample = Some(Sample { one_in: 100.try_into().unwrap(), unsampled_events: 4_123 });
        let mut summary = Summary { complete: true, sample, ..Summary::default() };
        summary.paths.delivered = 4;
        (summary.events.produced, summary.events.delivered) = (40, 40);
        assert_eq!(
            text(&[], &summary),
            "4 paths: 4 delivered · 40 events, all accounted for\n\
             sampled 1 in 100: all counts are of the sample; 4,123 events of other packets skipped in the kernel\n"
        );
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
            text(&[samples::vanished()], &summary),
            "1 path: 1 VANISHED · 40 events\n \
             INCOMPLETE  3 events lost to a full ring buffer, 2 packet identities lost to a full map, \
             1 eBPF program run skipped by the kernel, 1 event unaccounted for\n  \
             hops and entire paths may be missing; #5 may have got further\n\
             1 event belongs to no path: the packets were already in flight when tracing started, or their first \
             hop was missed\n\
             ≈ inferred from other hops, not observed\n"
        );
    }

    #[test]
    fn damage_of_a_recording_is_among_the_causes() {
        let mut notes = SummaryNotes::default();
        notes.set_damage("bytes 7 to 9 are damaged\u{1b}");
        let losses_line = |summary: &Summary| {
            let mut out = String::new();
            notes.lines(summary)[1].write_line(0, &mut out);
            anstream::adapter::strip_str(&out).to_string()
        };
        let mut summary = Summary::default();
        let damage = "the recording is damaged: bytes 7 to 9 are damaged\\u{1b}\n";
        assert_eq!(losses_line(&summary), format!(" INCOMPLETE  {damage}"));
        summary.events = EventCounts { produced: 3, delivered: 2, lost_ring: 1, ..EventCounts::default() };
        assert_eq!(
            losses_line(&summary),
            format!(" INCOMPLETE  1 event lost to a full ring buffer; {damage}")
        );
    }

    #[test]
    fn places_without_a_tap_are_named() {
        let place = |device: &str| Unwatched {
            node: "node1".to_owned(),
            device: device.to_owned(),
            point: "tc:egress".to_owned(),
        };
        let mut summary = Summary { unwatched: vec![place("cni0")], ..Summary::default() };
        assert_eq!(
            losses(&summary).unwrap(),
            "this trace is incomplete: nothing was seen at node1 cni0 tc:egress"
        );
        summary.unwatched = (0..12).map(|number| place(&format!("veth{number}"))).collect();
        assert!(losses(&summary).unwrap().ends_with("veth9 tc:egress and 2 more points"), "{summary:?}");
    }

    #[test]
    fn incomplete_without_a_cause_is_still_reported() {
        assert_eq!(
            losses(&Summary::default()).unwrap(),
            "this trace is incomplete: some events are unaccounted for, or packets may have passed points that were not traced"
        );
        assert_eq!(losses(&Summary { complete: true, ..Summary::default() }), None);
        let lines = text(&[], &Summary::default());
        assert_eq!(lines.lines().count(), 3, "{lines}");
        assert!(lines.contains("INCOMPLETE  some events are unaccounted for"), "{lines}");
    }

    #[test]
    fn what_was_given_up_is_named() {
        let shed = Shed { paths: 1, events: 2_000, flows: 0 };
        let summary = Summary { shed, ..Summary::default() };
        assert_eq!(
            losses(&summary).unwrap(),
            "this trace is incomplete: 1 packet given up in flight, 2,000 events discarded to stay within the memory \
             limit (--max-memory)"
        );
    }
}
