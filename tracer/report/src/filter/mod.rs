//! Selects the paths to report: by a pcap filter (`--filter`), and in replays by endpoints.
//!
//! 1. Each record is tested once, as it arrives: which conditions match, on outer or inner headers.
//! 2. A path matches a condition if any of its packets does.
//! 3. A path is reported if the expression holds for these answers.
//!
//! `docs/filter.md` describes the grammar.
//!
//! # Examples
//!
//! ```
//! use podtrace_report::filter::{Choice, Filter};
//! use podtrace_report::output::Text;
//! use podtrace_report::recording::Reader;
//! use podtrace_report::replay::{ReplayOptions, replay};
//!
//! let filter: Filter = "icmp and src host 10.42.1.10".parse()?;
//! let recording = Reader::new(std::fs::File::open("../../tests/recordings/cross-node-ping.pcapng")?)?;
//! let options = ReplayOptions { choice: Choice::new(Some(filter), None), ..ReplayOptions::default() };
//! let mut text = Vec::new();
//! replay(recording, options, &mut Text::new(anstream::StripStream::new(&mut text)))?;
//! let text = String::from_utf8(text)?;
//! assert!(text.contains("echo reply") && !text.contains("echo request"), "{text}");
//!
//! let error = "tcp prot 80".parse::<Filter>().unwrap_err();
//! assert!(error.to_string().contains("prot"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ast;
mod choice;
mod ends;
mod layers;
mod lexer;
mod parse;

pub use ast::Filter;
pub use choice::Choice;
pub use parse::begins_filter;
