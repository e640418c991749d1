//! Output of `podtrace topology`: how pods, veths, bridges, tunnels and uplinks are connected.
//!
//! `view` collects what is shown of each node, `text` draws it as a tree, `dot` as a graph for Graphviz, `json` serializes it.

mod dot;
mod json;
mod text;
mod view;

use podtrace_protocol::inventory::Inventory;
use podtrace_protocol::topology::Survey;

/// Draws all nodes as trees. Notes that do not fit into `width` columns go to a line of their own.
#[must_use]
pub fn draw(surveys: &[Survey], inventory: &Inventory, width: usize) -> String {
    text::draw(&view::nodes(surveys, inventory), width)
}

/// A graph of all nodes for Graphviz: `dot -Tsvg`.
#[must_use]
pub fn to_dot(surveys: &[Survey], inventory: &Inventory) -> String {
    dot::graph(&view::nodes(surveys, inventory))
}

/// One JSON object per node and line, as described by `schema/topology.schema.json`.
///
/// # Errors
/// None in practice: every node can be serialized.
pub fn to_json(surveys: &[Survey], inventory: &Inventory) -> serde_json::Result<String> {
    json::lines(&view::nodes(surveys, inventory))
}

#[cfg(test)]
mod tests;
