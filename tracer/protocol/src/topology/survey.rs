//! What was found when all nodes of a cluster were looked at.

use std::net::IpAddr;

use super::Topology;

/// One node, as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Its name.
    pub node: String,
    /// Its addresses, by the inventory.
    pub addresses: Vec<IpAddr>,
    /// Its networking, or why it could not be looked at.
    pub found: Result<Topology, String>,
    /// What could not be read or found, a sentence each.
    pub warnings: Vec<String>,
}
