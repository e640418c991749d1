//! Syntax tree of a pcap filter.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// A parsed pcap filter.
#[derive(Clone, PartialEq, Eq)]
pub struct Filter {
    pub(super) text: String,
    /// `None` matches every packet.
    pub(super) expression: Option<Expression>,
    pub(super) conditions: Vec<Condition>,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.text).finish()
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A boolean expression of conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// Index of a condition.
    Holds(usize),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

impl Expression {
    /// Whether it holds, if bit n of `conditions` says whether condition n holds.
    pub(super) fn holds(&self, conditions: u64) -> bool {
        match self {
            Self::Holds(number) => conditions >> number & 1 == 1,
            Self::Not(other) => !other.holds(conditions),
            Self::And(one, other) => one.holds(conditions) && other.holds(conditions),
            Self::Or(one, other) => one.holds(conditions) || other.holds(conditions),
        }
    }
}

/// A condition on one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) protocol: Option<Protocol>,
    pub(super) side: Side,
    pub(super) test: Test,
}

/// Protocol of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// `ip`
    V4,
    /// `ip6`
    V6,
    /// IP protocol number.
    Number(u8),
}

/// Which endpoint of a packet is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Either,
    Both,
    Source,
    Destination,
}

/// What is tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// Only the protocol.
    Anything,
    Host(IpAddr),
    Net(IpNet),
    Ports(RangeInclusive<u16>),
    /// The packet's length on its device, in bytes.
    Length(RangeInclusive<u32>),
}
