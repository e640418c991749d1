//! What no packet can do is in no path: identities that pass to the next packet, equal packets, losses, in any order.

use std::collections::{BTreeMap, BTreeSet};

use crate::testkit::*;
use podtrace_path::{Action, Path, Point, Summary, Verdict};

const MS: u64 = 1_000_000;

/// What really happened to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Arrives,
    LostOnTheWire,
    Dropped,
}

/// A scene of which is known which event is of which packet.
struct Truth {
    scene: Scene,
    fates: Vec<Fate>,
    /// Packet of each record, by node and number.
    packets: BTreeMap<(usize, u64), usize>,
}

impl Truth {
    /// Packets across nodes and on one node, up to three of them under way at once. `identities` tells how many the kernel
    /// programs have for each node: with few of them, the next packet continues what an earlier one left.
    fn new(random: &mut Random, identities: u64) -> Self {
        let mut events = Vec::new();
        let mut fates = Vec::new();
        for number in 0..40_u64 {
            let at = number * 20_000 + random.below(30_000);
            let (packet, way) = Self::packet(random, number);
            let fate = match random.below(8) {
                0 => Fate::LostOnTheWire,
                1 => Fate::Dropped,
                _ => Fate::Arrives,
            };
            for (delay, event) in way.iter().enumerate() {
                let is_there = match (fate, event) {
                    (Fate::Arrives, (_, Some(_))) => true,
                    (Fate::Arrives, (_, None)) => false,
                    (Fate::LostOnTheWire | Fate::Dropped, (node, place)) => {
                        *node == way[0].0
                            && (place.is_some() == (delay < 4))
                            && (place.is_some() || fate == Fate::Dropped)
                    }
                };
                if is_there {
                    events.push((at + delay as u64 * 10_000, *event, number as usize, packet.clone()));
                }
            }
            fates.push(fate);
        }
        events.sort_by_key(|(at, ..)| *at);
        let (mut scene, mut packets, mut counts) = (Scene::new(), BTreeMap::new(), [0_u64; 2]);
        for (at, (node, place), number, packet) in events {
            let identity = 1 + number as u64 % identities;
            match place {
                Some(place) => scene.see(node, at, place, identity, &packet),
                None => scene.drop(node, at, None, NETFILTER_DROP, identity, &packet),
            }
            packets.insert((node, counts[node]), number);
            counts[node] += 1;
        }
        scene.quiet = 10_000 * MS;
        Self { scene, fates, packets }
    }

    /// A packet, and where it passes; `None` is where it may be dropped.
    fn packet(random: &mut Random, number: u64) -> (Wire, [(usize, Option<At>); 9]) {
        let (src, dst, from, to) =
            if random.below(2) == 0 { (POD1, POD3, NODE1, NODE2) } else { (POD3, POD1, NODE2, NODE1) };
        let seq = number as u16;
        let packet = match random.below(3) {
            0 if from == NODE1 => echo(src, dst, seq, 100 + seq),
            0 => echo_reply(src, dst, seq, 500 + seq),
            // Many have the same content: identification 0 and one of two payloads.
            1 if from == NODE1 => udp(src, dst, 0, [b"one", b"two"][random.below(2) as usize]),
            1 => udp(src, dst, 0, [b"one", b"two"][random.below(2) as usize]).back(),
            _ if from == NODE1 => udp(src, dst, 1000 + seq, &[1; 30]),
            _ => udp(src, dst, 1000 + seq, &[1; 30]).back(),
        };
        let way = [
            (from, Some(At::FromPod(src))),
            (from, Some(At::BridgeIn)),
            (from, Some(At::TunnelOut)),
            (from, Some(At::UplinkOut)),
            (from, None),
            (to, Some(At::UplinkIn)),
            (to, Some(At::TunnelIn)),
            (to, Some(At::BridgeOut)),
            (to, Some(At::ToPod(dst))),
        ];
        (packet, way)
    }

    /// The packets that a path was made of.
    fn packets_of(&self, path: &Path) -> BTreeSet<usize> {
        let sources = path.hops.iter().flat_map(|hop| &hop.sources);
        sources.map(|source| self.packets[&(source.node, source.number)]).collect()
    }
}

/// Asserts what holds of every packet.
fn assert_possible(path: &Path) {
    let seen = path.hops.iter().filter(|hop| hop.action != Action::Drop);
    let mut spots = BTreeSet::new();
    for hop in seen {
        let spot = (hop.node.clone(), hop.device.clone(), hop.point.as_ref().map(Point::to_string));
        assert!(hop.point.is_none() || spots.insert(spot), "twice at one place: {:?}", steps(path));
    }
    let tuples: BTreeSet<_> = path.hops.iter().map(|hop| hop.tuple.src).collect();
    assert_eq!(tuples.len(), 1, "a request and its reply: {:?}", steps(path));
    // Each clock is known to 100 µs. Beyond that an arrival may be read a little before its departure, but not for sure.
    let times: Vec<i64> = path.hops.iter().filter_map(|hop| hop.at_ns).collect();
    let allowed = if path.confidence == 1.0 { 200_000 } else { 1_200_000 };
    assert!(times.windows(2).all(|pair| pair[0] <= pair[1] + allowed), "backwards: {times:?}");
}

fn assert_honest(truth: &Truth, (paths, summary): &(Vec<Path>, Summary)) {
    for path in paths {
        assert_possible(path);
        let packets = truth.packets_of(path);
        if path.confidence < 1.0 {
            continue;
        }
        assert_eq!(packets.len(), 1, "several packets, and sure of it: {packets:?} {:?}", steps(path));
        let fate = packets.first().map(|packet| truth.fates[*packet]);
        let fits = match path.verdict {
            Verdict::Delivered => fate == Some(Fate::Arrives),
            Verdict::Dropped => fate == Some(Fate::Dropped),
            // With events missing, an arrival may be; then the summary says that not all was seen.
            Verdict::Vanished => fate == Some(Fate::LostOnTheWire) || !summary.complete,
            Verdict::Rejected | Verdict::Open => true,
        };
        assert!(fits, "{packets:?} {fate:?}, told {:?} {:?}", path.verdict, path.reason);
    }
}

#[test]
fn whatever_passes_in_whatever_order_no_path_does_what_no_packet_could() {
    let mut random = Random::new(88_172_645_463_325_252);
    for _ in 0..60 {
        let truth = Truth::new(&mut random, 1000);
        assert_honest(&truth, &truth.scene.play());
    }
}

#[test]
fn an_identity_that_passes_to_the_next_packet_makes_no_path_of_two() {
    let mut random = Random::new(362_436_069);
    for _ in 0..60 {
        let truth = Truth::new(&mut random, 5);
        assert_honest(&truth, &truth.scene.play());
    }
}

#[test]
fn events_left_out_make_statements_weaker_and_not_other_ones() {
    let mut random = Random::new(521_288_629);
    for _ in 0..60 {
        let mut truth = Truth::new(&mut random, 1000);
        // Records are numbered as they come, so the lost ones have no number.
        let total = truth.scene.count();
        truth.scene.lost = (0..total).filter(|_| random.below(12) == 0).collect();
        let mut kept = BTreeMap::new();
        let (mut counts, mut next) = ([0_u64; 2], [0_u64; 2]);
        for (number, node) in truth.scene.nodes_of_events().into_iter().enumerate() {
            let packet = truth.packets[&(node, counts[node])];
            counts[node] += 1;
            if !truth.scene.lost.contains(&number) {
                kept.insert((node, next[node]), packet);
                next[node] += 1;
            }
        }
        truth.packets = kept;
        let told = truth.scene.play();
        assert!(truth.scene.lost.is_empty() || !told.1.complete);
        assert_honest(&truth, &told);
    }
}
