//! What was asked for, and what it means in a cluster as it is.

use podtrace_protocol::frame::{FilterSpec, Side};
use podtrace_protocol::inventory::{Endpoint, Inventory, ResolveError, Resolved, resolve};

/// What was asked for: names, which mean other addresses when the cluster is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aim {
    /// One end.
    pub from: Endpoint,
    /// The other end.
    pub to: Endpoint,
    /// Namespace of what is named without one.
    pub namespace: String,
    /// Port on the `to` side.
    pub port: Option<u16>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Not the way back.
    pub one_way: bool,
}

impl Aim {
    /// What both ends mean.
    ///
    /// # Errors
    /// If one of them is not there, or has no addresses of its own.
    pub fn ends(&self, inventory: &Inventory) -> Result<(Resolved, Resolved), ResolveError> {
        Ok((self.end(&self.from, inventory)?, self.end(&self.to, inventory)?))
    }

    /// What one of the ends means.
    ///
    /// # Errors
    /// If it is not there, or has no addresses of its own.
    pub fn end(&self, end: &Endpoint, inventory: &Inventory) -> Result<Resolved, ResolveError> {
        resolve(end, inventory, &self.namespace)
    }

    /// The packets of interest, where the ends mean these.
    #[must_use]
    pub fn filter(&self, from: &Resolved, to: &Resolved) -> FilterSpec {
        FilterSpec {
            from: side(from, None),
            to: side(to, self.port),
            protocol: self.protocol,
            one_way: self.one_way,
        }
    }

    /// A filter that lets through what it did, and what the ends mean now; what means nothing now adds nothing.
    pub(super) fn widened(&self, was: &FilterSpec, inventory: &Inventory) -> FilterSpec {
        let mut filter = was.clone();
        for (side, end) in [(&mut filter.from, &self.from), (&mut filter.to, &self.to)] {
            let Ok(resolved) = self.end(end, inventory) else { continue };
            // Any address is wider than all that are known.
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

    /// The nodes to ask: those of both ends, or all where an end may be anywhere.
    #[must_use]
    pub fn nodes(&self, inventory: &Inventory, from: &Resolved, to: &Resolved) -> Vec<String> {
        // By a node port a Service is reached through any node.
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

/// A side of the traffic: where it is a Service, a port stands for what it becomes at its endpoints too.
fn side(of: &Resolved, port: Option<u16>) -> Side {
    let ports = port.map_or_else(|| of.ports.clone(), |port| of.ports_of(port));
    // More do not fit into the kernel's filter, which then lets through all.
    let ports = if ports.len() > tracer_common::PORTS { Vec::new() } else { ports };
    let node_ports = of.node_ports();
    Side { addresses: of.addresses.clone(), ports, node_ports }
}
