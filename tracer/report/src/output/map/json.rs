//! The networking of nodes for programs.

use serde::Serialize;

use super::view::NodeView;
use crate::output::json::Visible;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line<'a> {
    Node(&'a NodeView<'a>),
}

/// An object a node and line.
pub(super) fn lines(nodes: &[NodeView<'_>]) -> serde_json::Result<String> {
    let mut lines = Vec::new();
    for node in nodes {
        Line::Node(node).serialize(&mut serde_json::ser::Serializer::with_formatter(&mut lines, Visible))?;
        lines.push(b'\n');
    }
    String::from_utf8(lines).map_err(serde::ser::Error::custom)
}
