//! What must come out of what happened, as scenes on two nodes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test that met it")]

mod changing;
mod endings;
mod equals;
mod forged;
mod impossible;
mod memory;
mod order;
mod receivers;
mod recorded;
mod simulation;
mod stack;
mod streams;
mod testkit;
mod translation;
mod unwatched;
mod ways;
