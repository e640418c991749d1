//! What `podtrace top` shows: the routes of a trace with numbers that live, its flows and its causes.
//!
//! Input: finished paths with their advice, and ticks of a clock. Output: a [`Screen`], which a drawing needs nothing besides.
//!
//! 1. Paths are grouped into trails: those of one direction whose hops are equal as far as the shorter one goes, so that packets
//!    that were lost on the way count on the trail of those that arrived ([`trail`]).
//! 2. Each hop of a trail has the packets that reached it and the times since the hop before it.
//! 3. Flows and causes are those of [`totals`](crate::totals).
//! 4. The last packets are kept, to be opened ([`board`]).
//!
//! Everything is bounded: trails, packets that are kept, flows and causes. What is beyond a bound is counted.

mod board;
mod screen;
mod trail;

pub use board::{Board, Opened};
pub use screen::{CauseRow, FlowRow, HopRow, Latencies, Row, Screen, Sort, Tab, TrailRow};
