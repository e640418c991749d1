//! WHERE packets can pass: namespaces, devices and routes of a node, as a graph read from the kernel.

mod model;

pub use model::{Device, DeviceKind, Namespace, Peer, Role, Route, Topology, Vxlan};
