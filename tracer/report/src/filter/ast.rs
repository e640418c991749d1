//! A filter as it was understood.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// A pcap expression.
#[derive(Clone, PartialEq, Eq)]
pub struct Filter {
    pub(super) text: String,
    /// Holds for every packet if `None`.
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

/// What has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// Number of a condition.
    Holds(usize),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

impl Expression {
    /// Whether it holds, where bit n says whether condition n does.
    pub(super) fn holds(&self, conditions: u64) -> bool {
        match self {
            Self::Holds(number) => conditions >> number & 1 == 1,
            Self::Not(other) => !other.holds(conditions),
            Self::And(one, other) => one.holds(conditions) && other.holds(conditions),
            Self::Or(one, other) => one.holds(conditions) || other.holds(conditions),
        }
    }
}

/// Something that is asked of one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) protocol: Option<Protocol>,
    pub(super) side: Side,
    pub(super) what: What,
}

/// What a header is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// `ip`
    V4,
    /// `ip6`
    V6,
    /// IP protocol number.
    Number(u8),
}

/// Which end of a packet is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Either,
    Both,
    Source,
    Destination,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Nothing but the protocol.
    Anything,
    Host(IpAddr),
    Net(IpNet),
    Ports(RangeInclusive<u16>),
    /// The packet's length on its device, in bytes.
    Length(RangeInclusive<u32>),
}
