//! What is known of the nodes besides their packets: the latest topology that each agent sent.
//!
//! Checks read it, and nothing else. A recording made before agents sent a namespace's state has less of it; a check then
//! finds nothing, which says nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use podtrace_path::Context;
use podtrace_protocol::frame::FromAgent;
use podtrace_protocol::topology::{Device, Namespace, Topology};
use podtrace_rules::Rules;

/// What is known of all traced nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    nodes: Vec<Node>,
    /// Full name of the pod that has an address by the inventory.
    owners: BTreeMap<IpAddr, String>,
    /// The rules inside pods, by the pods' full names.
    inside: BTreeMap<String, Rules>,
}

/// What is known of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its addresses by the inventory.
    pub addresses: Vec<IpAddr>,
    /// What its agent read last.
    pub topology: Topology,
}

/// One network namespace, and where it is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The node.
    pub node: &'a Node,
    /// The namespace: the node's own or a pod's.
    pub namespace: &'a Namespace,
}

impl Facts {
    /// Knows the nodes by name and address only.
    #[must_use]
    pub fn new(context: &Context) -> Self {
        let listed = |name: &str| context.inventory.nodes.iter().find(|node| node.name == name);
        let node = |name: &String| Node {
            name: name.clone(),
            addresses: listed(name).map(|node| node.addresses.clone()).unwrap_or_default(),
            topology: Topology::default(),
        };
        let pods = context.inventory.pods.iter().filter(|pod| !pod.host_network);
        let owned = pods.flat_map(|pod| pod.ips.iter().map(|address| (*address, pod.full_name())));
        Self {
            nodes: context.nodes.iter().map(node).collect(),
            owners: owned.collect(),
            inside: BTreeMap::new(),
        }
    }

    /// Adds a node that joined the trace.
    pub fn join(&mut self, name: &str) {
        self.nodes.push(Node { name: name.to_owned(), ..Node::default() });
    }

    /// Takes a frame of a node; only topologies and the rules inside pods matter. Returns whether findings may differ.
    pub fn learn(&mut self, node: usize, frame: &FromAgent) -> bool {
        if let FromAgent::Rules(rules) = frame {
            self.inside.extend(rules.inside.clone());
            return false;
        }
        let (FromAgent::Topology(topology) | FromAgent::NetworkChanged(topology), Some(node)) =
            (frame, self.nodes.get_mut(node))
        else {
            return false;
        };
        node.topology.clone_from(topology);
        true
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A node, by its name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Full name of the pod that has this address by the inventory.
    #[must_use]
    pub fn owner(&self, address: IpAddr) -> Option<&str> {
        self.owners.get(&address).map(String::as_str)
    }

    /// The rules inside a pod, by its full name, where they were read and are not empty.
    #[must_use]
    pub fn rules_inside(&self, pod: &str) -> Option<&Rules> {
        self.inside.get(pod)
    }

    /// All namespaces of all nodes.
    pub fn places(&self) -> impl Iterator<Item = Place<'_>> {
        self.nodes
            .iter()
            .flat_map(|node| node.topology.namespaces.iter().map(move |namespace| Place { node, namespace }))
    }

    /// The namespace of a pod, by the pod's full name.
    #[must_use]
    pub fn pod(&self, name: &str) -> Option<Place<'_>> {
        self.places().find(|place| place.namespace.pod.as_deref() == Some(name))
    }

    /// Devices that have this address, with the namespaces that they are in.
    pub fn holders(&self, address: IpAddr) -> impl Iterator<Item = (Place<'_>, &Device)> {
        self.places().flat_map(move |place| {
            let devices = place.namespace.devices.iter();
            devices.filter(move |device| has(device, address)).map(move |device| (place, device))
        })
    }

    /// Devices that have this link-layer address, with the namespaces that they are in.
    pub fn with_mac(&self, mac: [u8; 6]) -> impl Iterator<Item = (Place<'_>, &Device)> {
        self.places().flat_map(move |place| {
            let devices = place.namespace.devices.iter();
            devices.filter(move |device| device.mac == Some(mac)).map(move |device| (place, device))
        })
    }
}

impl Node {
    /// Whether the address is one of the node's own.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
            || self.topology.node().is_some_and(|own| own.devices.iter().any(|device| has(device, address)))
    }
}

impl Place<'_> {
    /// The pod's full name, or the node's.
    #[must_use]
    pub fn name(&self) -> &str {
        self.namespace.pod.as_deref().unwrap_or(&self.node.name)
    }
}

/// Whether a device has an address.
#[must_use]
pub fn has(device: &Device, address: IpAddr) -> bool {
    device.addresses.iter().map(IpNet::addr).any(|own| own == address)
}
