//! The ABI between podtrace's kernel programs and its user side.
//!
//! Everything here crosses the boundary as bytes: fixed-width integers, explicit padding, no bool, no enum,
//! no reference. [`ABI_VERSION`] changes with any of it, and user space refuses an object of another version.
//!
//! The kernel side writes what only the kernel knows (time, identity, device, namespace, reason) and copies the
//! packet's first bytes; taking headers apart is user space's work. So a new protocol or tunnel is no ABI change
//! unless the filter has to look inside it.
#![no_std]

#[cfg(feature = "user")]
mod pod;
pub mod wire;

/// Version of everything in this crate.
pub const ABI_VERSION: u32 = 3;

/// Bytes of a packet that a [`Record`] has room for: enough for an IPv6 underlay, VXLAN, an inner Ethernet and
/// IPv6 header, a TCP header with options and the beginning of the payload.
pub const CAPTURE: usize = 192;

/// Hooks, by the number that [`Event::hook`] carries.
pub mod hook {
    /// tc classifier on a device's ingress side.
    pub const TC_INGRESS: u16 = 1;
    /// tc classifier on a device's egress side.
    pub const TC_EGRESS: u16 = 2;
    /// `kfree_skb` tracepoint: the kernel dropped the packet.
    pub const KFREE_SKB: u16 = 16;
    /// `net_dev_start_xmit` tracepoint: the packet has waited in a queue and is handed to the driver.
    pub const START_XMIT: u16 = 17;

    // Kernel functions, on entry. What each one means stands in podtrace's table of hooks.
    /// `br_handle_frame_finish`.
    pub const BRIDGE_INPUT: u16 = 32;
    /// `br_forward`.
    pub const BRIDGE_FORWARD: u16 = 33;
    /// `br_flood`.
    pub const BRIDGE_FLOOD: u16 = 34;
    /// `br_pass_frame_up`.
    pub const BRIDGE_UP: u16 = 35;
    /// `br_dev_queue_push_xmit`.
    pub const BRIDGE_OUTPUT: u16 = 36;
    /// `ip_rcv_core`.
    pub const IP_RECEIVE: u16 = 40;
    /// `ip_forward`.
    pub const IP_FORWARD: u16 = 41;
    /// `ip_output`.
    pub const IP_OUTPUT: u16 = 42;
    /// `ip_local_deliver`.
    pub const IP_LOCAL_IN: u16 = 43;
    /// `__ip_local_out`.
    pub const IP_LOCAL_OUT: u16 = 44;
    /// `ip6_rcv_core`.
    pub const IP6_RECEIVE: u16 = 48;
    /// `ip6_forward`.
    pub const IP6_FORWARD: u16 = 49;
    /// `ip6_output`.
    pub const IP6_OUTPUT: u16 = 50;
    /// `ip6_input`.
    pub const IP6_LOCAL_IN: u16 = 51;
    /// `__ip6_local_out`.
    pub const IP6_LOCAL_OUT: u16 = 52;
    /// `nf_hook_slow`; [`super::Event::aux`] holds hook and protocol family.
    pub const NETFILTER: u16 = 56;
    /// `nf_conntrack_in`.
    pub const CONNTRACK: u16 = 57;
    /// `nf_nat_manip_pkt`; [`super::Event::aux`] holds what is translated, see [`super::manip`].
    pub const NAT: u16 = 58;
    /// `vxlan_xmit_one`.
    pub const VXLAN_TRANSMIT: u16 = 64;
    /// `vxlan_rcv`.
    pub const VXLAN_RECEIVE: u16 = 65;
    /// `neigh_resolve_output`; [`super::Event::aux`] holds the neighbour's state.
    pub const NEIGHBOUR: u16 = 72;

    /// Numbers of functions' hooks are below this.
    pub const END: usize = 80;
}

/// Bits of [`Event::flags`].
pub mod flag {
    /// The packet had no identity yet: this is where it was first seen by these programs.
    pub const FIRST_SEEN: u16 = 1 << 0;
    /// The captured bytes begin at the network header; without it they begin at the device's link header.
    pub const FROM_NETWORK: u16 = 1 << 1;
    /// The event's packet matched by identity alone: its headers of the moment do not match the filter.
    pub const FOLLOWED: u16 = 1 << 2;
    /// No identity could be stored, so this event's `packet` number stands alone.
    pub const NO_IDENTITY: u16 = 1 << 3;
    /// The packet's bytes could not be read, or were not asked for.
    pub const NO_BYTES: u16 = 1 << 4;
    /// The packet is inside a tunnel here: what the hook sees is the outer one.
    pub const IN_TUNNEL: u16 = 1 << 5;
    /// What connection tracking says of the packet is in [`super::Record::conntrack`].
    pub const CONNTRACK: u16 = 1 << 6;
    /// The packet matched only because a node's address may stand for another one: only the packet that was
    /// translated tells whether it is of interest.
    pub const VIA: u16 = 1 << 7;
}

/// What a translation changes (`enum nf_nat_manip_type`).
pub mod manip {
    /// Source address or port.
    pub const SOURCE: u32 = 0;
    /// Destination address or port.
    pub const DESTINATION: u32 = 1;
}

/// Addresses and ports of one direction of a tracked connection, as the kernel has them: `struct
/// nf_conntrack_tuple`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConntrackTuple {
    /// Source address; one of IPv4 in the first four bytes, followed by zeros.
    pub src: [u8; 16],
    /// Source port, or identifier of an ICMP echo, in network order.
    pub sport: [u8; 2],
    /// Address family (`AF_INET`, `AF_INET6`).
    pub family: u16,
    /// Destination address, as `src`.
    pub dst: [u8; 16],
    /// Destination port, or type and code of ICMP.
    pub dport: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// 0 for the original direction, 1 for the reply's.
    pub direction: u8,
}

/// What connection tracking says of a packet: its `struct nf_conn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conntrack {
    /// The connection as it was begun.
    pub original: ConntrackTuple,
    /// What its replies are expected to have, before they are translated back.
    pub reply: ConntrackTuple,
    /// `enum ip_conntrack_status`, bits.
    pub status: u32,
    /// `nf_conn.mark`.
    pub mark: u32,
    /// `nf_conn.zone.id`.
    pub zone: u16,
    /// `enum ip_conntrack_info`: what the packet is to its connection.
    pub info: u16,
    /// Always 0.
    pub reserved: u32,
}

/// Bits of [`Conntrack::status`].
pub mod status {
    /// The connection has been answered.
    pub const SEEN_REPLY: u32 = 1 << 1;
    /// It has seen traffic both ways for long enough not to be dropped early.
    pub const ASSURED: u32 = 1 << 2;
    /// It is in the table: its first packet has left the node, or reached a socket.
    pub const CONFIRMED: u32 = 1 << 3;
    /// Its source is translated.
    pub const SRC_NAT: u32 = 1 << 4;
    /// Its destination is translated.
    pub const DST_NAT: u32 = 1 << 5;
}

/// One observation of one packet at one point of one node.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// `bpf_ktime_get_ns`: nanoseconds of the node's monotonic clock.
    pub at_ns: u64,
    /// Identity of the packet on this node for as long as this set of programs is loaded; never 0.
    pub packet: u64,
    /// Address of the `struct sk_buff`. For people reading a recording; nothing may join by it.
    pub skb: u64,
    /// Address the kernel dropped the packet from (`kfree_skb` only, else 0).
    pub location: u64,
    /// Number of this event among all that its CPU produced, counted from 1, lost ones included.
    pub sequence: u64,
    /// Identity of the packet that this one was cloned or copied from; 0 if none was seen.
    pub parent: u64,
    /// Next hop of the route that the kernel has looked up for it, where that is a gateway; else unspecified.
    pub gateway: Address,
    /// CPU the event was produced on.
    pub cpu: u32,
    /// Inode number of the network namespace the packet was in; 0 where the hook could not tell.
    pub netns: u32,
    /// Index of the device within `netns`; 0 where there was none.
    pub ifindex: u32,
    /// `skb->len` in bytes. At tc hooks this counts from the link header, at tracepoints from where the skb's
    /// data pointed at the time.
    pub len: u32,
    /// `enum skb_drop_reason` of the running kernel (`kfree_skb` from 5.17 on, else 0).
    pub reason: u32,
    /// `skb->mark`.
    pub mark: u32,
    /// One of [`hook`].
    pub hook: u16,
    /// Bits of [`flag`].
    pub flags: u16,
    /// Bytes of the packet that follow, at most [`CAPTURE`].
    pub captured: u16,
    /// Segments that this skb stands for (GSO, GRO); 0 or 1 for a plain packet.
    pub gso_segs: u16,
    /// Payload bytes in each of these segments.
    pub gso_size: u32,
    /// Index of the device that the kernel's route look-up chose; 0 if the packet has no route (yet).
    pub route_ifindex: u32,
    /// What the hook read besides, see [`hook`]; else 0.
    pub aux: u32,
    /// Always 0.
    pub reserved: u32,
}

impl Event {
    /// [`Self::aux`] of [`hook::NETFILTER`].
    #[must_use]
    pub const fn netfilter_aux(hook: u8, family: u8) -> u32 {
        (family as u32) << 8 | hook as u32
    }
}

/// What the ring buffer holds: an event, what connection tracking says of the packet, and its first bytes. Where no
/// bytes are needed to tell which packet it is, the event stands alone.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The observation.
    pub event: Event,
    /// Undefined without [`flag::CONNTRACK`].
    pub conntrack: Conntrack,
    /// The packet's first `event.captured` bytes; the rest is undefined.
    pub bytes: [u8; CAPTURE],
}

/// What the kernel programs counted, per CPU. Together these account for every event:
/// `produced == records read + lost_ring`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events that a program set out to emit.
    pub produced: u64,
    /// Events not emitted because the ring buffer was full.
    pub lost_ring: u64,
    /// Identities that could not be stored because a map was full.
    pub lost_map: u64,
}

/// Which packets are of interest: written by the loader, constant for the programs.
///
/// A packet matches if its source is on one side and its destination on the other. Sides are looked up in the
/// map of addresses, see [`side`]; a side that is "any" admits every address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Bits of [`filter_flag`].
    pub flags: u32,
    /// IP protocol number, 0 for all.
    pub protocol: u32,
    /// Ports on the `from` side in host order, followed by zeros; none for all.
    pub from_ports: [u16; PORTS],
    /// Ports on the `to` side in host order, followed by zeros; none for all.
    pub to_ports: [u16; PORTS],
    /// UDP destination port of VXLAN in host order, 0 where the node has no VXLAN device.
    pub vxlan_port: u16,
    /// Always 0.
    pub reserved: u16,
}

/// Ports of a side that a [`Filter`] has room for: of a Service those at its address, at its endpoints and at nodes.
pub const PORTS: usize = 4;

/// Bits of [`Filter::flags`].
pub mod filter_flag {
    /// Every address is on the `from` side.
    pub const FROM_ANY: u32 = 1 << 0;
    /// Every address is on the `to` side.
    pub const TO_ANY: u32 = 1 << 1;
    /// Only packets from `from` to `to`, not the way back.
    pub const ONE_WAY: u32 = 1 << 2;
    /// Nodes' addresses are on a side at some ports: those in the map of node ports.
    pub const NODE_PORTS: u32 = 1 << 3;
}

/// Bits of the values in the maps of addresses and of node ports.
pub mod side {
    /// The address belongs to `from`.
    pub const FROM: u32 = 1 << 0;
    /// The address belongs to `to`.
    pub const TO: u32 = 1 << 1;
    /// The address belongs to a node, for which the source of packets may be translated.
    pub const VIA: u32 = 1 << 2;
}

/// An IPv6 address, or an IPv4 address mapped into IPv6 (`::ffff:a.b.c.d`), in network order.
pub type Address = [u8; 16];

/// Byte offsets of the kernel's struct members, read from its BTF by the loader. [`ABSENT`] where this kernel
/// has no such member.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `sk_buff.head`, a pointer.
    pub skb_head: u32,
    /// `sk_buff.network_header`, a u16 counted from `head`.
    pub skb_network_header: u32,
    /// `sk_buff.tail`, a u32 counted from `head`: where the linear bytes end.
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
    /// `rtable.rt_gw4`, four bytes in network order (5.2); IPv6 gateways of IPv4 routes stand in the same place.
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
    /// `Qdisc.enqueue`, a pointer that devices without a queue leave empty.
    pub qdisc_enqueue: u32,
    /// `sk_buff._nfct`, a pointer with `enum ip_conntrack_info` in its lowest three bits.
    pub skb_nfct: u32,
    /// `nf_conn.tuplehash[0].tuple`, a [`ConntrackTuple`].
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

/// Which argument of a hooked function is what, read from its prototype by the loader.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// By hook number: the argument that is the `struct sk_buff *`.
    pub skb: [u8; hook::END],
    /// By hook number: the argument that holds what else the hook reads.
    pub other: [u8; hook::END],
}

impl Arguments {
    /// Nothing known.
    pub const NONE: Self = Self { skb: [NO_ARGUMENT; hook::END], other: [NO_ARGUMENT; hook::END] };
}

/// There is no such argument.
pub const NO_ARGUMENT: u8 = u8::MAX;

/// Value of an [`Offsets`] member that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

impl Offsets {
    /// Nothing known.
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

const _: () = assert!(size_of::<Event>() == 112 && align_of::<Event>() == 8);
const _: () = assert!(core::mem::offset_of!(Event, hook) == 88 && core::mem::offset_of!(Event, flags) == 90);
const _: () = assert!(size_of::<ConntrackTuple>() == 40 && align_of::<ConntrackTuple>() == 2);
const _: () = assert!(core::mem::offset_of!(ConntrackTuple, dst) == 20);
const _: () = assert!(core::mem::offset_of!(ConntrackTuple, protocol) == 38);
const _: () = assert!(size_of::<Conntrack>() == 96 && align_of::<Conntrack>() == 4);
const _: () = assert!(core::mem::offset_of!(Record, conntrack) == 112);
const _: () = assert!(size_of::<Record>() == 208 + CAPTURE && core::mem::offset_of!(Record, bytes) == 208);
const _: () = assert!(size_of::<Record>().is_multiple_of(8));
const _: () = assert!(size_of::<Counters>() == 24 && align_of::<Counters>() == 8);
const _: () = assert!(size_of::<Filter>() == 28 && align_of::<Filter>() == 4);
const _: () = assert!(size_of::<Offsets>() == 116 && align_of::<Offsets>() == 4);
const _: () = assert!(size_of::<Arguments>() == 2 * hook::END && align_of::<Arguments>() == 1);
