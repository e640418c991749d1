//! A cluster's nodes, pods and Services, and the endpoints that users name.
//!
//! An [`Inventory`] comes from the Kubernetes API, from the lab, or from a YAML file ([`load()`]). [`resolve()`] looks up
//! an [`Endpoint`] in it and returns addresses, ports, pods and nodes, or an error that says what to do. [`Delta`] is the
//! change from one inventory to the next while a trace runs.

mod check;
mod delta;
mod endpoint;
mod load;
mod model;
mod nearest;
mod resolve;
mod resolve_error;

pub use check::is_name;
pub use delta::Delta;
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use load::{LoadError, load, parse};
pub use model::{Inventory, Node, Pod, Run, Service, ServicePort, Untraceable, WhyUntraceable};
pub use nearest::nearest_text;
pub use resolve::{Resolved, resolve};
pub use resolve_error::ResolveError;
