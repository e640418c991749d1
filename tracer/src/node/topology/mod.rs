//! Reads a node's topology: netlink messages become values in [`parse`], a namespace's values are collected by
//! [`dump`], [`assemble`] makes one graph of several namespaces, `cni` says what made it, and [`read()`] goes and looks.

mod assemble;
pub(crate) mod changes;
mod cni;
pub(crate) mod dump;
pub(crate) mod parse;
mod read;
mod state;

pub use read::{Reading, read};
