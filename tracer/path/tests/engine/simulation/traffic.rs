//! What the ends of each exchange send, and when: answers to what arrived, and again what did not.

use super::network::{PODS, PodId};
use super::packet::{Kind, Packet, SEGMENT};
use super::plan::{Exchange, Fate, Plan, What};
use super::route::{Ends, Route, Stage};
use super::travel::{Arrived, Number, Travel};

/// After this a TCP segment that was not acknowledged is sent again.
const RETRANSMIT: u64 = 200_000_000;

/// One exchange under way.
struct Talk<'a, 'b> {
    travel: &'a mut Travel<'b>,
    exchange: &'a Exchange,
    route: Route,
    ports: (u16, u16),
    /// Packets so far, by which their fates are chosen.
    count: usize,
    id: u16,
}

/// All exchanges of a plan.
pub(super) fn all<'a>(plan: &'a Plan) -> Travel<'a> {
    let mut travel = Travel::new(plan);
    for (number, exchange) in plan.traffic.iter().enumerate() {
        talk(&mut travel, plan, exchange, number);
    }
    travel.steps.sort_by_key(|step| step.at);
    travel
}

fn talk(travel: &mut Travel<'_>, plan: &Plan, exchange: &Exchange, number: usize) {
    let pods = plan.nodes * PODS;
    let from = PodId(exchange.from % pods);
    let by_service =
        exchange.by_service && matches!(exchange.what, What::Datagrams { .. } | What::Connection { .. });
    let mut to = PodId(exchange.to % pods);
    if to == from && !by_service {
        to = PodId((to.0 + 1) % pods);
    }
    let (protocol, dport) =
        if matches!(exchange.what, What::Connection { .. }) { (6, 80) } else { (17, 5000) };
    // Some exchanges have the same ports, but a connection goes to one endpoint, and both its ends are never the same.
    let is_shared = !by_service && !matches!(exchange.what, What::Connection { .. });
    let ports = (40_000 + if is_shared { 0 } else { 1 + number as u16 }, dport);
    let route = if by_service {
        Route::by_service(from, to, protocol, ports, exchange.v6)
    } else {
        Route::direct(from, to)
    };
    let id = 1000 * (number as u16 + 1);
    let mut talk = Talk { travel, exchange, route, ports, count: 0, id };
    match exchange.what {
        What::Pings(count) => talk.pings(count),
        What::Datagrams { count, numbered } => talk.datagrams(count, numbered),
        What::Connection { packets, segments } => talk.connection(packets, segments),
        What::Fragments(count) => talk.fragments(count),
        What::Multicast(count) => talk.multicasts(count),
    }
}

impl Talk<'_, '_> {
    fn fate(&mut self) -> Fate {
        let fate = self.exchange.fates[self.count % self.exchange.fates.len()];
        self.count += 1;
        let is_crossing = self.route.from.node() != self.route.to.node();
        let is_refusable = matches!(self.exchange.what, What::Datagrams { .. });
        match fate {
            Fate::LostOnWire if !is_crossing => Fate::Arrives,
            Fate::Refused if !is_refusable => Fate::Arrives,
            fate => fate,
        }
    }

    fn next_id(&mut self) -> u16 {
        self.id += 1;
        self.id
    }

    /// A packet of this direction, as it is sent.
    fn packet(&self, route: &Route, id: u16, kind: Kind, payload: Vec<u8>) -> Packet {
        let Ends { src, dst, ports } = route.ends(self.exchange.v6, self.ports_of(route));
        Packet::new(src, dst, id, kind, payload).with_ports(ports)
    }

    fn ports_of(&self, route: &Route) -> (u16, u16) {
        let is_request = (route.from, route.to) == (self.route.from, self.route.to);
        if is_request { self.ports } else { (self.ports.1, self.ports.0) }
    }

    fn one(&mut self, at: u64, route: &Route, packet: Packet, fate: Fate) -> (Number, Option<Arrived>) {
        let number = self.travel.add(packet, route.from, fate);
        (number, self.travel.send(at, route, &[number])[0])
    }

    fn pings(&mut self, count: u16) {
        let (there, back) = (self.route.clone(), self.route.back());
        for seq in 0..count {
            let at = self.exchange.at + u64::from(seq) * self.exchange.gap;
            let (id, fate) = (self.next_id(), self.fate());
            let payload = vec![seq as u8 + 1; 56];
            let kind = |reply| Kind::Echo { reply, ident: 7, seq };
            let request = self.packet(&there, id, kind(false), payload.clone());
            let Some(arrived) = self.one(at, &there, request, fate).1 else { continue };
            let (id, fate) = (self.next_id(), self.fate());
            let reply = self.packet(&back, id, kind(true), payload);
            self.one(arrived.at + 2_000, &back, reply, fate);
        }
    }

    fn datagrams(&mut self, count: u16, numbered: bool) {
        let (there, back) = (self.route.clone(), self.route.back());
        let kind = Kind::Udp { sport: 0, dport: 0 };
        for number in 0..count {
            let at = self.exchange.at + u64::from(number) * self.exchange.gap;
            let mut id = if numbered { self.next_id() } else { 0 };
            let payload = vec![1 + self.travel.random.below(2) as u8; 24];
            let fate = self.fate();
            let datagram = self.packet(&there, id, kind.clone(), payload.clone());
            let (sent, arrived) = self.one(at, &there, datagram, fate);
            let Some(arrived) = arrived else { continue };
            if numbered {
                id = self.next_id();
            }
            if fate == Fate::Refused {
                self.refuse(&there, sent, arrived);
            } else if self.travel.random.below(2) == 0 {
                let fate = match self.fate() {
                    Fate::Refused => Fate::Arrives,
                    fate => fate,
                };
                let answer = self.packet(&back, id, kind.clone(), payload);
                self.one(arrived.at + 3_000, &back, answer, fate);
            }
        }
    }

    /// The receiver says that nobody listens, and frees the packet behind that.
    fn refuse(&mut self, route: &Route, number: Number, arrived: Arrived) {
        let back = route.back();
        let refused = route.seen(&self.travel.sent[number].packet, route.to.node(), Stage::Received);
        let mut quoted = refused.bytes();
        quoted.truncate(if refused.src.is_ipv4() { 28 } else { 60 });
        let id = self.next_id();
        let error = Packet::new(refused.dst, refused.src, id, Kind::Unreachable, quoted);
        self.one(arrived.at + 1_000, &back, error, Fate::Arrives);
        let at = arrived.at + 2_000 + self.travel.random.below(30_000);
        self.travel.refuse(at, route, number, arrived);
    }

    fn fragments(&mut self, count: u16) {
        let route = self.route.clone();
        for number in 0..count {
            let at = self.exchange.at + u64::from(number) * self.exchange.gap;
            let id = self.next_id();
            let kind = Kind::Udp { sport: 0, dport: 0 };
            let mut whole = self.packet(&route, id, kind, vec![number as u8 + 1; 200]);
            if self.exchange.v6 {
                let Ends { src, dst, .. } = route.ends(false, self.ports);
                (whole.src, whole.dst, whole.id) = (src, dst, id);
            }
            for piece in [(0, 104, true), (104, 208, false)] {
                let fate = self.fate();
                let packet = Packet { piece: Some(piece), ..whole.clone() };
                self.one(at + piece.0 as u64 * 10, &route, packet, fate);
            }
        }
    }

    fn multicasts(&mut self, count: u16) {
        let route = self.route.clone();
        for number in 0..count {
            let at = self.exchange.at + u64::from(number) * self.exchange.gap;
            let id = self.next_id();
            let mut packet = self.packet(&route, id, Kind::Udp { sport: 0, dport: 0 }, vec![9; 24]);
            packet.dst =
                if self.exchange.v6 { "ff02::fb".parse().unwrap() } else { "224.0.0.251".parse().unwrap() };
            let sent = self.travel.add(packet, route.from, Fate::Arrives);
            self.travel.multicast(at, &route, sent);
        }
    }

    fn connection(&mut self, packets: u16, segments: u16) {
        let (there, back) = (self.route.clone(), self.route.back());
        let start = self.travel.random.below(1 << 32) as u32;
        let other = self.travel.random.below(1 << 32) as u32;
        let mut next = [start, other];
        let mut at = self.exchange.at;
        let opening = [(&there, "S", start, 0), (&back, "SA", other, start.wrapping_add(1))];
        for (route, flags, seq, ack) in opening {
            at = self.until_it_arrives(at, route, &[(seq, ack, flags, Vec::new())]);
        }
        next = next.map(|seq| seq.wrapping_add(1));
        at = self.until_it_arrives(at, &there, &[(next[0], next[1], "A", Vec::new())]);
        for (route, side) in [(&there, 0), (&back, 1)] {
            let mut burst = Vec::new();
            for _ in 0..packets {
                let count = 1 + self.travel.random.below(segments.into()) as usize;
                // The last segment may be shorter than the others.
                let length = SEGMENT * count - self.travel.random.below(2) as usize * 7;
                let first = next[side];
                let payload = (0..length).map(|place| (first as usize + place) as u8).collect();
                burst.push((first, next[1 - side], "PA", payload));
                next[side] = first.wrapping_add(length as u32);
            }
            at = self.until_it_arrives(at, route, &burst);
            let answer = if side == 0 { &back } else { &there };
            at = self.until_it_arrives(at, answer, &[(next[1 - side], next[side], "A", Vec::new())]);
        }
    }

    /// Sends segments, and again those that do not arrive, and now and then one that did. Returns when the last one is there.
    fn until_it_arrives(
        &mut self,
        at: u64,
        route: &Route,
        segments: &[(u32, u32, &'static str, Vec<u8>)],
    ) -> u64 {
        let mut left: Vec<usize> = (0..segments.len()).collect();
        let (mut at, mut latest, mut again) = (at + 1_000, at, false);
        while !left.is_empty() {
            let mut numbers = Vec::new();
            for place in &left {
                let (seq, ack, flags, payload) = segments[*place].clone();
                let kind = Kind::Tcp { sport: 0, dport: 0, seq, ack, flags };
                let id = self.next_id();
                let mut packet = self.packet(route, id, kind, payload);
                packet.segments = packet.payload.len().div_ceil(SEGMENT).max(1) as u16;
                self.id += packet.segments - 1;
                let fate = if again { Fate::Arrives } else { self.fate() };
                numbers.push(self.travel.add(packet, route.from, fate));
            }
            let arrived = self.travel.send(at, route, &numbers);
            latest = arrived.iter().flatten().map(|arrived| arrived.at).max().unwrap_or(latest).max(latest);
            let is_spurious = !again && self.travel.random.below(8) == 0;
            let whole = |place: usize| {
                arrived[place].is_some() && self.travel.sent[numbers[place]].fate != Fate::LostOnWire
            };
            let places = (0..left.len()).filter(|place| is_spurious || !whole(*place));
            left = places.map(|place| left[place]).collect();
            again = true;
            at += RETRANSMIT;
        }
        latest
    }
}
