//! Reads the ring buffer and encodes its records as hop events.
//!
//! On the machines that the programs run on, a record's parts are encoded as they are in memory: they are copied, not taken
//! apart.

use aya::maps::{MapData, RingBuf};
use tracer_common::{CAPTURE, Conntrack, Event, Record, flag};

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

/// Drains the ring until it is empty or `limit` bytes are encoded. They go into `buffer`, whose content is overwritten.
pub fn drain(ring: &mut RingBuf<MapData>, limit: usize, mut buffer: Vec<u8>) -> Drained {
    buffer.clear();
    let mut drained = Drained { events: buffer, ..Drained::default() };
    while drained.events.len() < limit {
        let Some(item) = ring.next() else {
            drained.empty = true;
            break;
        };
        let Some(event) = copy(&item, &mut drained.events) else {
            // A bug: programs and binary have the same ABI version.
            debug_assert!(false, "a record of {} bytes", item.len());
            continue;
        };
        drained.count += 1;
        drained.last_ns = Some(event.at_ns);
        if event.location != 0 {
            drained.locations.push(event.location);
        }
    }
    drained
}

/// Appends the encoding of a record to `out`: see [`podtrace_protocol::record`]. `None` if it is shorter than it says.
fn copy(item: &[u8], out: &mut Vec<u8>) -> Option<Event> {
    const { assert!(cfg!(target_endian = "little"), "the encoding is little-endian") };
    const CONNTRACK: usize = std::mem::offset_of!(Record, conntrack);
    const BYTES: usize = std::mem::offset_of!(Record, bytes);
    let head = item.get(..size_of::<Event>())?;
    // SAFETY: `head` is as large as an Event, which is integers only, so any bytes are valid.
    let event: Event = unsafe { head.as_ptr().cast::<Event>().read_unaligned() };
    let has_connection = event.flags & flag::CONNTRACK != 0;
    // Hooks at kernel functions write the event alone.
    let bytes = match usize::from(event.captured) {
        0 => &[],
        captured => item.get(BYTES..BYTES + CAPTURE)?.get(..captured)?,
    };
    let connection = if has_connection { item.get(CONNTRACK..BYTES)? } else { &[] };
    const { assert!(BYTES - CONNTRACK == size_of::<Conntrack>()) };
    out.extend_from_slice(head);
    out.extend_from_slice(connection);
    out.extend_from_slice(bytes);
    Some(event)
}

#[cfg(test)]
mod tests {
    use podtrace_protocol::record::{RawEvent, Records, encode};

    use super::*;

    /// A record with another value in each field, as it is in memory.
    fn item(flags: u16, captured: u16) -> Vec<u8> {
        let mut item: Vec<u8> = (0..size_of::<Record>()).map(|at| at as u8).collect();
        let at = std::mem::offset_of!(Event, flags);
        item[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
        let at = std::mem::offset_of!(Event, captured);
        item[at..at + 2].copy_from_slice(&captured.to_ne_bytes());
        item
    }

    #[test]
    fn a_copy_is_the_encoding() {
        for (flags, captured) in [(0, 0), (0, 100), (flag::CONNTRACK, 192), (flag::CONNTRACK | flag::VIA, 0)]
        {
            let mut copied = Vec::new();
            let event = copy(&item(flags, captured), &mut copied).unwrap();
            let read: Vec<RawEvent<'_>> = Records::new(&copied).collect::<Result<_, _>>().unwrap();
            assert_eq!(read.len(), 1);
            let RawEvent { event: decoded, conntrack, bytes } = read[0];
            assert_eq!((decoded, bytes.len()), (event, usize::from(captured)));
            assert_eq!(conntrack.is_some(), flags & flag::CONNTRACK != 0);
            let mut encoded = Vec::new();
            encode(&decoded, conntrack.as_ref(), bytes, &mut encoded);
            assert_eq!(copied, encoded);
        }
    }

    #[test]
    fn an_event_alone_has_neither_connection_nor_bytes() {
        let mut copied = Vec::new();
        assert!(copy(&item(flag::NO_BYTES, 0)[..size_of::<Event>()], &mut copied).is_some());
        assert_eq!(copied.len(), size_of::<Event>());
        for short in [item(flag::CONNTRACK, 0), item(0, 1)] {
            assert!(copy(&short[..size_of::<Event>()], &mut copied).is_none());
        }
        assert!(copy(&item(0, 0)[..20], &mut copied).is_none());
    }
}
