//! Resets and ICMP errors: which path they reject.
//!
//! A rejection belongs to the flow of the packet that it is about, in the other direction. It is told apart from the
//! flow's other packets by the acknowledgement of a reset, and by the headers that an ICMP error quotes. Read in the
//! order of clocks that are a little wrong, it may come before the packet: then it waits in the flow.

use podtrace_protocol::wire::{Packet, Quoted, Transport, protocol, tcp_flag};

use super::Joiner;
use crate::join::flow::EarlyRejection;
use crate::join::stream::Phase;
use crate::join::track::{Rejection, Track, TrackId};
use crate::label;
use crate::model::Action;
use crate::world::World;

impl Joiner {
    /// A path has begun. If it rejects another one, or is rejected by one that began before, that is noted. Returns the
    /// path that is rejected.
    pub(super) fn note_rejection(&mut self, id: TrackId, world: &World) -> Option<TrackId> {
        match rejection(&self.tracks[id], world) {
            Some(reason) => self.reject(id, reason),
            None => self.take_early_rejection(id),
        }
    }

    /// Notes that this path rejects another one of its flow.
    fn reject(&mut self, id: TrackId, reason: String) -> Option<TrackId> {
        let Track { packet, flow, first, .. } = &self.tracks[id];
        let (flow, at) = (*flow, *first);
        // An end that has sent its FIN, or a reset before this one, and resets what comes then has closed its socket before.
        let has_closed = matches!(self.flows.stream(flow).phase, Phase::Closed | Phase::Aborted);
        let after_close = packet.quoted().is_none() && has_closed;
        // The newest that fits: earlier ones were answered already. Of packets that were under way together each gets its own,
        // the receiver frees it at about that time.
        let start = self.tracks[id].sightings.first().map(|start| (start.node(), start.time));
        let fits = |other: &TrackId| {
            let other = &self.tracks[*other];
            let is_impossible = self.is_acknowledged(other)
                || other.begins_after(start, at + self.clock_error)
                || (is_by_receiver(packet) && other.was_dropped_on_the_way());
            rejects(packet, other) && !is_impossible
        };
        let recent = || self.flows.stream(flow.back()).recent().filter(fits);
        let is_free = |other: &TrackId| self.tracks[*other].rejection.is_none();
        let refused = |other: TrackId| {
            let (node, time) = start?;
            Some((self.tracks[other].refused_on(node)?.abs_diff(time), other))
        };
        let refused = recent().filter(is_free).filter_map(refused).min().map(|(_, other)| other);
        let rejected = refused.or_else(|| recent().find(is_free));
        let about = rejected.or_else(|| recent().next());
        let rejection = Rejection { reason, at, after_close };
        // Where events were lost, it may be about a packet of which nothing is left that would tell.
        let is_doubtful = refused.is_none() && self.events_lost && packet.quoted().is_some();
        match rejected {
            Some(rejected) => {
                let track = &mut self.tracks[rejected];
                track.rejection = Some(rejection);
                if is_doubtful && !track.packet.is_numbered() {
                    track.candidates = track.candidates.max(2);
                }
            }
            None => {
                let packet = packet.clone();
                let early = EarlyRejection { packet, direction: flow.direction, rejection, start };
                self.flows.keep_rejection(flow.id, early);
            }
        }
        if about.is_some() {
            self.tracks[id].report_after = about;
        }
        rejected
    }

    /// The receiver had no socket for this path's packet, and freed it. What was rejected may be quoted like others of its
    /// flow: the one that is freed for it is the one.
    pub(super) fn claim_rejection(&mut self, id: TrackId) {
        let track = &self.tracks[id];
        let is_misplaced = |other: &TrackId| {
            let other = &self.tracks[*other];
            let is_alike =
                (other.packet.protocol, other.packet.id) == (track.packet.protocol, track.packet.id);
            is_alike && other.rejection.is_some() && !other.was_refused()
        };
        let mut recent = self.flows.stream(track.flow).recent();
        if track.rejection.is_none()
            && let Some(other) = recent.find(is_misplaced)
        {
            self.tracks[id].rejection = self.tracks[other].rejection.take();
        }
    }

    /// Looks whether this path was rejected before it was seen.
    fn take_early_rejection(&mut self, id: TrackId) -> Option<TrackId> {
        let track = &self.tracks[id];
        if self.is_acknowledged(track) {
            return None;
        }
        let error = self.clock_error;
        let is_about = |early: &EarlyRejection| {
            early.direction != track.flow.direction
                && rejects(&early.packet, track)
                && !track.begins_after(early.start, early.rejection.at + error)
        };
        let EarlyRejection { rejection, .. } = self.flows.take_rejection(track.flow.id, is_about)?;
        let track = &mut self.tracks[id];
        track.rejection = Some(Rejection { at: track.first, ..rejection });
        if self.events_lost && track.packet.protocol != protocol::TCP && !track.packet.is_numbered() {
            track.candidates = track.candidates.max(2);
        }
        Some(id)
    }

    /// Whether the receiver has acknowledged all that this path's packet carries: then it has not refused it.
    fn is_acknowledged(&self, track: &Track) -> bool {
        let Transport::Tcp { seq, flags, .. } = track.packet.transport else { return false };
        let carried = track.packet.payload + control(flags);
        carried > 0 && self.flows.stream(track.flow.back()).has_acknowledged(seq.wrapping_add(carried))
    }
}

/// Whether an ICMP error is from the end that the quoted packet was for.
fn is_by_receiver(packet: &Packet) -> bool {
    packet.quoted().is_some_and(|quoted| quoted.dst == packet.src)
}

/// What a packet says, if it rejects another.
fn rejection(track: &Track, world: &World) -> Option<String> {
    let packet = &track.packet;
    match &packet.transport {
        Transport::Tcp { flags, .. } if flags & tcp_flag::RST != 0 => {
            Some(format!("TCP reset by {}", sender(track, world)))
        }
        // A redirect lets its packet pass.
        Transport::Icmp { kind: 5, .. } if packet.protocol == protocol::ICMP => None,
        Transport::Icmp { quoted: Some(_), .. } => {
            Some(format!("ICMP {} from {}", label::icmp_error(packet), packet.src))
        }
        _ => None,
    }
}

/// Who sent a packet: by where it was seen first, for an address may be held twice; else by its address.
fn sender(track: &Track, world: &World) -> String {
    let source = track.packet.src;
    let first = track.sightings.first().filter(|_| track.start_seen);
    let seen = first.and_then(|first| match first.action() {
        Action::PodEgress => world.devices.info(first.device()?).pod.as_ref(),
        _ if world.devices.is_own(first.node(), source) => Some(world.name(first.node())),
        _ => None,
    });
    let name = seen.or_else(|| world.directory.pod(source)).or_else(|| world.directory.node(source));
    name.map_or_else(|| source.to_string(), ToString::to_string)
}

/// Whether `packet`, a reset or an ICMP error, is about this path.
fn rejects(packet: &Packet, track: &Track) -> bool {
    match packet.quoted() {
        Some(quoted) => quotes(quoted, track),
        None => resets(packet, track),
    }
}

fn resets(packet: &Packet, track: &Track) -> bool {
    let (
        Transport::Tcp { seq, ack, flags, .. },
        Transport::Tcp { seq: sent, ack: acked, flags: sent_flags, .. },
    ) = (&packet.transport, &track.packet.transport)
    else {
        return false;
    };
    if sent_flags & tcp_flag::RST != 0 {
        return false;
    }
    if flags & tcp_flag::ACK == 0 {
        // A reset of a segment that had an acknowledgement takes its sequence number from there (RFC 9293, 3.10.7.1).
        return *seq == *acked;
    }
    // A segment with an acknowledgement is refused by a reset without one: a reset that acknowledges it comes from a socket
    // that has taken it, and whose program is done with the connection.
    if sent_flags & tcp_flag::ACK != 0 {
        return false;
    }
    *ack == sent.wrapping_add(track.packet.payload).wrapping_add(control(*sent_flags))
}

/// How many sequence numbers a segment takes besides those of its data.
fn control(flags: u8) -> u32 {
    u32::from(flags & tcp_flag::SYN != 0) + u32::from(flags & tcp_flag::FIN != 0)
}

/// Whether an ICMP error quotes this path's packet. Both are of one flow; addresses and ports may have been translated
/// between the two.
fn quotes(quoted: &Quoted, track: &Track) -> bool {
    let packet = &track.packet;
    if quoted.protocol != packet.protocol
        || quoted.fragment.map(|fragment| fragment.offset) != packet.fragment.map(|fragment| fragment.offset)
    {
        return false;
    }
    if packet.src.is_ipv4() {
        let distance = (quoted.id as u16).wrapping_sub(packet.id as u16);
        return u32::from(distance) < track.segments.max(1);
    }
    match packet.transport {
        Transport::Tcp { seq, .. } => quoted.word.wrapping_sub(seq) < packet.payload.max(1),
        // Only the sequence number: an identifier may be translated too.
        Transport::Icmp { rest, .. } => quoted.word & 0xffff == rest & 0xffff,
        _ => true,
    }
}
