//! Who has which address: pods, Services and nodes of the inventory.

use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use podtrace_protocol::inventory::{Delta, Inventory, Node, Pod, Service};
use podtrace_protocol::topology::Topology;

use crate::model::{End, Protocol, Tuple};
use crate::time::Moment;

/// Pods and nodes by address.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// Latest owner of each address: a pod that was deleted keeps its address until another pod gets it.
    pods: FxHashMap<IpAddr, AddressOwner>,
    /// Earlier owners of each address, oldest first, and until when.
    former: FxHashMap<IpAddr, Vec<(Moment, AddressOwner)>>,
    nodes: FxHashMap<IpAddr, Arc<str>>,
    /// The addresses of `nodes` that the inventory lists: those of uplinks.
    listed: FxHashSet<IpAddr>,
    services: FxHashMap<(IpAddr, u16, Protocol), ServiceEntry>,
    node_ports: FxHashMap<(u16, Protocol), ServiceEntry>,
    /// Names of Services by their addresses, for packets to ports that they do not have.
    cluster_ips: FxHashMap<IpAddr, Arc<str>>,
    /// Names of the nodes that are traced.
    traced: FxHashSet<Arc<str>>,
}

/// A Service, by one of its ports.
#[derive(Clone, Debug)]
pub(crate) struct ServiceEntry {
    pub(crate) name: Arc<str>,
    pub(crate) endpoints: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct AddressOwner {
    pod: Arc<str>,
    node: Arc<str>,
}

/// Most earlier owners remembered of one address.
const FORMER: usize = 16;

impl Directory {
    pub(crate) fn new(inventory: &Inventory, traced: &[Arc<str>]) -> Self {
        let mut directory = Self { traced: traced.iter().cloned().collect(), ..Self::default() };
        inventory.nodes.iter().for_each(|node| directory.add_node(node));
        inventory.pods.iter().for_each(|pod| directory.add_pod(pod, Moment::MIN));
        inventory.services.iter().for_each(|service| directory.add_service(service));
        directory
    }

    /// Takes a change of the cluster as of this moment.
    pub(crate) fn update(&mut self, delta: &Delta, at: Moment) {
        // Deleted pods keep their addresses: packets to these are meant for them.
        let Delta { nodes, pods, pods_gone: _, services, services_gone } = delta;
        nodes.iter().for_each(|node| self.add_node(node));
        pods.iter().for_each(|pod| self.add_pod(pod, at));
        let others: FxHashSet<_> =
            services.iter().map(Service::full_name).chain(services_gone.iter().cloned()).collect();
        self.cluster_ips.retain(|_, name| !others.contains(&**name));
        self.services.retain(|_, entry| !others.contains(&*entry.name));
        self.node_ports.retain(|_, entry| !others.contains(&*entry.name));
        services.iter().for_each(|service| self.add_service(service));
    }

    /// This node is traced from here on.
    pub(crate) fn trace(&mut self, node: &Arc<str>) {
        self.traced.insert(node.clone());
    }

    /// The addresses of a node's pods.
    pub(crate) fn pod_addresses(&self, node: &str) -> impl Iterator<Item = IpAddr> {
        self.pods.iter().filter(move |(_, owner)| &*owner.node == node).map(|(address, _)| *address)
    }

    fn add_node(&mut self, node: &Node) {
        let name: Arc<str> = node.name.as_str().into();
        for address in &node.addresses {
            self.nodes.insert(*address, name.clone());
            self.listed.insert(*address);
        }
    }

    fn add_pod(&mut self, pod: &Pod, at: Moment) {
        // A pod on the host network shares its node's address.
        if pod.host_network {
            return;
        }
        let owner = AddressOwner { pod: pod.full_name().into(), node: pod.node.as_str().into() };
        for address in &pod.ips {
            let before = self.pods.insert(*address, owner.clone()).filter(|before| *before != owner);
            if let Some(before) = before {
                let former = self.former.entry(*address).or_default();
                if former.len() == FORMER {
                    former.remove(0);
                }
                former.push((at, before));
            }
        }
    }

    fn add_service(&mut self, service: &Service) {
        let entry = ServiceEntry {
            name: service.full_name().into(),
            endpoints: u32::try_from(service.endpoints.len()).unwrap_or(u32::MAX),
        };
        for port in &service.ports {
            let Some(proto) = port.protocol_number().map(Protocol::of_number) else { continue };
            for address in &service.cluster_ips {
                self.cluster_ips.insert(*address, entry.name.clone());
                self.services.insert((*address, port.port, proto), entry.clone());
            }
            if let Some(node_port) = port.node_port {
                self.node_ports.insert((node_port, proto), entry.clone());
            }
        }
    }

    /// The Service that has this port at this address: its own, or a node's.
    pub(crate) fn service(&self, address: IpAddr, port: u16, proto: Protocol) -> Option<&ServiceEntry> {
        self.services
            .get(&(address, port, proto))
            .or_else(|| self.node_ports.get(&(port, proto)).filter(|_| self.nodes.contains_key(&address)))
    }

    /// The first of the addresses that the inventory lists for a node.
    pub(crate) fn listed_address(&self, node: &str) -> Option<IpAddr> {
        let of_node = |address: &&IpAddr| self.nodes.get(address).is_some_and(|name| &**name == node);
        self.listed.iter().filter(of_node).min().copied()
    }

    /// Name of the Service with this address.
    pub(crate) fn service_at(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.cluster_ips.get(&address)
    }

    /// Adds the addresses of a node's own namespace: the inventory lacks those of its bridge and tunnels.
    pub(crate) fn learn(&mut self, node: &Arc<str>, topology: &Topology) {
        for address in topology.own_addresses() {
            self.nodes.entry(address).or_insert_with(|| node.clone());
        }
    }

    /// Name of the pod with this address.
    pub(crate) fn pod(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.pods.get(&address).map(|owner| &owner.pod)
    }

    /// Name of the node with this address itself.
    pub(crate) fn node(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.nodes.get(&address)
    }

    /// Name of the node that the inventory lists with this address.
    pub(crate) fn listed_node(&self, address: IpAddr) -> Option<&str> {
        if self.listed.contains(&address) { self.nodes.get(&address).map(|name| &**name) } else { None }
    }

    /// Name of the node that has this address, or whose pod has it.
    pub(crate) fn node_of(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.pods.get(&address).map(|owner| &owner.node).or_else(|| self.nodes.get(&address))
    }

    /// Whether packets from this address start on a traced node.
    pub(crate) fn starts_on_traced_node(&self, address: IpAddr) -> bool {
        self.node_of(address).is_some_and(|node| self.traced.contains(node))
    }

    pub(crate) fn is_traced(&self, node: &str) -> bool {
        self.traced.contains(node)
    }

    /// Who had an address at a moment.
    fn owner(&self, address: IpAddr, at: Moment) -> Option<&AddressOwner> {
        let former = self.former.get(&address).into_iter().flatten();
        let then = former.into_iter().find(|(until, _)| at < *until).map(|(_, owner)| owner);
        then.or_else(|| self.pods.get(&address))
    }

    /// Both ends of a packet, as of this moment.
    pub(crate) fn ends(&self, tuple: &Tuple, at: Moment) -> (End, End) {
        let end = |ip, port: Option<u16>| End {
            pod: self.owner(ip, at).map(|owner| owner.pod.clone()),
            ip,
            port,
            node: self.owner(ip, at).map(|owner| &owner.node).or_else(|| self.nodes.get(&ip)).cloned(),
            service: port
                .and_then(|port| self.service(ip, port, tuple.proto))
                .map(|service| &service.name)
                .or_else(|| self.cluster_ips.get(&ip))
                .cloned(),
        };
        (end(tuple.src, tuple.sport), end(tuple.dst, tuple.dport))
    }
}
