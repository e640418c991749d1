//! A node's packet filter as plain data: the rules that translate, mark or drop, and the jumps that lead to them. What
//! could not be read is kept as text (`Other`) and counts as unknown.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The rules of one network namespace, at the time of reading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Tables that translate, mark or drop packets.
    pub tables: Vec<Table>,
    /// The node's own addresses, for `addrtype LOCAL` and masquerading; empty if unknown.
    #[serde(default)]
    pub local: Vec<IpAddr>,
    /// What could not be read, or was left out.
    #[serde(default)]
    pub gaps: Vec<Gap>,
    /// The rules inside pods, by the pods' full names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inside: BTreeMap<String, Rules>,
}

/// A part of the rule set that is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Whose rules are missing; `None` if any may be.
    pub family: Option<Family>,
    /// What is missing, why, and what to do: one sentence.
    pub text: String,
}

/// Which program manages the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Framework {
    /// `iptables` and `ip6tables`, either back end.
    Iptables,
    /// nftables' own.
    Nft,
}

impl fmt::Display for Framework {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iptables => "iptables",
            Self::Nft => "nft",
        })
    }
}

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Both.
    Inet,
    /// Frames in a bridge.
    Bridge,
    /// Frames at a device.
    Netdev,
}

impl Family {
    /// As nft writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Bridge => "bridge",
            Self::Netdev => "netdev",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Which program manages its rules.
    pub framework: Framework,
    /// Which packets it sees.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// Its chains.
    pub chains: Vec<Chain>,
    /// Its named sets and verdict maps, as far as rules look things up in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<Set>,
}

/// One chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// How the kernel calls it, if it is a base chain; `None` for a chain that others jump to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Names of the devices at which the kernel calls it, if it is called at devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// Its rules in order, without those that have no effect on packets (counters, logging).
    pub rules: Vec<Rule>,
}

/// What makes a chain a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Where it is called.
    pub hook: Hook,
    /// Whether it translates: then it sees a connection's first packet only.
    pub nat: bool,
    /// Lower ones come first.
    pub priority: i32,
    /// Whether a packet is dropped that no rule decides on.
    pub drops: bool,
}

/// Where the kernel calls the packet filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// At a device, before anything else.
    Ingress,
    /// Before routing.
    Prerouting,
    /// To the node itself.
    Input,
    /// Through the node.
    Forward,
    /// From the node itself.
    Output,
    /// After routing.
    Postrouting,
    /// At a device, after anything else.
    Egress,
}

impl Hook {
    /// As nft writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
            Self::Egress => "egress",
        }
    }
}

/// From nft's words and from those of iptables and the kernel: `forward`, `FORWARD`, `NF_INET_PRE_ROUTING`.
impl FromStr for Hook {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let word = word.to_ascii_lowercase();
        let word = word.rsplit_once("inet_").map_or(word.as_str(), |(_, rest)| rest).replace('_', "");
        Ok(match word.trim_start_matches("local") {
            "ingress" => Self::Ingress,
            "prerouting" => Self::Prerouting,
            "input" | "in" => Self::Input,
            "forward" => Self::Forward,
            "output" | "out" => Self::Output,
            "postrouting" => Self::Postrouting,
            "egress" => Self::Egress,
            _ => return Err(()),
        })
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The kernel's number for it; iptables does not list it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
    /// Conditions on the packet, all of which must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Match>,
    /// What it does with a packet that matches.
    pub action: Action,
    /// Its comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Its text without the comment; kept for rules that translate or drop.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// A condition on a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Match {
    /// A field is in one of these ranges.
    Is(Field, Vec<Range>),
    /// Several fields together are the key of an element.
    In(Vec<Field>, Elements),
    /// The inner condition does not match.
    Not(Box<Match>),
    /// A condition that a trace cannot decide, or that could not be read; its text.
    Other(String),
}

impl Match {
    /// This condition, negated if `negated` is true.
    #[must_use]
    pub fn negated(self, negated: bool) -> Self {
        if negated { Self::Not(Box::new(self)) } else { self }
    }
}

/// The elements of a set or verdict map: inline, or by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Elements {
    /// Inline, in the rule.
    These(Vec<Element>),
    /// In the table's set or map with this name.
    Named(String),
}

/// A named set or verdict map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Whether packets or timeouts change its elements, so that those listed may be outdated.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dynamic: bool,
    /// Its elements.
    pub elements: Vec<Element>,
}

/// An element of a set or a verdict map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    /// One range for each field.
    pub key: Vec<Range>,
    /// The action, in a verdict map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Its comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A field that rules match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    /// Source address.
    Source,
    /// Destination address.
    Destination,
    /// Protocol number.
    Protocol,
    /// Source port.
    SourcePort,
    /// Destination port.
    DestinationPort,
    /// Name of the input device.
    InDevice,
    /// Name of the output device.
    OutDevice,
    /// The packet's mark.
    Mark,
    /// Address type of the source on this node: `local`, `unicast`, …
    SourceType,
    /// Address type of the destination.
    DestinationType,
    /// State of the connection: `new`, `established`, …
    State,
    /// IP version: `ipv4` or `ipv6`.
    Version,
    /// A field that a trace does not know, such as a random number; its text.
    Other(String),
}

/// Values of a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Range {
    /// Addresses of a network.
    Net(IpNet),
    /// Addresses from the first to the last.
    Addresses(IpAddr, IpAddr),
    /// Numbers from the first to the last.
    Numbers(u32, u32),
    /// Mask and value: numbers `n` with `n & mask == value`.
    Bits(u32, u32),
    /// A word. The name of a device may end in `*` for any continuation.
    Word(String),
    /// Every value.
    Any,
    /// A value that could not be read; its text.
    Other(String),
}

impl Range {
    /// One number.
    #[must_use]
    pub fn number(number: u32) -> Self {
        Self::Numbers(number, number)
    }

    /// One address.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self::Net(address.into())
    }
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Accepts the packet: this base chain is done with it.
    Accept,
    /// Returns to the calling chain.
    Return,
    /// Drops the packet.
    Drop,
    /// Drops the packet and sends an error or reset to its sender.
    Reject,
    /// Walks another chain and comes back.
    Jump(String),
    /// Continues in another chain and does not come back.
    Goto(String),
    /// Takes the action of the map's element for these fields.
    Verdicts(Vec<Field>, Elements),
    /// Changes the destination; `None` if the new one is unknown.
    Dnat(Option<Nat>),
    /// Changes the source; `None` if the new one is unknown.
    Snat(Option<Nat>),
    /// Changes the source to an address of the output device.
    Masquerade,
    /// Changes the destination to the node itself, and the port to one of these.
    Redirect(Option<(u16, u16)>),
    /// Changes the mark; `None` if the new one is unknown.
    Mark(Option<Marking>),
    /// An action that could not be read, and may or may not decide on the packet; its text.
    Other(String),
}

impl Action {
    /// Whether it changes addresses or ports.
    #[must_use]
    pub fn translates(&self) -> bool {
        matches!(self, Self::Dnat(_) | Self::Snat(_) | Self::Masquerade | Self::Redirect(_))
    }

    /// Whether the packet goes no further.
    #[must_use]
    pub fn drops(&self) -> bool {
        matches!(self, Self::Drop | Self::Reject)
    }
}

/// What an address and a port are changed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    /// First and last address; `None` for no change.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// First and last port; `None` for no change, unless the source port is taken.
    pub ports: Option<(u16, u16)>,
}

/// How a mark is changed: `(mark & keep) ^ toggle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marking {
    /// Bits that are kept.
    pub keep: u32,
    /// Bits that are toggled after that.
    pub toggle: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands a reference")]
fn is_false(value: &bool) -> bool {
    !value
}
