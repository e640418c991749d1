//! What became of the cluster while it was traced: for the engine to name packets by, for people to read.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::engine::Context;
use crate::model::timestamp;
use podtrace_protocol::frame::FilterSpec;
use podtrace_protocol::inventory::Delta;

/// One step of what became of a cluster: an input of the engine as frames are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Update {
    /// When it became known; the tracer's monotonic clock, nanoseconds.
    pub at_ns: u64,
    /// What is otherwise than before.
    pub delta: Delta,
    /// What is traced from here on, where that is not what was.
    pub filter: Option<FilterSpec>,
    /// Names of nodes that are traced from here on: the next numbers of nodes are theirs.
    pub joined: Vec<String>,
    /// Whether packets of interest may pass where nobody looks, from here on.
    pub blind: bool,
    /// The same for people to read.
    #[serde(rename = "told")]
    pub changes: Vec<Change>,
}

/// What became of something that is traced. Serialised, this is JSON that users rely on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When it became known: the tracer's wall clock, nanoseconds since 1970.
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
    /// Full names of the pods that are behind it now, and were not.
    pub added: Vec<String>,
    /// Full names of the pods that were behind it, and are not now.
    pub removed: Vec<String>,
    /// What else there is to say.
    pub detail: Option<String>,
}

/// What can become of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// It has other addresses, or is on another node.
    Moved,
    /// It was removed and made anew where it was.
    Renewed,
    /// It is not there any more, or has no address.
    Gone,
    /// It is there again.
    Back,
    /// Other pods are behind it.
    Endpoints,
    /// It is somewhere that is not traced.
    Untraced,
    /// A node is traced from here on.
    Traced,
}

/// Where something is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Its node; `None` for what is on none.
    pub node: Option<String>,
}

impl Change {
    /// A change of which nothing more is known.
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

impl Context {
    /// Makes of it what became of the cluster.
    pub fn apply(&mut self, update: &Update) {
        let Update { at_ns: _, delta, filter, joined, blind: _, changes: _ } = update;
        self.inventory.apply(delta);
        if let Some(filter) = filter {
            self.filter.clone_from(filter);
        }
        self.nodes.extend(joined.iter().cloned());
    }
}
