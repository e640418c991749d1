//! Finds the cluster: from a static inventory, the Kubernetes API or the running lab.

mod discover;
pub mod kube;

pub use discover::{Discovered, Host, NotFound, Source, Wanted, discover};
