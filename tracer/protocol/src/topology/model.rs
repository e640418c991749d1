//! The data: what the kernel says about a node's namespaces, devices and routes. Names are not escaped.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::state::{Port, State};

/// The networking of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The node's own namespace first, then those of its pods.
    pub namespaces: Vec<Namespace>,
    /// The CNI plugin, if its configuration was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni: Option<Cni>,
}

/// The CNI plugin of a node, as its configuration files describe it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cni {
    /// Its name or type, such as `flannel in K3s` or `calico`.
    pub plugin: String,
    /// How packets get to other nodes, such as `vxlan`.
    pub backend: Option<String>,
    /// The address range of all pods of the cluster.
    pub network: Option<String>,
    /// The configuration file.
    #[serde(alias = "told_by")]
    pub config_file: String,
}

impl fmt::Display for Cni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plugin, backend, network, config_file: _ } = self;
        f.write_str(plugin)?;
        for detail in [backend, network].into_iter().flatten() {
            write!(f, ", {detail}")?;
        }
        Ok(())
    }
}

/// One network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Inode number; eBPF programs report it as `netns`.
    pub inode: u32,
    /// Path of a file by which a process can enter it (`setns`).
    pub path: String,
    /// `NAMESPACE/NAME` of the pod; `None` for the node's own namespace.
    pub pod: Option<String>,
    /// Its devices.
    pub devices: Vec<Device>,
    /// Unicast routes of the main table, IPv4 and IPv6.
    pub routes: Vec<Route>,
    /// What it does with packets at the moment.
    #[serde(default, skip_serializing_if = "State::is_empty")]
    pub state: State,
}

/// One network device. By default one that nothing is known of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Interface index, unique within the namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// What kind of device it is.
    pub kind: DeviceKind,
    /// Whether its packets have an Ethernet header.
    pub ethernet: bool,
    /// Whether it is administratively up.
    pub up: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Link-layer address.
    pub mac: Option<[u8; 6]>,
    /// Index of the bridge or bond that it is a port of.
    pub master: Option<u32>,
    /// Its settings as a port of a bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// Whether its link is up; `None` where the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<bool>,
    /// Number of the XDP program attached to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xdp: Option<u32>,
    /// The other end of a veth pair.
    pub peer: Option<Peer>,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
}

/// The other end of a veth pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Inode of its namespace; `None` if that namespace is not part of the [`Topology`].
    pub netns: Option<u32>,
    /// Interface index in that namespace.
    pub index: u32,
}

/// Kinds of device, by `IFLA_INFO_KIND`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// Loopback.
    Loopback,
    /// One end of a veth pair.
    Veth,
    /// A bridge.
    Bridge,
    /// A VXLAN tunnel.
    Vxlan(Vxlan),
    /// A physical or paravirtual network card: the kernel reports no kind.
    #[default]
    Physical,
    /// Any other, by the kernel's name.
    Other(String),
}

/// Settings of a VXLAN device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vxlan {
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP destination port.
    pub port: u16,
    /// Source address of encapsulated packets.
    pub local: Option<IpAddr>,
    /// Index of the device that encapsulated packets leave by.
    pub underlay: Option<u32>,
    /// Addresses of remote tunnel endpoints, from the forwarding database.
    pub remotes: Vec<IpAddr>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination; prefix length 0 for a default route.
    pub destination: IpNet,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Index of the outgoing device.
    pub device: u32,
    /// Priority among routes with the same prefix length; the lowest wins.
    pub metric: u32,
}

/// The role of a device in pod traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The node's end of a pod's veth pair.
    PodVeth,
    /// A bridge with pods' veths as ports.
    Bridge,
    /// A tunnel to other nodes.
    Tunnel,
    /// A device that leads out of the node.
    Uplink,
    /// Anything else.
    Other,
}
