//! A recording read again, and the part that live tracing shares with it: which of the finished paths are reported.
//!
//! # Examples
//!
//! ```
//! use podtrace_report::output::Json;
//! use podtrace_report::recording::Reader;
//! use podtrace_report::replay::{Telling, replay};
//!
//! let recording = Reader::new(std::fs::File::open("../../tests/recordings/cross-node-ping.pcapng")?)?;
//! let mut json = Vec::new();
//! let replayed = replay(recording, Telling::default(), &mut Json::new(&mut json))?;
//! assert!(replayed.outcome.summary.complete);
//! assert!(json.starts_with(br#"{"type":"path","id":1,"verdict":"delivered""#));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod aim;
mod presenter;
mod run;

pub use aim::Aim;
pub use presenter::{Outcome, Presenter};
pub use run::{Replayed, Telling, replay};
