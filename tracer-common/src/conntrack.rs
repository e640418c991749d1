//! Connection tracking: what `struct nf_conn` says about a packet's connection.

/// One direction of a tracked connection, in the layout of the kernel's `struct nf_conntrack_tuple`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConntrackTuple {
    /// Source address; an IPv4 address is in the first four bytes, followed by zeros.
    pub src: [u8; 16],
    /// Source port, or identifier of an ICMP echo, in network byte order.
    pub sport: [u8; 2],
    /// Address family (`AF_INET`, `AF_INET6`).
    pub family: u16,
    /// Destination address, like `src`.
    pub dst: [u8; 16],
    /// Destination port in network byte order, or ICMP type and code.
    pub dport: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// 0 for the original direction, 1 for the reply direction.
    pub direction: u8,
}

/// A packet's connection: the fields read from `struct nf_conn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conntrack {
    /// The original direction: the first packet before NAT.
    pub original: ConntrackTuple,
    /// The reply direction: expected replies before they are translated back.
    pub reply: ConntrackTuple,
    /// Bits of [`status`].
    pub status: u32,
    /// `nf_conn.mark`.
    pub mark: u32,
    /// `nf_conn.zone.id`.
    pub zone: u16,
    /// `enum ip_conntrack_info`: state and direction of the packet within the connection.
    pub info: u16,
    /// Always 0.
    pub reserved: u32,
}

/// Bits of [`Conntrack::status`] (`enum ip_conntrack_status`).
pub mod status {
    /// A reply has been seen.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// Traffic in both directions: not evicted when the table is full.
    pub const ASSURED: u32 = 1 << 2;
    /// In the table: the first packet has left the node or reached a socket.
    pub const CONFIRMED: u32 = 1 << 3;
    /// NAT translates the source.
    pub const SRC_NAT: u32 = 1 << 4;
    /// NAT translates the destination.
    pub const DST_NAT: u32 = 1 << 5;
}

const _: () = assert!(size_of::<ConntrackTuple>() == 40 && align_of::<ConntrackTuple>() == 2);
const _: () = assert!(core::mem::offset_of!(ConntrackTuple, dst) == 20);
const _: () = assert!(core::mem::offset_of!(ConntrackTuple, protocol) == 38);
const _: () = assert!(size_of::<Conntrack>() == 96 && align_of::<Conntrack>() == 4);
