//! The beginning of a track: whether a packet starts where it is seen, and what the track begins with.

use podtrace_protocol::wire::{Packet, Transport};

use super::{DROP_AFTER_REJECT_TIMEOUT, Joiner, flow};
use crate::join::content::ContentHash;
use crate::join::forgery::{forgery, other_port};
use crate::join::shares::{Share, Shares};
use crate::join::skb::{LastPlace, SkbOwner};
use crate::join::stream::Span;
use crate::join::timers::Look;
use crate::join::track::{Arrival, Beginning, TrackId};
use crate::model::Point;
use crate::node::NodeId;
use crate::observation::Observation;
use crate::time::Moment;
use crate::world::World;

impl Joiner {
    /// A path begins here, unless its flow has to be known first.
    ///
    /// That is so for a packet that matched by its node's address only; and for an answer, which may be read before the
    /// packet that it answers: if that was translated, only it shows that both are of one flow.
    pub(super) fn begin_or_wait(&mut self, observation: &Observation, packet: &Packet, world: &World) {
        let known = self.flows.known(packet, observation.moment(world)).is_some();
        // A translated packet that is not traced was sorted out before.
        let may_be_untraced = observation.only_if_translated && observation.translation().is_none();
        let is_question =
            self.flows.opening(packet) == Some(true) || world.directory.service_at(packet.dst).is_some();
        let may_be_answer = world.nodes.len() > 1 && !is_question;
        if !known && (may_be_untraced || may_be_answer) {
            self.wait(observation, true, world);
        } else if let Some(begun) = self.begin(observation, true, world) {
            self.resume_for_track(begun, world);
        }
    }

    /// A path begins with this observation. `None` if there is no room for it.
    pub(super) fn begin(
        &mut self,
        observation: &Observation,
        start_seen: bool,
        world: &World,
    ) -> Option<TrackId> {
        let packet = observation.packet.as_ref()?;
        if !self.skbs.has_room() {
            self.unattributed.unmatched += 1;
            self.fates.unexplained(u64::from(observation.is_drop()));
            return None;
        }
        let at = observation.moment(world);
        let sent = as_sent_by_node(observation, packet, world);
        let id = self.add_track(observation, sent.as_ref().unwrap_or(packet), at, start_seen);
        self.tracks[id].forged = forgery(observation, packet, world);
        let share = Share { track: id, bytes: self.tracks[id].size() };
        self.skbs.insert(observation.skb, SkbOwner::Matched(Shares::One(share)), packet);
        self.timers.look_first(id, at);
        if observation.is_drop() {
            self.attribute_drop(observation, &Shares::One(share), LastPlace::InTransit, world);
        } else {
            self.add_sightings(observation, &Shares::One(share), world);
        }
        self.doubt_equals(id, observation.node(), world);
        let rejected = if self.tracks[id].forged.is_none() { self.note_rejection(id, world) } else { None };
        if let Some(rejected) = rejected {
            self.timers.set(at + DROP_AFTER_REJECT_TIMEOUT, Look::Track(rejected));
        }
        Some(id)
    }

    /// A path begins, and looks like older ones. What another node has seen of one of these may have been this packet, if the
    /// clocks' error allows: it was read before its start.
    fn doubt_equals(&mut self, id: TrackId, node: NodeId, world: &World) {
        let Self { tracks, equals, flows, .. } = self;
        let track = &tracks[id];
        let earliest = track.first - self.clock_error;
        let is_doubtful = |other: &TrackId| {
            *other != id
                && tracks[*other].flow == track.flow
                && tracks[*other].was_seen_elsewhere_after(node, earliest, world)
        };
        let doubtful: Vec<TrackId> = match track.stream {
            Some(bytes) => {
                let spans = flows.stream(track.flow).holding(bytes.start).map(|span| span.track);
                spans.filter(|other| !tracks[*other].packet.is_numbered()).filter(is_doubtful).collect()
            }
            None => {
                let equal = |other: &TrackId| tracks[*other].packet.same_as(&track.packet);
                equals.newest(track.content.whole).filter(equal).filter(is_doubtful).collect()
            }
        };
        for doubtful in doubtful.iter().chain(doubtful.first().map(|_| &id)) {
            let track = &mut self.tracks[*doubtful];
            track.candidates = track.candidates.max(2);
        }
    }

    /// Adds a track, to its flow and to where it is found by content.
    fn add_track(
        &mut self,
        observation: &Observation,
        packet: &Packet,
        at: Moment,
        start_seen: bool,
    ) -> TrackId {
        let flow = self.flows.of(packet, at);
        self.flows.path_begins(flow.id);
        let stream = self.flows.stream_mut(flow);
        let bytes = packet.stream().map(|carried| stream.bytes(carried));
        if let Transport::Tcp { seq, ack, flags, .. } = &packet.transport {
            let is_another = stream.note_segment(*flags, *seq, *ack);
            if bytes.is_none() {
                // Takes note of it.
                stream.unwrap(*seq);
            }
            if is_another {
                self.flows.stream_mut(flow.back()).forget_connection();
            }
        }
        let content = if bytes.is_some() { ContentHash::default() } else { ContentHash::of(packet, flow) };
        let serial = self.next_serial();
        let id = self.tracks.begin(
            serial,
            Beginning {
                packet: packet.clone(),
                flow,
                stream: bytes,
                content,
                segments: observation.segments,
                skb: observation.skb,
                at,
                start_seen,
                report_after: self.answered(flow),
            },
        );
        let stream = self.flows.stream_mut(flow);
        stream.remember(id);
        match bytes {
            Some(bytes) => stream.add(Span { bytes, track: id }),
            None => self.equals.add(content, id),
        }
        id
    }

    /// The path that a packet of this flow may answer, if that one has to be reported first: one that arrived at a node
    /// itself stays under way for longer than its answer.
    fn answered(&self, flow: flow::DirectedFlow) -> Option<TrackId> {
        let newest = self.flows.stream(flow.back()).recent().next()?;
        matches!(self.tracks[newest].arrival, Some(Arrival::Local(_))).then_some(newest)
    }
}

/// Whether a packet that no path fits starts here: it is the node's own, or comes from where nobody is tracing.
pub(super) fn starts_here(observation: &Observation, packet: &Packet, world: &World) -> bool {
    if let Some(pod) = observation.pod(world) {
        return world.directory.pod(packet.src) == Some(pod);
    }
    if other_port(observation, packet, world).is_some() {
        return true;
    }
    // A Service's address is put in place of the sender's on the way.
    if world.directory.service_at(packet.src).is_some() {
        return false;
    }
    let own = world.devices.is_own(observation.node(), packet.src);
    (own && observation.point() != Point::TcIngress)
        || !(own || world.directory.starts_on_traced_node(packet.src))
}

/// A packet of the node's own as it was sent, where it is first seen after its translation.
fn as_sent_by_node(observation: &Observation, packet: &Packet, world: &World) -> Option<Packet> {
    let ends = observation.translation()?.sent();
    let own = observation.point() != Point::TcIngress && world.devices.is_own(observation.node(), ends[0].0);
    own.then(|| packet.between(ends))
}
