//! HOW it is told: finished paths in, bytes out. One file per output, all behind [`Report`].
//!
//! A report has no handle to anything but its writer. Text outputs always write colours; the writer strips them
//! where they are not wanted (`anstream::AutoStream` or `StripStream`). What came from outside (names, reasons,
//! packets) reaches a terminal through [`podtrace_escape::escape`] only, see `phrase`.

mod change;
mod html;
mod json;
pub mod map;
mod phrase;
pub(crate) mod plain;
mod summary;
mod text;
mod timing;
mod verdict;
mod wide;
mod words;

#[cfg(any(test, feature = "samples"))]
pub mod samples;
#[cfg(test)]
mod snapshot_tests;

use std::io;

use podtrace_path::{Change, Path, Summary};

pub use html::Html;
pub use json::Json;
pub use summary::losses;
pub use text::Text;
pub use words::thousands;

/// One output of a trace. Paths come in the order in which they are to be told, the summary once and last.
///
/// Every call writes its part whole and flushes it, so that a reader of a pipe sees a path as soon as it is
/// finished. Errors are the writer's; a broken pipe is for the caller to judge.
pub trait Report {
    /// Tells one path.
    ///
    /// # Errors
    /// What the writer says.
    fn path(&mut self, path: &Path) -> io::Result<()>;

    /// Tells what became of something that is traced, between the paths that were told before and after it was known.
    ///
    /// # Errors
    /// What the writer says.
    fn change(&mut self, _change: &Change) -> io::Result<()> {
        Ok(())
    }

    /// Tells why a recording is not whole, before its summary. An output without a place for it leaves it to the
    /// summary to say that something is missing.
    ///
    /// # Errors
    /// What the writer says.
    fn lacks(&mut self, _what: &str) -> io::Result<()> {
        Ok(())
    }

    /// Tells what the trace amounts to.
    ///
    /// # Errors
    /// What the writer says.
    fn summary(&mut self, summary: &Summary) -> io::Result<()>;
}
