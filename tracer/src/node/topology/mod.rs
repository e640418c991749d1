//! Reads a node's topology from the kernel.
//!
//! 1. [`dump`] lists the devices, addresses, routes and neighbours of one namespace by netlink; [`parse`] converts the
//!    messages, as pure functions.
//! 2. [`read()`] does so for the node's namespace and for every namespace that one of its veths leads to.
//! 3. [`assemble`] keeps the namespaces that have a pod's address and joins them into one graph.
//! 4. `cni` finds the CNI plugin by the files on the node.

mod assemble;
pub(crate) mod changes;
mod cni;
pub(crate) mod dump;
pub(crate) mod parse;
mod read;
mod state;

pub use read::{Reading, read};
