//! WHO is meant: nodes, pods and Services of a cluster, and the endpoints that users name.
//!
//! [`load()`] reads a static [`Inventory`], [`Endpoint`] is what was typed, and [`resolve()`] says which addresses, pods
//! and nodes that means.

mod check;
mod delta;
mod endpoint;
mod load;
mod model;
mod nearest;
mod resolve;

pub use check::is_name;
pub use delta::Delta;
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use load::{LoadError, load, parse};
pub use model::{Inventory, Node, Pod, Run, Service, ServicePort, Unreached, Untraceable};
pub use nearest::nearest_text;
pub use resolve::{ResolveError, Resolved, resolve};
