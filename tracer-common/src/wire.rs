//! What eBPF programs and user space must read alike in packet headers. Each fact stands here once.

/// IP protocol numbers, which are also the types of IPv6 extension headers.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;

    /// Whether the header begins with a source and a destination port.
    #[inline(always)]
    #[must_use]
    pub const fn has_ports(protocol: u8) -> bool {
        protocol == TCP || protocol == UDP || protocol == SCTP
    }

    /// Whether it is ICMP of either family.
    #[inline(always)]
    #[must_use]
    pub const fn is_icmp(protocol: u8) -> bool {
        protocol == ICMP || protocol == ICMPV6
    }
}

/// TCP flags: bits of the header's byte 13.
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset the connection.
    pub const RST: u8 = 4;
    /// Hand the data to the application.
    pub const PSH: u8 = 8;
    /// The acknowledgment number is valid.
    pub const ACK: u8 = 16;
}

/// ICMP types.
pub mod icmp {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Source quench.
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;

    /// Whether a message of this type quotes the packet that it is about. The kernel's connection tracking names the
    /// same five.
    #[inline(always)]
    #[must_use]
    pub const fn is_error(kind: u8) -> bool {
        kind == UNREACHABLE
            || kind == SOURCE_QUENCH
            || kind == REDIRECT
            || kind == TIME_EXCEEDED
            || kind == PARAMETER_PROBLEM
    }
}

/// ICMPv6 types.
pub mod icmpv6 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;

    /// Whether a message of this type quotes the packet that it is about: the first bit is for informational messages
    /// (RFC 4443, section 2.1), and the kernel's connection tracking asks for it alone.
    #[inline(always)]
    #[must_use]
    pub const fn is_error(kind: u8) -> bool {
        kind < ECHO_REQUEST
    }
}

/// Bytes before the packet that an ICMP or ICMPv6 error quotes.
pub const ICMP_HEADER: u32 = 8;

/// Whether an ICMP message of this protocol and type quotes the packet that it is about.
#[inline(always)]
#[must_use]
pub const fn is_icmp_error(protocol: u8, kind: u8) -> bool {
    (protocol == protocol::ICMP && icmp::is_error(kind))
        || (protocol == protocol::ICMPV6 && icmpv6::is_error(kind))
}

/// Whether an ICMP message of this protocol and type is an echo request or reply.
#[inline(always)]
#[must_use]
pub const fn is_echo(protocol: u8, kind: u8) -> bool {
    match protocol {
        protocol::ICMP => kind == icmp::ECHO_REQUEST || kind == icmp::ECHO_REPLY,
        _ => kind == icmpv6::ECHO_REQUEST || kind == icmpv6::ECHO_REPLY,
    }
}

/// Whether an IPv6 extension header of this type is skipped, by [`extension_length`]. The fragment header has a layout of
/// its own; an authentication header is left to be a packet's protocol, as in IPv4.
#[inline(always)]
#[must_use]
pub const fn is_extension(header: u8) -> bool {
    header == protocol::HOP_BY_HOP || header == protocol::ROUTING || header == protocol::DESTINATION_OPTIONS
}

/// Length in bytes of an IPv6 extension header, by its length field.
#[inline(always)]
#[must_use]
pub const fn extension_length(field: u8) -> u32 {
    (field as u32 + 1) * 8
}

/// Flags and offset of an IPv4 fragment: bytes 6 and 7 of the header.
pub mod v4_fragment {
    /// Routers may not fragment it.
    pub const DO_NOT: u16 = 0x4000;
    /// More fragments follow.
    pub const MORE: u16 = 0x2000;
    /// Offset, in units of 8 bytes.
    pub const OFFSET: u16 = 0x1fff;
}

/// Offset and flags of an IPv6 fragment: bytes 2 and 3 of the fragment header.
pub mod v6_fragment {
    /// More fragments follow.
    pub const MORE: u16 = 1;
    /// Offset in bytes.
    pub const OFFSET: u16 = 0xfff8;
}

/// VXLAN (RFC 7348).
pub mod vxlan {
    /// Length of the header.
    pub const HEADER: u32 = 8;
    /// Bit of the first byte: the header holds a network identifier. Without it the packet is no VXLAN.
    pub const HAS_VNI: u8 = 0x08;
}

/// Segments of one sk_buff that decide at most whether it is in a sample: of 64 KiB, at 1,024 bytes each.
pub const SAMPLED_SEGMENTS: u32 = 64;

/// Length of a UDP header.
pub const UDP_HEADER: u32 = 8;

/// Length of an Ethernet header without VLAN tags.
pub const ETHERNET_HEADER: u32 = 14;
