//! The way of packets through the cluster: what each node's kernel does with them, one step after the other.

use tracer_common::{Conntrack, hook};

use crate::testkit::{CNI0, ETH0, FLANNEL, Random, root};

use super::kernel::Buffer;
use super::network::PodId;
use super::packet::Packet;
use super::plan::{Fate, Plan};
use super::route::{Route, Stage};

/// Number of a packet among all that were sent.
pub(super) type Number = usize;

/// A packet that was sent, and what happens to it.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) packet: Packet,
    pub(super) from: PodId,
    pub(super) fate: Fate,
}

/// Something that a kernel does with a packet.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) at: u64,
    pub(super) node: usize,
    pub(super) buffer: Buffer,
    pub(super) act: Act,
    /// The packets that are in it: several, where GRO has put them together.
    pub(super) of: Vec<Number>,
}

/// A tap's hook, its device, and whether packets enter or leave the node there.
pub(super) type Tap = (u16, u32, Passage);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    Enters,
    Within,
    /// In a tunnel.
    EntersInTunnel {
        from: usize,
    },
    /// In a tunnel.
    Leaves {
        to: usize,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    Tap(Tap, Packet, Option<Conntrack>),
    /// A hook of the stack, at the device of this index.
    Pass(u16, u32, Packet),
    /// Namespace and index of the device, and the kernel's reason.
    Drop((u32, u32), u32, Packet),
    Consume,
    /// Freed, and nobody is told.
    Free,
    CopyOf(Buffer),
}

/// Where a packet has arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    pub(super) at: u64,
    pub(super) buffer: Buffer,
}

/// A packet, or a piece of one, on the wire.
struct InFlight {
    at: u64,
    buffer: Buffer,
    packet: Packet,
    of: Vec<Number>,
}

/// Lets packets travel.
pub(super) struct Travel<'a> {
    plan: &'a Plan,
    pub(super) random: Random,
    pub(super) steps: Vec<Step>,
    pub(super) sent: Vec<Sent>,
    buffers: Buffer,
}

impl<'a> Travel<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        Self { plan, random: Random::new(plan.seed), steps: Vec::new(), sent: Vec::new(), buffers: 0 }
    }

    pub(super) fn add(&mut self, packet: Packet, from: PodId, fate: Fate) -> Number {
        self.sent.push(Sent { packet, from, fate });
        self.sent.len() - 1
    }

    fn buffer(&mut self) -> Buffer {
        self.buffers += 1;
        self.buffers
    }

    fn delay(&mut self) -> u64 {
        500 + self.random.below(8_000)
    }

    fn step(&mut self, at: u64, node: usize, buffer: Buffer, of: &[Number], act: Act) {
        self.steps.push(Step { at, node, buffer, act, of: of.to_vec() });
    }

    /// The end of an sk_buff whose packet was taken.
    fn free(&mut self, at: u64, node: usize, buffer: Buffer) {
        let is_reported = self.random.below(100) >= self.plan.unreported_frees;
        self.step(at, node, buffer, &[], if is_reported { Act::Consume } else { Act::Free });
    }

    /// Another sk_buff takes a packet's place, as where there is too little room for a tunnel's header.
    fn moved(&mut self, at: u64, node: usize, from: Buffer) -> Buffer {
        let to = self.buffer();
        self.step(at, node, to, &[], Act::CopyOf(from));
        self.step(at, node, from, &[], Act::Consume);
        to
    }

    /// Sends packets one after the other, and says when each has arrived.
    pub(super) fn send(&mut self, at: u64, route: &Route, numbers: &[Number]) -> Vec<Option<Arrived>> {
        let (from, to) = (route.from.node(), route.to.node());
        let mut wire = Vec::new();
        let mut arrived = vec![None; numbers.len()];
        let mut at = at;
        for (place, number) in numbers.iter().enumerate() {
            at += self.random.below(3_000) + 200;
            if from == to {
                arrived[place] = self.through_bridge(at, route, *number);
            } else if let Some(pieces) = self.leave(at, route, *number) {
                wire.extend(pieces);
            }
        }
        for (last, arrival) in self.enter(route, wire) {
            if let Some(place) = numbers.iter().position(|number| *number == last) {
                arrived[place] = Some(arrival);
            }
        }
        arrived
    }

    fn tap(
        &mut self,
        at: u64,
        route: &Route,
        seen: (&Packet, Stage),
        here: (usize, Buffer, &[Number]),
        tap: Tap,
    ) {
        let ((packet, stage), (node, buffer, of)) = (seen, here);
        let tracked = route.tracked(packet, node, stage);
        let packet = route.seen(packet, node, stage);
        self.step(at, node, buffer, of, Act::Tap(tap, packet, tracked));
    }

    /// From pod to pod on one node.
    fn through_bridge(&mut self, mut at: u64, route: &Route, number: Number) -> Option<Arrived> {
        let Sent { packet, fate, .. } = self.sent[number].clone();
        let (node, buffer, of) = (route.from.node(), self.buffer(), [number]);
        let here = (node, buffer, of.as_slice());
        self.tap(at, route, (&packet, Stage::Sent), here, from_pod(route.from));
        at += self.delay();
        if matches!(fate, Fate::DroppedBefore | Fate::DroppedAtUplink | Fate::DroppedAfter) {
            let seen = route.seen(&packet, node, Stage::Routed);
            self.step(at, node, buffer, &of, Act::Drop((root(node), route.from.port()), 1, seen));
            return None;
        }
        let is_hairpin = route.from == route.to;
        if is_hairpin || route.translation.is_some() && self.random.below(2) == 0 {
            self.tap(at, route, (&packet, Stage::Routed), here, (hook::TC_EGRESS, CNI0, Passage::Within));
            at += self.delay();
        }
        self.into_pod(at, route, &packet, buffer, &of)
    }

    /// From a pod to the wire; `None` if it does not get there.
    fn leave(&mut self, mut at: u64, route: &Route, number: Number) -> Option<Vec<InFlight>> {
        let Sent { packet, fate, .. } = self.sent[number].clone();
        let (node, to) = (route.from.node(), route.to.node());
        let (mut buffer, of) = (self.buffer(), [number]);
        self.tap(at, route, (&packet, Stage::Sent), (node, buffer, &of), from_pod(route.from));
        at += self.delay();
        let up = (hook::TC_INGRESS, CNI0, Passage::Within);
        self.tap(at, route, (&packet, Stage::Routed), (node, buffer, &of), up);
        at += self.delay();
        if fate == Fate::DroppedBefore {
            let seen = route.seen(&packet, node, Stage::Routed);
            self.step(at, node, buffer, &of, Act::Drop((root(node), CNI0), 1, seen));
            return None;
        }
        let forward = if packet.src.is_ipv4() { hook::IP_FORWARD } else { hook::IP6_FORWARD };
        let seen = route.seen(&packet, node, Stage::Routed);
        self.step(at, node, buffer, &of, Act::Pass(forward, CNI0, seen));
        at += self.delay();
        let out = (hook::TC_EGRESS, FLANNEL, Passage::Within);
        self.tap(at, route, (&packet, Stage::Received), (node, buffer, &of), out);
        at += self.delay();
        if self.random.below(6) == 0 {
            buffer = self.moved(at, node, buffer);
        }
        // Devices that cannot segment what is in a tunnel get segments.
        let is_split_early = self.random.below(2) == 0;
        let mut pieces = if is_split_early { packet.split() } else { vec![packet.clone()] };
        let mut wire = Vec::new();
        let uplink = (hook::TC_EGRESS, ETH0, Passage::Leaves { to });
        let buffers: Vec<Buffer> =
            pieces.iter().map(|_| if pieces.len() > 1 { self.buffer() } else { buffer }).collect();
        if pieces.len() > 1 {
            self.step(at, node, buffer, &[], Act::Consume);
        }
        for (piece, buffer) in pieces.iter().zip(&buffers) {
            at += 1 + self.random.below(300);
            self.tap(at, route, (piece, Stage::Received), (node, *buffer, &of), uplink);
        }
        at += self.delay();
        if fate == Fate::DroppedAtUplink {
            for (piece, buffer) in pieces.iter().zip(&buffers) {
                let seen = route.seen(piece, node, Stage::Received);
                self.step(at, node, *buffer, &of, Act::Drop((root(node), ETH0), 2, seen));
            }
            return None;
        }
        let mut buffers = buffers;
        if !self.plan.shared && pieces.len() == 1 && packet.segments > 1 {
            self.step(at, node, buffers[0], &[], Act::Consume);
            pieces = packet.split();
            buffers = pieces.iter().map(|_| self.buffer()).collect();
        } else if !self.plan.shared {
            for buffer in &buffers {
                self.step(at, node, *buffer, &[], Act::Consume);
            }
            buffers = pieces.iter().map(|_| self.buffer()).collect();
        }
        let loses_one = pieces.len() > 1 && self.random.below(2) == 0;
        let lost = self.random.below(pieces.len() as u64) as usize;
        for (place, (piece, buffer)) in pieces.into_iter().zip(buffers).enumerate() {
            at += 5_000 + self.random.below(1_000);
            if fate == Fate::LostOnWire && (!loses_one || place == lost) {
                if self.plan.shared {
                    self.step(at, node, buffer, &[], Act::Consume);
                }
                continue;
            }
            wire.push(InFlight { at, buffer, packet: piece, of: of.to_vec() });
        }
        Some(wire)
    }

    /// From the wire to the receivers: the last piece of each packet that arrives.
    fn enter(&mut self, route: &Route, mut wire: Vec<InFlight>) -> Vec<(Number, Arrived)> {
        wire.sort_by_key(|piece| piece.at);
        let (from, node) = (route.from.node(), route.to.node());
        let uplink = (hook::TC_INGRESS, ETH0, Passage::EntersInTunnel { from });
        let mut arrived = Vec::new();
        let mut pieces = wire.into_iter().peekable();
        while let Some(first) = pieces.next() {
            // GRO puts together what comes at once, before the uplink's tap or behind it.
            let by_uplink = self.random.below(2) == 0;
            let most = 1 + self.random.below(6);
            let InFlight { mut at, buffer, packet: piece, mut of } = first;
            let mut packet = piece.clone();
            if !by_uplink {
                self.tap(at, route, (&piece, Stage::Sent), (node, buffer, &of), uplink);
            }
            for _ in 1..most {
                let same = |next: &InFlight| self.sent[next.of[0]].fate == self.sent[of[0]].fate;
                let Some(next) = pieces.next_if(|next| same(next) && packet.clone().merge(&next.packet))
                else {
                    break;
                };
                packet.merge(&next.packet);
                at = at.max(next.at);
                if !by_uplink {
                    self.tap(at, route, (&next.packet, Stage::Sent), (node, next.buffer, &next.of), uplink);
                }
                self.step(at, node, next.buffer, &[], Act::Free);
                of.extend(next.of);
                of.dedup();
            }
            if by_uplink {
                at += 1 + self.random.below(500);
                self.tap(at, route, (&packet, Stage::Sent), (node, buffer, &of), uplink);
            }
            at += self.delay();
            if let Some(arrival) = self.through_node(at, route, &packet, buffer, &of) {
                arrived.extend(of.iter().map(|number| (*number, arrival)));
            }
        }
        arrived
    }

    /// Out of the tunnel and to the pod.
    fn through_node(
        &mut self,
        mut at: u64,
        route: &Route,
        packet: &Packet,
        buffer: Buffer,
        of: &[Number],
    ) -> Option<Arrived> {
        let node = route.to.node();
        let here = (node, buffer, of);
        let out = (hook::TC_INGRESS, FLANNEL, Passage::Within);
        self.tap(at, route, (packet, Stage::Sent), here, out);
        at += self.delay();
        if self.sent[of[0]].fate == Fate::DroppedAfter {
            let seen = route.seen(packet, node, Stage::Routed);
            self.step(at, node, buffer, of, Act::Drop((root(node), FLANNEL), 1, seen));
            return None;
        }
        let down = (hook::TC_EGRESS, CNI0, Passage::Within);
        self.tap(at, route, (packet, Stage::Received), here, down);
        at += self.delay();
        self.into_pod(at, route, packet, buffer, of)
    }

    /// From the bridge into the receiver, and out of memory there, unless it is refused.
    fn into_pod(
        &mut self,
        mut at: u64,
        route: &Route,
        packet: &Packet,
        buffer: Buffer,
        of: &[Number],
    ) -> Option<Arrived> {
        let (node, pod, fate) = (route.to.node(), route.to, self.sent[of[0]].fate);
        if fate == Fate::Flooded {
            let others = pod.neighbours().filter(|other| *other != route.from);
            self.flood(at, (route, packet), buffer, of, others);
            at += self.delay();
        }
        self.tap(at, route, (packet, Stage::Received), (node, buffer, of), to_pod(pod));
        at += self.delay();
        match fate {
            Fate::DroppedInside => {
                let seen = route.seen(packet, node, Stage::Received);
                self.step(at, node, buffer, of, Act::Drop((pod.namespace(), 2), 1, seen));
                return None;
            }
            Fate::Refused => {}
            _ => {
                let after = at + self.random.below(60_000);
                self.free(after, node, buffer);
            }
        }
        Some(Arrived { at, buffer })
    }

    /// Copies of a packet for pods that it is not for.
    pub(super) fn flood(
        &mut self,
        at: u64,
        (route, packet): (&Route, &Packet),
        buffer: Buffer,
        of: &[Number],
        pods: impl Iterator<Item = PodId>,
    ) {
        for pod in pods {
            let (node, copy) = (pod.node(), self.buffer());
            let reason = if packet.dst.is_multicast() { 1 } else { 4 };
            self.step(at, node, copy, &[], Act::CopyOf(buffer));
            self.tap(at + 10, route, (packet, Stage::Received), (node, copy, of), to_pod(pod));
            let seen = route.seen(packet, node, Stage::Received);
            let dropped = at + 10 + self.random.below(40_000);
            self.step(dropped, node, copy, of, Act::Drop((pod.namespace(), 2), reason, seen));
        }
    }

    /// A datagram to a group on the pod's link.
    pub(super) fn multicast(&mut self, at: u64, route: &Route, number: Number) {
        let packet = self.sent[number].packet.clone();
        let (node, buffer, of) = (route.from.node(), self.buffer(), [number]);
        self.tap(at, route, (&packet, Stage::Sent), (node, buffer, &of), from_pod(route.from));
        let flooded = at + self.delay();
        self.flood(flooded, (route, &packet), buffer, &of, route.from.neighbours());
        let up = (hook::TC_INGRESS, CNI0, Passage::Within);
        self.tap(flooded + 100, route, (&packet, Stage::Sent), (node, buffer, &of), up);
        self.step(flooded + 5_000, node, buffer, &[], Act::Consume);
    }

    /// The receiver has refused a packet: its sk_buff is freed.
    pub(super) fn refuse(&mut self, at: u64, route: &Route, number: Number, arrived: Arrived) {
        let node = route.to.node();
        let seen = route.seen(&self.sent[number].packet, node, Stage::Received);
        let place = (route.to.namespace(), 2);
        self.step(at, node, arrived.buffer, &[number], Act::Drop(place, 3, seen));
    }
}

fn from_pod(pod: PodId) -> Tap {
    (hook::TC_INGRESS, pod.port(), Passage::Enters)
}

fn to_pod(pod: PodId) -> Tap {
    (hook::TC_EGRESS, pod.port(), Passage::Within)
}
