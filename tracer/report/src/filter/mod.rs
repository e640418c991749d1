//! Which of the paths seen are told: pcap expressions (`--filter`), and the ends of traffic where a recording is read.
//!
//! Every record is looked at once, when it comes: of each condition it is noted whether the packet holds it, as it is
//! on the device or inside its tunnel. A path holds a condition if one of its packets does, and is told if the
//! expression holds with these answers. `docs/filter.md` is the grammar.

mod ast;
mod choice;
mod ends;
mod layers;
mod lexer;
mod parse;

pub use ast::Filter;
pub use choice::Choice;
