//! What the languages of `--filter` and `--expect` have in common: tokens with their places, and errors that show the
//! place.

mod error;
mod token;

pub use error::SyntaxError;
pub(crate) use token::{Token, tokens};
