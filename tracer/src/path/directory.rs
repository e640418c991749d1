//! Whose address is it: pods and nodes of the inventory by address.

use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::cluster::Inventory;
use crate::topology::Topology;

use super::model::{End, Protocol, Tuple};

/// Pods and nodes by address.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pods: FxHashMap<IpAddr, Owner>,
    nodes: FxHashMap<IpAddr, Arc<str>>,
    /// The inventory's part of `nodes`: what a device that leads out of its node has.
    listed: FxHashSet<IpAddr>,
    services: FxHashMap<(IpAddr, u16, Protocol), ServiceEntry>,
    node_ports: FxHashMap<(u16, Protocol), ServiceEntry>,
    /// Names of the nodes that are traced.
    traced: FxHashSet<Arc<str>>,
}

/// A Service, by one of its ports.
#[derive(Clone, Debug)]
pub(super) struct ServiceEntry {
    pub(super) name: Arc<str>,
    pub(super) endpoints: u32,
}

#[derive(Debug)]
struct Owner {
    pod: Arc<str>,
    node: Arc<str>,
}

impl Directory {
    pub(super) fn new(inventory: &Inventory, traced: &[Arc<str>]) -> Self {
        let mut directory = Self { traced: traced.iter().cloned().collect(), ..Self::default() };
        for node in &inventory.nodes {
            let name: Arc<str> = node.name.as_str().into();
            for address in &node.addresses {
                directory.nodes.insert(*address, name.clone());
                directory.listed.insert(*address);
            }
        }
        // A pod on the host network has its node's address, which is then nobody's in particular.
        for pod in inventory.pods.iter().filter(|pod| !pod.host_network) {
            let (name, node): (Arc<str>, Arc<str>) = (pod.full_name().into(), pod.node.as_str().into());
            for address in &pod.ips {
                directory.pods.insert(*address, Owner { pod: name.clone(), node: node.clone() });
            }
        }
        for service in &inventory.services {
            let entry = ServiceEntry {
                name: format!("{}/{}", service.namespace, service.name).into(),
                endpoints: u32::try_from(service.endpoints.len()).unwrap_or(u32::MAX),
            };
            for port in &service.ports {
                let Some(proto) = port.protocol_number().map(Protocol::of_number) else { continue };
                for address in &service.cluster_ips {
                    directory.services.insert((*address, port.port, proto), entry.clone());
                }
                if let Some(node_port) = port.node_port {
                    directory.node_ports.insert((node_port, proto), entry.clone());
                }
            }
        }
        directory
    }

    /// The Service that has this port at this address: its own, or a node's.
    pub(super) fn service(&self, address: IpAddr, port: u16, proto: Protocol) -> Option<&ServiceEntry> {
        self.services
            .get(&(address, port, proto))
            .or_else(|| self.node_ports.get(&(port, proto)).filter(|_| self.nodes.contains_key(&address)))
    }

    /// Adds the addresses that a node's own namespace has: its bridge's and tunnels' are in no inventory.
    pub(super) fn learn(&mut self, node: &Arc<str>, topology: &Topology) {
        for address in topology.own_addresses() {
            self.nodes.entry(address).or_insert_with(|| node.clone());
        }
    }

    /// Name of the pod with this address.
    pub(super) fn pod(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.pods.get(&address).map(|owner| &owner.pod)
    }

    /// Name of the node with this address itself.
    pub(super) fn node(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.nodes.get(&address)
    }

    /// Name of the node that the inventory lists with this address.
    pub(super) fn listed_node(&self, address: IpAddr) -> Option<&str> {
        if self.listed.contains(&address) { self.nodes.get(&address).map(|name| &**name) } else { None }
    }

    /// Name of the node that packets to this address have to reach.
    pub(super) fn home(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.pods.get(&address).map(|owner| &owner.node).or_else(|| self.nodes.get(&address))
    }

    /// Whether packets from this address begin where a traced node sees them.
    pub(super) fn begins_in_sight(&self, address: IpAddr) -> bool {
        self.home(address).is_some_and(|node| self.traced.contains(node))
    }

    pub(super) fn is_traced(&self, node: &str) -> bool {
        self.traced.contains(node)
    }

    /// Both ends of a packet.
    pub(super) fn ends(&self, tuple: &Tuple) -> (End, End) {
        let end = |ip, port: Option<u16>| End {
            pod: self.pod(ip).cloned(),
            ip,
            port,
            node: self.home(ip).cloned(),
            service: port
                .and_then(|port| self.service(ip, port, tuple.proto))
                .map(|service| service.name.clone()),
        };
        (end(tuple.src, tuple.sport), end(tuple.dst, tuple.dport))
    }
}
