//! Which packet is it? One number for as long as one sk_buff carries it on this node.

use aya_ebpf::helpers::{bpf_get_smp_processor_id, generated::bpf_ktime_get_ns};
use tracer_common::flag;

use crate::{
    classify::{self, Class},
    globals::{Fingerprint, PACKETS, Tracked, count},
    reader::Reader,
};

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
    pub(crate) parent: u64,
    pub(crate) at_ns: u64,
    pub(crate) flags: u16,
    /// When a tap last saw it on its way out of a device.
    pub(crate) sent_ns: u64,
    /// Whether it had left the node before.
    pub(crate) left: bool,
}

/// The identity of a packet that matches or is followed; `None` if it is neither.
#[inline(always)]
pub(crate) fn of<R: Reader>(skb: u64, class: &Class, reader: &R, passage: Passage) -> Option<Identity> {
    if !class.matches && (passage == Passage::Enters || !is_known(skb)) {
        return None;
    }
    let fingerprint = class.packet.fingerprint(reader);
    // VERIFIER: asked again, so that it need not remember what the answer was.
    if passage != Passage::Enters
        && let Some(identity) = recognised(skb, fingerprint)
    {
        if passage == Passage::Leaves {
            leave(skb);
        }
        let flags = if class.matches { class.flags } else { flag::FOLLOWED };
        return Some(Identity { flags, ..identity });
    }
    if !class.matches {
        return None;
    }
    let (packet, at_ns) = new_number();
    let mut flags = flag::FIRST_SEEN | class.flags;
    let tracked = Tracked {
        packet,
        fingerprint,
        parent: 0,
        sent_ns: at_ns,
        left: u64::from(passage == Passage::Leaves),
    };
    if !store(skb, &tracked) {
        flags |= flag::NO_IDENTITY;
    }
    Some(Identity { packet, parent: 0, at_ns, flags, sent_ns: at_ns, left: false })
}

/// A number that no other packet has, and the moment.
#[inline(always)]
fn new_number() -> (u64, u64) {
    // SAFETY: a helper without preconditions.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    // Time and CPU together are unique: no CPU is twice here within a nanosecond.
    // SAFETY: as above.
    let cpu = u64::from(unsafe { bpf_get_smp_processor_id() }) & 0x3ff;
    ((at_ns << 10) | cpu, at_ns)
}

/// Remembers a packet; a failure is counted.
#[inline(always)]
fn store(skb: u64, tracked: &Tracked) -> bool {
    let stored = PACKETS.insert(skb, tracked, 0).is_ok();
    if !stored {
        count(|counters| {
            // SAFETY: a member's address within a live map value.
            unsafe { &raw mut (*counters).lost_map }
        });
    }
    stored
}

/// Whether this sk_buff's memory has been a packet of interest: the quick answer for hooks that see all packets.
#[inline(always)]
pub(crate) fn is_known(skb: u64) -> bool {
    PACKETS.get_ptr(skb).is_some()
}

/// The identity of a packet that was seen before. Where the filter is not asked, nothing is said of whether its
/// headers match it.
#[inline(always)]
pub(crate) fn known<R: Reader>(skb: u64, reader: &R) -> Option<Identity> {
    let (fingerprint, in_tunnel) = classify::fingerprint(reader)?;
    let identity = recognised(skb, fingerprint)?;
    Some(Identity { flags: if in_tunnel { flag::IN_TUNNEL } else { 0 }, ..identity })
}

/// `copy` is a clone or copy of `skb`: a packet of its own that comes from another.
#[inline(always)]
pub(crate) fn copied(skb: u64, copy: u64) {
    // SAFETY: as in `recognised`; a copy of what is not this packet any more has another fingerprint too.
    let Some(original) = (unsafe { PACKETS.get(skb) }) else { return };
    let (packet, _) = new_number();
    let Tracked { packet: parent, fingerprint, parent: _, sent_ns, left } = *original;
    store(copy, &Tracked { packet, fingerprint, parent, sent_ns, left });
}

/// The identity of a packet that was seen before, whether its headers of the moment match or not.
#[inline(always)]
pub(crate) fn followed<R: Reader>(skb: u64, class: &Class, reader: &R) -> Option<Identity> {
    let identity = recognised(skb, class.packet.fingerprint(reader))?;
    let flags = if class.matches { class.flags } else { flag::FOLLOWED };
    Some(Identity { flags, ..identity })
}

#[inline(always)]
fn recognised(skb: u64, fingerprint: Fingerprint) -> Option<Identity> {
    // SAFETY: an entry that changes while it is read belongs to an sk_buff that was freed meanwhile; its
    // fingerprint then differs.
    let tracked = unsafe { PACKETS.get(skb) }?;
    if !tracked.fingerprint.fits(fingerprint) {
        return None;
    }
    let Tracked { packet, fingerprint: _, parent, sent_ns, left } = *tracked;
    // SAFETY: a helper without preconditions.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    Some(Identity { packet, parent, at_ns, flags: 0, sent_ns, left: left != 0 })
}

/// A tap saw it on its way out of a device.
#[inline(always)]
pub(crate) fn sent(skb: u64, at_ns: u64) {
    if let Some(tracked) = PACKETS.get_ptr_mut(skb) {
        // SAFETY: a live map value; at worst the LRU has given it to another packet, whose wait is then not told.
        unsafe { (*tracked).sent_ns = at_ns };
    }
}

#[inline(always)]
fn leave(skb: u64) {
    if let Some(tracked) = PACKETS.get_ptr_mut(skb) {
        // SAFETY: a live map value; at worst the LRU has given it to another packet, which then looks departed
        // to drops without a device.
        unsafe { (*tracked).left = 1 };
    }
}

/// The sk_buff is freed: its memory may become another packet. A clone has an sk_buff of its own, so that the packet it
/// was cloned from stays known.
#[inline(always)]
pub(crate) fn forget(skb: u64) {
    // Hooks of freeing see all packets of the machine: looking takes no lock, removing does.
    if is_known(skb) {
        // Absent if the LRU made room meanwhile: nothing to forget then.
        let _ = PACKETS.remove(skb);
    }
}
