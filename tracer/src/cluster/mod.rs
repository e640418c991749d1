//! WHO is meant, and where that is looked up: a static inventory, or the Kubernetes API.

mod discover;
pub mod kube;

pub use discover::{Discovered, Host, NotFound, Source, Wanted, discover};
