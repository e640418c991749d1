//! The vocabulary that the tracer, its agents and recordings share: everything here travels or is recorded.
//!
//! An agent sends [`frame`]s, encoded by [`codec`]; their events are [`record`]s made at a [`hook`]. A frame also
//! carries a node's [`topology`] and its packet filter; the [`inventory`] says whose the addresses are.

pub mod codec;
pub mod frame;
pub mod hook;
pub mod inventory;
pub mod record;
pub mod topology;
pub mod wire;
