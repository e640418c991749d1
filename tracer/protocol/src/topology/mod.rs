//! A node's network topology: its namespaces, devices and routes.
//!
//! The agent reads a [`Topology`] from the kernel by netlink and sends it. Everything derived from it (which devices are
//! uplinks, which pod is behind a veth, which route a packet takes) is a query, so that agent, engine and reports agree.
//! [`Survey`] is the result of asking one node without a trace.
//!
//! # Examples
//!
//! ```
//! use podtrace_protocol::topology::{Namespace, Route, Topology};
//!
//! let route = |destination: &str, device| {
//!     destination.parse().map(|destination| Route { destination, gateway: None, device, metric: 0 })
//! };
//! let routes = vec![route("0.0.0.0/0", 2)?, route("10.42.1.0/24", 3)?];
//! let node = Namespace { inode: 4026531840, routes, ..Namespace::default() };
//! let topology = Topology { namespaces: vec![node], cni: None };
//!
//! let to_pod = topology.route_to("10.42.1.10".parse()?).expect("a route");
//! assert_eq!(to_pod.device, 3, "the longest prefix wins");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod model;
mod query;
#[cfg(any(test, feature = "samples"))]
pub mod samples;
pub mod state;
mod survey;

pub use model::{Cni, Device, DeviceKind, Namespace, Peer, Role, Route, Topology, Vxlan};
pub use query::is_link_local;
pub use state::{Port, PortState, State};
pub use survey::Survey;
