//! The traffic that the user asked for, by name, and the filter it means in the current cluster.

use std::num::NonZeroU32;

use podtrace_protocol::frame::{FilterSpec, Side};
use podtrace_protocol::inventory::{Endpoint, Inventory, ResolveError, Resolved, present, resolve};

/// The traffic that the user asked for. Endpoints are names, whose addresses change with the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aim {
    /// Source endpoint.
    pub from: Endpoint,
    /// Destination endpoint.
    pub to: Endpoint,
    /// Namespace of endpoints given without one.
    pub namespace: String,
    /// Destination port.
    pub port: Option<u16>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Without replies.
    pub one_way: bool,
    /// Only one in so many of the packets.
    pub sample: Option<NonZeroU32>,
    /// Counts in the kernel, in place of events.
    pub stats: bool,
}

impl Aim {
    /// Resolves both endpoints.
    ///
    /// # Errors
    /// If one of them does not exist, or has no address.
    pub fn ends(&self, inventory: &Inventory) -> Result<(Resolved, Resolved), ResolveError> {
        Ok((self.end(&self.from, inventory)?, self.end(&self.to, inventory)?))
    }

    /// Resolves one endpoint.
    ///
    /// # Errors
    /// If it does not exist, or has no address.
    pub fn end(&self, end: &Endpoint, inventory: &Inventory) -> Result<Resolved, ResolveError> {
        resolve(end, inventory, &self.namespace)
    }

    /// Resolves one endpoint in a cluster that changes: of several, those count that are there.
    ///
    /// # Errors
    /// If none of it exists, or has an address.
    pub fn end_now(&self, end: &Endpoint, inventory: &Inventory) -> Result<Resolved, ResolveError> {
        present(end, inventory, &self.namespace)
    }

    /// The packet filter for these resolved endpoints.
    #[must_use]
    pub fn filter(&self, from: &Resolved, to: &Resolved) -> FilterSpec {
        FilterSpec {
            from: side(from, None),
            to: side(to, self.port),
            protocol: self.protocol,
            one_way: self.one_way,
            sample: self.sample,
            stats: self.stats,
        }
    }

    /// Adds the endpoints' current addresses to a filter. Endpoints that do not resolve add nothing.
    pub(super) fn widened(&self, was: &FilterSpec, inventory: &Inventory) -> FilterSpec {
        let mut filter = was.clone();
        for (side, end) in [(&mut filter.from, &self.from), (&mut filter.to, &self.to)] {
            let Ok(resolved) = self.end_now(end, inventory) else { continue };
            for network in resolved.networks {
                if !side.networks.is_empty() && !side.networks.contains(&network) {
                    side.networks.push(network);
                }
            }
            // No addresses means any address, which cannot be widened.
            if side.addresses.is_empty() || resolved.addresses.is_empty() {
                continue;
            }
            for address in resolved.addresses {
                if !side.addresses.contains(&address) {
                    side.addresses.push(address);
                }
            }
        }
        filter
    }

    /// The nodes to trace: those of both endpoints, or all if an endpoint may be on any node.
    #[must_use]
    pub fn nodes(&self, inventory: &Inventory, from: &Resolved, to: &Resolved) -> Vec<String> {
        // A node port can be reached through any node.
        let by_any_node =
            |service: &Resolved, other: &Resolved| other.nodes.is_empty() && !service.node_ports().is_empty();
        let anywhere = from.addresses.is_empty()
            || to.addresses.is_empty()
            || (from.nodes.is_empty() && to.nodes.is_empty())
            || by_any_node(to, from)
            || by_any_node(from, to);
        let names = inventory.nodes.iter().map(|node| &node.name);
        names
            .filter(|name| anywhere || from.nodes.contains(name) || to.nodes.contains(name))
            .cloned()
            .collect()
    }
}

/// One side of the filter. A port of a Service includes its target ports.
fn side(of: &Resolved, port: Option<u16>) -> Side {
    let ports = port.map_or_else(|| of.ports.clone(), |port| of.ports_of(port));
    // More ports do not fit into the kernel's filter; without any it matches all.
    let ports = if ports.len() > tracer_common::PORTS { Vec::new() } else { ports };
    let node_ports = of.node_ports();
    Side { addresses: of.addresses.clone(), networks: of.networks.clone(), ports, node_ports }
}
