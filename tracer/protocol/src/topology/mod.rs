//! A node's network topology: its namespaces, devices and routes.
//!
//! The agent reads a [`Topology`] from the kernel by netlink and sends it. Everything derived from it (which devices are
//! uplinks, which pod is behind a veth, which route a packet takes) is a query, so that agent, engine and reports agree.
//! [`Survey`] is the result of asking one node without a trace.

mod model;
mod query;
#[cfg(any(test, feature = "samples"))]
pub mod samples;
mod survey;

pub use model::{Cni, Device, DeviceKind, Namespace, Peer, Role, Route, Topology, Vxlan};
pub use survey::Survey;
