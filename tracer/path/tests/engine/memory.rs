//! More work than the memory limit allows: the estimate stays below it, and nothing is lost silently.

use crate::testkit::*;
use podtrace_path::{Context, Engine, LEAST_MEMORY, Path, Summary, Verdict};
use podtrace_protocol::frame::FromAgent;

const MS: u64 = 1_000_000;

/// A datagram of a flow of its own.
fn of_flow(number: u16, dst: [u8; 4]) -> Wire {
    let mut packet = udp(POD1, dst, number, b"new");
    packet.bytes[20..22].copy_from_slice(&number.to_be_bytes());
    packet
}

/// What comes of frames under the least limit, and the largest estimate there was.
fn play_within_limit(scene: &Scene, frames: &[(usize, FromAgent)]) -> (Vec<Path>, Summary, u64) {
    let mut engine = Engine::new(Context { memory: Some(LEAST_MEMORY), ..scene.context() });
    let (mut paths, mut most) = (Vec::new(), 0);
    for (node, frame) in frames {
        engine.ingest(*node, frame, &mut paths);
        most = most.max(engine.memory());
    }
    let summary = engine.finish(&mut paths);
    (paths, summary, most)
}

fn assert_within_limit(most: u64) {
    assert!(most <= LEAST_MEMORY, "{most} bytes were held");
    assert!(most > LEAST_MEMORY / 2, "the limit was not put to the test: {most} bytes");
}

#[test]
fn ever_new_flows_are_forgotten_and_counted() {
    let mut scene = Scene::new();
    for number in 0..40_000_u16 {
        scene.bridge(u64::from(number) * MS / 10, &of_flow(number, POD2));
    }
    let (paths, summary, most) = play_within_limit(&scene, &scene.frames(100 * MS));
    assert_within_limit(most);
    assert_eq!((paths.len(), summary.paths.delivered), (40_000, 40_000));
    assert_eq!((summary.events.produced, summary.events.delivered), (80_000, 80_000));
    assert_eq!((summary.events.unmatched, summary.shed.paths, summary.shed.events), (0, 0, 0));
    assert!(summary.shed.flows > 10_000 && !summary.complete, "{summary:?}");
}

#[test]
fn flows_that_were_idle_for_long_are_no_loss() {
    let mut scene = Scene::new();
    for number in 0..40_000_u16 {
        scene.bridge(u64::from(number) * MS, &of_flow(number, POD2));
    }
    let (paths, summary, most) = play_within_limit(&scene, &scene.frames(1_000 * MS));
    assert_within_limit(most);
    assert_eq!((paths.len(), summary.complete), (40_000, true), "{summary:?}");
}

#[test]
fn packets_that_wait_for_their_end_are_given_up_oldest_first() {
    let mut scene = Scene::new();
    scene.quiet = 6_000 * MS;
    for number in 0..20_000_u16 {
        scene.leave(u64::from(number) * MS / 10, &of_flow(number, POD3));
    }
    let (paths, summary, most) = play_within_limit(&scene, &scene.frames(100 * MS));
    assert_within_limit(most);
    assert_eq!((paths.len(), summary.events.delivered, summary.events.unmatched), (20_000, 80_000, 0));
    assert_eq!(summary.paths.vanished, 0, "what was given up may have gone on: {summary:?}");
    assert!(summary.shed.paths > 10_000 && !summary.complete, "{summary:?}");
    assert!(
        paths[0].verdict == Verdict::Open && paths[0].reason.as_deref().unwrap().contains("memory limit")
    );
    assert!(paths.windows(2).all(|pair| pair[0].started_at <= pair[1].started_at), "the oldest come first");
}

#[test]
fn packets_that_wait_for_their_beginning_are_counted() {
    let mut scene = Scene::new();
    for number in 0..20_000_u16 {
        scene.arrive(u64::from(number) * MS / 1_000, &of_flow(number, POD3));
    }
    let mut frames = scene.frames(100 * MS);
    // They wait for as long as clocks may be wrong: seconds.
    for (_, frame) in &mut frames {
        if let FromAgent::Clock { received_ns, .. } = frame {
            *received_ns += 2_000 * MS;
        }
    }
    let (_, summary, most) = play_within_limit(&scene, &frames);
    assert_within_limit(most);
    assert!(summary.shed.events > 0 && !summary.complete, "{summary:?}");
    // Each is without a beginning: whether it was given up or not, its events belong to no path.
    assert_eq!((summary.events.delivered, summary.events.unmatched), (80_000, 80_000), "{summary:?}");
}

#[test]
fn fragmented_packets_are_forgotten_in_time() {
    let mut scene = Scene::new();
    for number in 0..20_000_u16 {
        let [first, rest] = fragments(POD1, POD2, number);
        let at = u64::from(number) * MS / 10;
        scene.bridge(at, &first);
        scene.bridge(at + MS / 20, &rest);
    }
    let [first, _] = fragments(POD1, POD2, 20_000);
    scene.bridge(40_000 * MS, &first);
    let mut engine = Engine::new(scene.context());
    let mut paths = Vec::new();
    let mut most = 0;
    for (node, frame) in scene.frames(1_000 * MS) {
        engine.ingest(node, &frame, &mut paths);
        most = most.max(engine.memory());
    }
    assert!(most > 2_000_000 && engine.memory() < 10_000, "{most}, then {}", engine.memory());
}
