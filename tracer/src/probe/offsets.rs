//! Which struct members and arguments the kernel programs read, and the names of drop reasons.

use std::collections::BTreeMap;

use tracer_common::{ABSENT, Offsets};

use super::btf::Btf;

/// Offsets of this kernel, and the names of the members without which drops cannot be seen and it lacks.
#[must_use]
pub fn offsets(btf: &Btf<'_>) -> (Offsets, Vec<String>) {
    let mut missing = Vec::new();
    let mut offset = |path: &str| {
        btf.offset(path).unwrap_or_else(|error| {
            missing.push(format!("{path} ({error})"));
            ABSENT
        })
    };
    // What only adds to what is known of a packet: without it, that is inferred or left out.
    let optional = |path: &str| btf.offset(path).unwrap_or(ABSENT);
    let offsets = Offsets {
        skb_head: offset("sk_buff.head"),
        skb_network_header: offset("sk_buff.network_header"),
        skb_tail: offset("sk_buff.tail"),
        skb_dev: offset("sk_buff.dev"),
        skb_len: offset("sk_buff.len"),
        skb_mark: offset("sk_buff.mark"),
        dev_ifindex: offset("net_device.ifindex"),
        dev_net: offset("net_device.nd_net.net"),
        net_inum: offset("net.ns.inum"),
        skb_dst: optional("sk_buff._skb_refdst"),
        dst_dev: optional("dst_entry.dev"),
        dst_ops: optional("dst_entry.ops"),
        dst_family: optional("dst_ops.family"),
        rtable_gateway_family: optional("rtable.rt_gw_family"),
        rtable_gateway: optional("rtable.rt_gw4"),
        rt6_flags: optional("rt6_info.rt6i_flags"),
        rt6_gateway: optional("rt6_info.rt6i_gateway"),
        nf_state_hook: optional("nf_hook_state.hook"),
        nf_state_family: optional("nf_hook_state.pf"),
        neighbour_state: optional("neighbour.nud_state"),
        dev_tx: optional("net_device._tx"),
        queue_qdisc: optional("netdev_queue.qdisc"),
        qdisc_enqueue: optional("Qdisc.enqueue"),
    };
    (offsets, missing)
}

/// The kernel's names of drop reasons without their common prefix: 2 is `NOT_SPECIFIED`, and so on. Empty
/// before 5.17.
#[must_use]
pub fn drop_reasons(btf: &Btf<'_>) -> BTreeMap<u32, String> {
    let short = |name: String| name.strip_prefix("SKB_DROP_REASON_").map(str::to_owned).unwrap_or(name);
    btf.enum_values("skb_drop_reason").into_iter().map(|(value, name)| (value, short(name))).collect()
}
