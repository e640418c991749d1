//! Reads a node's packet filter by the programs that list it.

mod read;
mod run;

pub use read::read;
