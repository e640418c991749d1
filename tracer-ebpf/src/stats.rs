//! `--stats`: packets are counted where they pass, and nothing is written into the ring buffer.
//!
//! Numbers are per CPU, so that no two write to one. A tap may interrupt a tracepoint on its CPU, so they are added to at
//! once, as in [`count`].

use tracer_common::{
    flag,
    stats::{DropCounts, DropKey, TapCounts, TapKey, bucket, way},
};

use crate::{
    classify::Class,
    globals::{DROP_COUNTS, STATS, TAP_COUNTS, add, count},
    identity::Identity,
    reader::{Reader, Segments},
};

/// Whether packets are counted in place of being reported.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    STATS.load() != 0
}

/// Counts a packet at a tap.
#[inline(always)]
pub(crate) fn passed<R: Reader>(
    ifindex: u32,
    hook: u16,
    len: u32,
    class: &Class,
    identity: &Identity,
    reader: &R,
) -> Option<()> {
    let way = if class.matches && class.flags & flag::VIA == 0 {
        if class.is_back { way::BACK } else { way::FORTH }
    } else {
        way::UNKNOWN
    };
    let Some(counts) = TAP_COUNTS.get_ptr_mut(TapKey { ifindex, hook, way }) else {
        // The places were entered when the taps were attached; there is no room for more.
        count(|counters| {
            // SAFETY: a member's address within a live map value.
            unsafe { &raw mut (*counters).lost_map }
        });
        return None;
    };
    let Segments { number, .. } = reader.segments();
    // SAFETY: members of a live map value.
    unsafe {
        add(&raw mut (*counts).packets, 1);
        add(&raw mut (*counts).wire_packets, i64::from(number));
        add(&raw mut (*counts).bytes, i64::from(len));
    }
    if identity.flags & flag::FIRST_SEEN == 0 {
        record_time(counts, identity.since_first_seen());
    }
    Some(())
}

#[inline(always)]
fn record_time(counts: *mut TapCounts, ns: u64) {
    // VERIFIER: the number of buckets is a power of two, so a mask bounds it.
    let place = bucket(ns) as usize & (tracer_common::stats::BUCKETS - 1);
    // SAFETY: members of a live map value.
    unsafe {
        add(&raw mut (*counts).time_sum_ns, ns as i64);
        add((&raw mut (*counts).times).cast::<u64>().add(place), 1);
    }
}

/// Counts a packet that the kernel drops.
#[inline(always)]
pub(crate) fn dropped(key: &DropKey, len: u32) -> Option<()> {
    if DROP_COUNTS.get_ptr(key).is_none() {
        // Only if nobody has entered it meanwhile (BPF_NOEXIST): that is no loss.
        let _ = DROP_COUNTS.insert(key, DropCounts { packets: 0, bytes: 0 }, 1);
    }
    let Some(counts) = DROP_COUNTS.get_ptr_mut(key) else {
        count(|counters| {
            // SAFETY: a member's address within a live map value.
            unsafe { &raw mut (*counters).lost_map }
        });
        return None;
    };
    // SAFETY: members of a live map value.
    unsafe {
        add(&raw mut (*counts).packets, 1);
        add(&raw mut (*counts).bytes, i64::from(len));
    }
    Some(())
}
