//! The Kubernetes API as a description of a cluster.
//!
//! [`access`] finds the server and how to log in, [`list`] fetches, [`objects`] is what is read of the answers and
//! [`translate`] the inventory that they make; [`known`] are those objects, [`follow`] what becomes of those of a kind
//! and [`watch`] what becomes of the cluster; [`refusal`] says what went wrong, and what to do. [`agent_pods`] are
//! what nodes are reached by.

mod access;
pub mod agent_pods;
mod follow;
mod gather;
mod known;
mod list;
mod machine;
mod objects;
mod refusal;
#[cfg(test)]
mod samples;
mod translate;
mod watch;

pub use access::Api;
pub use agent_pods::{AGENT_COMMAND, CONTAINER, default_image, manifest};
pub use gather::{Described, describe};
pub use machine::Machine;
pub use refusal::{Refusal, Right};
pub use watch::{News, Watch, Watching};
