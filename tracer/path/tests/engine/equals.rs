//! Packets that nothing but their order tells apart: datagrams of an unconnected UDP socket with one payload.

use crate::testkit::*;
use podtrace_path::{Path, Summary, Verdict};

const MS: u64 = 1_000_000;

/// One datagram every 100 µs, each with identification 0.
fn equal_datagrams(count: u64) -> Scene {
    let mut scene = Scene::new();
    for number in 0..count {
        scene.cross(number * MS / 10, &udp(POD1, POD3, 0, b"the same every time"));
    }
    scene
}

fn assert_all_crossed(count: usize, (paths, summary): &(Vec<Path>, Summary)) {
    assert_eq!(paths.len(), count);
    for path in paths {
        assert_eq!((steps(path), path.verdict), (CROSSING.map(String::from).to_vec(), Verdict::Delivered));
    }
    assert!(summary.complete, "{summary:?}");
}

#[test]
fn ten_thousand_equal_datagrams_a_second_arrive_in_order() {
    let scene = equal_datagrams(10_000);
    assert_all_crossed(10_000, &scene.play());
}

/// The receiver's events are read 8 ms before the sender's: eighty packets wait at once.
#[test]
fn equal_datagrams_that_are_read_before_they_were_sent_wait_for_it() {
    let scene = equal_datagrams(2_000);
    let mut frames = scene.frames(10 * MS);
    scene.misread_clock(&mut frames, NODE2);
    assert_all_crossed(2_000, &play(scene.context(), &frames));
}

/// What is lost among equal packets cannot be told from its successor: as many are reported missing as are, and no path
/// is sure of itself that need not be.
#[test]
fn losses_among_equal_datagrams_are_as_many_as_there_are() {
    let mut scene = Scene::new();
    for number in 0..1_000_u64 {
        let (at, packet) = (number * MS / 10, udp(POD1, POD3, 0, b"the same every time"));
        scene.leave(at, &packet);
        if number % 10 != 3 {
            scene.arrive(at + 40_000, &packet);
        }
    }
    scene.quiet = 5_000 * MS;
    let (paths, summary) = scene.play();
    assert_eq!(paths.len(), 1_000);
    assert_eq!((summary.paths.delivered, summary.paths.vanished), (900, 100), "{summary:?}");
    assert!(summary.complete, "{summary:?}");
}

/// Datagrams that only their payload tells apart: those that are lost do not hide those that arrive, in order or not.
#[test]
fn datagrams_of_other_payloads_are_not_taken_for_one_another() {
    for early in [None, Some(NODE1), Some(NODE2)] {
        let mut scene = Scene::new();
        for number in 0..1_000_u64 {
            let at = number * MS / 10;
            let packet = udp(POD1, POD3, 0, format!("{number:04} and so on").as_bytes());
            scene.leave(at, &packet);
            // The first two hundred, and every tenth.
            if number >= 200 && number % 10 != 3 {
                let late = if number % 3 == 0 { MS } else { 0 };
                scene.arrive(at + 40_000 + late, &packet);
            }
        }
        scene.quiet = 5_000 * MS;
        let mut frames = scene.frames(10 * MS);
        if let Some(early) = early {
            scene.misread_clock(&mut frames, early);
        }
        let (paths, summary) = play(scene.context(), &frames);
        assert_eq!(paths.len(), 1_000);
        assert_eq!(
            (summary.paths.delivered, summary.paths.vanished),
            (720, 280),
            "{early:?} early: {summary:?}"
        );
        assert!(paths.iter().all(|path| path.confidence == 1.0), "{early:?} early");
        assert!(summary.complete, "{summary:?}");
    }
}
