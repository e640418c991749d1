//! What a node's networking looks like: plain data, without a handle to any kernel.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Everything one node's agent knows about its networking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The node's own namespace first, then those of its pods.
    pub namespaces: Vec<Namespace>,
    /// What makes the pods' networks, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni: Option<Cni>,
}

/// A plugin that makes pods' networks. Nothing here is escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cni {
    /// Its name, such as `flannel in K3s`, or its type.
    pub plugin: String,
    /// How it gets packets to other nodes, such as `vxlan`.
    pub backend: Option<String>,
    /// The pods' addresses in the whole cluster.
    pub network: Option<String>,
    /// The file that said so.
    pub told_by: String,
}

impl fmt::Display for Cni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plugin, backend, network, told_by: _ } = self;
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
    /// Inode number, which is what the kernel programs report as `netns`.
    pub inode: u32,
    /// Path it can be entered by.
    pub path: String,
    /// `namespace/name` of the pod that lives here; `None` for the node's own.
    pub pod: Option<String>,
    /// Its devices.
    pub devices: Vec<Device>,
    /// Its unicast routes of the main table, v4 and v6.
    pub routes: Vec<Route>,
}

/// One network device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Number within its namespace.
    pub index: u32,
    /// Name as the kernel has it; not escaped.
    pub name: String,
    /// What kind of device it is.
    pub kind: DeviceKind,
    /// Whether its packets carry an Ethernet header.
    pub ethernet: bool,
    /// Whether it is administratively up.
    pub up: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Link-layer address.
    pub mac: Option<[u8; 6]>,
    /// Index of the bridge (or bond) it is a port of.
    pub master: Option<u32>,
    /// The other end of a veth pair.
    pub peer: Option<Peer>,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
}

/// The other end of a veth pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Inode of the namespace it is in; `None` if that is none of the [`Topology`]'s.
    pub netns: Option<u32>,
    /// Its index there.
    pub index: u32,
}

/// Kinds of device, by `IFLA_INFO_KIND`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Hardware, or what a hypervisor shows as such: no kind at all.
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
    /// Source address of what it sends.
    pub local: Option<IpAddr>,
    /// Index of the device it sends through.
    pub underlay: Option<u32>,
    /// Tunnel ends it has forwarding entries for.
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
    /// Priority; the lower wins among equally long prefixes.
    pub metric: u32,
}

/// What a device is to pod traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The node's end of a pod's veth pair.
    PodVeth,
    /// A bridge that pods' veths are ports of.
    Bridge,
    /// A tunnel to other nodes.
    Tunnel,
    /// A device that leads out of the node.
    Uplink,
    /// Anything else.
    Other,
}
