//! Questions to a rule set. What is not known of a packet is `None`, and leads to more candidates.

use std::net::{IpAddr, Ipv4Addr};

use super::model::Hook;

/// Addresses, protocol and ports of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol number.
    pub protocol: u8,
    /// Source port, for protocols that have ports.
    pub source_port: Option<u16>,
    /// Destination port.
    pub destination_port: Option<u16>,
}

/// Which end of a packet was translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The source; translated where the packet leaves the node (postrouting).
    Source,
    /// The destination; translated where the packet enters the node or is sent by it (prerouting, output).
    Destination,
}

/// The question which rule of this node translated a connection's first packet.
#[derive(Clone, Copy, Debug)]
pub struct Translation<'a> {
    /// Which end.
    pub end: End,
    /// The packet before.
    pub before: Packet,
    /// The packet after.
    pub after: Packet,
    /// Name of the input device; `None` if unknown, or if this node sent the packet.
    pub in_device: Option<&'a str>,
    /// Name of the output device; `None` if unknown.
    pub out_device: Option<&'a str>,
    /// The packet's mark before; `None` if unknown.
    pub mark: Option<u32>,
    /// The packet as it entered this node, or was sent by it. Serves to infer the mark of a packet whose source was
    /// translated, if the mark is unknown.
    pub entered: Option<Entered>,
}

/// A packet as it entered a node, or was sent by it, before any translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// The packet.
    pub packet: Packet,
    /// Its mark; `None` if unknown.
    pub mark: Option<u32>,
}

/// The question which rule of this node dropped a packet.
#[derive(Clone, Copy, Debug)]
pub struct Loss<'a> {
    /// At which hook it was dropped.
    pub hook: Hook,
    /// Whether the bridge called the packet filter (ebtables, nft's bridge family) rather than IP; `None` if unknown.
    pub bridge: Option<bool>,
    /// The packet at that hook.
    pub packet: Packet,
    /// Name of the input device; `None` if unknown.
    pub in_device: Option<&'a str>,
    /// Name of the output device; `None` if unknown.
    pub out_device: Option<&'a str>,
    /// Its mark; `None` if unknown.
    pub mark: Option<u32>,
    /// `new`, `established`, `related`, `invalid` or `untracked`; `None` if unknown.
    pub state: Option<&'a str>,
}

/// A packet that is filled in later.
const BLANK: Packet = Packet {
    source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    protocol: 0,
    source_port: None,
    destination_port: None,
};

impl Translation<'_> {
    /// A question about this end. The caller fills in what else is known.
    #[must_use]
    pub fn of(end: End) -> Self {
        Self {
            end,
            before: BLANK,
            after: BLANK,
            in_device: None,
            out_device: None,
            mark: None,
            entered: None,
        }
    }
}

impl Loss<'_> {
    /// A question about this hook. The caller fills in what else is known.
    #[must_use]
    pub fn at(hook: Hook) -> Self {
        Self { hook, bridge: None, packet: BLANK, in_device: None, out_device: None, mark: None, state: None }
    }
}
