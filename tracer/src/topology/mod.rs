//! WHERE packets can pass: namespaces, devices and routes of a node, as a graph read from the kernel.
//!
//! [`model`] is the graph and [`query`] the questions it answers, both for any system. On the node itself netlink
//! messages become values in [`parse`], a namespace's values are collected by [`dump`], [`assemble`] makes one
//! graph of several namespaces, `cni` says what made it, and [`read`] is the thin part that goes and looks.

#[cfg(target_os = "linux")]
mod assemble;
#[cfg(target_os = "linux")]
mod cni;
#[cfg(target_os = "linux")]
pub(crate) mod dump;
mod model;
#[cfg(target_os = "linux")]
pub(crate) mod parse;
mod query;
#[cfg(target_os = "linux")]
mod read;
#[cfg(test)]
pub(crate) mod samples;
mod survey;

pub use model::{Cni, Device, DeviceKind, Namespace, Peer, Role, Route, Topology, Vxlan};
#[cfg(target_os = "linux")]
pub use read::{Reading, read};
pub use survey::Survey;
