//! Which of the paths seen are told: pcap expressions (`--filter`), and the ends of traffic where a recording is read.
//!
//! Every record is looked at once, when it comes: of each condition it is noted whether the packet holds it, as it is
//! on the device or inside its tunnel. A path holds a condition if one of its packets does, and is told if the
//! expression holds with these answers. `docs/filter.md` is the grammar.
//!
//! # Examples
//!
//! ```
//! use podtrace_report::filter::{Choice, Filter};
//! use podtrace_report::output::Text;
//! use podtrace_report::recording::Reader;
//! use podtrace_report::replay::{Telling, replay};
//!
//! let filter: Filter = "icmp and src host 10.42.1.10".parse()?;
//! let recording = Reader::new(std::fs::File::open("../../tests/recordings/cross-node-ping.pcapng")?)?;
//! let telling = Telling { choice: Choice::new(Some(filter), None), ..Telling::default() };
//! let mut text = Vec::new();
//! replay(recording, telling, &mut Text::new(anstream::StripStream::new(&mut text)))?;
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
