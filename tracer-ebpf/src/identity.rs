//! Which packet is it? One number for as long as one sk_buff carries it on this node.

use aya_ebpf::helpers::{bpf_get_smp_processor_id, generated::bpf_ktime_get_ns};
use tracer_common::{Address, flag};

use crate::{
    classify::Class,
    globals::{PACKETS, count},
    reader::Reader,
};

/// A packet under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Tracked {
    pub(crate) packet: u64,
    pub(crate) fingerprint: u64,
    /// 1 once it has left the node.
    pub(crate) left: u64,
}

/// What the fragments of one packet have in common.
#[repr(C)]
pub(crate) struct FragmentKey {
    pub(crate) src: Address,
    pub(crate) dst: Address,
    pub(crate) ip_id: u32,
    pub(crate) protocol: u32,
}

/// What a hook is to a packet's way through the node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// It enters the node here. Whatever is known of its sk_buff is of another packet, or of another node that
    /// shares this kernel.
    Enters,
    /// It is on its way: if its sk_buff is known, it is that packet.
    Within,
    /// As within, and here it leaves the node. Its sk_buff may turn up on another one that shares this kernel.
    Leaves,
}

/// A packet's identity.
pub(crate) struct Identity {
    pub(crate) packet: u64,
    pub(crate) at_ns: u64,
    pub(crate) flags: u16,
    /// Whether it had left the node before.
    pub(crate) left: bool,
}

/// The identity of a packet that matches or is followed; `None` if it is neither.
#[inline(always)]
pub(crate) fn of<R: Reader>(skb: u64, class: &Class, reader: &R, passage: Passage) -> Option<Identity> {
    if passage != Passage::Enters
        && let Some(identity) = followed(skb, class, reader)
    {
        if passage == Passage::Leaves {
            leave(skb);
        }
        return Some(identity);
    }
    if !class.matches {
        return None;
    }
    // SAFETY: helpers without preconditions.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    // Time and CPU together are unique: no CPU is twice here within a nanosecond.
    // SAFETY: as above.
    let packet = (at_ns << 10) | (u64::from(unsafe { bpf_get_smp_processor_id() }) & 0x3ff);
    let mut flags = flag::FIRST_SEEN;
    if PACKETS
        .insert(
            skb,
            Tracked {
                packet,
                fingerprint: class.header.fingerprint(reader),
                left: u64::from(passage == Passage::Leaves),
            },
            0,
        )
        .is_err()
    {
        count(|counters| {
            // SAFETY: a member's address within a live map value.
            unsafe { &raw mut (*counters).lost_map }
        });
        flags |= flag::NO_IDENTITY;
    }
    Some(Identity { packet, at_ns, flags, left: false })
}

/// The identity of a packet that was seen before, whether its headers of the moment match or not.
#[inline(always)]
pub(crate) fn followed<R: Reader>(skb: u64, class: &Class, reader: &R) -> Option<Identity> {
    // SAFETY: an entry that changes while it is read belongs to an sk_buff that was freed meanwhile; its
    // fingerprint then differs.
    let tracked = unsafe { PACKETS.get(skb) }?;
    if tracked.fingerprint != class.header.fingerprint(reader) {
        return None;
    }
    let flags = if class.matches { 0 } else { flag::FOLLOWED };
    // SAFETY: a helper without preconditions.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    Some(Identity { packet: tracked.packet, at_ns, flags, left: tracked.left != 0 })
}

#[inline(always)]
fn leave(skb: u64) {
    if let Some(tracked) = PACKETS.get_ptr_mut(skb) {
        // SAFETY: a live map value; at worst the LRU has given it to another packet, which then looks departed
        // to drops without a device.
        unsafe { (*tracked).left = 1 };
    }
}

/// The sk_buff is freed: its memory may become another packet.
#[inline(always)]
pub(crate) fn forget(skb: u64) {
    // Absent if it was never stored or the LRU made room: nothing to forget then.
    let _ = PACKETS.remove(skb);
}
