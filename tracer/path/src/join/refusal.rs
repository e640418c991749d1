//! What speaks against a path: drops that count, resets and ICMP errors.

use slab::Slab;

use crate::finish::label;
use crate::join::flow::{Flows, Refusal};
use crate::join::journey::Whereabouts;
use crate::join::track::{Arrival, Track};
use crate::model::Drop;
use crate::observation::Observation;
use crate::wire::packet::{Packet, Quoted, Transport, number, tcp};
use crate::world::World;

/// Where kernels without drop reasons free an echo reply that a raw socket has had its copy of.
const ECHO_REPLY_ENDS: [&str; 4] = ["icmp_rcv", "ping_rcv", "icmpv6_rcv", "raw_local_deliver"];

/// What a drop says of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Nothing: it is of a copy that nobody needed, or an ordinary end.
    Nothing,
    /// That the receiver had no use for what reached it, in words.
    Superfluous(&'static str),
    /// That the packet fell victim to it; `of_arrived` if the copy dropped is the one that arrived.
    Victim {
        /// See there.
        of_arrived: bool,
    },
}

/// What a drop says of a path.
pub(crate) fn meaning(
    observation: &Observation,
    drop: &Drop,
    track: &Track,
    place: Whereabouts,
    world: &World,
) -> Meaning {
    let reason = drop.reason.as_deref();
    // Newer kernels report ordinary ends by the same tracepoint; a copy for another host is a flooded one.
    if matches!(reason, Some("CONSUMED" | "NOT_DROPPED_YET" | "OTHERHOST")) || place == Whereabouts::Astray {
        return Meaning::Nothing;
    }
    let pod = world.devices.pod_of(observation.node, observation.netns);
    let at_destination = pod.is_some() && world.directory.pod(track.packet.dst) == pod;
    let at_source = pod.is_some() && world.directory.pod(track.packet.src) == pod;
    if pod.is_some() && !at_destination && !at_source {
        return Meaning::Nothing;
    }
    // A socket's queue holds packets without a device, which then says nothing of the namespace.
    let had_arrived = at_destination || (pod.is_none() && place == Whereabouts::Destination);
    if had_arrived && let Some(words) = reason.and_then(|reason| superfluous(reason, &track.packet)) {
        return Meaning::Superfluous(words);
    }
    let function = drop.location.as_deref().unwrap_or_default();
    if had_arrived && let Some(words) = last_of_connection(function, reason, &track.packet) {
        return Meaning::Superfluous(words);
    }
    // The ping got its clone; the original is then nobody's.
    // A fragment goes with the whole that it was put into: what became of that tells.
    if function.starts_with("skb_release_data") {
        return Meaning::Nothing;
    }
    if track.packet.echo() == Some(false)
        && (reason == Some("NO_SOCKET") || ECHO_REPLY_ENDS.iter().any(|name| function.starts_with(name)))
    {
        return Meaning::Nothing;
    }
    let of_arrived = match track.arrival {
        Some(Arrival::Pod) | None => at_destination || place == Whereabouts::Destination,
        Some(Arrival::Local(_) | Arrival::Outside(_) | Arrival::OutOfSight(..)) => pod.is_none(),
    };
    Meaning::Victim { of_arrived }
}

/// Reasons by which a healthy connection discards what has reached its end.
fn superfluous(reason: &str, packet: &Packet) -> Option<&'static str> {
    match reason {
        "TCP_OLD_DATA" | "TCP_OLD_SEQUENCE" | "TCP_OLD_ACK" => Some("the receiver had it already"),
        // An acknowledgement that was overtaken; with data it is a loss.
        "TCP_RFC7323_PAWS" | "TCP_RFC7323_PAWS_ACK" if packet.payload == 0 => {
            Some("the receiver had a newer one")
        }
        "QUEUE_PURGE" => Some("the receiver closed without reading it"),
        _ => None,
    }
}

/// What a connection that ends frees without a reason: a socket that waits out the end frees what still comes in TCP's
/// entry (the other side's FIN or its acknowledgement; a packet without a socket is given a reason, or answered by a
/// reset), and one that has sent its own FIN frees acknowledgements once it has taken note of them.
fn last_of_connection(function: &str, reason: Option<&str>, packet: &Packet) -> Option<&'static str> {
    let without_data = packet.payload == 0
        && matches!(packet.transport, Transport::Tcp { flags, .. } if flags & (tcp::SYN | tcp::RST) == 0);
    if !without_data || !matches!(reason, None | Some("NOT_SPECIFIED")) {
        return None;
    }
    if ["tcp_v4_rcv", "tcp_v6_rcv"].iter().any(|name| function.starts_with(name)) {
        return Some("the receiver had closed already");
    }
    function
        .starts_with("tcp_rcv_state_process")
        .then_some("the receiver was closing, and has taken note of it")
}

/// A path has begun: if it refuses another, or is refused by one that began before it was seen, that is noted.
/// Gives the one that is refused.
pub(crate) fn note(flows: &mut Flows, tracks: &mut Slab<Track>, at: usize, world: &World) -> Option<usize> {
    let track = &tracks[at];
    let (flow, forward) = (track.flow, track.forward);
    if let Some(reason) = refusal(&track.packet, world) {
        let packet = track.packet.clone();
        // The newest that fits: what came before it was answered already.
        let refused = flows.get(flow).way(!forward).recent().find(|other| refuses(&packet, &tracks[*other]));
        match refused {
            Some(refused) => {
                let seen = tracks[at].first;
                tracks[at].after = Some((refused, tracks[refused].serial));
                tracks[refused].rejected = Some(reason);
                tracks[refused].rejected_at = Some(seen);
            }
            None => flows.get_mut(flow).keep(Refusal { packet, forward, reason }),
        }
        return refused;
    }
    let known = flows.get_mut(flow);
    if known.refusals.is_empty() {
        return None;
    }
    let found = known
        .refusals
        .iter()
        .position(|refusal| refusal.forward != forward && refuses(&refusal.packet, track));
    let refusal = found.and_then(|found| known.refusals.remove(found))?;
    let track = &mut tracks[at];
    track.rejected = Some(refusal.reason);
    track.rejected_at = Some(track.first);
    Some(at)
}

/// What a packet says, if it refuses another.
fn refusal(packet: &Packet, world: &World) -> Option<String> {
    let by = || match world.directory.pod(packet.src).or_else(|| world.directory.node(packet.src)) {
        Some(name) => name.to_string(),
        None => packet.src.to_string(),
    };
    match &packet.transport {
        Transport::Tcp { flags, .. } if flags & tcp::RST != 0 => Some(format!("TCP reset by {}", by())),
        // A redirect lets its packet pass.
        Transport::Icmp { kind: 5, .. } if packet.protocol == number::ICMP => None,
        Transport::Icmp { quoted: Some(_), .. } => {
            Some(format!("ICMP {} from {}", label::refusal(packet), packet.src))
        }
        _ => None,
    }
}

/// Whether `packet` refuses this path.
fn refuses(packet: &Packet, track: &Track) -> bool {
    let refused = &track.packet;
    if let Some(quoted) = packet.quoted() {
        return quotes(quoted, track);
    }
    let (
        Transport::Tcp { seq, ack, flags, .. },
        Transport::Tcp { seq: sent, ack: acked, flags: of_sent, .. },
    ) = (&packet.transport, &refused.transport)
    else {
        return false;
    };
    if of_sent & tcp::RST != 0 {
        return false;
    }
    let control = u32::from(of_sent & tcp::SYN != 0) + u32::from(of_sent & tcp::FIN != 0);
    if flags & tcp::ACK != 0 {
        *ack == sent.wrapping_add(refused.payload).wrapping_add(control)
    } else {
        // A reset of a segment that had an acknowledgement takes its number from there.
        *seq == *acked
    }
}

fn quotes(quoted: &Quoted, track: &Track) -> bool {
    let packet = &track.packet;
    // Of one flow they are; addresses and ports may have been translated between the two.
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
        // The sequence number: an identifier may be translated too.
        Transport::Icmp { rest, .. } => quoted.word & 0xffff == rest & 0xffff,
        _ => true,
    }
}
