//! podtrace's eBPF programs. They observe packets and never change or delay them.
//!
//! Every program does the same with a packet:
//! 1. [`classify`] reads its headers and applies the filter. Hooks at kernel functions skip this: they only look for
//!    packets that are followed already.
//! 2. [`identity`] gives it a number, or finds the one that it has. A new one has to be in the [`sample`], if there is one.
//! 3. [`emit`] writes a record into the ring buffer and counts it.
//!
//! The meaning of an event is user space's business. User space removes what a killed agent left attached; it recognises
//! tc programs by their names.
//!
//! | program | hook | purpose |
//! | --- | --- | --- |
//! | `podtrace_entry` | tc ingress of pods' veths and uplinks | where packets enter the node: each one is new |
//! | `podtrace_ingress` | tc ingress elsewhere | bridge, tunnel |
//! | `podtrace_egress` | tc egress elsewhere | bridge, tunnel, pods' veths |
//! | `podtrace_exit` | tc egress of uplinks | where packets leave the node |
//! | `podtrace_drop` | raw tracepoint, 5.17 and later | drops, with the kernel's reason |
//! | `podtrace_drop_unreasoned` | raw tracepoint before 5.17 | drops; a third argument does not exist there |
//! | `podtrace_consumed` | raw tracepoint | freed sk_buffs: their memory may become other packets |
//! | `podtrace_queued` | raw tracepoint | packets that waited in a device's queue |
//! | `fentry_…`, `kprobe_…` | functions of the kernel's network stack | what the node does with a packet, see [`stack`] |
//! | `fexit_…` | functions that copy packets | copies are followed like the original |
#![no_std]
#![no_main]
#![expect(clippy::needless_pass_by_value, reason = "aya's macros hand contexts over by value")]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod classify;
mod conntrack;
mod emit;
mod globals;
mod header;
mod identity;
mod reader;
mod route;
mod sample;
mod stack;
mod stats;

use aya_ebpf::{
    EbpfContext as _,
    bindings::TC_ACT_UNSPEC,
    macros::{classifier, raw_tracepoint},
    programs::{RawTracePointContext, TcContext},
};
use tracer_common::{hook, stats::DropKey};

use crate::{
    emit::{Sighting, emit, emit_alone},
    identity::{Moment, Passage},
    reader::{Device, SkbReader, TcReader, plain},
};

/// Shortest time in a queue that is reported, in nanoseconds. Without a queue a packet takes about as long.
const QUEUED_NS: u64 = 100_000;

/// Where packets enter the node.
#[classifier]
fn podtrace_entry(ctx: TcContext) -> i32 {
    tap(&ctx, hook::TC_INGRESS, Passage::Enters)
}

/// Ingress of devices that packets reach from within the node.
#[classifier]
fn podtrace_ingress(ctx: TcContext) -> i32 {
    tap(&ctx, hook::TC_INGRESS, Passage::Within)
}

/// Where packets leave the node.
#[classifier]
fn podtrace_exit(ctx: TcContext) -> i32 {
    tap(&ctx, hook::TC_EGRESS, Passage::Leaves)
}

/// Egress within the node.
#[classifier]
fn podtrace_egress(ctx: TcContext) -> i32 {
    tap(&ctx, hook::TC_EGRESS, Passage::Within)
}

#[inline(always)]
fn tap(ctx: &TcContext, hook: u16, passage: Passage) -> i32 {
    if globals::enabled() {
        let _ = try_tap(ctx, hook, passage);
    }
    // No decision: the next program, or the kernel, continues as if this one did not exist.
    TC_ACT_UNSPEC
}

#[inline(always)]
fn try_tap(ctx: &TcContext, hook: u16, passage: Passage) -> Option<()> {
    let reader = TcReader::new(ctx);
    // The context of a tc program is the sk_buff itself, so its address equals the one that tracepoints and kprobes
    // get for the same packet.
    let skb = plain(ctx.as_ptr() as u64)?;
    let class = classify::classify(&reader)?;
    let moment = Moment { passage, sent: hook == hook::TC_EGRESS };
    let identity = identity::of(skb, &class, &reader, moment)?;
    let sk_buff = ctx.skb.skb;
    // SAFETY: `sk_buff` is the program's context; the verifier checks these accesses.
    let (ifindex, len, mark, gso_segs, gso_size) = unsafe {
        ((*sk_buff).ifindex, (*sk_buff).len, (*sk_buff).mark, (*sk_buff).gso_segs, (*sk_buff).gso_size)
    };
    if stats::is_on() {
        return stats::passed(ifindex, hook, len, &class, &identity, &reader);
    }
    let sighting = Sighting {
        hook,
        flags: identity.flags,
        packet: identity.packet,
        parent: identity.parent,
        at_ns: identity.at_ns,
        skb,
        location: 0,
        reason: 0,
        netns: globals::NODE_NETNS.load(),
        ifindex,
        len,
        mark,
        gso_segs: gso_segs as u16,
        gso_size,
        aux: 0,
    };
    emit(&sighting, &reader)
}

/// The kernel drops a packet, and gives the reason.
#[raw_tracepoint(tracepoint = "kfree_skb")]
fn podtrace_drop(ctx: RawTracePointContext) -> i32 {
    drop_seen(ctx.arg(0), ctx.arg(1), ctx.arg(2))
}

/// The kernel drops a packet. Before 5.17 it gives no reason.
#[raw_tracepoint(tracepoint = "kfree_skb")]
fn podtrace_drop_unreasoned(ctx: RawTracePointContext) -> i32 {
    drop_seen(ctx.arg(0), ctx.arg(1), 0)
}

#[inline(always)]
fn drop_seen(skb: u64, location: u64, reason: u32) -> i32 {
    if globals::enabled() {
        let _ = try_drop_seen(skb, location, reason);
        // Whether or not that was an event of this node, the sk_buff is freed.
        identity::forget(skb);
    }
    0
}

#[inline(always)]
fn try_drop_seen(skb: u64, location: u64, reason: u32) -> Option<()> {
    let reader = SkbReader::new(skb)?;
    let device = reader.device();
    // Tracepoints see the whole machine, which may be several nodes (kind, the lab).
    if let Some(device) = device
        && !globals::is_ours(device.netns)
    {
        return None;
    }
    let class = classify::classify(&reader)?;
    // In a socket's receive queue `dev` is null or something else. Then only a packet that this node's taps have seen,
    // and that has not left the node, belongs to this node.
    let identity = if device.is_some() {
        identity::of(skb, &class, &reader, Moment::WITHIN)?
    } else {
        identity::followed(skb, &class, &reader).filter(|identity| !identity.left)?
    };
    let device = device.unwrap_or(Device { ifindex: 0, netns: 0 });
    if stats::is_on() {
        return stats::dropped(&DropKey { location, reason, netns: device.netns }, reader.len());
    }
    let sighting =
        Sighting { location, reason, ..Sighting::of(hook::KFREE_SKB, skb, &identity, &reader, device) };
    emit(&sighting, &reader)
}

/// The kernel has freed a packet that it was done with: delivered, sent, or copied into others (`consume_skb`).
///
/// Not every way of freeing passes here or [`podtrace_drop`]: `__kfree_skb` called directly (data that TCP has read,
/// acknowledged originals of what it sent, `__napi_kfree_skb` where GRO merged), `kfree_skb_partial` and
/// `napi_skb_free_stolen_head` (data that GRO or TCP took over), `kfree_skb_napi_cache` (the socket freed on the CPU that
/// allocated), frags that drivers take back for the next packet (`napi_reuse_skb`). The fingerprint guards there.
#[raw_tracepoint(tracepoint = "consume_skb")]
fn podtrace_consumed(ctx: RawTracePointContext) -> i32 {
    if globals::enabled() {
        identity::forget(ctx.arg(0));
    }
    0
}

/// A device's driver gets a packet, which may have been queued since the tap saw it.
#[raw_tracepoint(tracepoint = "net_dev_start_xmit")]
fn podtrace_queued(ctx: RawTracePointContext) -> i32 {
    if globals::enabled() {
        let _ = try_queued(ctx.arg(0), ctx.arg(1));
    }
    0
}

#[inline(always)]
fn try_queued(skb: u64, dev: u64) -> Option<()> {
    // All packets of the machine pass here, those that are followed several times: what costs least is asked first.
    if !identity::may_be_known(skb) || !reader::has_queue(dev) || !identity::is_known(skb) {
        return None;
    }
    let reader = SkbReader::new(skb)?;
    let device = Device::read(dev).filter(|device| device.netns == globals::NODE_NETNS.load())?;
    let identity = identity::known(skb, &reader)?;
    if identity.at_ns.wrapping_sub(identity.sent_ns) < QUEUED_NS {
        return None;
    }
    emit_alone(&Sighting::of(hook::START_XMIT, skb, &identity, &reader, device))
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier rejects endless loops, so a panic that survives optimization shows when the program is loaded.
    loop {}
}

/// The loader reads this first. It has its own section, since no program refers to it.
#[unsafe(link_section = "podtrace_abi")]
#[unsafe(no_mangle)]
static ABI: u32 = tracer_common::ABI_VERSION;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
