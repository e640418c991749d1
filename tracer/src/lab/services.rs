//! The lab's Services, as data from which the rules are made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::network::Family;
use super::plan::{LabNode, Plan};
use podtrace_protocol::inventory::{Service, ServicePort};

/// Port that the lab's web servers listen on.
pub(super) const WEB_PORT: u16 = 8080;
/// Port that the lab's name servers answer on.
pub(super) const DNS_PORT: u16 = 5353;

/// A Service of the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LabService {
    /// Name.
    pub(super) name: &'static str,
    /// Last part of its cluster IP.
    pub(super) last: u8,
    /// `tcp` or `udp`.
    pub(super) protocol: &'static str,
    /// Name of its port.
    pub(super) port_name: &'static str,
    /// Port at its cluster IP.
    pub(super) port: u16,
    /// Port at its endpoints.
    pub(super) target_port: u16,
    /// Port at every node.
    pub(super) node_port: Option<u16>,
    /// Whether a node port leads to the node's own endpoints only (`externalTrafficPolicy: Local`).
    pub(super) local: bool,
    /// Names of the pods behind it.
    pub(super) pods: &'static [&'static str],
}

/// One of a Service's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) port: u16,
}

const fn web(name: &'static str, last: u8, pods: &'static [&'static str]) -> LabService {
    LabService {
        name,
        last,
        protocol: "tcp",
        port_name: "http",
        port: 80,
        target_port: WEB_PORT,
        node_port: None,
        local: false,
        pods,
    }
}

/// All Services. Those with a single endpoint are for tests that need to know the destination.
pub(super) const SERVICES: [LabService; 6] = [
    web("web", 10, &["pod2", "pod3", "pod4"]),
    LabService { node_port: Some(30080), ..web("web-nodeport", 11, &["pod2", "pod3", "pod4"]) },
    LabService { node_port: Some(30081), local: true, ..web("web-local", 12, &["pod2", "pod3", "pod4"]) },
    LabService { node_port: Some(30082), ..web("web-pod2", 22, &["pod2"]) },
    LabService { node_port: Some(30083), ..web("web-pod3", 23, &["pod3"]) },
    LabService {
        protocol: "udp",
        port_name: "dns",
        port: 53,
        target_port: DNS_PORT,
        ..web("dns", 53, &["pod2", "pod4"])
    },
];

impl LabService {
    /// Its cluster IP.
    pub(super) fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::Ipv4 => Ipv4Addr::new(10, 43, 0, self.last).into(),
            Family::Ipv6 => Ipv6Addr::new(0xfd00, 0x43, 0, 0, 0, 0, 0, self.last.into()).into(),
        }
    }

    /// Its endpoints, all or those on one node.
    pub(super) fn endpoints(&self, plan: &Plan, node: Option<&LabNode>) -> Vec<Endpoint> {
        let nodes = plan.nodes.iter().filter(|other| node.is_none_or(|node| node.name == other.name));
        nodes
            .flat_map(|node| &node.pods)
            .filter(|pod| self.pods.contains(&pod.name.as_str()))
            .filter_map(|pod| pod.addresses.first())
            .map(|address| Endpoint { address: *address, port: self.target_port })
            .collect()
    }

    /// Its entry in the inventory.
    pub(super) fn entry(&self, namespace: &str, family: Family) -> Service {
        Service {
            namespace: namespace.to_owned(),
            name: self.name.to_owned(),
            cluster_ips: vec![self.address(family)],
            ports: vec![ServicePort {
                name: Some(self.port_name.to_owned()),
                protocol: self.protocol.to_owned(),
                port: self.port,
                target_port: self.target_port,
                node_port: self.node_port,
            }],
            endpoints: self.pods.iter().map(|pod| format!("{namespace}/{pod}")).collect(),
        }
    }
}

/// Whether a pod of this name is behind any Service.
pub(super) fn is_endpoint(pod: &str) -> bool {
    SERVICES.iter().any(|service| service.pods.contains(&pod))
}
