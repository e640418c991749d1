//! What a trace is to do, with everything resolved.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::transport::AgentPods;
use crate::cluster::kube::Watch;
use crate::files::Inputs;
use podtrace_protocol::frame::{Configuration, FilterSpec, PodAddresses, ProbeKind};
use podtrace_protocol::inventory::{Inventory, Node, Resolved};
use podtrace_report::filter::Filter;
use podtrace_report::recording::Target;
use podtrace_report::replay::Aim;

/// What a trace is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The cluster.
    pub inventory: Inventory,
    /// Pods for the agents of nodes that are reached by the Kubernetes API.
    pub pods: Option<Arc<AgentPods>>,
    /// Names of the nodes that are asked, in the inventory's order.
    pub nodes: Vec<String>,
    /// Full names of the pods whose veths are tapped; `None` for all.
    pub tapped: Option<BTreeSet<String>>,
    /// The packets of interest.
    pub filter: FilterSpec,
    /// The paths that are told of these packets.
    pub choice: Option<Filter>,
    /// Packets to send.
    pub probe: Option<ProbePlan>,
    /// Stop after so many finished paths.
    pub count: Option<u64>,
    /// Stop after so long.
    pub timeout: Option<Duration>,
    /// Where it is recorded.
    pub write: Option<Target>,
    /// Files that no output may overwrite.
    pub inputs: Inputs,
    /// Bytes kept of each packet, where that is fewer than the eBPF programs copy.
    pub snaplen: Option<u16>,
    /// Ceiling for the memory of packets and flows, in bytes.
    pub memory: u64,
    /// What is traced, for the line that says so.
    pub title: String,
    /// How what becomes of the cluster is followed; what a file describes stays as it is.
    pub following: Option<Followed>,
}

/// A cluster that is watched, and what is traced of it.
#[derive(Clone, Debug)]
pub struct Followed {
    /// The cluster.
    pub watch: Watch,
    /// What was asked for.
    pub aim: Aim,
    /// What its ends mean at first.
    pub from: Resolved,
    /// And the other.
    pub to: Resolved,
}

/// Packets to send.
#[derive(Clone, Debug)]
pub struct ProbePlan {
    /// Full name of the pod that sends.
    pub pod: String,
    /// Name of its node.
    pub node: String,
    /// Where to.
    pub destination: IpAddr,
    /// What.
    pub kind: ProbeKind,
    /// How many exchanges at most.
    pub exchanges: u32,
}

impl Plan {
    /// The nodes that are asked.
    pub(super) fn asked(&self) -> impl Iterator<Item = &Node> {
        self.inventory.nodes.iter().filter(|node| self.nodes.contains(&node.name))
    }

    /// What one node's agent is told.
    pub(super) fn configuration(&self, node: &Node) -> Configuration {
        configuration(&self.inventory, node, &self.filter, self.tapped.as_ref())
    }
}

/// What a node's agent is told, where these pods are tapped.
pub(super) fn configuration(
    inventory: &Inventory,
    node: &Node,
    filter: &FilterSpec,
    tapped: Option<&BTreeSet<String>>,
) -> Configuration {
    let pods = pods_of(inventory, node);
    let tapped_pods = pods
        .iter()
        .map(|pod| pod.pod.clone())
        .filter(|pod| tapped.is_none_or(|tapped| tapped.contains(pod)))
        .collect();
    Configuration { filter: filter.clone(), pods, tapped_pods, node_addresses: node.addresses.clone() }
}

/// The pods of a node that have a network namespace of their own.
pub(super) fn pods_of(inventory: &Inventory, node: &Node) -> Vec<PodAddresses> {
    let pods = inventory.pods.iter().filter(|pod| pod.node == node.name && !pod.host_network);
    pods.map(|pod| PodAddresses { pod: pod.full_name(), ips: pod.ips.clone() }).collect()
}
