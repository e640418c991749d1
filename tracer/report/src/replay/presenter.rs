//! Handles finished paths, in this order: adds advice, records them, selects, counts and reports them.

use std::io::{self, ErrorKind};
use std::num::NonZeroU32;

use anyhow::{Context as _, Result};
use podtrace_path::{Context, Path, Summary, Update, VerdictCounts};
use podtrace_protocol::frame::FromAgent;
use podtrace_protocol::inventory::Inventory;
use podtrace_protocol::stats::Stats;

use super::Aim;
use super::pending::Pending;

use crate::diagnose::Diagnosis;
use crate::filter::Choice;
use crate::output::{Report, plain};
use crate::recording::Recorder;
use crate::totals::{Collector, End};

/// Outcome of a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The summary that was reported.
    pub summary: Summary,
    /// Whether all nodes were lost before the trace ended.
    pub all_lost: bool,
    /// Whether any node has counted a packet, where packets are counted.
    pub has_counted: bool,
    /// What was known of the nodes at the end.
    pub diagnosis: Diagnosis,
}

impl Outcome {
    /// Whether any packet was seen that was asked for, in the sample or not. Events that belong to no path and need none are of
    /// others: copies, their drops, what only shares an address of a node.
    #[must_use]
    pub fn saw_packets(&self) -> bool {
        let Summary { paths, events, sample, .. } = &self.summary;
        let VerdictCounts { delivered, dropped, vanished, rejected, open } = *paths;
        let unsampled = sample.map_or(0, |sample| sample.unsampled_events);
        // Of what was lost, nobody knows.
        let unknown = events.unmatched + events.lost_ring + events.lost_map;
        self.has_counted || delivered + dropped + vanished + rejected + open + unsampled + unknown > 0
    }
}

/// Reports selected paths up to a limit, and records all paths.
pub struct Presenter<'a> {
    /// `None` after a broken pipe, if there is a recording to complete.
    report: Option<&'a mut dyn Report>,
    recorder: Option<Recorder>,
    choice: Choice,
    diagnosis: Diagnosis,
    limit: Option<u64>,
    /// Number of paths reported.
    reported: u64,
    totals: Collector,
    /// Whether the trace leaves answers out.
    is_one_way: bool,
    /// One in so many packets is traced; `None` for all.
    sample: Option<NonZeroU32>,
    /// Whether any node has counted a packet.
    has_counted: bool,
    /// Paths that wait for the state that explains them.
    pending: Pending,
}

impl<'a> Presenter<'a> {
    /// Reports up to `limit` of the paths that `choice` selects; all of them if `None`.
    pub fn new(
        report: &'a mut dyn Report,
        recorder: Option<Recorder>,
        choice: Choice,
        limit: Option<u64>,
        context: &Context,
    ) -> Self {
        Self {
            report: Some(report),
            recorder,
            choice,
            diagnosis: Diagnosis::new(context),
            limit,
            reported: 0,
            totals: Collector::default(),
            is_one_way: context.filter.one_way,
            sample: context.filter.sample,
            has_counted: false,
            pending: Pending::default(),
        }
    }

    /// How many paths were reported so far.
    #[must_use]
    pub fn reported(&self) -> u64 {
        self.reported
    }

    /// Whether the limit is reached.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.reported >= limit)
    }

    /// Also selects paths between the addresses that the endpoints have now.
    pub fn widen(&mut self, aim: &Aim, inventory: &Inventory) {
        self.choice.widen(|filter| aim.widened(filter, inventory));
    }

    /// Handles a node's frame, or the end of its stream if `None`. Must precede the paths made from it.
    pub fn handle_frame(&mut self, node: usize, frame: Option<&FromAgent>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.frame(node, frame);
        }
        self.pending.handle_frame(node, frame);
        if let Some(frame) = frame {
            self.choice.handle_frame(node, frame);
            self.diagnosis.learn(node, frame);
        }
    }

    /// Reports a node's counts.
    pub fn report_stats(&mut self, name: &str, stats: &Stats) -> Result<()> {
        let packets = stats.taps.iter().map(|tap| tap.packets).sum::<u64>();
        let dropped = stats.drops.iter().map(|drop| drop.packets).sum::<u64>();
        self.has_counted |= packets + dropped > 0;
        self.report(|report| report.stats(name, stats))
    }

    /// Records and reports cluster changes.
    pub fn handle_update(&mut self, update: &Update) -> Result<()> {
        if let Some(recorder) = &mut self.recorder {
            recorder.update(update);
        }
        self.diagnosis.join(&update.joined);
        for change in &update.changes {
            // After the last reported path, changes do not matter.
            if !self.is_full() {
                self.report(|report| report.change(change))?;
            }
        }
        self.record(Recorder::flush)
    }

    /// Reports selected paths up to the limit, and drains `paths`. Some of them wait for later frames, or for
    /// [`Self::finish`]. All of them are recorded up to the limit: the file may be
    /// read with another selection.
    pub fn report_paths(&mut self, paths: &mut Vec<Path>) -> Result<()> {
        self.pending.extend(paths.drain(..));
        while let Some(mut path) = self.pending.next() {
            if self.is_full() {
                continue;
            }
            self.diagnosis.annotate(&mut path);
            self.record(|recorder| recorder.path(&path))?;
            if !self.choice.selects(&path) {
                continue;
            }
            self.reported += 1;
            self.totals.add(&path);
            self.report(|report| report.path(&path))?;
        }
        self.record(Recorder::flush)
    }

    /// After a failure, nothing more is recorded: the rest would follow a block that ends in the middle.
    fn record(&mut self, write: impl FnOnce(&mut Recorder) -> Result<()>) -> Result<()> {
        let Some(recorder) = &mut self.recorder else { return Ok(()) };
        let written = write(recorder);
        if written.is_err() {
            self.recorder = None;
        }
        written
    }

    fn report(&mut self, write: impl FnOnce(&mut dyn Report) -> io::Result<()>) -> Result<()> {
        let Some(report) = &mut self.report else { return Ok(()) };
        match write(&mut **report) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe && self.recorder.is_some() => {
                self.report = None;
                Ok(())
            }
            result => result.context("writing the report"),
        }
    }

    /// Reports what is damaged in the recording.
    pub fn report_damage(&mut self, damage: &str) -> Result<()> {
        self.report(|report| report.damage(damage))
    }

    /// Reports the totals and the summary, whose paths are those that were reported.
    fn conclude(&mut self, summary: &mut Summary) -> Result<()> {
        summary.paths = self.totals.paths();
        if self.report.is_none() {
            return Ok(());
        }
        let end = End {
            are_answers_traced: !self.is_one_way && self.choice.is_all(),
            is_limited: self.is_full(),
            is_complete: summary.complete,
            sample: self.sample,
        };
        let totals = self.totals.finished(end);
        self.report(|report| report.totals(&totals))?;
        self.report(|report| report.summary(summary))
    }

    /// Reports the summary and completes the recording, each as far as it can be written.
    ///
    /// # Errors
    ///
    /// If one of them could not be written.
    pub fn finish(mut self, mut summary: Summary) -> Result<Outcome> {
        self.pending.end();
        let waited = self.report_paths(&mut Vec::new());
        let reported = self.conclude(&mut summary);
        let recorded = self.recorder.map_or(Ok(()), |recorder| recorder.finish(&summary));
        waited.and(reported).and(recorded)?;
        Ok(Outcome { summary, all_lost: false, has_counted: self.has_counted, diagnosis: self.diagnosis })
    }

    /// Ends a trace whose output could not be written: a full disk. Reports the summary, which is never complete, and
    /// completes the recording, each as far as it can be written. Returns the summary if it could not be reported.
    pub fn fail(mut self, summary: Summary) -> Option<String> {
        self.pending.end();
        // The error to report is the first one.
        let _ = self.report_paths(&mut Vec::new());
        let mut summary = Summary { complete: false, ..summary };
        let reported = self.conclude(&mut summary);
        // The error to report is the first one.
        let _ = self.record(Recorder::flush);
        if let Some(recorder) = self.recorder {
            let _ = recorder.finish(&summary);
        }
        reported.is_err().then(|| plain::summary(&summary))
    }
}
