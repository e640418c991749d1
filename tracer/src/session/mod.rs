//! A trace from beginning to end: agents are started, their frames feed the path engine, finished paths go to a
//! report. Reading a recording is the same without agents.

mod nodes;
mod plan;
mod recording;
mod replay;
mod survey;
mod trace;

pub use plan::{Plan, ProbePlan};
pub use recording::{Header, Reader, Writer};
pub use replay::replay;
pub use survey::survey;
pub use trace::{Importance, Progress, trace};

use crate::path::{Path, Summary, Verdict, VerdictCounts};
use crate::report::Report;

/// How a trace went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What was told last.
    pub summary: Summary,
    /// Whether every node was lost before the trace was to end.
    pub all_lost: bool,
}

impl Outcome {
    /// Whether any matching packet was seen.
    #[must_use]
    pub fn saw_packets(&self) -> bool {
        self.summary.events.delivered > 0
    }
}

/// Tells finished paths up to a limit, and counts what was told.
struct Teller<'a> {
    report: &'a mut dyn Report,
    limit: Option<u64>,
    told: u64,
    verdicts: VerdictCounts,
}

impl<'a> Teller<'a> {
    fn new(report: &'a mut dyn Report, limit: Option<u64>) -> Self {
        Self { report, limit, told: 0, verdicts: VerdictCounts::default() }
    }

    fn full(&self) -> bool {
        self.limit.is_some_and(|limit| self.told >= limit)
    }

    /// Tells these paths, less those over the limit.
    fn tell(&mut self, paths: &mut Vec<Path>) -> std::io::Result<()> {
        for mut path in paths.drain(..) {
            if self.full() {
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
            crate::diagnose::annotate(&mut path);
            self.report.path(&path)?;
        }
        Ok(())
    }

    /// Tells the summary of what was told.
    fn close(self, mut summary: Summary) -> std::io::Result<Outcome> {
        summary.paths = self.verdicts;
        self.report.summary(&summary)?;
        Ok(Outcome { summary, all_lost: false })
    }
}
