//! One picture of the cluster: what the agents read, and what the inventory says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use podtrace_path::Context;
use podtrace_protocol::frame::FromAgent;
use podtrace_protocol::inventory::Inventory;
use podtrace_protocol::topology::{Device, DeviceKind, Namespace, Role, Survey, Vxlan};
use podtrace_rules::Finder;

use crate::diagnose::Facts;
use crate::diagnose::facts::Node;

/// What checks read.
pub(super) struct Cluster<'a> {
    pub(super) facts: Facts,
    pub(super) inventory: &'a Inventory,
    /// The packet filters that were read, by the nodes' names.
    pub(super) rules: BTreeMap<String, Finder>,
    /// Those inside pods, by the pods' full names.
    pub(super) inside: BTreeMap<String, Finder>,
    /// Each address of each pod that has a network namespace of its own.
    pub(super) pods: Vec<PodAddress>,
    /// Whether every node of the inventory was read.
    pub(super) is_whole: bool,
}

/// A pod's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodAddress {
    /// Full name of the pod.
    pub(super) pod: String,
    /// Name of its node.
    pub(super) node: String,
    pub(super) address: IpAddr,
}

impl<'a> Cluster<'a> {
    pub(super) fn new(surveys: &[Survey], inventory: &'a Inventory) -> Self {
        let nodes: Vec<_> = surveys.iter().map(|survey| survey.node.clone()).collect();
        let context = Context { inventory: inventory.clone(), nodes, ..Context::default() };
        let mut facts = Facts::new(&context);
        let (mut rules, mut inside) = (BTreeMap::new(), BTreeMap::new());
        for (number, survey) in surveys.iter().enumerate() {
            let Ok(topology) = &survey.found else { continue };
            facts.learn(number, &FromAgent::Topology(topology.clone()));
            let Some(read) = &survey.rules else { continue };
            inside.extend(read.inside.iter().map(|(pod, rules)| (pod.clone(), Finder::new(rules.clone()))));
            rules.insert(survey.node.clone(), Finder::new(read.clone()));
        }
        let own = inventory.pods.iter().filter(|pod| !pod.host_network);
        let pods = own.flat_map(|pod| {
            let of = |address: &IpAddr| PodAddress {
                pod: pod.full_name(),
                node: pod.node.clone(),
                address: *address,
            };
            pod.ips.iter().map(of).collect::<Vec<_>>()
        });
        let is_whole = surveys.iter().all(|survey| survey.found.is_ok());
        Self { facts, inventory, rules, inside, pods: pods.collect(), is_whole }
    }

    /// The nodes that were read, each with its own namespace.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Node, &Namespace)> {
        self.facts.nodes().iter().filter_map(|node| Some((node, node.topology.node()?)))
    }

    /// Number of pods of a node that have a namespace of their own.
    pub(super) fn pods_of(&self, node: &str) -> usize {
        let own = |pod: &&podtrace_protocol::inventory::Pod| !pod.host_network && pod.node == node;
        self.inventory.pods.iter().filter(own).count()
    }

    /// The other nodes, each with one address of its pods of each IP version: one tunnel serves them all.
    pub(super) fn others<'s>(&'s self, node: &'s Node) -> impl Iterator<Item = (&'s Node, &'s PodAddress)> {
        let mut seen = BTreeSet::new();
        self.pods.iter().filter_map(move |pod| {
            let is_new = pod.node != node.name && seen.insert((pod.node.as_str(), pod.address.is_ipv4()));
            is_new.then(|| Some((self.facts.node(&pod.node)?, pod))).flatten()
        })
    }

    /// The node's end of a pod's veth pair, with its node.
    pub(super) fn veth(&self, pod: &PodAddress) -> Option<(&Node, &Device)> {
        let node = self.facts.node(&pod.node)?;
        Some((node, node.topology.host_veth_of(&pod.pod)?))
    }

    /// The bridge that a pod hangs on.
    pub(super) fn bridge(&self, pod: &PodAddress) -> Option<&Device> {
        let (node, veth) = self.veth(pod)?;
        node.topology.bridge_of(veth.index)
    }

    /// The network that a pod's node gives addresses of: that of its bridge, else the pod's address alone.
    pub(super) fn network(&self, pod: &PodAddress) -> IpNet {
        let of_bridge = self.bridge(pod).and_then(|bridge| {
            bridge.addresses.iter().find(|network| network.contains(&pod.address)).map(IpNet::trunc)
        });
        of_bridge.unwrap_or_else(|| pod.address.into())
    }

    /// The VXLAN devices of one name on both nodes, of which the other's has an address of this version. Whether packets to the
    /// address take them, only routes say.
    pub(super) fn tunnel<'n>(&self, from: &'n Node, to: &'n Node, address: IpAddr) -> Option<Tunnel<'n>> {
        let (own, theirs) = (from.topology.node()?, to.topology.node()?);
        own.devices.iter().find_map(|near| {
            let DeviceKind::Vxlan(settings) = &near.kind else { return None };
            let far = theirs
                .devices
                .iter()
                .find(|far| far.name == near.name && matches!(far.kind, DeviceKind::Vxlan(_)))?;
            let is_end = |end: &IpAddr| {
                end.is_ipv4() == address.is_ipv4()
                    && !matches!(end, IpAddr::V6(end) if end.is_unicast_link_local())
            };
            let end = far.addresses.iter().map(IpNet::addr).find(is_end)?;
            Some(Tunnel { near, settings, far, end })
        })
    }

    /// Whether the main table decides on the ways of a node's packets to pods: nothing else is known to.
    pub(super) fn is_routed_by_main_table(&self, node: &Node, own: &Namespace) -> bool {
        use podtrace_protocol::topology::state::PolicyAction;
        let others = |action: PolicyAction| match action {
            PolicyAction::Lookup(table) => ![253, 254, 255].contains(&table),
            PolicyAction::Refuse(_) => false,
            PolicyAction::Other => true,
        };
        let foreign = ["cilium", "ovn", "antrea"];
        let cni = node.topology.cni.as_ref().map(|cni| cni.plugin.to_ascii_lowercase()).unwrap_or_default();
        !foreign.iter().any(|name| cni.contains(name))
            && !own.state.policy.iter().any(|rule| others(rule.action))
    }

    /// The node that has an address.
    pub(super) fn owner(&self, address: IpAddr) -> Option<&Node> {
        self.facts.nodes().iter().find(|node| node.has(address))
    }
}

/// A tunnel between two nodes.
#[derive(Clone, Copy)]
pub(super) struct Tunnel<'n> {
    pub(super) near: &'n Device,
    pub(super) settings: &'n Vxlan,
    pub(super) far: &'n Device,
    /// Address of the far device, which routes name as their gateway.
    pub(super) end: IpAddr,
}

/// The role of a device of a node's own namespace.
pub(super) fn role(node: &Node, own: &Namespace, device: &Device) -> Role {
    node.topology.role_with_node_addresses(own.inode, device.index, &node.addresses)
}

/// What could not be looked at, with its node.
pub(super) fn unseen(surveys: &[Survey]) -> Vec<(String, String)> {
    let mut unseen = Vec::new();
    for survey in surveys {
        let mut say = |text: String| unseen.push((survey.node.clone(), text));
        match &survey.found {
            Err(error) => {
                say(format!("not looked at: {error}"));
                continue;
            }
            Ok(topology) if topology.node().is_none() => say("its agent read no network devices".to_owned()),
            Ok(_) => {}
        }
        // Pods that were not found are findings.
        let others =
            survey.warnings.iter().filter(|text| !text.starts_with("no network namespace found for pod"));
        others.for_each(|text| say(text.clone()));
        match &survey.rules {
            None => say("its packet filter was not read, so no rule was checked".to_owned()),
            Some(rules) => rules.gaps.iter().for_each(|gap| say(gap.text.clone())),
        }
    }
    unseen
}
