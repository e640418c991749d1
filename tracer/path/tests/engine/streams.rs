//! Streams that GSO and GRO take apart and put together, and packets that look alike.

use crate::testkit::*;
use podtrace_path::{Path, Verdict};

const MSS: usize = 1000;

fn all_crossed(paths: &[Path]) {
    for path in paths {
        assert_eq!(steps(path), CROSSING, "{path:#?}");
        assert_eq!(path.verdict, Verdict::Delivered);
    }
}

fn segment(first: u32, id: u16, number: usize) -> Wire {
    Tcp::data(first.wrapping_add((number * MSS) as u32), MSS, id.wrapping_add(number as u16)).wire()
}

/// One skb of 5 segments leaves the pod; they are made at node1's eth0 and put together again at node2's tunnel.
fn taken_apart_and_put_together(scene: &mut Scene, at: u64, first: u32, id: u16) {
    let whole = Tcp::data(first, 5 * MSS, id).in_segments(5).wire();
    let identity = scene.identity();
    scene.see(NODE1, at, At::FromPod(POD1), identity, &whole);
    scene.see(NODE1, at + 10_000, At::BridgeIn, identity, &whole);
    scene.see(NODE1, at + 20_000, At::TunnelOut, identity, &whole);
    let mut merged = 0;
    for number in 0..5 {
        let piece = segment(first, id, number);
        let identity = scene.identity();
        scene.see(NODE1, at + 30_000 + number as u64 * 100, At::UplinkOut, identity, &piece);
        let identity = scene.identity();
        scene.see(NODE2, at + 40_000 + number as u64 * 100, At::UplinkIn, identity, &piece);
        if number == 0 {
            merged = identity;
        }
    }
    scene.see(NODE2, at + 50_000, At::TunnelIn, merged, &whole);
    scene.see(NODE2, at + 60_000, At::BridgeOut, merged, &whole);
    scene.see(NODE2, at + 70_000, At::ToPod(POD3), merged, &whole);
}

#[test]
fn segments_of_one_skb_are_one_path() {
    let mut scene = Scene::new();
    taken_apart_and_put_together(&mut scene, 0, 5000, 100);
    let (paths, summary) = scene.play();
    assert_eq!(paths.len(), 1);
    all_crossed(&paths);
    let packets: Vec<u32> = paths[0].hops.iter().map(|hop| hop.packets).collect();
    assert_eq!(packets, [1, 1, 1, 5, 5, 1, 1, 1]);
    assert!(paths[0].hops.iter().all(|hop| !hop.merged));
    assert_eq!(paths[0].payload, 5000);
    assert_eq!(paths[0].hops[3].bytes, 5 * 1040);
    assert_eq!(paths[0].confidence, 1.0);
    assert!(summary.complete, "{summary:?}");
}

/// The same, put together in two parts, the second after the first has arrived.
fn put_together_in_two_parts(scene: &mut Scene, at: u64, first: u32, id: u16) {
    let whole = Tcp::data(first, 5 * MSS, id).in_segments(5).wire();
    scene.leave(at, &whole);
    for (at, from, count) in [(at + 40_000, 0, 2), (at + 60_000, 2, 3)] {
        let merged = Tcp::data(first + (from * MSS) as u32, count * MSS, id + from as u16);
        let merged = merged.in_segments(count as u16).wire();
        let identity = scene.identity();
        for number in from..from + count {
            let other = scene.identity();
            let identity = if number == from { identity } else { other };
            let at = at + number as u64 * 100;
            scene.see(NODE2, at, At::UplinkIn, identity, &segment(first, id, number));
        }
        scene.see(NODE2, at + 10_000, At::TunnelIn, identity, &merged);
        scene.see(NODE2, at + 11_000, At::BridgeOut, identity, &merged);
        scene.see(NODE2, at + 12_000, At::ToPod(POD3), identity, &merged);
    }
}

#[test]
fn segments_are_found_whatever_the_clocks_say() {
    for early in [NODE1, NODE2] {
        let mut scene = Scene::new();
        for number in 0..40_u16 {
            let first = 1 + u32::from(number) * 5000;
            let at = u64::from(number) * 100_000;
            if number % 2 == 0 {
                taken_apart_and_put_together(&mut scene, at, first, number * 5);
            } else {
                put_together_in_two_parts(&mut scene, at, first, number * 5);
            }
        }
        let mut frames = scene.frames(10_000_000);
        scene.misread_clock(&mut frames, early);
        let (paths, summary) = play(scene.context(), &frames);
        assert_eq!(paths.len(), 40, "{early} early");
        all_crossed(&paths);
        assert!(summary.complete, "{early} early: {summary:?}");
    }
}

#[test]
fn packets_put_together_stay_paths_of_their_own() {
    let mut scene = Scene::new();
    let mut merged = 0;
    for number in 0..4 {
        let piece = segment(1, 50, number);
        scene.leave(number as u64 * 1_000, &piece);
        let identity = scene.identity();
        scene.see(NODE2, 40_000 + number as u64 * 1_000, At::UplinkIn, identity, &piece);
        if number == 0 {
            merged = identity;
        }
    }
    let whole = Tcp::data(1, 4 * MSS, 50).in_segments(4).wire();
    scene.see(NODE2, 50_000, At::TunnelIn, merged, &whole);
    scene.see(NODE2, 60_000, At::BridgeOut, merged, &whole);
    scene.see(NODE2, 70_000, At::ToPod(POD3), merged, &whole);
    let (paths, summary) = scene.play();
    assert_eq!(paths.len(), 4);
    all_crossed(&paths);
    assert!(paths.iter().all(|path| path.hops[5].merged && path.hops[7].merged && !path.hops[4].merged));
    assert_eq!(paths.iter().map(|path| path.payload).sum::<u32>(), 4000);
    assert!(summary.complete, "{summary:?}");
}

#[test]
fn sequence_numbers_wrap() {
    let mut scene = Scene::new();
    taken_apart_and_put_together(&mut scene, 0, u32::MAX - 2_400, 65_534);
    taken_apart_and_put_together(&mut scene, 1_000_000, 2_599, 3);
    let (paths, summary) = scene.play();
    assert_eq!(paths.len(), 2);
    all_crossed(&paths);
    assert_eq!(paths[0].label, "PSH-ACK 5000 B seq 0");
    assert_eq!(paths[1].label, "PSH-ACK 5000 B seq 5000");
    assert!(summary.complete);
}

#[test]
fn a_retransmission_is_a_path_of_its_own() {
    let mut scene = Scene::new();
    scene.quiet = 6_000_000_000;
    // The second of three segments is lost on the wire and sent again under another identification.
    for number in 0..3 {
        let piece = segment(1, 10, number);
        scene.leave(number as u64 * 5_000, &piece);
        if number != 1 {
            scene.arrive(40_000 + number as u64 * 5_000, &piece);
        }
    }
    scene.cross(200_000_000, &Tcp::data(1001, MSS, 13).wire());
    let (paths, summary) = scene.play();
    assert_eq!(paths.len(), 4);
    let by_id = |verdict| paths.iter().filter(move |path| path.verdict == verdict);
    assert_eq!(by_id(Verdict::Delivered).count(), 3);
    let lost = by_id(Verdict::Vanished).next().unwrap();
    assert_eq!(lost.label, "PSH-ACK 1000 B seq 1000");
    assert_eq!(lost.hops.len(), 4);
    assert_eq!(lost.reason.as_deref(), Some("left node1 at eth0, never seen on node2"));
    assert!(paths.iter().all(|path| path.confidence == 1.0));
    assert!(summary.complete, "{summary:?}");
}

#[test]
fn a_lost_segment_of_several_is_told_with_what_arrived() {
    let mut scene = Scene::new();
    scene.quiet = 6_000_000_000;
    let whole = Tcp::data(1, 3 * MSS, 10).in_segments(3).wire();
    let identity = scene.identity();
    scene.see(NODE1, 0, At::FromPod(POD1), identity, &whole);
    for number in 0..3 {
        let identity = scene.identity();
        scene.see(NODE1, 30_000 + number as u64, At::UplinkOut, identity, &segment(1, 10, number));
        if number != 1 {
            scene.arrive(40_000 + number as u64, &segment(1, 10, number));
        }
    }
    let (paths, _) = scene.play();
    assert_eq!((paths.len(), paths[0].verdict), (1, Verdict::Vanished));
    assert!(
        paths[0].reason.as_deref().unwrap().starts_with("only 2000 of 3000 B got this far"),
        "{:?}",
        paths[0].reason
    );
}

#[test]
fn a_long_transfer_adds_up() {
    let mut scene = Scene::new();
    let mut first = 4_000_000_000_u32;
    for number in 0..400_u64 {
        let id = (number * 5) as u16;
        if number % 3 == 0 {
            taken_apart_and_put_together(&mut scene, number * 7_000, first, id);
        } else {
            scene.cross(number * 7_000, &Tcp::data(first, 5 * MSS, id).in_segments(5).wire());
        }
        first = first.wrapping_add(5000);
    }
    let (paths, summary) = scene.play();
    assert_eq!(paths.len(), 400);
    all_crossed(&paths);
    assert_eq!(paths.iter().map(|path| path.payload).sum::<u32>(), 2_000_000);
    assert!(paths.iter().all(|path| path.confidence == 1.0));
    assert!(summary.complete, "{summary:?}");
}

#[test]
fn more_than_64_kib_in_one_packet_takes_its_length_from_the_event() {
    let mut scene = Scene::new();
    let mut whole = Tcp::data(1, 2000, 10).in_segments(200).wire();
    whole.length = 40 + 200 * MSS;
    whole.size = MSS as u32;
    whole.bytes[2..4].copy_from_slice(&[0, 0]);
    scene.cross(0, &whole);
    let (paths, _) = scene.play();
    assert_eq!((paths.len(), paths[0].payload, paths[0].bytes), (1, 200_000, 200_040));
    all_crossed(&paths);
}

#[test]
fn pings_that_are_equal_are_told_apart_by_time_or_said_to_be_ambiguous() {
    // One after the other has arrived: no doubt.
    let mut scene = Scene::new();
    scene.cross(0, &echo(POD1, POD3, 1, 1));
    scene.cross(10_000_000, &echo(POD1, POD3, 1, 1));
    let (paths, _) = scene.play();
    assert_eq!(paths.len(), 2);
    all_crossed(&paths);
    assert!(paths.iter().all(|path| path.confidence == 1.0));

    // Both on the wire at once: either could be either.
    let mut scene = Scene::new();
    scene.leave(0, &echo(POD1, POD3, 1, 1));
    scene.leave(1_000, &echo(POD1, POD3, 1, 1));
    scene.arrive(40_000, &echo(POD1, POD3, 1, 1));
    scene.arrive(41_000, &echo(POD1, POD3, 1, 1));
    let (paths, summary) = scene.play();
    assert_eq!(paths.len(), 2);
    all_crossed(&paths);
    assert!(
        paths.iter().all(|path| path.confidence == 0.5),
        "{:?}",
        paths.iter().map(|p| p.confidence).collect::<Vec<_>>()
    );
    assert!(summary.complete);
}

#[test]
fn a_thousand_pings_are_two_thousand_paths() {
    let mut scene = Scene::new();
    for number in 0..1000_u16 {
        scene.cross(u64::from(number) * 90_000, &echo(POD1, POD3, number, number));
        scene.cross(u64::from(number) * 90_000 + 75_000, &echo_reply(POD3, POD1, number, number));
    }
    let (paths, summary) = scene.play();
    assert_eq!(paths.len(), 2000);
    all_crossed(&paths);
    assert!(summary.complete);
    assert_eq!(summary.events.delivered, 16_000);
}

#[test]
fn captures_cut_short_still_join() {
    // 14 + 20 + 8 + 8 + 14 + 20 + 20: just the headers where there are most of them.
    let mut scene = Scene::new();
    scene.capture = 104;
    taken_apart_and_put_together(&mut scene, 0, 5000, 100);
    scene.cross(500_000, &echo(POD1, POD3, 1, 1));
    let (paths, summary) = scene.play();
    assert_eq!(paths.len(), 2);
    all_crossed(&paths);
    assert!(summary.complete);
}

/// xorshift: random enough, and the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn whatever_the_bytes_nothing_panics_and_nothing_is_uncounted() {
    let mut random = Random(88_172_645_463_325_252);
    for _ in 0..300 {
        let mut scene = Scene::new();
        for number in 0..30_u64 {
            let mut packet = match random.next() % 5 {
                0 => echo(POD1, POD3, random.next() as u16 % 3, 1),
                1 => udp(POD3, POD1, random.next() as u16 % 3, &[1; 40]),
                2 => fragments(POD1, POD3, 3)[random.next() as usize % 2].clone(),
                3 => port_unreachable(POD3, POD1, &udp(POD1, POD3, 1, &[1; 40])),
                _ => Tcp::data(
                    (random.next() % 5000) as u32,
                    1 + random.next() as usize % 3000,
                    random.next() as u16 % 9,
                )
                .wire(),
            };
            for _ in 0..random.next() % 4 {
                let at = random.next() as usize % packet.bytes.len();
                packet.bytes[at] = random.next() as u8;
            }
            packet.bytes.truncate(random.next() as usize % 300);
            packet.length = packet.length.max(packet.bytes.len());
            let places = [
                At::FromPod(POD1),
                At::ToPod(POD3),
                At::BridgeIn,
                At::BridgeOut,
                At::TunnelIn,
                At::TunnelOut,
                At::UplinkIn,
                At::UplinkOut,
            ];
            let (node, identity) = (random.next() as usize % 2, random.next() % 9);
            match random.next() % 9 {
                8 => scene.drop(node, number * 1_000_000, None, NO_SOCKET, identity, &packet),
                place => scene.see(node, number * 1_000_000, places[place as usize], identity, &packet),
            }
        }
        scene.quiet = 10_000_000_000;
        let (paths, summary) = scene.play();
        assert_eq!(summary.events.produced, summary.events.delivered);
        let told = summary.paths;
        let count = told.delivered + told.dropped + told.vanished + told.rejected + told.open;
        assert_eq!(count, paths.len() as u64);
        for (number, path) in paths.iter().enumerate() {
            assert_eq!(path.id, number as u64 + 1);
            assert!(path.hops.iter().enumerate().all(|(index, hop)| hop.index as usize == index));
            assert!(path.confidence > 0.0 && path.confidence <= 1.0);
        }
        assert_eq!(
            serde_json::to_string(&scene.play()).unwrap(),
            serde_json::to_string(&(paths, summary)).unwrap()
        );
    }
}
