//! What becomes of finished paths: explained, recorded, picked, counted, reported.

use std::io::{self, ErrorKind};

use anyhow::{Context as _, Result};
use podtrace_path::{Context, Path, Summary, Update, Verdict, VerdictCounts};
use podtrace_protocol::frame::FromAgent;
use podtrace_protocol::inventory::Inventory;

use super::Aim;

use crate::diagnose::Diagnosis;
use crate::filter::Choice;
use crate::output::Report;
use crate::recording::Recorder;

/// How a trace went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What was told last.
    pub summary: Summary,
    /// Whether every node was lost before the trace was to end.
    pub all_lost: bool,
    /// What was known of the nodes at the end.
    pub diagnosis: Diagnosis,
}

impl Outcome {
    /// Whether any matching packet was seen.
    #[must_use]
    pub fn saw_packets(&self) -> bool {
        self.summary.events.delivered > 0
    }
}

/// Tells the finished paths that are wanted up to a limit, counts what was told, and records all if that is asked for.
pub struct Presenter<'a> {
    /// `None` once nobody reads it any more: the recording is still wanted whole.
    report: Option<&'a mut dyn Report>,
    recorder: Option<Recorder>,
    choice: Choice,
    diagnosis: Diagnosis,
    limit: Option<u64>,
    told: u64,
    verdicts: VerdictCounts,
}

impl<'a> Presenter<'a> {
    /// Reports up to `limit` of the paths that `choice` wants.
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
            told: 0,
            verdicts: VerdictCounts::default(),
        }
    }

    /// How many paths were reported so far.
    #[must_use]
    pub fn reported(&self) -> u64 {
        self.told
    }

    /// Whether as many paths are reported as were asked for.
    #[must_use]
    pub fn full(&self) -> bool {
        self.limit.is_some_and(|limit| self.told >= limit)
    }

    /// Reports paths between what the ends mean now, besides those that are reported already.
    pub fn widen(&mut self, aim: &Aim, inventory: &Inventory) {
        self.choice.widen(|filter| aim.widened(filter, inventory));
    }

    /// Takes what a node said, before paths are made of it.
    pub fn hear(&mut self, node: usize, frame: Option<&FromAgent>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.frame(node, frame);
        }
        if let Some(frame) = frame {
            self.choice.hear(node, frame);
            self.diagnosis.learn(node, frame);
        }
    }

    /// Takes and tells what became of the cluster.
    pub fn update(&mut self, update: &Update) -> Result<()> {
        if let Some(recorder) = &mut self.recorder {
            recorder.update(update);
        }
        self.diagnosis.join(&update.joined);
        for change in &update.changes {
            // After the last path that is told there is nothing to tell apart.
            if !self.full() {
                self.report(|report| report.change(change))?;
            }
        }
        self.recorder.as_mut().map_or(Ok(()), Recorder::flush)
    }

    /// Tells these paths, less those that are not wanted and those over the limit. All of them are recorded: the file
    /// may be read with another choice.
    pub fn tell(&mut self, paths: &mut Vec<Path>) -> Result<()> {
        for mut path in paths.drain(..) {
            if self.full() {
                continue;
            }
            self.diagnosis.annotate(&mut path);
            if let Some(recorder) = &mut self.recorder {
                recorder.path(&path)?;
            }
            if !self.choice.wants(&path) {
                continue;
            }
            self.told += 1;
            *match path.verdict {
                Verdict::Delivered => &mut self.verdicts.delivered,
                Verdict::Dropped => &mut self.verdicts.dropped,
                Verdict::Vanished => &mut self.verdicts.vanished,
                Verdict::Rejected => &mut self.verdicts.rejected,
                Verdict::Open => &mut self.verdicts.open,
            } += 1;
            self.report(|report| report.path(&path))?;
        }
        self.recorder.as_mut().map_or(Ok(()), Recorder::flush)
    }

    fn report(&mut self, tell: impl FnOnce(&mut dyn Report) -> io::Result<()>) -> Result<()> {
        let Some(report) = &mut self.report else { return Ok(()) };
        match tell(&mut **report) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe && self.recorder.is_some() => {
                self.report = None;
                Ok(())
            }
            result => result.context("writing the report"),
        }
    }

    /// Tells why what is told is not whole.
    pub fn lacks(&mut self, what: &str) -> Result<()> {
        self.report(|report| report.lacks(what))
    }

    /// Tells the summary of what was told.
    pub fn close(mut self, mut summary: Summary) -> Result<Outcome> {
        summary.paths = self.verdicts;
        self.report(|report| report.summary(&summary))?;
        if let Some(recorder) = self.recorder {
            recorder.finish(&summary)?;
        }
        Ok(Outcome { summary, all_lost: false, diagnosis: self.diagnosis })
    }
}
