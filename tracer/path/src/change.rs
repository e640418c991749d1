//! Changes of the cluster while it is traced: for the engine, which names packets by them, and for people.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::timestamp;
use podtrace_protocol::frame::FilterSpec;
use podtrace_protocol::inventory::Delta;

/// A change of the cluster: an input of the engine, like frames.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Update {
    /// When it became known, by the tracer's monotonic clock, in nanoseconds.
    pub at_ns: u64,
    /// What the inventory has now that it had not before.
    pub delta: Delta,
    /// The new filter, where it changed.
    pub filter: Option<FilterSpec>,
    /// Names of nodes that are traced from here on. They get the next numbers.
    pub joined: Vec<String>,
    /// Whether matching packets may pass on nodes that are not traced, from here on.
    pub blind: bool,
    /// The same for people to read.
    #[serde(rename = "told")]
    pub changes: Vec<Change>,
}

/// A change of something that is traced. Serialised, this is JSON that users rely on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When it became known, by the tracer's wall clock, in nanoseconds since 1970.
    #[serde(with = "timestamp")]
    pub at: u64,
    /// `default/pod1`, `svc/default/web`, `node/node1`, or an address.
    pub about: String,
    /// What happened to it.
    #[serde(rename = "what")]
    pub kind: ChangeKind,
    /// Where it is now.
    pub now: Option<Place>,
    /// Where it was.
    pub was: Option<Place>,
    /// Full names of the pods that a Service has gained.
    pub added: Vec<String>,
    /// Full names of the pods that a Service has lost.
    pub removed: Vec<String>,
    /// Anything else worth saying.
    pub detail: Option<String>,
}

/// Kinds of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// It has other addresses, or is on another node.
    Moved,
    /// It was deleted and created again, with the same addresses on the same node.
    Renewed,
    /// It was deleted, or has no address any more.
    Gone,
    /// It exists again.
    Back,
    /// The pods behind a Service changed.
    Endpoints,
    /// It is on a node that is not traced.
    Untraced,
    /// A node is traced from here on.
    Traced,
}

/// Where a pod is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Its node; `None` if it is on none.
    pub node: Option<String>,
}

impl Change {
    /// A change without details.
    #[must_use]
    pub fn of(at: u64, about: impl Into<String>, kind: ChangeKind) -> Self {
        Self {
            at,
            about: about.into(),
            kind,
            now: None,
            was: None,
            added: Vec::new(),
            removed: Vec::new(),
            detail: None,
        }
    }
}
