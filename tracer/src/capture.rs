//! From the kernel's ring buffer to encoded events.

use aya::maps::{MapData, RingBuf};
use tracer_common::{CAPTURE, Conntrack, Event, Record, flag};

use podtrace_protocol::record::encode;

/// What one look into the ring gave.
#[derive(Debug, Default)]
pub struct Drained {
    /// Encoded records, back to back.
    pub events: Vec<u8>,
    /// How many.
    pub count: u64,
    /// Kernel addresses that occur in them.
    pub locations: Vec<u64>,
    /// Time of the last one.
    pub last_ns: Option<u64>,
    /// Whether the ring was left empty.
    pub empty: bool,
}

/// Takes records until the ring is empty or `limit` bytes are encoded.
pub fn drain(ring: &mut RingBuf<MapData>, limit: usize) -> Drained {
    let mut drained = Drained::default();
    while drained.events.len() < limit {
        let Some(item) = ring.next() else {
            drained.empty = true;
            break;
        };
        if item.len() < size_of::<Event>() {
            // Of another program's making: the object and this binary are built together, so this is a bug.
            debug_assert!(false, "a record of {} bytes", item.len());
            continue;
        }
        // SAFETY: the item holds a whole Event, which is integers only: any bytes are one. Ring items are aligned
        // to 8, but nothing is lost by not relying on it.
        let event: Event = unsafe { item.as_ptr().cast::<Event>().read_unaligned() };
        // An event may stand alone.
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
