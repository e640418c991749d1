//! Which packet is it? One number for as long as one sk_buff carries it on this node.

use aya_ebpf::helpers::{bpf_get_smp_processor_id, generated::bpf_ktime_get_ns};
use tracer_common::flag;

use crate::{
    classify::{self, Class},
    globals::{self, Fingerprint, PACKETS, PARTS, PARTS_NUMBER, Tracked, count},
    reader::Reader,
    sample,
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

impl Identity {
    /// How long ago the packet was first seen on this node, in nanoseconds: its number begins with that moment.
    #[inline(always)]
    pub(crate) fn since_first_seen(&self) -> u64 {
        (self.at_ns << CPU_BITS).wrapping_sub(self.packet & !CPU) >> CPU_BITS
    }
}

/// Lowest bits of a packet's number, for the CPU that gave it.
const CPU_BITS: u32 = 10;
const CPU: u64 = (1 << CPU_BITS) - 1;

/// What a hook says of a packet besides what it is.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) passage: Passage,
    /// Whether it is on its way out of a device.
    pub(crate) sent: bool,
}

impl Moment {
    /// On its way, and not out of a device.
    pub(crate) const WITHIN: Self = Self { passage: Passage::Within, sent: false };
}

/// The identity of a packet that matches and is in the sample, or is followed; `None` if it is neither.
#[inline(always)]
pub(crate) fn of<R: Reader>(skb: u64, class: &Class, reader: &R, moment: Moment) -> Option<Identity> {
    let Moment { passage, sent } = moment;
    if !class.matches && (passage == Passage::Enters || !is_known(skb)) {
        return None;
    }
    let fingerprint = class.packet.fingerprint(reader);
    // VERIFIER: asked again, so that it need not remember what the answer was.
    if passage != Passage::Enters
        && let Some(identity) = recognised(skb, fingerprint, passage == Passage::Leaves, sent)
    {
        let flags = if class.matches { class.flags } else { flag::FOLLOWED };
        return Some(Identity { flags, ..identity });
    }
    if !class.matches {
        return None;
    }
    if !sample::takes(&class.packet, reader) {
        count(|counters| {
            // SAFETY: a member's address within a live map value.
            unsafe { &raw mut (*counters).unsampled }
        });
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
    let cpu = u64::from(unsafe { bpf_get_smp_processor_id() }) & CPU;
    ((at_ns << CPU_BITS) | cpu, at_ns)
}

/// Remembers a packet; a failure is counted.
#[inline(always)]
fn store(skb: u64, tracked: &Tracked) -> bool {
    // First the part, then the packet: who finds the part empty may rely on it. A packet that takes another one's place
    // leaves the number as it is.
    if !is_known(skb) {
        count_in_part(skb, 1);
    }
    let stored = PACKETS.insert(skb, tracked, 0).is_ok();
    if !stored {
        count(|counters| {
            // SAFETY: a member's address within a live map value.
            unsafe { &raw mut (*counters).lost_map }
        });
    }
    stored
}

/// Whether this sk_buff's memory may be a packet that is followed. The quick answer for hooks that see all packets of the
/// machine: where nothing is followed, or nothing in this part of the memory, it takes no search.
#[inline(always)]
pub(crate) fn may_be_known(skb: u64) -> bool {
    PARTS.get(part(skb)).is_some_and(|number| *number != 0)
}

/// Which of [`PARTS`] an sk_buff is in. sk_buffs are 256 bytes apart.
#[inline(always)]
fn part(skb: u64) -> u32 {
    ((skb >> 8) ^ (skb >> 20)) as u32 & (PARTS_NUMBER - 1)
}

#[inline(always)]
fn count_in_part(skb: u64, summand: i64) {
    if let Some(number) = PARTS.get_ptr_mut(part(skb)) {
        // SAFETY: a live map value. What makes room in the map of packets is not subtracted: the number is too high then.
        unsafe { globals::add(number, summand) };
    }
}

/// Whether this sk_buff's memory has been a packet of interest.
#[inline(always)]
pub(crate) fn is_known(skb: u64) -> bool {
    may_be_known(skb) && PACKETS.get_ptr(skb).is_some()
}

/// The identity of a packet that was seen before. Where the filter is not asked, nothing is said of whether its
/// headers match it.
#[inline(always)]
pub(crate) fn known<R: Reader>(skb: u64, reader: &R) -> Option<Identity> {
    let (fingerprint, in_tunnel) = classify::fingerprint(reader)?;
    let identity = recognised(skb, fingerprint, false, false)?;
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
    let identity = recognised(skb, class.packet.fingerprint(reader), false, false)?;
    let flags = if class.matches { class.flags } else { flag::FOLLOWED };
    Some(Identity { flags, ..identity })
}

/// A packet that was seen before, and remembers of it whether it leaves the node and whether it is sent.
#[inline(always)]
fn recognised(skb: u64, fingerprint: Fingerprint, leaves: bool, sent: bool) -> Option<Identity> {
    let tracked = PACKETS.get_ptr_mut(skb)?;
    // SAFETY: an entry that changes while it is read belongs to an sk_buff that was freed meanwhile; its
    // fingerprint then differs.
    let Tracked { packet, fingerprint: stored, parent, sent_ns, left } = unsafe { *tracked };
    if !stored.fits(fingerprint) {
        return None;
    }
    // SAFETY: a helper without preconditions.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    // SAFETY: a live map value; at worst the LRU has given it to another packet, whose wait is then not reported, or which
    // then looks departed to drops without a device.
    unsafe {
        if sent {
            (*tracked).sent_ns = at_ns;
        }
        if leaves {
            (*tracked).left = 1;
        }
    }
    Some(Identity { packet, parent, at_ns, flags: 0, sent_ns, left: left != 0 })
}

/// The sk_buff is freed: its memory may become another packet. A clone has an sk_buff of its own, so that the packet it
/// was cloned from stays known.
#[inline(always)]
pub(crate) fn forget(skb: u64) {
    // Hooks of freeing see all packets of the machine: looking takes no lock, removing does.
    if is_known(skb) {
        // Absent if the LRU made room meanwhile: nothing to forget then.
        if PACKETS.remove(skb).is_ok() {
            count_in_part(skb, -1);
        }
    }
}
