//! podtrace's kernel programs. Their names begin with `podtrace_`, by which what a killed tracer left attached is
//! recognised. A program filters, identifies and emits; what it means is user space's work.
//!
//! | program | hook | what it is for |
//! | --- | --- | --- |
//! | `podtrace_entry` | tc ingress of pods' veths and uplinks | where packets enter the node: every one is a new packet |
//! | `podtrace_ingress` | tc ingress elsewhere | bridge, tunnel |
//! | `podtrace_egress` | tc egress elsewhere | bridge, tunnel, pods' veths |
//! | `podtrace_exit` | tc egress of uplinks | where packets leave the node |
//! | `podtrace_drop` | raw tracepoint, 5.17 and later | drops, with the kernel's reason |
//! | `podtrace_drop_unreasoned` | raw tracepoint before 5.17 | drops; reading a third argument fails to attach there |
//! | `podtrace_queued` | raw tracepoint | packets that waited before a device sent them |
//! | `fentry_…`, `kprobe_…` | functions of the kernel's network stack | what the node does with a packet, see [`stack`] |
//! | `fexit_…` | functions that copy packets | copies stay known |
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
mod stack;

use aya_ebpf::{
    EbpfContext as _,
    bindings::TC_ACT_UNSPEC,
    macros::{classifier, raw_tracepoint},
    programs::{RawTracePointContext, TcContext},
};
use tracer_common::hook;

use crate::{
    emit::{Sighting, emit, emit_alone},
    identity::Passage,
    reader::{Device, SkbReader, TcReader},
};

/// Waits shorter than this, in nanoseconds, are none: it takes about as long to get to the driver at all.
const QUEUED_NS: u64 = 100_000;

/// Where packets enter the node.
#[classifier]
fn podtrace_entry(ctx: TcContext) -> i32 {
    tap(&ctx, hook::TC_INGRESS, Passage::Enters)
}

/// Ingress of devices that packets come to from within the node.
#[classifier]
fn podtrace_ingress(ctx: TcContext) -> i32 {
    tap(&ctx, hook::TC_INGRESS, Passage::Within)
}

/// Where packets leave the node.
#[classifier]
fn podtrace_exit(ctx: TcContext) -> i32 {
    tap(&ctx, hook::TC_EGRESS, Passage::Leaves)
}

/// Egress of devices that packets do not leave the node by.
#[classifier]
fn podtrace_egress(ctx: TcContext) -> i32 {
    tap(&ctx, hook::TC_EGRESS, Passage::Within)
}

#[inline(always)]
fn tap(ctx: &TcContext, hook: u16, passage: Passage) -> i32 {
    if globals::enabled() {
        let _ = try_tap(ctx, hook, passage);
    }
    // A tracer decides nothing: the next program, or the kernel, goes on as if this one were not there.
    TC_ACT_UNSPEC
}

#[inline(always)]
fn try_tap(ctx: &TcContext, hook: u16, passage: Passage) -> Option<()> {
    let reader = TcReader::new(ctx);
    // In a tc program the context's address is the sk_buff's own, so it can be compared with what tracepoints
    // and kprobes are given for the same packet.
    let skb = ctx.as_ptr() as u64;
    let class = classify::classify(&reader)?;
    let identity = identity::of(skb, &class, &reader, passage)?;
    if hook == hook::TC_EGRESS {
        identity::sent(skb, identity.at_ns);
    }
    let sk_buff = ctx.skb.skb;
    // SAFETY: `sk_buff` is the program's context; the verifier checks these accesses.
    let (ifindex, len, mark, gso_segs, gso_size) = unsafe {
        ((*sk_buff).ifindex, (*sk_buff).len, (*sk_buff).mark, (*sk_buff).gso_segs, (*sk_buff).gso_size)
    };
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

/// The kernel dropped a packet, and says why.
#[raw_tracepoint(tracepoint = "kfree_skb")]
fn podtrace_drop(ctx: RawTracePointContext) -> i32 {
    drop_seen(ctx.arg(0), ctx.arg(1), ctx.arg(2))
}

/// The kernel dropped a packet; before 5.17 it does not say why.
#[raw_tracepoint(tracepoint = "kfree_skb")]
fn podtrace_drop_unreasoned(ctx: RawTracePointContext) -> i32 {
    drop_seen(ctx.arg(0), ctx.arg(1), 0)
}

#[inline(always)]
fn drop_seen(skb: u64, location: u64, reason: u32) -> i32 {
    if globals::enabled() {
        let _ = try_drop_seen(skb, location, reason);
    }
    0
}

#[inline(always)]
fn try_drop_seen(skb: u64, location: u64, reason: u32) -> Option<()> {
    let reader = SkbReader::new(skb)?;
    let device = reader.device();
    // Tracepoints see the whole machine, on which there may be more nodes than this one (kind, the lab).
    if let Some(device) = device
        && !globals::is_ours(device.netns)
    {
        return None;
    }
    let class = classify::classify(&reader)?;
    // A socket's receive queue clears `dev`, or keeps other things there: then only a packet that this node's
    // taps saw can be known to be this node's, and only for as long as it has not left.
    let identity = if device.is_some() {
        identity::of(skb, &class, &reader, Passage::Within)?
    } else {
        identity::followed(skb, &class, &reader).filter(|identity| !identity.left)?
    };
    identity::forget(skb);
    let device = device.unwrap_or(Device { ifindex: 0, netns: 0 });
    let sighting =
        Sighting { location, reason, ..Sighting::of(hook::KFREE_SKB, skb, &identity, &reader, device) };
    emit(&sighting, &reader)
}

/// A device's driver gets a packet, which may have waited in a queue since the tap saw it.
#[raw_tracepoint(tracepoint = "net_dev_start_xmit")]
fn podtrace_queued(ctx: RawTracePointContext) -> i32 {
    if globals::enabled() {
        let _ = try_queued(ctx.arg(0));
    }
    0
}

#[inline(always)]
fn try_queued(skb: u64) -> Option<()> {
    if !identity::is_known(skb) {
        return None;
    }
    let reader = SkbReader::new(skb)?;
    let device = reader.device().filter(|device| device.netns == globals::NODE_NETNS.load())?;
    if !reader.is_at_queue() {
        return None;
    }
    let identity = identity::known(skb, &reader)?;
    if identity.at_ns.wrapping_sub(identity.sent_ns) < QUEUED_NS {
        return None;
    }
    emit_alone(&Sighting::of(hook::START_XMIT, skb, &identity, &reader, device))
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses unreachable loops, so a panic that survives optimisation shows when loading.
    loop {}
}

/// Read by the loader before anything else. A section of its own: nothing in the programs refers to it.
#[unsafe(link_section = "podtrace_abi")]
#[unsafe(no_mangle)]
static ABI: u32 = tracer_common::ABI_VERSION;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
