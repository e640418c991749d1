//! Turns the API's objects into an inventory.
//!
//! The lists are from slightly different times and can contradict each other. What does not fit is left out with a note,
//! whereas in an inventory file it is an error.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use super::machine::Machine;
use super::objects::{self, EndpointPort, EndpointSlice, Endpoints, TargetPort, TargetRef};
use podtrace_protocol::inventory::is_name;
use podtrace_protocol::inventory::{
    Inventory, Node, Pod, Run, Service, ServicePort, Untraceable, WhyUntraceable,
};

/// The label with the name of a slice's Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The label that a Deployment gives its pods, and the end of their ReplicaSet's name.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// Maximum number of characters shown of a scheduler's message.
const MESSAGE: usize = 160;

/// Endpoints of a Service, from one slice or subset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backing {
    /// Namespace and name of the Service.
    service: (String, String),
    /// `NAMESPACE/NAME` of the pods that are ready.
    pods: Vec<String>,
    /// Number of endpoints that are not pods.
    others: usize,
    /// Port numbers at the endpoints, by the port's name in the Service.
    ports: Vec<(String, u16)>,
}

impl Backing {
    pub(super) fn of_slice(slice: EndpointSlice) -> Option<Self> {
        let EndpointSlice { metadata, endpoints, ports } = slice;
        let service = metadata.labels.get(SERVICE_NAME)?.clone();
        let ready = endpoints.into_iter().filter(|endpoint| endpoint.conditions.ready != Some(false));
        let (pods, others) = pods_of(ready.map(|endpoint| endpoint.target_ref), &metadata.namespace);
        Some(Self { service: (metadata.namespace, service), pods, others, ports: numbered(ports) })
    }

    pub(super) fn of_endpoints(endpoints: Endpoints) -> Vec<Self> {
        let Endpoints { metadata, subsets } = endpoints;
        let service = (metadata.namespace, metadata.name);
        let backing = subsets.into_iter().map(|subset| {
            let targets = subset.addresses.into_iter().map(|address| address.target_ref);
            let (pods, others) = pods_of(targets, &service.0);
            Self { service: service.clone(), pods, others, ports: numbered(subset.ports) }
        });
        backing.collect()
    }
}

/// The endpoints that are pods, and the number of others.
fn pods_of(targets: impl Iterator<Item = Option<TargetRef>>, namespace: &str) -> (Vec<String>, usize) {
    let mut others = 0;
    let mut pods = Vec::new();
    for target in targets {
        match target {
            Some(TargetRef { kind, namespace: own, name }) if kind == "Pod" => {
                let namespace = if own.is_empty() { namespace } else { &own };
                pods.push(format!("{namespace}/{name}"));
            }
            _ => others += 1,
        }
    }
    (pods, others)
}

fn numbered(ports: Vec<EndpointPort>) -> Vec<(String, u16)> {
    ports.into_iter().filter_map(|EndpointPort { name, port }| Some((name, port?))).collect()
}

/// Returns the inventory, and notes about what was left out.
pub(super) fn inventory<'a>(
    machine: &Machine,
    nodes: &[objects::Node],
    pods: impl Iterator<Item = &'a objects::Pod>,
    services: impl Iterator<Item = &'a objects::Service>,
    backing: impl Iterator<Item = &'a Backing>,
) -> (Inventory, Vec<String>) {
    let mut translation = Translation::default();
    translation.nodes(machine, nodes);
    translation.pods(pods);
    translation.services(services, backing);
    (translation.inventory, translation.notes)
}

#[derive(Default)]
struct Translation {
    inventory: Inventory,
    notes: Vec<String>,
}

impl Translation {
    fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Names end up on terminals and in requests, so an object with an invalid one is left out.
    fn has_valid_name(&mut self, kind: &str, metadata: &objects::Meta, namespaced: bool) -> bool {
        let named = is_name(&metadata.name) && (!namespaced || is_name(&metadata.namespace));
        if !named {
            self.note(format!("left out {kind} {:?}/{:?}: invalid name", metadata.namespace, metadata.name));
        }
        named
    }

    fn nodes(&mut self, machine: &Machine, nodes: &[objects::Node]) {
        let mut taken = HashSet::new();
        for objects::Node { metadata, status } in nodes {
            if !self.has_valid_name("node", metadata, false) {
                continue;
            }
            let mut addresses = Vec::new();
            // Packets between nodes have internal addresses, so those come first.
            for kind in ["InternalIP", "ExternalIP"] {
                let of_kind = status.addresses.iter().filter(|address| address.kind == kind);
                for ip in of_kind.filter_map(|address| address.address.parse::<IpAddr>().ok()) {
                    if taken.insert(ip) {
                        addresses.push(ip);
                    } else if !addresses.contains(&ip) {
                        self.note(format!(
                            "left out address {ip} of node {}: another node has it",
                            metadata.name
                        ));
                    }
                }
            }
            let here = machine.is(&metadata.name, &addresses, &status.node_info.boot_id);
            let run = if here { Run::Here } else { Run::Kubernetes };
            self.inventory.nodes.push(Node { name: metadata.name.clone(), addresses, run });
        }
    }

    fn pods<'a>(&mut self, pods: impl Iterator<Item = &'a objects::Pod>) {
        let nodes: HashSet<_> = self.inventory.nodes.iter().map(|node| node.name.clone()).collect();
        for objects::Pod { metadata, spec, status } in pods {
            if !self.has_valid_name("pod", metadata, true) {
                continue;
            }
            let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
            let why = match status.phase.as_str() {
                // Another pod may have its addresses by now.
                "Succeeded" | "Failed" => Some(WhyUntraceable::CompletedPod),
                _ if spec.node_name.is_empty() => {
                    Some(WhyUntraceable::UnscheduledPod(scheduler_message(status)))
                }
                _ => None,
            };
            if let Some(why) = why {
                self.inventory.untraceable.push(Untraceable { namespace, name, why });
                continue;
            }
            if !nodes.contains(&spec.node_name) {
                // Kept, so that resolving it gives the same reason.
                self.note(format!(
                    "pod {namespace}/{name} is on node {:?}, which is not in the cluster",
                    spec.node_name
                ));
            }
            let mut ips: Vec<IpAddr> =
                status.pod_ips.iter().filter_map(|address| address.ip.parse().ok()).collect();
            if ips.is_empty() {
                ips.extend(status.pod_ip.parse::<IpAddr>());
            }
            self.inventory.pods.push(Pod {
                namespace,
                name,
                ips,
                node: spec.node_name.clone(),
                host_network: spec.host_network,
                owner: owner(metadata),
                labels: metadata.labels.clone(),
            });
        }
    }

    fn services<'a>(
        &mut self,
        services: impl Iterator<Item = &'a objects::Service>,
        backing: impl Iterator<Item = &'a Backing>,
    ) {
        let pods: HashSet<_> = self.inventory.pods.iter().map(Pod::full_name).collect();
        let mut behind: HashMap<(&str, &str), Vec<&Backing>> = HashMap::new();
        for backing in backing {
            let (namespace, name) = &backing.service;
            behind.entry((namespace, name)).or_default().push(backing);
        }
        for objects::Service { metadata, spec } in services {
            if !self.has_valid_name("service", metadata, true) {
                continue;
            }
            let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
            if spec.kind == "ExternalName" {
                let why = WhyUntraceable::ExternalName(spec.external_name.clone());
                self.inventory.untraceable.push(Untraceable { namespace, name, why });
                continue;
            }
            let backing = behind.remove(&(&*metadata.namespace, &*metadata.name)).unwrap_or_default();
            let others: usize = backing.iter().map(|backing| backing.others).sum();
            if others > 0 {
                self.note(format!(
                    "{others} endpoints of service {namespace}/{name} are not pods: podtrace does not know their addresses"
                ));
            }
            let mut endpoints: Vec<_> = backing.iter().flat_map(|backing| backing.pods.clone()).collect();
            endpoints.retain(|pod| pods.contains(pod));
            endpoints.sort_unstable();
            endpoints.dedup();
            let targets: BTreeMap<_, _> = backing
                .iter()
                .flat_map(|backing| &backing.ports)
                .map(|(name, port)| (&**name, *port))
                .collect();
            // The address of a headless Service is the word `None`.
            let mut cluster_ips: Vec<IpAddr> =
                spec.cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
            if cluster_ips.is_empty() {
                cluster_ips.extend(spec.cluster_ip.parse::<IpAddr>());
            }
            let ports = spec.ports.iter().map(|port| service_port(port, &targets)).collect();
            self.inventory.services.push(Service { namespace, name, cluster_ips, ports, endpoints });
        }
    }
}

/// What controls a pod: `deployment/NAME`. A Deployment owns its pods through a ReplicaSet, whose name ends in the pods'
/// template hash; reading the ReplicaSet too would need another permission.
fn owner(pod: &objects::Meta) -> Option<String> {
    let owner = pod.owner_references.iter().find(|owner| owner.controller)?;
    let kind = owner.kind.to_ascii_lowercase();
    let is_usable = is_name(&kind) && is_name(&owner.name);
    let deployment = pod.labels.get(TEMPLATE_HASH).filter(|_| kind == "replicaset").and_then(|hash| {
        let name = owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
        is_name(name).then(|| format!("deployment/{name}"))
    });
    deployment.or_else(|| is_usable.then(|| format!("{kind}/{}", owner.name)))
}

/// The port's number at the endpoints, since the Service may only have its name.
fn service_port(port: &objects::ServicePort, targets: &BTreeMap<&str, u16>) -> ServicePort {
    let objects::ServicePort { name, protocol, port, target_port, node_port } = port;
    let by_number = match target_port {
        Some(TargetPort::Number(number)) => Some(*number),
        _ => None,
    };
    ServicePort {
        name: Some(name.clone()).filter(|name| !name.is_empty()),
        protocol: if protocol.is_empty() { "tcp".to_owned() } else { protocol.to_ascii_lowercase() },
        port: *port,
        target_port: targets.get(name.as_str()).copied().or(by_number).unwrap_or(*port),
        node_port: node_port.filter(|port| *port != 0),
    }
}

/// The scheduler's message about a pod without a node.
fn scheduler_message(status: &objects::PodStatus) -> Option<String> {
    let scheduled = status.conditions.iter().find(|condition| condition.kind == "PodScheduled")?;
    let message = scheduled.message.trim();
    let short: String = message.chars().take(MESSAGE).collect();
    match (message.is_empty(), short.len() < message.len()) {
        (true, _) => None,
        (false, true) => Some(format!("{short}…")),
        (false, false) => Some(short),
    }
}
