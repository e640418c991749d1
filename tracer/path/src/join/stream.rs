//! One direction of a flow: which bytes of its TCP stream are under way, and which packets are the newest.

use std::collections::VecDeque;

use podtrace_protocol::wire::tcp_flag;

use crate::join::track::TrackId;

/// Newest packets of a direction among which a reset or an ICMP error finds the one it is about.
const MOST_RECENT: usize = 32;

/// A range of stream bytes, by sequence numbers that do not wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) start: u64,
    /// Exclusive.
    pub(crate) end: u64,
}

impl Bytes {
    pub(crate) fn len(&self) -> u64 {
        self.end - self.start
    }
}

/// The stream bytes of one path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) bytes: Bytes,
    pub(crate) track: TrackId,
}

/// Sequence numbers seen, without wrapping.
#[derive(Clone, Copy, Debug)]
struct Sequence {
    first: u64,
    latest: u64,
}

/// One direction of a flow.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    sequence: Option<Sequence>,
    /// What is under way, by first byte, then by age.
    spans: VecDeque<Span>,
    /// Length of the longest span there was since there was none.
    longest: u64,
    /// Newest last.
    recent: VecDeque<TrackId>,
    /// What its sender has said of the connection.
    pub(crate) phase: Phase,
    /// The highest sequence number that its sender has acknowledged of the other direction.
    acknowledged: Option<u32>,
    /// The sequence number of its sender's last SYN that asked for a connection.
    syn: Option<u32>,
}

/// What an end has said of its TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Neither SYN nor FIN was seen: the trace began later.
    #[default]
    Unknown,
    /// It has sent its SYN, and no FIN.
    Open,
    /// It has sent its FIN.
    Closed,
    /// It has ended an open connection by a reset, before all was read.
    Aborted,
}

/// Whether one sequence number is before another, both being within half of their range.
fn is_before(one: u32, other: u32) -> bool {
    other.wrapping_sub(one).wrapping_sub(1) < u32::MAX / 2
}

impl Stream {
    /// The sequence number without its wrapping: the one nearest to the latest.
    pub(crate) fn unwrap(&mut self, seq: u32) -> u64 {
        let Some(sequence) = &mut self.sequence else {
            // Room below for what was sent earlier and is seen later.
            let first = (1 << 32) + u64::from(seq);
            self.sequence = Some(Sequence { first, latest: first });
            return first;
        };
        #[expect(clippy::cast_possible_wrap, reason = "the distance to the nearest is meant")]
        let step = seq.wrapping_sub(sequence.latest as u32) as i32;
        let unwrapped = sequence.latest.saturating_add_signed(i64::from(step));
        sequence.latest = unwrapped.max(sequence.latest);
        unwrapped
    }

    /// The bytes of a packet that carries this many from this sequence number on.
    pub(crate) fn bytes(&mut self, (seq, count): (u32, u32)) -> Bytes {
        let start = self.unwrap(seq);
        Bytes { start, end: start + u64::from(count) }
    }

    /// How far a sequence number is from the first one seen.
    pub(crate) fn relative(&self, sequence: u64) -> u64 {
        sequence.saturating_sub(self.sequence.map_or(sequence, |known| known.first))
    }

    pub(crate) fn add(&mut self, span: Span) {
        self.longest = self.longest.max(span.bytes.len());
        let place = self.spans.partition_point(|other| other.bytes.start <= span.bytes.start);
        self.spans.insert(place, span);
    }

    pub(crate) fn remove(&mut self, span: Span) {
        let from = self.spans.partition_point(|other| other.bytes.start < span.bytes.start);
        if let Some(place) = self.spans.range(from..).position(|other| other.track == span.track) {
            self.spans.remove(from + place);
        }
        if self.spans.is_empty() {
            self.longest = 0;
        }
    }

    /// Spans that hold this stream byte, oldest first among those that begin together.
    pub(crate) fn holding(&self, byte: u64) -> impl Iterator<Item = Span> {
        let from = self.spans.partition_point(|span| span.bytes.start + self.longest <= byte);
        self.spans
            .range(from..)
            .take_while(move |span| span.bytes.start <= byte)
            .filter(move |span| byte < span.bytes.end)
            .copied()
    }

    /// First byte of the next span after this one.
    pub(crate) fn next_start(&self, byte: u64) -> Option<u64> {
        let place = self.spans.partition_point(|span| span.bytes.start <= byte);
        self.spans.get(place).map(|span| span.bytes.start)
    }

    /// Whether its sender has acknowledged all of a segment of the other direction that ends before this sequence number.
    pub(crate) fn has_acknowledged(&self, end: u32) -> bool {
        self.acknowledged.is_some_and(|acknowledged| !is_before(acknowledged, end))
    }

    /// Notes what a TCP segment says of the connection, and the sequence number that it acknowledges. Returns whether it asks
    /// for another connection by the same addresses and ports: what the other end has said was of the former one.
    pub(crate) fn note_segment(&mut self, flags: u8, seq: u32, ack: u32) -> bool {
        let mut is_another = false;
        if flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN {
            self.acknowledged = None;
            is_another = self.syn.replace(seq).is_some_and(|before| before != seq);
        } else if flags & (tcp_flag::RST | tcp_flag::ACK) == tcp_flag::ACK
            && self.acknowledged.is_none_or(|before| is_before(before, ack))
        {
            self.acknowledged = Some(ack);
        }
        if flags & tcp_flag::SYN != 0 {
            self.phase = Phase::Open;
        } else if flags & tcp_flag::FIN != 0 {
            self.phase = Phase::Closed;
        } else if flags & (tcp_flag::RST | tcp_flag::ACK) == tcp_flag::RST | tcp_flag::ACK
            && matches!(self.phase, Phase::Open | Phase::Closed)
        {
            // A reset that acknowledges nothing answers a segment that is about to be freed, which it refuses.
            self.phase = Phase::Aborted;
        }
        is_another
    }

    /// Forgets what its sender has said of a connection.
    pub(crate) fn forget_connection(&mut self) {
        (self.phase, self.acknowledged) = (Phase::Unknown, None);
    }

    pub(crate) fn remember(&mut self, track: TrackId) {
        if self.recent.len() == MOST_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(track);
    }

    /// Gives back the memory of what is under way, if nothing is.
    pub(crate) fn release(&mut self) {
        if self.spans.is_empty() && self.recent.is_empty() {
            (self.spans, self.recent) = Default::default();
        }
    }

    pub(crate) fn forget(&mut self, track: TrackId) {
        if let Some(place) = self.recent.iter().position(|other| *other == track) {
            self.recent.remove(place);
        }
    }

    /// Newest first.
    pub(crate) fn recent(&self) -> impl Iterator<Item = TrackId> {
        self.recent.iter().rev().copied()
    }
}
