//! A packet with a source address that is not its sender's.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Where a packet came from whose source address is another's. A veth belongs to one pod, an address is only written
/// into the packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forged {
    /// Name of the pod or node that has the source address.
    pub claimed: Arc<str>,
    /// Name of the node where the packet was first seen.
    pub node: Arc<str>,
    /// Name of the device.
    pub device: Arc<str>,
    /// Name of the pod that it came from, if that is known.
    pub pod: Option<Arc<str>>,
    /// Whether the pod is known by its link-layer address, which can be forged as well, and not by its veth.
    pub by_mac: bool,
    /// Source of the tunnel packet that it came in, if that is no node's address.
    pub tunnel_from: Option<IpAddr>,
}

impl fmt::Display for Forged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { claimed, node, device, pod, by_mac, tunnel_from } = self;
        write!(f, "not from {claimed}: it entered ")?;
        match (pod, tunnel_from) {
            (Some(pod), _) if *by_mac => write!(f, "{node} at {device}, with the MAC address of {pod}"),
            (Some(pod), _) => write!(f, "at {device} of {pod}"),
            (None, Some(address)) => {
                write!(f, "{node} at {device}, in a tunnel from {address}, which is no node")
            }
            (None, None) => write!(f, "{node} by another port of {device}"),
        }
    }
}
