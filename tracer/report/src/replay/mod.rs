//! Replays recordings, and selects which finished paths are reported, for live traces and replays.
//!
//! # Examples
//!
//! ```
//! use podtrace_report::output::Json;
//! use podtrace_report::recording::Reader;
//! use podtrace_report::replay::{ReplayOptions, replay};
//!
//! let recording = Reader::new(std::fs::File::open("../../tests/recordings/cross-node-ping.pcapng")?)?;
//! let mut json = Vec::new();
//! let replayed = replay(recording, ReplayOptions::default(), &mut Json::new(&mut json))?;
//! assert!(replayed.outcome.summary.complete);
//! assert!(json.starts_with(br#"{"type":"path","id":1,"verdict":"delivered""#));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod aim;
mod pending;
mod presenter;
mod run;

pub use aim::Aim;
pub use presenter::{Outcome, Presenter};
pub use run::{ReplayOptions, Replayed, replay};
