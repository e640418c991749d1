//! Finds the cluster: from a static inventory, the Kubernetes API or the running lab.

mod discover;
#[cfg_attr(not(feature = "kube"), path = "without_kube.rs")]
pub mod kube;

/// Environment variable of agents' pods: nothing but an agent runs where it is set.
pub(crate) const AGENT_ONLY: &str = "PODTRACE_AGENT_ONLY";

pub use discover::{Discovered, Host, NotFound, Source, Wanted, discover};
