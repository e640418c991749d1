//! WHO is meant: endpoints, pods, services and nodes, and where they are looked up.
//!
//! [`discover()`] finds where the cluster is described, [`load()`] reads it into an [`Inventory`], [`Endpoint`] is
//! what was typed and [`resolve()`] says which addresses, pods and nodes that means.

mod check;
mod delta;
mod discover;
mod endpoint;
mod inventory;
pub mod kube;
mod load;
mod nearest;
mod resolve;

pub use delta::Delta;
pub use discover::{Discovered, Host, NotFound, Source, Wanted, discover};
pub use endpoint::{Endpoint, InvalidEndpoint};
pub use inventory::{Inventory, Node, Pod, Run, Service, ServicePort, Unreached, Untraceable};
pub use load::{LoadError, load, parse};
pub use resolve::{ResolveError, Resolved, resolve};
