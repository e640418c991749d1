//! The data: what is known about a cluster. The static inventory file is this, as YAML.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The nodes, pods and Services of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// The cluster's nodes.
    pub nodes: Vec<Node>,
    /// Its pods.
    #[serde(default)]
    pub pods: Vec<Pod>,
    /// Its Services.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Objects that cannot be traced, for error messages about them. Not in the file.
    #[serde(skip)]
    pub untraceable: Vec<Untraceable>,
}

/// An object without packets of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untraceable {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Why it cannot be traced.
    pub why: WhyUntraceable,
}

/// Why an object has no packets of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyUntraceable {
    /// A pod without a node, and the scheduler's message about it.
    UnscheduledPod(Option<String>),
    /// A pod that has succeeded or failed.
    CompletedPod,
    /// A Service of type `ExternalName`, and the name it stands for.
    ExternalName(String),
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Addresses. The first is the one that other nodes use.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// How to run a command on it.
    #[serde(default, skip_serializing_if = "Run::is_here")]
    pub run: Run,
}

/// How to run a command on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Run {
    /// On this machine, in the current network namespace.
    #[default]
    Here,
    /// On this machine, in the network namespace at this path.
    Netns(PathBuf),
    /// With this prefix before the podtrace command line, such as `[ssh, node2, sudo]`.
    Command(Vec<String>),
    /// In a pod on the node, by the Kubernetes API.
    Kubernetes,
}

impl Run {
    /// Whether the command runs on this machine, with the privileges of this process.
    #[must_use]
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Here | Self::Netns(_))
    }

    fn is_here(&self) -> bool {
        *self == Self::Here
    }
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pod {
    /// Kubernetes namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Addresses; empty until it has one.
    #[serde(default)]
    pub ips: Vec<IpAddr>,
    /// Name of the node it runs on.
    pub node: String,
    /// Whether it shares its node's network namespace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host_network: bool,
    /// What it belongs to: `deployment/NAME`, `daemonset/NAME`; in its own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Pod {
    /// `NAMESPACE/NAME`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// One Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Kubernetes namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Cluster IPs; empty for a headless Service.
    #[serde(default)]
    pub cluster_ips: Vec<IpAddr>,
    /// Ports.
    #[serde(default)]
    pub ports: Vec<ServicePort>,
    /// `NAMESPACE/NAME` of the pods behind it.
    #[serde(default)]
    pub endpoints: Vec<String>,
}

impl Service {
    /// `NAMESPACE/NAME`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePort {
    /// Its name; `None` for the only port of a Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Port at the cluster IP.
    pub port: u16,
    /// Port at the endpoints.
    pub target_port: u16,
    /// `NodePort`: port at the addresses of every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
}

impl ServicePort {
    /// IP protocol number; `None` if the protocol is none of these.
    #[must_use]
    pub fn protocol_number(&self) -> Option<u8> {
        match self.protocol.to_ascii_lowercase().as_str() {
            "tcp" => Some(6),
            "udp" => Some(17),
            "sctp" => Some(132),
            _ => None,
        }
    }
}

fn default_namespace() -> String {
    "default".to_owned()
}
