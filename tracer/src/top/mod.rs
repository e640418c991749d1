//! The live view of `podtrace top`, on a terminal.
//!
//! Input: a [`Board`](podtrace_report::top::Board) that the session fills, its progress and messages, and keys. Output: the terminal's screen.
//!
//! 1. The session runs where it always does. A thread of its own reads keys and draws: a slow terminal delays no packet.
//! 2. What is drawn comes from one [`Frame`](draw::Frame), which has everything and knows no terminal ([`draw`]).
//! 3. The terminal is given back however podtrace ends ([`crate::terminal`]).

mod draw;
mod keys;
mod view;

pub use view::{Messages, Shared, View};
