//! What a namespace does with packets at the moment, beyond which devices it has: what explains a drop.
//!
//! Everything here is optional: a recording made before podtrace kept it has none, and an empty list is then no evidence.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Tables and settings of one network namespace, as of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The neighbour tables (ARP and neighbour discovery).
    pub neighbours: Vec<Neighbour>,
    /// Forwarding entries (FDB) of bridges and tunnels.
    pub forwarding: Vec<ForwardingEntry>,
    /// Routes that refuse packets, of every table.
    pub refusing: Vec<RefusingRoute>,
    /// Rules (`ip rule`) besides the three that every namespace begins with.
    pub policy: Vec<PolicyRule>,
    /// Values below `/proc/sys/net`, by path, such as `ipv4/ip_forward` and `ipv4/conf/eth0/rp_filter`.
    pub sysctls: BTreeMap<String, i64>,
}

impl State {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { neighbours, forwarding, refusing, policy, sysctls } = self;
        neighbours.is_empty()
            && forwarding.is_empty()
            && refusing.is_empty()
            && policy.is_empty()
            && sysctls.is_empty()
    }
}

/// An entry of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Index of the device.
    pub device: u32,
    /// Address that it is for.
    pub address: IpAddr,
    /// Link-layer address; `None` where it is not resolved.
    pub mac: Option<[u8; 6]>,
    /// How far resolving it is.
    pub state: NeighbourState,
}

/// State of a neighbour entry (`NUD_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeighbourState {
    /// Being asked for, without an answer so far.
    Incomplete,
    /// Asked for, and nobody answered.
    Failed,
    /// Put there to stay.
    Permanent,
    /// Learned: reachable, stale, delay or probe.
    Learned,
    /// The device resolves nothing.
    NoArp,
}

/// An entry of a forwarding table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardingEntry {
    /// Index of the device: a bridge's port, or a tunnel.
    pub device: u32,
    /// Link-layer address.
    pub mac: [u8; 6],
    /// The tunnel end it is behind.
    pub remote: Option<IpAddr>,
}

/// A route that refuses what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusingRoute {
    /// Destination.
    pub destination: IpNet,
    /// Number of the table.
    pub table: u32,
    /// What it does.
    pub refusal: Refusal,
}

/// A rule of the routing policy database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// Its priority: the lower comes first.
    pub priority: u32,
    /// Source addresses that it is for.
    pub from: Option<IpNet>,
    /// Destination addresses that it is for.
    pub to: Option<IpNet>,
    /// Name of the input device that it is for.
    pub input: Option<String>,
    /// Whether it asks for anything else: a mark, a port, an output device.
    pub conditional: bool,
    /// What it does.
    pub action: PolicyAction,
}

/// What a rule of the routing policy database does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyAction {
    /// Looks into this table.
    Lookup(u32),
    /// Refuses the packet.
    Refuse(Refusal),
    /// Anything else.
    Other,
}

/// How a packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// Silently.
    Blackhole,
    /// By ICMP host unreachable.
    Unreachable,
    /// By ICMP administratively prohibited.
    Prohibit,
}

impl fmt::Display for Refusal {
    /// As `ip route` and `ip rule` write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
        })
    }
}

/// A device's settings as a port of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// State by spanning tree or by hand.
    pub state: PortState,
    /// Whether a packet may leave by the port it came in by.
    pub hairpin: bool,
    /// Whether it exchanges packets only with ports that are not isolated.
    pub isolated: bool,
}

/// State of a bridge's port (`BR_STATE_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortState {
    /// Passes nothing.
    #[default]
    Disabled,
    /// Listening: passes nothing yet.
    Listening,
    /// Learning: passes nothing yet.
    Learning,
    /// Forwards packets.
    Forwarding,
    /// Blocked by spanning tree.
    Blocking,
}

impl fmt::Display for PortState {
    /// As `bridge link` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "disabled",
            Self::Listening => "listening",
            Self::Learning => "learning",
            Self::Forwarding => "forwarding",
            Self::Blocking => "blocking",
        })
    }
}
