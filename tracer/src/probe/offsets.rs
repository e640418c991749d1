//! Struct offsets that the eBPF programs need, and the names of drop reasons, from this kernel's BTF.
//!
//! A member is required or optional. Without a required one no packet can be read in memory, so drops are not reported.
//! Without an optional one, a detail of a hop (route, connection, queue) is inferred or missing.

use std::collections::BTreeMap;
use std::mem::offset_of;

use tracer_common::{ABSENT, ConntrackTuple, Offsets};

use super::btf::Btf;

/// The offsets, and the required members that this kernel does not have.
#[must_use]
pub fn offsets(btf: &Btf<'_>) -> (Offsets, Vec<String>) {
    let mut missing = Vec::new();
    let mut required = |path: &str| {
        btf.offset(path).unwrap_or_else(|error| {
            missing.push(format!("{path} ({error})"));
            ABSENT
        })
    };
    let optional = |path: &str| btf.offset(path).unwrap_or(ABSENT);
    let conntrack = ConnectionOffsets::find(btf).unwrap_or(ConnectionOffsets::UNKNOWN);
    let offsets = Offsets {
        skb_head: required("sk_buff.head"),
        skb_network_header: required("sk_buff.network_header"),
        skb_tail: required("sk_buff.tail"),
        skb_dev: required("sk_buff.dev"),
        skb_len: required("sk_buff.len"),
        skb_mark: required("sk_buff.mark"),
        dev_ifindex: required("net_device.ifindex"),
        dev_net: required("net_device.nd_net.net"),
        net_inum: required("net.ns.inum"),
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
        skb_nfct: optional("sk_buff._nfct"),
        conn_original: conntrack.original,
        conn_reply: conntrack.reply,
        conn_status: conntrack.status,
        conn_mark: conntrack.mark,
        conn_zone: conntrack.zone,
    };
    (offsets, missing)
}

/// Offsets in `struct nf_conn`.
struct ConnectionOffsets {
    original: u32,
    reply: u32,
    status: u32,
    mark: u32,
    zone: u32,
}

impl ConnectionOffsets {
    const UNKNOWN: Self =
        Self { original: ABSENT, reply: ABSENT, status: ABSENT, mark: ABSENT, zone: ABSENT };

    fn find(btf: &Btf<'_>) -> Option<Self> {
        let of = |path: &str| btf.offset(path).ok();
        let optional = |path: &str| of(path).unwrap_or(ABSENT);
        // The programs copy whole tuples, so the kernel's layout has to be the one of the ABI.
        let tuple = [
            ("src.u3", offset_of!(ConntrackTuple, src)),
            ("src.u", offset_of!(ConntrackTuple, sport)),
            ("src.l3num", offset_of!(ConntrackTuple, family)),
            ("dst.u3", offset_of!(ConntrackTuple, dst)),
            ("dst.u", offset_of!(ConntrackTuple, dport)),
            ("dst.protonum", offset_of!(ConntrackTuple, protocol)),
        ];
        let fits = |(member, at): (&str, usize)| {
            of(&format!("nf_conntrack_tuple.{member}")).is_some_and(|found| found as usize == at)
        };
        if !tuple.into_iter().all(fits) {
            return None;
        }
        let first = of("nf_conn.tuplehash")? + of("nf_conntrack_tuple_hash.tuple")?;
        Some(Self {
            original: first,
            reply: first + btf.size("nf_conntrack_tuple_hash")?,
            status: optional("nf_conn.status"),
            mark: optional("nf_conn.mark"),
            zone: optional("nf_conn.zone.id"),
        })
    }
}

/// The kernel's names of drop reasons, by value, without `SKB_DROP_REASON_`. Empty before Linux 5.17.
#[must_use]
pub fn drop_reasons(btf: &Btf<'_>) -> BTreeMap<u32, String> {
    let short = |name: String| name.strip_prefix("SKB_DROP_REASON_").map(str::to_owned).unwrap_or(name);
    btf.enum_values("skb_drop_reason").into_iter().map(|(value, name)| (value, short(name))).collect()
}
