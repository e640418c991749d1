//! The Kubernetes API as a description of a cluster.
//!
//! [`access`] finds the server and how to log in, [`list`] fetches, [`objects`] is what is read of the answers and
//! [`translate`] the inventory that they make; [`refusal`] says what went wrong, and what to do.

mod access;
mod gather;
mod list;
mod machine;
mod objects;
mod refusal;
#[cfg(test)]
mod samples;
mod translate;

pub use access::Api;
pub use gather::{Described, describe};
pub use machine::Machine;
pub use refusal::{Refusal, Right};
