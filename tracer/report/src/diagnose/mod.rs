//! What to do about it: advice for packets that did not arrive.

mod advice;
mod reasons;
mod vanished;

pub use advice::{advice, annotate};
pub use vanished::advice_for_vanished;
