//! What is known of a cluster, whatever told us: the static inventory file is this, as YAML.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Nodes, pods and services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// The cluster's nodes.
    pub nodes: Vec<Node>,
    /// Its pods.
    #[serde(default)]
    pub pods: Vec<Pod>,
    /// Its services.
    #[serde(default)]
    pub services: Vec<Service>,
    /// What else there is. No file has it: it serves to say why a name means nothing that can be traced.
    #[serde(skip)]
    pub untraceable: Vec<Untraceable>,
}

/// Something that the cluster has, and that has no packets of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untraceable {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// What it is, and so why not.
    pub what: Unreached,
}

/// What has no packets of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreached {
    /// A pod that has no node yet, and the scheduler's words about it, if it has said any.
    UnscheduledPod(Option<String>),
    /// A pod that has run to its end.
    CompletedPod,
    /// A Service that is another name for this one outside of the cluster.
    ExternalName(String),
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Addresses, the one its peers know it by first.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// How a command is run there.
    #[serde(default, skip_serializing_if = "Run::is_here")]
    pub run: Run,
}

/// How a command is run on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Run {
    /// On this machine, as it is.
    #[default]
    Here,
    /// On this machine, inside the network namespace at this path.
    Netns(PathBuf),
    /// By this command, which the podtrace command line is appended to, such as `[ssh, node2, sudo]`.
    Command(Vec<String>),
    /// By the Kubernetes API, in a pod on that node.
    Kubernetes,
}

impl Run {
    /// Whether it runs on this machine, and so with this process's rights.
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
    /// Addresses; empty while it has none.
    #[serde(default)]
    pub ips: Vec<IpAddr>,
    /// Name of the node it runs on.
    pub node: String,
    /// Whether it shares its node's network namespace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host_network: bool,
}

impl Pod {
    /// `namespace/name`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Kubernetes namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Cluster addresses; empty for a headless service.
    #[serde(default)]
    pub cluster_ips: Vec<IpAddr>,
    /// Ports.
    #[serde(default)]
    pub ports: Vec<ServicePort>,
    /// `namespace/name` of the pods behind it.
    #[serde(default)]
    pub endpoints: Vec<String>,
}

impl Service {
    /// `namespace/name`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePort {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Port at the cluster address.
    pub port: u16,
    /// Port at the endpoints.
    pub target_port: u16,
    /// Port at every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
}

impl ServicePort {
    /// IP protocol number; `None` for a protocol that Services do not have.
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
