//! A recording read again, and the part that live tracing shares with it: which of the finished paths are reported.

mod aim;
mod presenter;
mod run;

pub use aim::Aim;
pub use presenter::{Outcome, Presenter};
pub use run::{Replayed, Telling, replay};
