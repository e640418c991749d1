//! Reads a packet's bytes: by the helpers of a tc program ([`TcReader`]), or from the sk_buff in memory ([`SkbReader`]).
//!
//! Offsets count from the network header, since at kernel functions there may be no link header.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, bpf_hdr_start_off::BPF_HDR_START_NET},
    helpers::{
        bpf_probe_read_kernel,
        generated::{
            bpf_probe_read_kernel as probe_read_kernel, bpf_skb_load_bytes, bpf_skb_load_bytes_relative,
        },
    },
    programs::TcContext,
};
use tracer_common::{CAPTURE, flag, is_kernel_address};

use crate::globals::offset;

/// Access to a packet's bytes.
pub(crate) trait Reader {
    /// Reads `size_of::<T>()` bytes at `offset` from the network header.
    fn load<T: Copy>(&self, offset: u32) -> Option<T>;
    /// Copies the first bytes to `to`, which has room for [`CAPTURE`]. Returns the number copied.
    fn capture(&self, to: *mut u8) -> u16;
    /// The segments that it stands for, as far as that is known.
    fn segments(&self) -> Segments;
    /// Event flags that say where [`Self::capture`] begins.
    fn capture_flags(&self) -> u16;
}

/// The segments that an sk_buff stands for.
#[derive(Clone, Copy)]
pub(crate) struct Segments {
    /// At least 1.
    pub(crate) number: u32,
    /// Payload bytes of each but the last.
    pub(crate) size: u32,
}

impl Segments {
    /// A plain packet, or one of which this is unknown.
    const ONE: Self = Self { number: 1, size: 0 };

    /// By an sk_buff's length, number of segments, and their size. A driver may give the size alone.
    #[inline(always)]
    fn of(len: u32, number: u32, size: u32) -> Self {
        // Bit 15 and more: no size, but `GSO_BY_FRAGS`.
        if size == 0 || size >= 0xffff {
            return Self::ONE;
        }
        Self { number: if number == 0 { len / size } else { number }, size }
    }
}

/// The packet of a tc program.
pub(crate) struct TcReader {
    skb: *const c_void,
    len: u32,
}

impl TcReader {
    #[inline(always)]
    pub(crate) fn new(ctx: &TcContext) -> Self {
        Self { skb: ctx.skb.skb.cast_const().cast(), len: ctx.len() }
    }
}

impl Reader for TcReader {
    #[inline(always)]
    fn load<T: Copy>(&self, offset: u32) -> Option<T> {
        let mut value = core::mem::MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes `size_of::<T>()` bytes or fails, and T is read only if it wrote.
        unsafe {
            let failed = bpf_skb_load_bytes_relative(
                self.skb,
                offset,
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
                BPF_HDR_START_NET,
            );
            if failed == 0 { Some(value.assume_init()) } else { None }
        }
    }

    #[inline(always)]
    fn capture(&self, to: *mut u8) -> u16 {
        // SAFETY: `to` has room for CAPTURE bytes and neither call writes more.
        unsafe {
            if self.len >= CAPTURE as u32 {
                let failed = bpf_skb_load_bytes(self.skb, 0, to.cast(), CAPTURE as u32);
                return if failed == 0 { CAPTURE as u16 } else { 0 };
            }
            let Some(len) = short(self.len) else { return 0 };
            let failed = bpf_skb_load_bytes(self.skb, 0, to.cast(), len);
            if failed == 0 { len as u16 } else { 0 }
        }
    }

    #[inline(always)]
    fn segments(&self) -> Segments {
        let sk_buff = self.skb.cast::<__sk_buff>();
        // SAFETY: the program's context; the verifier checks these accesses.
        unsafe { Segments::of((*sk_buff).len, (*sk_buff).gso_segs, (*sk_buff).gso_size) }
    }

    #[inline(always)]
    fn capture_flags(&self) -> u16 {
        0
    }
}

/// A packet by the address of its sk_buff, read with the offsets from BTF.
pub(crate) struct SkbReader {
    skb: u64,
    network: u64,
    linear: u32,
}

/// The device of an sk_buff.
#[derive(Clone, Copy)]
pub(crate) struct Device {
    pub(crate) ifindex: u32,
    pub(crate) netns: u32,
}

impl Device {
    /// Reads the `struct net_device` at `dev`.
    #[inline(always)]
    pub(crate) fn read(dev: u64) -> Option<Self> {
        // While a packet is in a UDP receive queue, `sk_buff.dev` holds something else than a kernel address.
        if !is_kernel_address(dev) {
            return None;
        }
        let ifindex: u32 = kernel(dev, offset!(dev_ifindex))?;
        let net: u64 = kernel(dev, offset!(dev_net))?;
        let netns: u32 = kernel(net, offset!(net_inum))?;
        Some(Self { ifindex, netns })
    }
}

/// Whether the `struct net_device` at `dev` has a queue. Bridges, tunnels and veths have none by default.
#[inline(always)]
pub(crate) fn has_queue(dev: u64) -> bool {
    // All queues of a device are of one kind, so the first one suffices.
    let enqueue = || {
        let queue: u64 = kernel(dev, offset!(dev_tx))?;
        let qdisc: u64 = kernel(queue, offset!(queue_qdisc))?;
        kernel::<u64>(qdisc, offset!(qdisc_enqueue))
    };
    enqueue().is_some_and(|enqueue| enqueue != 0)
}

impl SkbReader {
    #[inline(always)]
    pub(crate) fn new(skb: u64) -> Option<Self> {
        let head: u64 = kernel(skb, offset!(skb_head))?;
        let network: u16 = kernel(skb, offset!(skb_network_header))?;
        let tail: u32 = kernel(skb, offset!(skb_tail))?;
        // 0 means that the header was never set: the packet was dropped before the stack parsed it.
        if network == 0 || tail <= u32::from(network) {
            return None;
        }
        Some(Self { skb, network: head + u64::from(network), linear: tail - u32::from(network) })
    }

    #[inline(always)]
    pub(crate) fn device(&self) -> Option<Device> {
        Device::read(kernel(self.skb, offset!(skb_dev))?)
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> u32 {
        kernel(self.skb, offset!(skb_len)).unwrap_or(0)
    }

    #[inline(always)]
    pub(crate) fn mark(&self) -> u32 {
        kernel(self.skb, offset!(skb_mark)).unwrap_or(0)
    }
}

impl Reader for SkbReader {
    #[inline(always)]
    fn load<T: Copy>(&self, offset: u32) -> Option<T> {
        if offset + size_of::<T>() as u32 > self.linear {
            return None;
        }
        // SAFETY: the helper fails on addresses that cannot be read.
        unsafe { bpf_probe_read_kernel((self.network + u64::from(offset)) as *const T) }.ok()
    }

    #[inline(always)]
    fn capture(&self, to: *mut u8) -> u16 {
        let from = self.network as *const c_void;
        // SAFETY: `to` has room for CAPTURE bytes and neither call writes more; reads that fault fail.
        unsafe {
            if self.linear >= CAPTURE as u32 {
                let failed = probe_read_kernel(to.cast(), CAPTURE as u32, from);
                return if failed == 0 { CAPTURE as u16 } else { 0 };
            }
            let Some(len) = short(self.linear) else { return 0 };
            let failed = probe_read_kernel(to.cast(), len, from);
            if failed == 0 { len as u16 } else { 0 }
        }
    }

    #[inline(always)]
    fn segments(&self) -> Segments {
        Segments::ONE
    }

    #[inline(always)]
    fn capture_flags(&self) -> u16 {
        flag::FROM_NETWORK
    }
}

/// A length from 1 to below [`CAPTURE`], in a form that the verifier can follow.
#[inline(always)]
fn short(len: u32) -> Option<u32> {
    // VERIFIER: helpers need a size of at least 1. Before 6.8 the verifier does not learn that from a comparison with 0,
    // but it knows that one more than a number that may be 0 is at least 1.
    let mut last = u64::from(len).wrapping_sub(1);
    // VERIFIER: the compiler knows that the length is below CAPTURE and would remove a mask. The verifier forgets the
    // bound if the length was on the stack meanwhile, so the mask is an instruction of its own.
    // SAFETY: arithmetic on one register.
    #[cfg(target_arch = "bpf")]
    unsafe {
        core::arch::asm!("{0} &= 0xff", inout(reg) last);
    }
    // A length of 0 has wrapped around.
    if last >= CAPTURE as u64 {
        return None;
    }
    Some(last as u32 + 1)
}

/// Reads a struct's member. `None` if this kernel does not have it or it cannot be read.
#[inline(always)]
pub(crate) fn kernel<T: Copy>(base: u64, offset: u32) -> Option<T> {
    if offset == tracer_common::ABSENT {
        return None;
    }
    // SAFETY: the helper fails on addresses that cannot be read.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T) }.ok()
}

/// VERIFIER: a typed pointer, with which hardly any arithmetic is allowed, as a number: what is read from memory is one.
#[inline(always)]
pub(crate) fn plain(pointer: u64) -> Option<u64> {
    kernel((&raw const pointer) as u64, 0)
}
