//! A node's packet filter as plain data: what of it translates, marks, drops, and what leads there.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The rules of one network namespace, as they were when they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Tables in which anything happens to packets.
    pub tables: Vec<Table>,
    /// The node's own addresses: what `addrtype LOCAL` and masquerading mean.
    #[serde(default)]
    pub local: Vec<IpAddr>,
    /// What is not known of the rule set.
    #[serde(default)]
    pub gaps: Vec<Gap>,
}

/// Something of the rule set that is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Whose rules are missing; `None` if any may be.
    pub family: Option<Family>,
    /// What is missing, why, and what to do: one sentence.
    pub text: String,
}

/// Whose words the rules are in.
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
    /// Whose words its rules are in.
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
    /// Where packets come to it by themselves; `None` for a chain that others jump to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Its rules in order, but for those that change nothing for a packet's way.
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

/// Where the kernel asks the packet filter.
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
    /// The kernel's number for it, where it is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
    /// What must hold of a packet, all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Match>,
    /// What then happens.
    pub action: Action,
    /// What its author says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// How it is written, without its comment: kept where a packet's way ends or changes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// What a rule asks of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Match {
    /// One field of it is one of these.
    Is(Field, Vec<Range>),
    /// Several fields of it, taken together, are an element.
    In(Vec<Field>, Elements),
    /// The contrary.
    Not(Box<Match>),
    /// Something that cannot be told from outside, as it is written.
    Other(String),
}

impl Match {
    /// The contrary, if so.
    #[must_use]
    pub fn negated(self, negated: bool) -> Self {
        if negated { Self::Not(Box::new(self)) } else { self }
    }
}

/// Elements that a rule has itself, or a table has for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Elements {
    /// The rule's own.
    These(Vec<Element>),
    /// Those of the table's set or map of this name.
    Named(String),
}

/// A named set or verdict map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Whether its elements come and go with packets and time, so that those listed tell little.
    #[serde(default, skip_serializing_if = "is_false")]
    pub dynamic: bool,
    /// Its elements.
    pub elements: Vec<Element>,
}

/// An element of a set or a verdict map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Element {
    /// One range for each field that is looked up.
    pub key: Vec<Range>,
    /// What happens, in a verdict map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// What its author says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// What rules look at.
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
    /// Name of the device it came in by.
    InDevice,
    /// Name of the device it leaves by.
    OutDevice,
    /// Its mark.
    Mark,
    /// `local`, `unicast`, …: what kind of address the source is to this node.
    SourceType,
    /// The same of the destination.
    DestinationType,
    /// `new`, `established`, …
    State,
    /// `ipv4` or `ipv6`.
    Version,
    /// Something that cannot be told from outside, as it is written; chance, for one.
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
    /// Numbers that, masked with the first, are the second.
    Bits(u32, u32),
    /// A word; a device's may end in `*`.
    Word(String),
    /// Every value.
    Any,
    /// What could not be understood.
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
    /// Lets the packet pass, as far as this base chain is concerned.
    Accept,
    /// Goes back to where the jump came from.
    Return,
    /// Drops the packet.
    Drop,
    /// Drops the packet, and tells its sender.
    Reject,
    /// Goes through another chain, and comes back.
    Jump(String),
    /// Goes on in another chain.
    Goto(String),
    /// Does what the map says for these fields.
    Verdicts(Vec<Field>, Elements),
    /// Changes the destination; `None` if it cannot be told to what.
    Dnat(Option<Nat>),
    /// Changes the source; `None` if it cannot be told to what.
    Snat(Option<Nat>),
    /// Changes the source to an address of the device that the packet leaves by.
    Masquerade,
    /// Changes the destination to the node itself, at one of these ports.
    Redirect(Option<(u16, u16)>),
    /// Changes the mark; `None` if it cannot be told how.
    Mark(Option<Marking>),
    /// Something that may or may not end the packet's way through the chain, as it is written.
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
    /// First and last address; `None` leaves it as it is.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// First and last port; `None` leaves it as it is, if it can be.
    pub ports: Option<(u16, u16)>,
}

/// How a mark is changed: `(mark & keep) ^ toggle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marking {
    /// Bits that are kept.
    pub keep: u32,
    /// Bits that are toggled then.
    pub toggle: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands a reference")]
fn is_false(value: &bool) -> bool {
    !value
}
