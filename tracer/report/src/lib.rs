//! From finished paths to what people and programs read.
//!
//! [`diagnose`] explains a path's end, [`doctor`] says what is wrong with nodes that nobody traces, [`filter`] picks the paths that are wanted, [`expect`] judges them, [`totals`] sums
//! them, [`diff`] compares two traces, [`output`] renders them, [`top`] keeps what a live view shows of them, [`recording`] keeps them with all frames, and [`replay`] reads a recording again. Expressions of both
//! languages are split and refused by [`syntax`].

pub mod diagnose;
pub mod diff;
pub mod doctor;
pub mod expect;
pub mod filter;
pub mod output;
pub mod recording;
pub mod replay;
pub mod syntax;
pub mod top;
pub mod totals;
