//! WHERE packets can pass: namespaces, devices and routes of a node, as a graph.
//!
//! A topology is plain data with queries. The agent reads it from the kernel; [`Survey`] holds those of all nodes.

mod model;
mod query;
#[cfg(any(test, feature = "samples"))]
pub mod samples;
mod survey;

pub use model::{Cni, Device, DeviceKind, Namespace, Peer, Role, Route, Topology, Vxlan};
pub use survey::Survey;
