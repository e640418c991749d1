//! The drawing of a cluster's networking: which pod hangs on which veth and bridge, by which tunnels and uplinks nodes
//! reach each other.
//!
//! `view` says what there is to tell of a node, `text` draws it, `json` has it for programs.

mod json;
mod text;
mod view;

use podtrace_protocol::inventory::Inventory;
use podtrace_protocol::topology::Survey;

/// Draws all nodes for people. Lines get no longer than `width`, as far as what they hold allows.
#[must_use]
pub fn draw(surveys: &[Survey], inventory: &Inventory, width: usize) -> String {
    text::draw(&view::nodes(surveys, inventory), width)
}

/// Tells all nodes to programs: an object a line, as `schema/topology.schema.json` describes it.
///
/// # Errors
/// None that can happen: every node can be told.
pub fn tell(surveys: &[Survey], inventory: &Inventory) -> serde_json::Result<String> {
    json::lines(&view::nodes(surveys, inventory))
}

#[cfg(test)]
mod tests;
