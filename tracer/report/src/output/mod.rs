//! Output formats: finished paths in, bytes out. Each format is one file, all implement [`Report`].
//!
//! A report has no handle to anything but its writer. Text outputs always write colours; the writer strips them
//! where they are not wanted (`anstream::AutoStream` or `StripStream`). What came from outside (names, reasons,
//! packets) reaches a terminal through [`podtrace_escape::escape`] only, see `phrase`.

mod change;
mod closing;
pub mod diff;
pub mod doctor;
pub mod drops;
mod fold;
mod html;
mod json;
mod layout;
pub mod map;
mod phrase;
pub(crate) mod plain;
mod stats;
mod summary;
mod text;
mod timing;
mod verdict;
mod view;
mod wide;
pub(crate) mod words;

#[cfg(any(test, feature = "samples"))]
pub mod samples;
#[cfg(test)]
mod snapshot_tests;

use std::io;

use crate::totals::Finished;
use podtrace_path::{Change, Path, Summary};
use podtrace_protocol::stats::Stats;

pub use drops::Drops;
pub use html::Html;
pub use json::Json;
pub use layout::UNLIMITED;
pub use stats::StatsTable;
pub use summary::losses;
pub use text::Text;
pub use view::{Paths, View};
pub use words::thousands;

/// One output of a trace. It gets paths and changes in order, the damage of a recording at most once, and at the end
/// the totals and the summary.
///
/// Every call writes its part completely and flushes it, so that a reader of a pipe sees a path as soon as it is finished.
/// All errors are those of the writer; the caller decides what a broken pipe means.
pub trait Report {
    /// Reports a finished path.
    ///
    /// # Errors
    /// If writing fails.
    fn path(&mut self, path: &Path) -> io::Result<()>;

    /// Reports a change of a traced pod, Service or node, between the paths reported before and after it was known.
    ///
    /// # Errors
    /// If writing fails.
    fn change(&mut self, _change: &Change) -> io::Result<()> {
        Ok(())
    }

    /// Reports what is damaged in a recording, before its summary. Formats without a place for it do nothing: their summary
    /// says that the trace is incomplete.
    ///
    /// # Errors
    /// If writing fails.
    fn damage(&mut self, _damage: &str) -> io::Result<()> {
        Ok(())
    }

    /// Reports a node's counts, of a trace that counts packets in place of reporting them.
    ///
    /// # Errors
    /// If writing fails.
    fn stats(&mut self, _node: &str, _stats: &Stats) -> io::Result<()> {
        Ok(())
    }

    /// Reports what the trace amounts to, before its summary.
    ///
    /// # Errors
    /// If writing fails.
    fn totals(&mut self, _totals: &Finished) -> io::Result<()> {
        Ok(())
    }

    /// Reports the summary.
    ///
    /// # Errors
    /// If writing fails.
    fn summary(&mut self, summary: &Summary) -> io::Result<()>;
}
