//! Where this kernel keeps what the programs read: struct offsets and argument positions. The loader reads them from BTF.

use crate::hook;

/// Byte offsets of struct members; [`ABSENT`] if this kernel does not have the member.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `sk_buff.head`, a pointer.
    pub skb_head: u32,
    /// `sk_buff.network_header`, a u16 counted from `head`.
    pub skb_network_header: u32,
    /// `sk_buff.tail`, a u32 counted from `head`: the end of the linear bytes.
    pub skb_tail: u32,
    /// `sk_buff.dev`, a pointer.
    pub skb_dev: u32,
    /// `sk_buff.len`, a u32.
    pub skb_len: u32,
    /// `sk_buff.mark`, a u32.
    pub skb_mark: u32,
    /// `net_device.ifindex`, an i32.
    pub dev_ifindex: u32,
    /// `net_device.nd_net.net`, a pointer.
    pub dev_net: u32,
    /// `net.ns.inum`, a u32.
    pub net_inum: u32,
    /// `sk_buff._skb_refdst`, a pointer with flags in its lowest bit.
    pub skb_dst: u32,
    /// `dst_entry.dev`, a pointer.
    pub dst_dev: u32,
    /// `dst_entry.ops`, a pointer.
    pub dst_ops: u32,
    /// `dst_ops.family`, a u16.
    pub dst_family: u32,
    /// `rtable.rt_gw_family`, a u8 (5.2).
    pub rtable_gateway_family: u32,
    /// `rtable.rt_gw4`, four bytes in network order (5.2); an IPv6 gateway of an IPv4 route is in the same union.
    pub rtable_gateway: u32,
    /// `rt6_info.rt6i_flags`, a u32.
    pub rt6_flags: u32,
    /// `rt6_info.rt6i_gateway`, sixteen bytes.
    pub rt6_gateway: u32,
    /// `nf_hook_state.hook`, a u8; an unsigned int before 6.0 whose first byte is the same on little endian.
    pub nf_state_hook: u32,
    /// `nf_hook_state.pf`, a u8.
    pub nf_state_family: u32,
    /// `neighbour.nud_state`, a u8.
    pub neighbour_state: u32,
    /// `net_device._tx`, a pointer.
    pub dev_tx: u32,
    /// `netdev_queue.qdisc`, a pointer.
    pub queue_qdisc: u32,
    /// `Qdisc.enqueue`, a pointer; null for devices without a queue.
    pub qdisc_enqueue: u32,
    /// `sk_buff._nfct`, a pointer with `enum ip_conntrack_info` in its lowest three bits.
    pub skb_nfct: u32,
    /// `nf_conn.tuplehash[0].tuple`, a [`ConntrackTuple`](crate::ConntrackTuple).
    pub conn_original: u32,
    /// `nf_conn.tuplehash[1].tuple`.
    pub conn_reply: u32,
    /// `nf_conn.status`, of which the first u32 is read.
    pub conn_status: u32,
    /// `nf_conn.mark`, a u32.
    pub conn_mark: u32,
    /// `nf_conn.zone.id`, a u16.
    pub conn_zone: u32,
}

/// Value of an [`Offsets`] member that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

impl Offsets {
    /// No offset is known.
    pub const UNKNOWN: Self = Self {
        skb_head: ABSENT,
        skb_network_header: ABSENT,
        skb_tail: ABSENT,
        skb_dev: ABSENT,
        skb_len: ABSENT,
        skb_mark: ABSENT,
        dev_ifindex: ABSENT,
        dev_net: ABSENT,
        net_inum: ABSENT,
        skb_dst: ABSENT,
        dst_dev: ABSENT,
        dst_ops: ABSENT,
        dst_family: ABSENT,
        rtable_gateway_family: ABSENT,
        rtable_gateway: ABSENT,
        rt6_flags: ABSENT,
        rt6_gateway: ABSENT,
        nf_state_hook: ABSENT,
        nf_state_family: ABSENT,
        neighbour_state: ABSENT,
        dev_tx: ABSENT,
        queue_qdisc: ABSENT,
        qdisc_enqueue: ABSENT,
        skb_nfct: ABSENT,
        conn_original: ABSENT,
        conn_reply: ABSENT,
        conn_status: ABSENT,
        conn_mark: ABSENT,
        conn_zone: ABSENT,
    };
}

/// Positions of the arguments of hooked functions, by hook number; [`NO_ARGUMENT`] if there is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The `struct sk_buff *`.
    pub skb: [u8; hook::END],
    /// The other argument that the hook reads.
    pub other: [u8; hook::END],
}

impl Arguments {
    /// No argument is known.
    pub const NONE: Self = Self { skb: [NO_ARGUMENT; hook::END], other: [NO_ARGUMENT; hook::END] };
}

/// Value of an [`Arguments`] element without an argument.
pub const NO_ARGUMENT: u8 = u8::MAX;

const _: () = assert!(size_of::<Offsets>() == 116 && align_of::<Offsets>() == 4);
const _: () = assert!(size_of::<Arguments>() == 2 * hook::END && align_of::<Arguments>() == 1);

/// Whether a number can be the address of something of the kernel's: its half of the address space begins, with the page
/// tables of most levels that there are, at 0xff00_0000_0000_0000 on x86-64 (five levels) and 0xfff0_0000_0000_0000 on
/// aarch64 (52 bits). What fields hold that the kernel uses for something else meanwhile is smaller.
#[inline(always)]
#[must_use]
pub const fn is_kernel_address(number: u64) -> bool {
    number >> 56 == 0xff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_with_any_page_tables_have_addresses() {
        for (what, address) in [
            ("x86-64, four levels", 0xffff_8880_0123_4500),
            ("x86-64, five levels", 0xff11_0000_0123_4500),
            ("x86-64, its text", 0xffff_ffff_8100_0000),
            ("aarch64, 39 bits", 0xffff_ff80_0123_4500),
            ("aarch64, 48 bits", 0xffff_0000_0123_4500),
            ("aarch64, 52 bits", 0xfff0_0000_0123_4500),
        ] {
            assert!(is_kernel_address(address), "{what}");
        }
        // A null pointer, one of a process, and the state that a UDP socket keeps in `sk_buff.dev` (`udp_dev_scratch`).
        for number in [0, 0x7fff_ffff_f000, 0x0001_0054_0000_0300, 0x0101_ffff_0000_0300] {
            assert!(!is_kernel_address(number), "{number:#x}");
        }
    }
}
