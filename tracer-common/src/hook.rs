//! Numbers of the hooks, as [`crate::Event::hook`] carries them.

/// tc classifier on a device's ingress side.
pub const TC_INGRESS: u16 = 1;
/// tc classifier on a device's egress side.
pub const TC_EGRESS: u16 = 2;
/// `kfree_skb` tracepoint: the kernel drops the packet.
pub const KFREE_SKB: u16 = 16;
/// `net_dev_start_xmit` tracepoint: the packet leaves the device's queue and goes to the driver.
pub const START_XMIT: u16 = 17;

// Kernel functions, on entry. For what each one means for a packet see podtrace's table of hooks.
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
/// `nf_hook_slow`; [`crate::Event::aux`] holds hook and protocol family.
pub const NETFILTER: u16 = 56;
/// `nf_conntrack_in`.
pub const CONNTRACK: u16 = 57;
/// `nf_nat_manip_pkt`; [`crate::Event::aux`] holds what is translated, see [`manip`].
pub const NAT: u16 = 58;
/// `vxlan_xmit_one`.
pub const VXLAN_TRANSMIT: u16 = 64;
/// `vxlan_rcv`.
pub const VXLAN_RECEIVE: u16 = 65;
/// `neigh_resolve_output`; [`crate::Event::aux`] holds the neighbour's state.
pub const NEIGHBOUR: u16 = 72;

/// Upper bound of the numbers of functions.
pub const END: usize = 80;

/// What NAT changes (`enum nf_nat_manip_type`): the value of [`crate::Event::aux`] of [`NAT`].
pub mod manip {
    /// Source address or port.
    pub const SOURCE: u32 = 0;
    /// Destination address or port.
    pub const DESTINATION: u32 = 1;
}
