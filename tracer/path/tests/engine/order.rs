//! Clocks, and the order in which frames come.

use crate::testkit::*;
use podtrace_path::Verdict;
use podtrace_protocol::frame::FromAgent;

fn exchange() -> Scene {
    exchange_by(Scene::new())
}

fn exchange_by(mut scene: Scene) -> Scene {
    for number in 0..20 {
        scene.cross(u64::from(number) * 1_000_000, &echo(POD1, POD3, number, 100 + number));
        scene.cross(u64::from(number) * 1_000_000 + 90_000, &echo_reply(POD3, POD1, number, 500 + number));
    }
    scene
}

fn json(scene: &Scene, frames: &[(usize, FromAgent)]) -> String {
    let (paths, summary) = play(scene.context(), frames);
    serde_json::to_string(&(paths, summary)).unwrap()
}

#[test]
fn a_replay_gives_the_same_to_the_byte() {
    let scene = exchange();
    let frames = scene.frames(100_000_000);
    assert_eq!(json(&scene, &frames), json(&scene, &frames));
}

#[test]
fn it_does_not_matter_whose_frames_come_first() {
    let scene = exchange();
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        scene.frames(100_000_000).into_iter().partition(|(node, _)| *node == NODE2);
    first.append(&mut second);
    let (paths, summary) = play(scene.context(), &first);
    assert_eq!(paths.len(), 40);
    for path in &paths {
        assert_eq!(
            (steps(path), path.verdict, path.confidence),
            (CROSSING.map(String::from).to_vec(), Verdict::Delivered, 1.0)
        );
    }
    assert!(summary.complete, "{summary:?}");
}

#[test]
fn clocks_hours_apart_are_brought_together() {
    let mut scene = Scene::new();
    scene.clocks = [5_000_000_000, 90_000_000_000_000];
    let scene = exchange_by(scene);
    let (paths, _) = scene.play();
    assert_eq!(paths.len(), 40);
    // Both ways were crossed in 10 µs, which bounds the difference better than the 200 µs of asking did.
    let last = paths.iter().rfind(|path| path.label.contains("request")).unwrap();
    let hop = &last.hops[4];
    assert_eq!(last.hops[3].clock_error_ns, 0);
    assert!(hop.clock_error_ns <= 11_000, "{hop:?}");
    let truth = 40_000;
    assert!((hop.at_ns.unwrap() - truth).unsigned_abs() <= hop.clock_error_ns, "{hop:?}");
    assert_eq!(last.duration_error_ns, hop.clock_error_ns);
}

#[test]
fn clocks_that_are_read_wrongly_within_their_error_do_no_harm() {
    for early in [NODE1, NODE2] {
        let scene = exchange();
        let mut frames = scene.frames(10_000_000);
        scene.misread_clock(&mut frames, early);
        let (paths, summary) = play(scene.context(), &frames);
        assert_eq!(paths.len(), 40, "{early}");
        for path in &paths {
            assert_eq!(
                (steps(path), path.verdict),
                (CROSSING.map(String::from).to_vec(), Verdict::Delivered)
            );
        }
        assert!(summary.complete, "{summary:?}");
    }
}

/// From pod to pod, in another sk_buff from each of these places on: one with too little room for a tunnel's headers is
/// replaced by a copy, which not every kernel reports.
fn cross_in_other_buffers(scene: &mut Scene, at: u64, packet: &Wire, from: &[usize]) {
    let [src, dst]: [[u8; 4]; 2] = [12, 16].map(|start| packet.bytes[start..start + 4].try_into().unwrap());
    let way = [At::FromPod(src), At::BridgeIn, At::TunnelOut, At::UplinkOut].into_iter().chain([
        At::UplinkIn,
        At::TunnelIn,
        At::BridgeOut,
        At::ToPod(dst),
    ]);
    let nodes = if src == POD1 { [NODE1, NODE2] } else { [NODE2, NODE1] };
    let mut identity = scene.identity();
    for (number, place) in way.enumerate() {
        if number == 4 || from.contains(&number) {
            identity = scene.identity();
        }
        scene.see(nodes[number / 4], at + number as u64 * 2_000, place, identity, packet);
    }
}

#[test]
fn a_packet_in_another_buffer_is_the_same_whatever_the_clocks_say() {
    for from in [&[] as &[usize], &[1], &[2], &[3], &[5], &[6], &[7], &[2, 6], &[1, 2, 3, 5, 6, 7]] {
        for early in [None, Some(NODE1), Some(NODE2)] {
            let mut scene = Scene::new();
            for number in 0..20 {
                let at = u64::from(number) * 60_000;
                cross_in_other_buffers(&mut scene, at, &echo(POD1, POD3, number, 0), from);
                cross_in_other_buffers(&mut scene, at + 20_000, &echo_reply(POD3, POD1, number, 0), from);
                let datagram = udp(POD1, POD3, 0, &[number as u8; 100]);
                cross_in_other_buffers(&mut scene, at + 40_000, &datagram, from);
            }
            let mut frames = scene.frames(10_000_000);
            if let Some(early) = early {
                scene.misread_clock(&mut frames, early);
            }
            let (paths, summary) = play(scene.context(), &frames);
            for path in &paths {
                assert_eq!(
                    (steps(path), path.verdict, path.confidence),
                    (CROSSING.map(String::from).to_vec(), Verdict::Delivered, 1.0),
                    "{from:?}, {early:?} early"
                );
            }
            assert_eq!(paths.len(), 60, "{from:?}, {early:?} early");
            assert!(summary.complete, "{from:?}, {early:?} early: {summary:?}");
        }
    }
}

#[test]
fn what_came_to_a_node_stays_there_whatever_another_clock_says() {
    let mut scene = Scene::new();
    let reply = echo_reply(POD3, [10, 42, 0, 0], 1, 501);
    let identity = scene.identity();
    scene.see(NODE2, 0, At::FromPod(POD3), identity, &reply);
    scene.see(NODE2, 1_000, At::BridgeIn, identity, &reply);
    scene.see(NODE2, 2_000, At::TunnelOut, identity, &reply);
    scene.see(NODE2, 3_000_000, At::UplinkOut, identity, &reply);
    let identity = scene.identity();
    scene.see(NODE1, 3_010_000, At::UplinkIn, identity, &reply);
    scene.see(NODE1, 3_020_000, At::TunnelIn, identity, &reply);
    let mut frames = scene.frames(10_000_000);
    for (node, frame) in &mut frames {
        if let FromAgent::Clock { sent_ns, node_ns, received_ns } = frame {
            // Node 1 is taken to be 2 ms earlier than it is, and was on its way for as long.
            (*sent_ns, *received_ns) = (0, 4_000_000);
            *node_ns = scene.clocks[*node] + if *node == NODE2 { 2_000_000 } else { 4_000_000 };
        }
    }
    let (paths, summary) = play(scene.context(), &frames);
    assert_eq!(paths[0].verdict, Verdict::Delivered, "{:?}", paths[0].reason);
    assert_eq!(steps(&paths[0]).last().unwrap(), "[flannel.1 local-in]");
    assert!(summary.complete, "{summary:?}");
}

#[test]
fn without_any_clock_answer_paths_are_still_joined() {
    let scene = exchange();
    let mut frames = scene.frames(100_000_000);
    frames.retain(|(_, frame)| !matches!(frame, FromAgent::Clock { .. }));
    let (paths, summary) = play(scene.context(), &frames);
    assert_eq!(paths.len(), 40);
    assert!(paths.iter().all(|path| path.verdict == Verdict::Delivered));
    assert!(summary.complete);
}

#[test]
fn paths_are_told_while_the_trace_goes_on() {
    let scene = exchange();
    let mut engine = podtrace_path::Engine::new(scene.context());
    let mut paths = Vec::new();
    let frames = scene.frames(100_000_000);
    for (node, frame) in &frames {
        if matches!(frame, FromAgent::Goodbye { .. }) {
            break;
        }
        engine.ingest(*node, frame, &mut paths);
    }
    assert_eq!(paths.len(), 40);
    assert_eq!(engine.summary().paths.delivered, 40);
    let numbers: Vec<u64> = paths.iter().map(|path| path.id).collect();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    let (request, reply) = (&paths[0], &paths[1]);
    assert!(request.label.contains("request") && reply.label.contains("reply"));
}

#[test]
fn a_path_that_took_long_is_told_when_it_has_ended() {
    let mut scene = Scene::new();
    let slow = echo(POD1, POD3, 1, 101);
    scene.leave(0, &slow);
    scene.arrive(60_000_000, &slow);
    scene.cross(61_000_000, &echo_reply(POD3, POD1, 1, 501));
    scene.cross(900_000_000, &echo(POD1, POD3, 2, 102));
    // Looked at in between, when it is still under way.
    let mut engine = podtrace_path::Engine::new(scene.context());
    let mut paths = Vec::new();
    let frames = scene.frames(10_000_000);
    for (node, frame) in frames.iter().filter(|(_, frame)| !matches!(frame, FromAgent::Goodbye { .. })) {
        engine.ingest(*node, frame, &mut paths);
    }
    let labels: Vec<_> = paths.iter().map(|path| path.label.as_str()).collect();
    assert!(labels.len() >= 2, "{labels:?}");
    assert!(labels[0].contains("request") && labels[1].contains("reply"), "{labels:?}");
}

#[test]
fn events_of_a_node_may_be_drained_out_of_order() {
    let scene = exchange();
    let mut frames = scene.frames(1_000_000_000);
    for (_, frame) in &mut frames {
        if let FromAgent::Events(body) = frame {
            let mut records: Vec<_> =
                podtrace_protocol::record::Records::new(body).map(Result::unwrap).collect();
            for pair in records.chunks_exact_mut(2) {
                pair.swap(0, 1);
            }
            let mut swapped = Vec::new();
            for record in records {
                podtrace_protocol::record::encode(
                    &record.event,
                    record.conntrack.as_ref(),
                    record.bytes,
                    &mut swapped,
                );
            }
            *body = swapped.into();
        }
    }
    let (paths, summary) = play(scene.context(), &frames);
    assert_eq!(paths.len(), 40);
    assert!(paths.iter().all(|path| steps(path) == CROSSING));
    assert!(summary.complete);
}
