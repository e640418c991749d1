//! The filter: constants of the programs, and the values of the maps that they look up addresses and ports in.

/// Which packets to trace. The loader sets it before it loads the programs.
///
/// A packet matches if its source is on one side and its destination on the other. The programs look up an address'
/// sides in the map of addresses, see [`side`]; a side that is "any" has every address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Bits of [`filter_flag`].
    pub flags: u32,
    /// IP protocol number, 0 for all.
    pub protocol: u32,
    /// Ports on the `from` side in host byte order, followed by zeros; all zeros for any port.
    pub from_ports: [u16; PORTS],
    /// Ports on the `to` side in host byte order, followed by zeros; all zeros for any port.
    pub to_ports: [u16; PORTS],
    /// UDP destination ports of the node's VXLAN devices in host byte order, followed by zeros; all zeros if it has none.
    pub vxlan_ports: [u16; VXLAN_PORTS],
}

/// Ports per side: a Service has one at its cluster IP, one at its endpoints and one at the nodes.
pub const PORTS: usize = 4;

/// Ports of VXLAN on one node: CNI plugins use one each.
pub const VXLAN_PORTS: usize = 4;

/// Bits of [`Filter::flags`].
pub mod filter_flag {
    /// Every address is on the `from` side.
    pub const FROM_ANY: u32 = 1 << 0;
    /// Every address is on the `to` side.
    pub const TO_ANY: u32 = 1 << 1;
    /// Only packets from `from` to `to`, no replies.
    pub const ONE_WAY: u32 = 1 << 2;
    /// Nodes' addresses are on a side at the ports in the map of node ports.
    pub const NODE_PORTS: u32 = 1 << 3;
}

/// Bits of the values in the maps of addresses and node ports.
pub mod side {
    /// The address belongs to `from`.
    pub const FROM: u32 = 1 << 0;
    /// The address belongs to `to`.
    pub const TO: u32 = 1 << 1;
    /// The address belongs to a node: NAT may put it in place of a traced address.
    pub const VIA: u32 = 1 << 2;
}

/// An IPv6 address, or an IPv4 address mapped into IPv6 (`::ffff:a.b.c.d`), in network byte order.
pub type Address = [u8; 16];

const _: () = assert!(size_of::<Filter>() == 32 && align_of::<Filter>() == 4);
