//! Reads the ring buffer and encodes its records as hop events.

use aya::maps::{MapData, RingBuf};
use tracer_common::{CAPTURE, Conntrack, Event, Record, flag};

use podtrace_protocol::record::encode;

/// The result of draining the ring.
#[derive(Debug, Default)]
pub struct Drained {
    /// Encoded records, back to back.
    pub events: Vec<u8>,
    /// Number of records.
    pub count: u64,
    /// Addresses of the code that dropped packets, in the order of the records.
    pub locations: Vec<u64>,
    /// Time of the last record.
    pub last_ns: Option<u64>,
    /// Whether the ring is empty now.
    pub empty: bool,
}

/// Drains the ring until it is empty or `limit` bytes are encoded.
pub fn drain(ring: &mut RingBuf<MapData>, limit: usize) -> Drained {
    let mut drained = Drained::default();
    while drained.events.len() < limit {
        let Some(item) = ring.next() else {
            drained.empty = true;
            break;
        };
        if item.len() < size_of::<Event>() {
            // A bug: programs and binary have the same ABI version.
            debug_assert!(false, "a record of {} bytes", item.len());
            continue;
        }
        // SAFETY: the item is as large as an Event, which is integers only, so any bytes are valid. Items are aligned to 8,
        // but reading unaligned costs nothing.
        let event: Event = unsafe { item.as_ptr().cast::<Event>().read_unaligned() };
        // Hooks at kernel functions write the event alone.
        let bytes = item.get(std::mem::offset_of!(Record, bytes)..).unwrap_or_default();
        let captured = usize::from(event.captured).min(CAPTURE).min(bytes.len());
        let connection =
            item.get(std::mem::offset_of!(Record, conntrack)..std::mem::offset_of!(Record, bytes));
        let connection = connection.filter(|_| event.flags & flag::CONNTRACK != 0);
        // SAFETY: as above, of a whole Conntrack.
        let conntrack =
            connection.map(|bytes| unsafe { bytes.as_ptr().cast::<Conntrack>().read_unaligned() });
        encode(&event, conntrack.as_ref(), &bytes[..captured], &mut drained.events);
        drained.count += 1;
        drained.last_ns = Some(event.at_ns);
        if event.location != 0 {
            drained.locations.push(event.location);
        }
    }
    drained
}
