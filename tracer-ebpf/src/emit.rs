//! Writes events into the ring buffer in place, and counts every event and every loss.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_get_smp_processor_id,
    maps::ring_buf::RingBufEntry,
};
use tracer_common::{Event, Record, flag};

use crate::{
    conntrack,
    globals::{COUNTERS, EVENTS, WOKEN, count},
    identity::Identity,
    reader::{Device, Reader, SkbReader},
    route,
};

/// Unread bytes in the ring from which on the reader is woken. Below that, it polls every 10 ms: a wake-up interrupts
/// another CPU, which costs more than several records.
const WAKE_AT: u64 = 1 << 20;

/// What a hook knows about a packet, apart from its bytes.
pub(crate) struct Sighting {
    pub(crate) hook: u16,
    pub(crate) flags: u16,
    pub(crate) packet: u64,
    pub(crate) parent: u64,
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
    pub(crate) aux: u32,
}

impl Sighting {
    /// The fields that every hook fills in the same way.
    #[inline(always)]
    pub(crate) fn of(hook: u16, skb: u64, identity: &Identity, reader: &SkbReader, device: Device) -> Self {
        Self {
            hook,
            flags: identity.flags | reader.capture_flags(),
            packet: identity.packet,
            parent: identity.parent,
            at_ns: identity.at_ns,
            skb,
            location: 0,
            reason: 0,
            netns: device.netns,
            ifindex: device.ifindex,
            len: reader.len(),
            mark: reader.mark(),
            gso_segs: 0,
            gso_size: 0,
            aux: 0,
        }
    }
}

/// Emits one event with the packet's first bytes.
#[inline(always)]
pub(crate) fn emit<R: Reader>(sighting: &Sighting, reader: &R) -> Option<()> {
    let mut entry = reserve::<Record>()?;
    let record = entry.as_mut_ptr();
    // SAFETY: `record` points to a reserved Record; bytes past `captured` stay undefined, as the ABI says.
    unsafe {
        let captured = reader.capture((&raw mut (*record).bytes).cast());
        let mut flags = if captured == 0 { flag::NO_BYTES } else { 0 };
        let connection = &raw mut (*record).conntrack;
        if conntrack::write(sighting.skb, connection) {
            flags |= flag::CONNTRACK;
            // With VIA it is unknown whether the packet belongs to a traced connection.
            if sighting.flags & flag::VIA == 0 {
                conntrack::remember(connection);
            }
        }
        write(&raw mut (*record).event, sighting, flags, captured);
    }
    submit(entry);
    Some(())
}

/// Emits one event without bytes: a tap has already captured those of a followed packet.
#[inline(always)]
pub(crate) fn emit_alone(sighting: &Sighting) -> Option<()> {
    let mut entry = reserve::<Event>()?;
    let event = entry.as_mut_ptr();
    // SAFETY: `event` points to a reserved Event.
    unsafe { write(event, sighting, flag::NO_BYTES, 0) };
    submit(entry);
    Some(())
}

/// Counts an event, and reserves space for it or counts its loss.
#[inline(always)]
fn reserve<T: 'static>() -> Option<RingBufEntry<T>> {
    count(|counters| {
        // SAFETY: a member's address within a live map value.
        unsafe { &raw mut (*counters).produced }
    });
    let entry = EVENTS.reserve::<T>(0);
    if entry.is_none() {
        count(|counters| {
            // SAFETY: as above.
            unsafe { &raw mut (*counters).lost_ring }
        });
    }
    entry
}

/// Writes an event in place.
///
/// # Safety
///
/// `to` is valid for writing an [`Event`].
#[inline(always)]
unsafe fn write(to: *mut Event, sighting: &Sighting, flags: u16, captured: u16) {
    // SAFETY: the caller's; a helper without preconditions.
    unsafe {
        to.write(Event {
            at_ns: sighting.at_ns,
            packet: sighting.packet,
            skb: sighting.skb,
            location: sighting.location,
            sequence: COUNTERS.get(0).map_or(0, |counters| counters.produced),
            parent: sighting.parent,
            gateway: [0; 16],
            cpu: bpf_get_smp_processor_id(),
            netns: sighting.netns,
            ifindex: sighting.ifindex,
            len: sighting.len,
            reason: sighting.reason,
            mark: sighting.mark,
            hook: sighting.hook,
            flags: sighting.flags | flags,
            captured,
            gso_segs: sighting.gso_segs,
            gso_size: sighting.gso_size,
            route_ifindex: 0,
            aux: sighting.aux,
            reserved: 0,
        });
        // Fails if the packet has no route yet.
        let _ = route::write(sighting.skb, to);
    }
}

#[inline(always)]
fn submit<T>(entry: RingBufEntry<T>) {
    let wake = if wakes_reader() { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    entry.submit(u64::from(wake));
}

/// Whether this record wakes the reader: the first one beyond [`WAKE_AT`] since the reader last drained the ring. A reader
/// that is behind is awake: waking it with each record would slow the traffic down to what it can read.
#[inline(always)]
fn wakes_reader() -> bool {
    let Some(woken) = WOKEN.get_ptr_mut(0) else { return false };
    // SAFETY: a live map value. Two CPUs that read it at once both wake the reader, which costs little. If the reader
    // clears it just before it is set, no wake-up comes until the reader polls.
    unsafe {
        if woken.read_volatile() != 0 || EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) < WAKE_AT {
            return false;
        }
        woken.write_volatile(1);
    }
    true
}
