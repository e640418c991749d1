//! Drops: which of them end a track, and which are harmless.
//!
//! The tracepoint `kfree_skb` also fires for harmless frees: copies that a bridge flooded, packets of which a socket has taken a
//! clone, duplicate segments. [`DropMeaning::of`] lists them. Its order matters: first frees that are harmless wherever they
//! happen, then those of a pod that is neither end, then the ordinary ends in a receiver. What is left is a loss.

use std::net::IpAddr;

use podtrace_protocol::wire::{Packet, Transport, tcp_flag};

use super::Joiner;
use crate::join::begin::starts_here;
use crate::join::matching::Match;
use crate::join::shares::Shares;
use crate::join::sighting::{DropSeen, Sighting};
use crate::join::skb::{LastPlace, SkbOwner};
use crate::join::stream::Phase;
use crate::join::track::{Arrival, CLOSED, Track};
use crate::model::{Action, Drop};
use crate::observation::Observation;
use crate::world::World;

/// Functions that free an echo reply after raw sockets got clones, on kernels without drop reasons.
const ECHO_REPLY_FREE_FUNCTIONS: [&str; 4] = ["icmp_rcv", "ping_rcv", "icmpv6_rcv", "raw_local_deliver"];

/// A copy that a bridge sent to a port behind which its receiver is not.
const FLOODED: &str = "a copy that a bridge flooded, or a frame for another host";

/// The ordinary end of a packet that the tracer has reported already.
const LATE: &str = "most likely freed after its path was over";

/// What the two ends of a packet's connection had said of it when the packet was dropped.
#[derive(Clone, Copy, Debug)]
struct Phases {
    receiver: Phase,
    sender: Phase,
}

/// What a drop means for a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DropMeaning {
    /// None: the ordinary end of an sk_buff.
    NoDrop,
    /// Nothing: a surplus copy; what it was.
    Harmless(&'static str),
    /// The packet arrived, and its receiver discarded it; a human-readable reason.
    DiscardedByReceiver(&'static str),
    /// The packet was lost.
    Lost {
        /// Whether the receiver's stack dropped it. Otherwise it may have been a surplus copy.
        in_receiver: bool,
    },
}

impl Phases {
    /// Whether the connection has ended for both: each has sent its FIN, or one of them a reset.
    fn are_over(self) -> bool {
        let Self { receiver, sender } = self;
        (receiver, sender) == (Phase::Closed, Phase::Closed) || [receiver, sender].contains(&Phase::Aborted)
    }
}

impl Joiner {
    pub(super) fn observe_drop(&mut self, observation: &Observation, world: &World) {
        if let Some(state) = self.skbs.get(observation.skb) {
            match &state.owner {
                SkbOwner::Matched(shares) => {
                    let (shares, last_place) = (shares.clone(), state.last_place);
                    self.attribute_drop(observation, &shares, last_place, world);
                }
                SkbOwner::Unmatched(waiting) => self.waiting.push(*waiting, observation),
            }
        } else if self.is_untraced(observation) {
            self.unattributed.ignored += 1;
        } else {
            self.observe_new_drop(observation, world);
        }
    }

    /// Handles the drop of an sk_buff that no tap saw.
    fn observe_new_drop(&mut self, observation: &Observation, world: &World) {
        match (self.find(observation, world), &observation.packet) {
            (Match::Whole(found) | Match::Part(found), _) => {
                self.mark_ambiguous(&found);
                self.attribute_drop(observation, &found.shares, LastPlace::InTransit, world);
            }
            (Match::None, Some(packet)) if observation.first_seen => {
                if starts_here(observation, packet, world) {
                    self.begin_or_wait(observation, packet, world);
                } else {
                    self.wait(observation, false, world);
                }
            }
            // Most likely a late free: its path was reported and forgotten.
            (Match::None, _) => {
                self.unattributed.ignored += 1;
                self.fates.harmless(LATE, &observation.drop(world));
            }
        }
    }

    /// Applies a drop to the tracks whose packets the sk_buff carried: several if GRO merged their packets. Counts it as
    /// ignored if it is a hop of none of them.
    pub(super) fn attribute_drop(
        &mut self,
        observation: &Observation,
        shares: &Shares,
        last_place: LastPlace,
        world: &World,
    ) {
        let at = observation.moment(world);
        let drop = observation.drop(world);
        let mut is_hop = false;
        for share in shares.as_slice() {
            let track = &mut self.tracks[share.track];
            if is_for_another_host(&drop, observation.pod(world).is_some())
                && settle_receiver(track, observation, world)
            {
                self.fates.fatal();
                continue;
            }
            let phases = Phases {
                receiver: self.flows.stream(track.flow.back()).phase,
                sender: self.flows.stream(track.flow).phase,
            };
            let in_receiver = match DropMeaning::of(observation, &drop, track, last_place, phases, world) {
                DropMeaning::Lost { in_receiver } => in_receiver,
                DropMeaning::DiscardedByReceiver(reason) => {
                    track.discarded_because.get_or_insert(reason);
                    self.fates.harmless(reason, &drop);
                    continue;
                }
                DropMeaning::Harmless(what) => {
                    self.fates.harmless(what, &drop);
                    continue;
                }
                DropMeaning::NoDrop => continue,
            };
            is_hop = true;
            self.fates.fatal();
            track.add_sighting(observation, share.bytes, at);
            self.events_held += 1;
            if !track.dropped {
                self.timers.reschedule(track, share.track, at);
            }
            track.dropped = true;
            if let Some(seen) = track.sightings.last_mut()
                && seen.is_drop()
            {
                let drop = DropSeen { drop: drop.clone(), in_receiver };
                let is_refusal = in_receiver && drop.is_no_socket();
                seen.drop = Some(Box::new(drop));
                if is_refusal {
                    self.claim_rejection(share.track);
                }
            }
        }
        if !is_hop {
            self.unattributed.ignored += 1;
        }
    }
}

/// Where a packet goes: what it is addressed to where it is dropped, after any translation.
fn destination(observation: &Observation, track: &Track) -> IpAddr {
    observation.packet.as_ref().map_or_else(|| track.last_tuple().dst, |packet| packet.dst)
}

/// Whether IP freed a frame whose destination MAC address is another's. Kernels without reasons do that where a packet ends, too,
/// whose header was damaged: on the way into a pod, the node has read it before.
fn is_for_another_host(drop: &Drop, in_pod: bool) -> bool {
    const FUNCTIONS: [&str; 2] = ["ip_rcv_core", "ip6_rcv_core"];
    let in_function = |location: &str| FUNCTIONS.iter().any(|name| location.starts_with(name));
    match drop.reason.as_deref() {
        Some(reason) => reason == "OTHERHOST",
        None => in_pod && drop.location.as_deref().is_some_and(in_function),
    }
}

/// Two pods hold the destination address and both got a copy: an OTHERHOST drop in one of them shows that the destination MAC
/// address was the other's. Returns whether this was such a drop.
fn settle_receiver(track: &mut Track, observation: &Observation, world: &World) -> bool {
    let Some((veth, pod)) = track.other_holder.zip(observation.pod(world)) else { return false };
    let holder = world.devices.info(veth).pod.clone();
    if holder.as_ref() == Some(pod) {
        track.forget_copy(veth);
        track.other_holder = None;
        return true;
    }
    let dst = destination(observation, track);
    if world.directory.pod(dst) != Some(pod) || !matches!(track.arrival, Some(Arrival::Pod(_))) {
        return false;
    }
    let arrivals = track.sightings.iter().filter(|seen| seen.action() == Action::PodIngress);
    let owner_veth = arrivals
        .filter_map(Sighting::device)
        .find(|veth| world.devices.info(*veth).pod.as_ref() == Some(pod));
    let (Some(holder), Some(owner_veth)) = (holder, owner_veth) else { return false };
    track.forget_copy(owner_veth);
    track.arrival = Some(Arrival::DuplicateAddress { holder, node: None });
    true
}

impl DropMeaning {
    fn of(
        observation: &Observation,
        drop: &Drop,
        track: &Track,
        last_place: LastPlace,
        phases: Phases,
        world: &World,
    ) -> Self {
        let reason = drop.reason.as_deref();
        // Newer kernels report ordinary ends by the same tracepoint.
        if matches!(reason, Some("CONSUMED" | "NOT_DROPPED_YET")) {
            return Self::NoDrop;
        }
        if last_place == LastPlace::FloodedPort {
            return Self::Harmless(FLOODED);
        }
        let pod = observation.pod(world);
        let at_destination = pod.is_some() && world.directory.pod(destination(observation, track)) == pod;
        if is_for_another_host(drop, pod.is_some()) {
            // All flooded copies have the same destination MAC address, so the receiver drops each of them or none. In
            // any other pod it is a flooded copy.
            let by_receiver = at_destination;
            return if by_receiver { Self::Lost { in_receiver: true } } else { Self::Harmless(FLOODED) };
        }
        // Multicast: a copy at a host that has not joined the group, or that is not forwarded.
        if matches!(track.arrival, Some(Arrival::Link(_))) {
            return Self::Harmless("multicast at a host that has not joined its group");
        }
        // A raw socket was closed with a clone of an ICMP packet in its queue. The stack had handled the packet already.
        if reason == Some("QUEUE_PURGE") && matches!(track.packet.transport, Transport::Icmp { .. }) {
            return Self::Harmless("an unread copy in a closed raw socket");
        }
        let at_source = pod.is_some() && world.directory.pod(track.packet.src) == pod;
        if pod.is_some() && !at_destination && !at_source {
            return Self::Harmless("a copy in a pod that is neither end");
        }
        let function = drop.location.as_deref().unwrap_or_default();
        // A packet in a socket's queue has no device, so the network namespace is unknown. Where events were lost, that it came
        // there may be one of them.
        let may_have_arrived =
            last_place == LastPlace::Destination || (world.events_lost && observation.spot.device.is_none());
        let had_arrived = at_destination || (pod.is_none() && may_have_arrived);
        if had_arrived {
            if is_end_of_reset(function, reason, &track.packet) {
                return Self::Harmless("a reset that its connection has taken");
            }
            if is_end_of_icmpv6(function, reason, &track.packet) {
                return Self::Harmless(
                    "an ICMPv6 message, which this kernel frees so whether handled or not",
                );
            }
            let discarded_because = reason
                .and_then(|reason| discarded_by_reason(reason, &track.packet, phases))
                .or_else(|| discarded_without_reason(function, reason, &track.packet, phases));
            if let Some(reason) = discarded_because {
                return Self::DiscardedByReceiver(reason);
            }
        }
        // A fragment that was merged into the whole packet: the whole one counts.
        if function.starts_with("skb_release_data") {
            return Self::Harmless("a fragment of a packet that was put together");
        }
        if is_spare_echo_reply(function, reason, &track.packet) {
            return Self::Harmless("an echo reply that its socket has a copy of");
        }
        let in_receiver = match track.arrival {
            Some(Arrival::Pod(_)) | None => at_destination || last_place == LastPlace::Destination,
            Some(Arrival::DuplicateAddress { node: None, .. } | Arrival::Link(_)) => false,
            Some(
                Arrival::Local(_)
                | Arrival::DuplicateAddress { node: Some(_), .. }
                | Arrival::Outside(_)
                | Arrival::Untraced { .. },
            ) => pod.is_none(),
        };
        Self::Lost { in_receiver }
    }
}

/// Reasons by which a healthy connection discards what has reached its end.
fn discarded_by_reason(reason: &str, packet: &Packet, phases: Phases) -> Option<&'static str> {
    match reason {
        // Its connection is gone, and the listening socket, or none, got what was overtaken by the last acknowledgement.
        "TCP_FLAGS" if is_segment(packet) && phases.are_over() => Some(CLOSED),
        // The same, or the receiver's program has closed its socket and does not want what its peer still sends. An end that
        // has sent its FIN and still reads has a socket that takes data.
        "TCP_CLOSE" | "NO_SOCKET" | "TCP_ABORT_ON_DATA"
            if is_segment(packet) && (phases.are_over() || phases.receiver == Phase::Closed) =>
        {
            Some(CLOSED)
        }
        "TCP_OLD_DATA" | "TCP_OLD_SEQUENCE" | "TCP_OLD_ACK" => Some("duplicate data"),
        // An acknowledgement that was overtaken; with data it is a loss.
        "TCP_RFC7323_PAWS" | "TCP_RFC7323_PAWS_ACK" if packet.payload == 0 => {
            Some("older than an acknowledgement already received")
        }
        "QUEUE_PURGE" => Some("the receiver closed the socket without reading it"),
        _ => None,
    }
}

/// A reset ends where TCP takes it: that it is freed there says nothing, whatever the reason.
fn is_end_of_reset(function: &str, reason: Option<&str>, packet: &Packet) -> bool {
    let is_reset = matches!(packet.transport, Transport::Tcp { flags, .. } if flags & tcp_flag::RST != 0);
    let by_tcp = reason.is_some_and(|reason| reason.starts_with("TCP_") || reason == "NO_SOCKET");
    is_reset && (by_tcp || function.starts_with("tcp_"))
}

/// Kernels before 5.17, which give no reasons, free every message of ICMPv6 that they have handled as if they dropped it.
fn is_end_of_icmpv6(function: &str, reason: Option<&str>, packet: &Packet) -> bool {
    let is_icmpv6 = packet.src.is_ipv6() && matches!(packet.transport, Transport::Icmp { .. });
    is_icmpv6 && reason.is_none() && function.starts_with("icmpv6_rcv")
}

/// Whether a packet belongs to a connection that is open already.
fn is_segment(packet: &Packet) -> bool {
    matches!(packet.transport, Transport::Tcp { flags, .. } if flags & (tcp_flag::SYN | tcp_flag::RST) == 0)
}

/// What TCP frees without a reason although nothing is wrong. A socket that has answered a SYN frees the next one in TCP's entry
/// function, and answers again. A socket in TIME-WAIT frees what the peer sends again in TCP's
/// entry function; a packet without a socket has a reason there, or is answered by a reset. A listening socket that waits for
/// data (`TCP_DEFER_ACCEPT`) frees the handshake's last acknowledgement there. A socket that has sent its own FIN frees
/// acknowledgements once it has processed them.
fn discarded_without_reason(
    function: &str,
    reason: Option<&str>,
    packet: &Packet,
    phases: Phases,
) -> Option<&'static str> {
    if !matches!(reason, None | Some("NOT_SPECIFIED")) {
        return None;
    }
    let in_entry = ["tcp_v4_rcv", "tcp_v6_rcv"].iter().any(|name| function.starts_with(name));
    let flags = if let Transport::Tcp { flags, .. } = packet.transport { flags } else { 0 };
    if in_entry && flags & (tcp_flag::SYN | tcp_flag::ACK) == tcp_flag::SYN && phases.receiver == Phase::Open
    {
        return Some("sent again: the receiver had answered it already");
    }
    if !is_segment(packet) {
        return None;
    }
    let without_data = packet.payload == 0;
    if in_entry {
        return match phases.receiver {
            // After the sender's own FIN there is no new data: this was sent again.
            _ if phases.are_over() => Some(CLOSED),
            // A kernel that gives reasons has none here but for a socket in TIME-WAIT, or closed by its program.
            Phase::Closed if without_data || reason.is_some() => Some(CLOSED),
            Phase::Unknown if without_data => Some(CLOSED),
            _ if without_data => Some("the receiver's TCP discarded it without a reason"),
            _ => None,
        };
    }
    let processed = without_data && function.starts_with("tcp_rcv_state_process");
    processed.then_some("the receiver was closing the connection")
}

/// The ping's socket got a clone of the reply; nobody needs the original.
fn is_spare_echo_reply(function: &str, reason: Option<&str>, packet: &Packet) -> bool {
    packet.echo() == Some(false)
        && (reason == Some("NO_SOCKET")
            || ECHO_REPLY_FREE_FUNCTIONS.iter().any(|name| function.starts_with(name)))
}
