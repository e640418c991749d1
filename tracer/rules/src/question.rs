//! What the rules are asked.

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
    /// The source: where the packet leaves.
    Source,
    /// The destination: where the packet arrives, or sets out from this node.
    Destination,
}

/// A connection's first packet was translated on this node: by which rule?
#[derive(Clone, Copy, Debug)]
pub struct Translation<'a> {
    /// Which end.
    pub end: End,
    /// The packet before that.
    pub before: Packet,
    /// The packet after that.
    pub after: Packet,
    /// Name of the device that it came in by; `None` if that is not known, or it set out from this node.
    pub in_device: Option<&'a str>,
    /// Name of the device that it leaves by; `None` if that is not known.
    pub out_device: Option<&'a str>,
    /// Its mark before that; `None` if that is not known.
    pub mark: Option<u32>,
    /// The packet as it came to this node, or set out from it, before any translation. Only for a source, and if the
    /// mark is not known: then it may follow from this.
    pub entered: Option<Entered>,
}

/// A packet as it came to a node, or set out from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// The packet then.
    pub packet: Packet,
    /// Its mark then; `None` if that is not known.
    pub mark: Option<u32>,
}

/// The packet filter dropped a packet: by which rule?
#[derive(Clone, Copy, Debug)]
pub struct Loss<'a> {
    /// Where.
    pub hook: Hook,
    /// Whether it was the bridge that asked (ebtables, nft's bridge family) and not IP; `None` if that is not known.
    pub bridge: Option<bool>,
    /// The packet there.
    pub packet: Packet,
    /// Name of the device that it came in by; `None` if that is not known.
    pub in_device: Option<&'a str>,
    /// Name of the device that it leaves by; `None` if that is not known.
    pub out_device: Option<&'a str>,
    /// Its mark; `None` if that is not known.
    pub mark: Option<u32>,
    /// `new`, `established`, `related`, `invalid` or `untracked`; `None` if that is not known.
    pub state: Option<&'a str>,
}

/// For a packet of which nothing is known yet.
const NOBODY: Packet = Packet {
    source: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    protocol: 0,
    source_port: None,
    destination_port: None,
};

impl Translation<'_> {
    /// Of this end; all else is to be filled in, as far as it is known.
    #[must_use]
    pub fn of(end: End) -> Self {
        Self {
            end,
            before: NOBODY,
            after: NOBODY,
            in_device: None,
            out_device: None,
            mark: None,
            entered: None,
        }
    }
}

impl Loss<'_> {
    /// At this hook; all else is to be filled in, as far as it is known.
    #[must_use]
    pub fn at(hook: Hook) -> Self {
        Self {
            hook,
            bridge: None,
            packet: NOBODY,
            in_device: None,
            out_device: None,
            mark: None,
            state: None,
        }
    }
}
