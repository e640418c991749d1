//! The binary encoding of hop events in frames and recordings.
//!
//! | part | bytes | present |
//! | --- | --- | --- |
//! | [`Event`] | 112 | always |
//! | [`Conntrack`] | 96 | if `flags` has [`flag::CONNTRACK`] |
//! | packet | `captured`, at most [`CAPTURE`] | always |
//!
//! Fields are little-endian, in the order of the structs, without padding. Records follow each other without a separator:
//! after a malformed one the rest of the frame is lost.

use bytes::Bytes;
use tracer_common::{CAPTURE, Conntrack, ConntrackTuple, Event, flag};

/// Size of an encoded [`Event`] in bytes.
const EVENT_SIZE: usize = size_of::<Event>();

/// A decoded record. The packet's bytes are borrowed from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawEvent<'a> {
    /// The event as the eBPF program wrote it.
    pub event: Event,
    /// The packet's connection, if the kernel tracks one.
    pub conntrack: Option<Conntrack>,
    /// The packet's first bytes.
    pub bytes: &'a [u8],
}

/// The frame ends within a record, or a record has an impossible length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed event record, {rest} bytes before the end of its frame")]
pub struct Malformed {
    /// Bytes from the beginning of the malformed record to the end of the frame.
    pub rest: usize,
}

/// Iterates over the records of one [`crate::frame::FromAgent::Events`] frame, in the order of the ring buffer.
///
/// # Examples
///
/// ```
/// use podtrace_protocol::frame::FromAgent;
/// use podtrace_protocol::record::Records;
///
/// fn packets(frame: &FromAgent) -> usize {
///     let FromAgent::Events(body) = frame else { return 0 };
///     Records::new(body).filter(|record| record.is_ok()).count()
/// }
///
/// // Three bytes are no record.
/// assert_eq!(packets(&FromAgent::Events(vec![1, 2, 3].into())), 0);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Records<'a>(&'a [u8]);

impl<'a> Records<'a> {
    /// Starts at the beginning of an events frame's body.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self(body)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RawEvent<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let (read, rest) = match decode(self.0) {
            Some((event, rest)) => (Ok(event), rest),
            // Without this record's length there is no way to find the next one.
            None => (Err(Malformed { rest: self.0.len() }), [].as_slice()),
        };
        self.0 = rest;
        Some(read)
    }
}

fn decode(bytes: &[u8]) -> Option<(RawEvent<'_>, &[u8])> {
    let (head, rest) = bytes.split_at_checked(EVENT_SIZE)?;
    let mut fields = Fields(head);
    let event = Event {
        at_ns: fields.u64()?,
        packet: fields.u64()?,
        skb: fields.u64()?,
        location: fields.u64()?,
        sequence: fields.u64()?,
        parent: fields.u64()?,
        gateway: fields.take()?,
        cpu: fields.u32()?,
        netns: fields.u32()?,
        ifindex: fields.u32()?,
        len: fields.u32()?,
        reason: fields.u32()?,
        mark: fields.u32()?,
        hook: fields.u16()?,
        flags: fields.u16()?,
        captured: fields.u16()?,
        gso_segs: fields.u16()?,
        gso_size: fields.u32()?,
        route_ifindex: fields.u32()?,
        aux: fields.u32()?,
        reserved: fields.u32()?,
    };
    let captured = usize::from(event.captured);
    if captured > CAPTURE {
        return None;
    }
    let (conntrack, rest) = match event.flags & flag::CONNTRACK {
        0 => (None, rest),
        _ => {
            let (head, rest) = rest.split_at_checked(size_of::<Conntrack>())?;
            (Some(decode_conntrack(&mut Fields(head))?), rest)
        }
    };
    let (bytes, rest) = rest.split_at_checked(captured)?;
    Some((RawEvent { event, conntrack, bytes }, rest))
}

fn decode_conntrack(fields: &mut Fields<'_>) -> Option<Conntrack> {
    let mut tuple = || {
        Some(ConntrackTuple {
            src: fields.take()?,
            sport: fields.take()?,
            family: fields.u16()?,
            dst: fields.take()?,
            dport: fields.take()?,
            protocol: u8::from_le_bytes(fields.take()?),
            direction: u8::from_le_bytes(fields.take()?),
        })
    };
    let (original, reply) = (tuple()?, tuple()?);
    Some(Conntrack {
        original,
        reply,
        status: fields.u32()?,
        mark: fields.u32()?,
        zone: fields.u16()?,
        info: fields.u16()?,
        reserved: fields.u32()?,
    })
}

fn encode_conntrack(conntrack: &Conntrack, out: &mut Vec<u8>) {
    let Conntrack { original, reply, status, mark, zone, info, reserved } = *conntrack;
    for ConntrackTuple { src, sport, family, dst, dport, protocol, direction } in [original, reply] {
        out.extend_from_slice(&src);
        out.extend_from_slice(&sport);
        out.extend_from_slice(&family.to_le_bytes());
        out.extend_from_slice(&dst);
        out.extend_from_slice(&dport);
        out.extend_from_slice(&[protocol, direction]);
    }
    for value in [status, mark] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    for value in [zone, info] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    out.extend_from_slice(&reserved.to_le_bytes());
}

/// Appends one record to `out`. Of `bytes`, at most `event.captured` are written.
pub fn encode(event: &Event, conntrack: Option<&Conntrack>, bytes: &[u8], out: &mut Vec<u8>) {
    // Destructured exhaustively, so that a new field does not compile until it is encoded.
    let Event {
        at_ns,
        packet,
        skb,
        location,
        sequence,
        parent,
        gateway,
        cpu,
        netns,
        ifindex,
        len,
        reason,
        mark,
        hook,
        flags,
        captured,
        gso_segs,
        gso_size,
        route_ifindex,
        aux,
        reserved,
    } = *event;
    let captured = captured.min(u16::try_from(bytes.len().min(CAPTURE)).unwrap_or(u16::MAX));
    for value in [at_ns, packet, skb, location, sequence, parent] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    out.extend_from_slice(&gateway);
    for value in [cpu, netns, ifindex, len, reason, mark] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    let flags = if conntrack.is_some() { flags | flag::CONNTRACK } else { flags & !flag::CONNTRACK };
    for value in [hook, flags, captured, gso_segs] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    for value in [gso_size, route_ifindex, aux, reserved] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    if let Some(conntrack) = conntrack {
        encode_conntrack(conntrack, out);
    }
    out.extend_from_slice(&bytes[..usize::from(captured)]);
}

/// Re-encodes the records with at most `snaplen` bytes of each packet.
#[must_use]
pub fn shorten(body: &Bytes, snaplen: u16) -> Bytes {
    let mut out = Vec::with_capacity(body.len());
    for record in Records::new(body) {
        match record {
            Ok(RawEvent { mut event, conntrack, bytes }) => {
                event.captured = event.captured.min(snaplen);
                encode(&event, conntrack.as_ref(), bytes, &mut out);
            }
            Err(Malformed { rest }) => out.extend_from_slice(&body[body.len() - rest..]),
        }
    }
    out.into()
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u64, captured: u16) -> Event {
        Event {
            at_ns: number,
            packet: 2,
            skb: 3,
            location: 4,
            sequence: 5,
            parent: 16,
            gateway: [17; 16],
            cpu: 6,
            netns: 7,
            ifindex: 8,
            len: 9,
            reason: 10,
            mark: 11,
            hook: 12,
            flags: 13,
            captured,
            gso_segs: 14,
            gso_size: 15,
            route_ifindex: 18,
            aux: 19,
            reserved: 0,
        }
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let mut frame = Vec::new();
        encode(&event(1, 3), None, &[1, 2, 3, 4], &mut frame);
        encode(&event(2, 0), None, &[], &mut frame);
        let read: Vec<_> = Records::new(&frame).collect::<Result<_, _>>().unwrap();
        assert_eq!(read[0], RawEvent { event: event(1, 3), conntrack: None, bytes: &[1, 2, 3] });
        assert_eq!(read[1], RawEvent { event: event(2, 0), conntrack: None, bytes: &[] });
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn a_connection_goes_with_its_event() {
        let tuple = |direction| ConntrackTuple {
            src: [1; 16],
            sport: [2, 3],
            family: 2,
            dst: [4; 16],
            dport: [5, 6],
            protocol: 17,
            direction,
        };
        let conntrack = Conntrack {
            original: tuple(0),
            reply: tuple(1),
            status: 7,
            mark: 8,
            zone: 9,
            info: 10,
            reserved: 0,
        };
        let mut frame = Vec::new();
        encode(&event(1, 2), Some(&conntrack), &[1, 2], &mut frame);
        let whole = frame.len();
        encode(&event(2, 1), None, &[9], &mut frame);
        let read: Vec<_> = Records::new(&frame).collect::<Result<_, _>>().unwrap();
        assert_eq!((read[0].conntrack, read[0].bytes), (Some(conntrack), [1, 2].as_slice()));
        assert_eq!((read[1].conntrack, read[1].bytes), (None, [9].as_slice()));
        assert!(Records::new(&frame[..whole - 3]).all(|record| record.is_err()));
    }

    #[test]
    fn a_frame_cut_anywhere_ends_in_one_error() {
        let mut frame = Vec::new();
        encode(&event(1, 4), None, &[1, 2, 3, 4], &mut frame);
        let whole = frame.len();
        encode(&event(2, 4), None, &[1, 2, 3, 4], &mut frame);
        for cut in whole + 1..frame.len() {
            let read: Vec<_> = Records::new(&frame[..cut]).collect();
            assert_eq!(read.len(), 2, "cut at {cut}");
            assert!(read[0].is_ok() && read[1].is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn shortened_records_keep_all_but_bytes() {
        let mut frame = Vec::new();
        encode(&event(1, 4), None, &[1, 2, 3, 4], &mut frame);
        encode(&event(2, 1), None, &[9], &mut frame);
        frame.extend([7; 5]);
        let shorter = shorten(&frame.into(), 2);
        let read: Vec<_> = Records::new(&shorter).collect();
        assert_eq!(read[0], Ok(RawEvent { event: event(1, 2), conntrack: None, bytes: &[1, 2] }));
        assert_eq!(read[1], Ok(RawEvent { event: event(2, 1), conntrack: None, bytes: &[9] }));
        assert_eq!(read[2..], [Err(Malformed { rest: 5 })]);
    }

    #[test]
    fn more_bytes_than_a_record_holds_are_refused() {
        let mut frame = Vec::new();
        encode(&event(1, 0), None, &[], &mut frame);
        frame[92..94].copy_from_slice(&u16::MAX.to_le_bytes());
        frame.resize(frame.len() + 70_000, 0);
        assert_eq!(Records::new(&frame).filter(Result::is_ok).count(), 0);
    }
}
