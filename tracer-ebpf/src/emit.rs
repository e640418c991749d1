//! Writes one event into the ring buffer, in place, and counts what becomes of it.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_get_smp_processor_id,
};
use tracer_common::{Event, Record, flag};

use crate::{
    globals::{COUNTERS, EVENTS, count},
    reader::Reader,
};

/// Unread bytes in the ring at which the reader is woken. Below that it comes by itself: a wake-up costs eight
/// times as much as the record.
const WAKE_AT: u64 = 256 << 10;

/// What a hook has seen.
pub(crate) struct Sighting {
    pub(crate) hook: u16,
    pub(crate) flags: u16,
    pub(crate) packet: u64,
    pub(crate) at_ns: u64,
    pub(crate) skb: u64,
    pub(crate) location: u64,
    pub(crate) reason: u32,
    pub(crate) netns: u32,
    pub(crate) ifindex: u32,
    pub(crate) len: u32,
    pub(crate) mark: u32,
    pub(crate) gso_segs: u16,
    pub(crate) gso_size: u32,
}

/// Emits one event.
#[inline(always)]
pub(crate) fn emit<R: Reader>(sighting: &Sighting, reader: &R) -> Option<()> {
    count(|counters| {
        // SAFETY: a member's address within a live map value.
        unsafe { &raw mut (*counters).produced }
    });
    let Some(mut entry) = EVENTS.reserve::<Record>(0) else {
        count(|counters| {
            // SAFETY: as above.
            unsafe { &raw mut (*counters).lost_ring }
        });
        return None;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: `record` points to a reserved Record; bytes past `captured` stay undefined, as the ABI says.
    unsafe {
        let captured = reader.capture((&raw mut (*record).bytes).cast());
        let flags = sighting.flags | if captured == 0 { flag::NO_BYTES } else { 0 };
        (&raw mut (*record).event).write(Event {
            at_ns: sighting.at_ns,
            packet: sighting.packet,
            skb: sighting.skb,
            location: sighting.location,
            sequence: COUNTERS.get(0).map_or(0, |counters| counters.produced),
            cpu: bpf_get_smp_processor_id(),
            netns: sighting.netns,
            ifindex: sighting.ifindex,
            len: sighting.len,
            reason: sighting.reason,
            mark: sighting.mark,
            hook: sighting.hook,
            flags,
            captured,
            gso_segs: sighting.gso_segs,
            gso_size: sighting.gso_size,
            reserved: 0,
        });
    }
    let wake = if EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= WAKE_AT {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    entry.submit(u64::from(wake));
    Some(())
}
