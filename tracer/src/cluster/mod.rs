//! Finds the cluster: from a static inventory, the Kubernetes API or the running lab.

mod discover;
#[cfg_attr(not(feature = "kube"), path = "without_kube.rs")]
pub mod kube;

pub use discover::{Discovered, Host, NotFound, Source, Wanted, discover};
