//! The Kubernetes API as a source of the inventory.
//!
//! 1. [`access`] reads the kubeconfig and logs in.
//! 2. [`gather`] lists nodes, pods, Services and endpoints ([`list`], [`objects`]); [`translate`] makes an inventory of
//!    them.
//! 3. [`watch`] keeps it up to date while a trace runs: [`follow`] watches the objects of one kind, [`known`] holds them.
//! 4. [`agent_pods`] finds or creates the pods that agents run in; [`mod@manifest`] has their YAML.
//!
//! Every failure is an [`ApiError`]: one line that says what was tried and what to do. Of objects only the few fields that
//! an inventory needs are kept, so that thousands of pods cost little memory.

mod access;
pub mod agent_pods;
mod error;
mod follow;
mod gather;
mod known;
mod kubeconfig;
mod list;
mod machine;
mod manifest;
mod objects;
#[cfg(test)]
mod samples;
mod translate;
mod watch;

pub use access::Api;
pub use agent_pods::{AGENT_COMMAND, CONTAINER};
pub use error::{ApiError, Permission};
pub use gather::{Described, describe};
pub use machine::Machine;
pub use manifest::{default_image, manifest};
pub use watch::{News, Watch, Watching};
