//! The topology of one node, read without a trace.

use std::net::IpAddr;

use podtrace_rules::Rules;

use super::Topology;

/// The result for one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Its name.
    pub node: String,
    /// Its addresses according to the inventory.
    pub addresses: Vec<IpAddr>,
    /// Its topology, or why it could not be read.
    pub found: Result<Topology, String>,
    /// Its packet filter; `None` if it was not asked for, or could not be read.
    pub rules: Option<Rules>,
    /// What is missing from the topology, one line each.
    pub warnings: Vec<String>,
}
