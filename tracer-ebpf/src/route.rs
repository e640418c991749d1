//! The route of a packet, from its `struct dst_entry`.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use tracer_common::{ABSENT, Event, is_kernel_address};

use crate::{
    globals::offset,
    reader::{Device, kernel},
};

/// Set in `sk_buff._skb_refdst` if the skb holds no reference to the entry (SKB_DST_NOREF).
const NOREF: u64 = 1;

/// Set in `rt6_info.rt6i_flags` if the route has a gateway (RTF_GATEWAY).
const GATEWAY: u32 = 2;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// The output device of the route of the `struct sk_buff` at `skb`, if it has one.
#[inline(always)]
pub(crate) fn device(skb: u64) -> Option<Device> {
    Device::read(kernel(entry(skb)?, offset!(dst_dev))?)
}

/// Writes the route of the `struct sk_buff` at `skb` into its event in place, to save stack.
///
/// # Safety
///
/// `event` is valid for writing.
#[inline(always)]
pub(crate) unsafe fn write(skb: u64, event: *mut Event) -> Option<()> {
    let dst = entry(skb)?;
    let dev: u64 = kernel(dst, offset!(dst_dev))?;
    let ifindex: u32 = kernel(dev, offset!(dev_ifindex))?;
    // SAFETY: the caller's.
    unsafe { (*event).route_ifindex = ifindex };
    let ops: u64 = kernel(dst, offset!(dst_ops))?;
    let family: u16 = kernel(ops, offset!(dst_family))?;
    let gateway = event.cast::<u8>().wrapping_add(core::mem::offset_of!(Event, gateway));
    if family == AF_INET {
        let family: u8 = kernel(dst, offset!(rtable_gateway_family))?;
        let from = offset!(rtable_gateway);
        if u16::from(family) == AF_INET {
            // SAFETY: the last six of sixteen bytes that are valid for writing.
            unsafe {
                gateway.add(10).cast::<u16>().write_unaligned(0xffff);
                copy(gateway.add(12), 4, dst, from);
            }
        } else if u16::from(family) == AF_INET6 {
            // SAFETY: sixteen bytes that are valid for writing.
            unsafe { copy(gateway, 16, dst, from) };
        }
        return Some(());
    }
    let flags: u32 = kernel(dst, offset!(rt6_flags))?;
    let from = offset!(rt6_gateway);
    if family == AF_INET6 && flags & GATEWAY != 0 {
        // SAFETY: as above.
        unsafe { copy(gateway, 16, dst, from) };
    }
    Some(())
}

/// Copies a struct's member.
///
/// # Safety
///
/// `to` is valid for writing `len` bytes.
#[inline(always)]
unsafe fn copy(to: *mut u8, len: u32, base: u64, offset: u32) {
    if offset != ABSENT {
        // SAFETY: the caller's. A read that faults leaves zeros, which mean no gateway.
        let _ = unsafe { bpf_probe_read_kernel(to.cast(), len, (base + u64::from(offset)) as *const _) };
    }
}

/// The address of the packet's `struct dst_entry`.
#[inline(always)]
fn entry(skb: u64) -> Option<u64> {
    let dst: u64 = kernel(skb, offset!(skb_dst))?;
    let dst = dst & !NOREF;
    // While the packet is queued, this field holds something else.
    if is_kernel_address(dst) { Some(dst) } else { None }
}
