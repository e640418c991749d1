//! What has to be known besides the frames.

use serde::{Deserialize, Serialize};

use podtrace_protocol::frame::FilterSpec;
use podtrace_protocol::inventory::Inventory;

use crate::change::Update;

/// What has to be known besides the frames; saved with them in a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Pods and nodes.
    pub inventory: Inventory,
    /// Names of the traced nodes; a frame's node is an index into this.
    pub nodes: Vec<String>,
    /// What is traced.
    pub filter: FilterSpec,
    /// Ceiling for the memory of packets and flows, in bytes; [`DEFAULT_MEMORY`](crate::DEFAULT_MEMORY) without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
}

impl Context {
    /// Applies a change of the cluster.
    pub fn apply(&mut self, update: &Update) {
        let Update { at_ns: _, delta, filter, joined, blind: _, changes: _ } = update;
        self.inventory.apply(delta);
        if let Some(filter) = filter {
            self.filter.clone_from(filter);
        }
        self.nodes.extend(joined.iter().cloned());
    }
}
