//! Checks an inventory for contradictions that its syntax allows.

use std::collections::HashMap;
use std::net::IpAddr;

use super::model::{Inventory, Pod, Run, Service};
use super::nearest::nearest_text;

/// A contradiction, and the entry that causes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The list with the entry.
    pub(super) list: List,
    /// The index of the entry.
    pub(super) index: usize,
    /// What is wrong, in one line.
    pub(super) what: String,
}

/// The lists of an inventory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Nodes,
    Pods,
    Services,
}

/// Finds the first contradiction.
pub(super) fn check(inventory: &Inventory) -> Result<(), Fault> {
    let Inventory { nodes: _, pods, services: _, untraceable: _ } = inventory;
    check_nodes(inventory)?;
    check_pods(inventory)?;
    let names: Vec<_> = pods.iter().map(Pod::full_name).collect();
    check_services(inventory, &names)
}

fn check_nodes(inventory: &Inventory) -> Result<(), Fault> {
    let mut names = HashMap::new();
    let mut addresses = HashMap::new();
    for (index, node) in inventory.nodes.iter().enumerate() {
        let fault = |what| Fault { list: List::Nodes, index, what };
        check_name("node", &node.name).map_err(fault)?;
        if names.insert(node.name.as_str(), ()).is_some() {
            return Err(fault(format!("two nodes have the name {}", node.name)));
        }
        for address in &node.addresses {
            if let Some(other) = addresses.insert(address, node.name.as_str()) {
                return Err(fault(format!(
                    "nodes {other} and {} both have the address {address}",
                    node.name
                )));
            }
        }
        if matches!(&node.run, Run::Command(command) if command.is_empty()) {
            return Err(fault(format!("the command of node {} is empty", node.name)));
        }
    }
    Ok(())
}

fn check_pods(inventory: &Inventory) -> Result<(), Fault> {
    let mut names = HashMap::new();
    let mut addresses: HashMap<IpAddr, String> = HashMap::new();
    for (index, pod) in inventory.pods.iter().enumerate() {
        let fault = |what| Fault { list: List::Pods, index, what };
        check_name("namespace", &pod.namespace).map_err(fault)?;
        check_name("pod", &pod.name).map_err(fault)?;
        let name = pod.full_name();
        if names.insert(name.clone(), ()).is_some() {
            return Err(fault(format!("two pods have the name {name}")));
        }
        if !inventory.nodes.iter().any(|node| node.name == pod.node) {
            let nodes = inventory.nodes.iter().map(|node| node.name.as_str());
            let near = nearest_text(&pod.node, "nodes", nodes);
            return Err(fault(format!("pod {name} is on node {:?}, which is not listed; {near}", pod.node)));
        }
        // Pods on the host network share their node's addresses.
        for address in pod.ips.iter().filter(|_| !pod.host_network) {
            if let Some(other) = addresses.insert(*address, name.clone()) {
                return Err(fault(format!("pods {other} and {name} both have the address {address}")));
            }
        }
    }
    Ok(())
}

fn check_services(inventory: &Inventory, pods: &[String]) -> Result<(), Fault> {
    let mut names = HashMap::new();
    for (index, service) in inventory.services.iter().enumerate() {
        let fault = |what| Fault { list: List::Services, index, what };
        let Service { namespace, name, cluster_ips: _, ports, endpoints } = service;
        check_name("namespace", namespace).map_err(fault)?;
        check_name("service", name).map_err(fault)?;
        let name = format!("{namespace}/{name}");
        if names.insert(name.clone(), ()).is_some() {
            return Err(fault(format!("two services have the name {name}")));
        }
        if let Some(port) =
            ports.iter().find(|port| !matches!(port.protocol.as_str(), "tcp" | "udp" | "sctp"))
        {
            let protocol = &port.protocol;
            return Err(fault(format!(
                "service {name} has protocol {protocol:?}; valid are tcp, udp and sctp"
            )));
        }
        if let Some(endpoint) = endpoints.iter().find(|endpoint| !pods.contains(endpoint)) {
            let near = nearest_text(endpoint, "pods", pods.iter().map(String::as_str));
            return Err(fault(format!(
                "service {name} has the endpoint {endpoint:?}, which is not a listed pod; {near}"
            )));
        }
    }
    Ok(())
}

/// Names end up on terminals and command lines, so only what Kubernetes allows, and a little more, is valid.
fn check_name(what: &str, name: &str) -> Result<(), String> {
    if is_name(name) {
        Ok(())
    } else {
        Err(format!("{name:?} is not a valid name for a {what}: use letters, digits, `-`, `.` and `_`"))
    }
}

/// Whether this is a valid name of an object.
pub fn is_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}
