//! How paths end, and what is told of them.

use crate::testkit::*;
use podtrace_path::{Direction, Verdict};
use podtrace_protocol::frame::FromAgent;

#[test]
fn a_reply_that_nobody_needed_any_more_is_no_drop() {
    let mut scene = Scene::new();
    let packet = echo_reply(POD3, POD1, 1, 1);
    scene.leave(0, &packet);
    let identity = scene.arrive(40_000, &packet);
    scene.drop(NODE1, 75_000, Some(POD1), NO_SOCKET, identity, &packet);
    let (paths, summary) = scene.play();
    assert_eq!(
        (paths[0].verdict, steps(&paths[0])),
        (Verdict::Delivered, CROSSING.map(String::from).to_vec())
    );
    assert!(summary.complete);
}

#[test]
fn what_the_receiver_had_already_was_delivered() {
    let mut scene = Scene::new();
    let packet = Tcp::data(1000, 500, 7).wire();
    scene.leave(0, &packet);
    let identity = scene.arrive(40_000, &packet);
    scene.drop(NODE2, 75_000, Some(POD3), TCP_OLD_DATA, identity, &packet);
    let (paths, summary) = scene.play();
    assert_eq!(paths[0].verdict, Verdict::Delivered);
    assert_eq!(paths[0].reason.as_deref(), Some("duplicate data"));
    assert_eq!(steps(&paths[0]), CROSSING.map(String::from).to_vec());
    assert!(summary.complete);
}

#[test]
fn the_last_segment_of_a_connection_is_no_drop() {
    let (whole, lost) = (Verdict::Delivered, Verdict::Dropped);
    for (function, flags, payload, verdict) in [
        ("tcp_v4_rcv", "FA", 0, whole),
        ("tcp_v4_rcv", "A", 0, whole),
        ("tcp_v4_rcv", "S", 0, lost),
        ("tcp_rcv_state_process", "A", 0, whole),
        ("tcp_rcv_state_process", "A", 500, lost),
        ("tcp_rcv_state_process", "S", 0, lost),
    ] {
        let mut scene = Scene::new();
        scene.dropped_in = function;
        let packet = Tcp { flags, ..Tcp::data(1000, payload, 7) }.wire();
        scene.leave(0, &packet);
        let identity = scene.arrive(40_000, &packet);
        scene.drop(NODE2, 75_000, Some(POD3), NOT_SPECIFIED, identity, &packet);
        let (paths, summary) = scene.play();
        assert_eq!(paths[0].verdict, verdict, "{function}: {flags}, {payload} bytes");
        assert!(summary.complete);
    }
}

#[test]
fn a_refused_packets_drop_may_come_long_after_its_refusal() {
    let mut scene = Scene::new();
    let packet = udp(POD1, POD3, 1, b"hello");
    let identity = scene.identity();
    scene.see(NODE1, 0, At::FromPod(POD1), identity, &packet);
    scene.see(NODE1, 10_000, At::BridgeIn, identity, &packet);
    let refusal = port_unreachable([10, 42, 0, 1], POD1, &packet);
    let own = scene.identity();
    scene.see(NODE1, 20_000, At::BridgeOut, own, &refusal);
    scene.see(NODE1, 30_000_000, At::ToPod(POD1), own, &refusal);
    scene.drop(NODE1, 300_000_000, None, NETFILTER_DROP, identity, &packet);
    // Heartbeats that are close together let nothing wait longer than it has to.
    let (paths, summary) = play(scene.context(), &scene.frames(5_000_000));
    let refused = paths.iter().find(|path| path.verdict == Verdict::Rejected).unwrap();
    assert_eq!(steps(refused), ["veth10 pod-egress", "cni0 route", "- drop"]);
    assert!(summary.complete, "{summary:?}");
}

#[test]
fn of_what_was_overtaken_only_data_is_a_loss() {
    for (payload, verdict) in [(0, Verdict::Delivered), (500, Verdict::Dropped)] {
        let mut scene = Scene::new();
        let packet = Tcp::data(1000, payload, 7).wire();
        scene.leave(0, &packet);
        let identity = scene.arrive(40_000, &packet);
        scene.drop(NODE2, 75_000, Some(POD3), TCP_PAWS, identity, &packet);
        assert_eq!(scene.play().0[0].verdict, verdict, "{payload} bytes");
    }
}

#[test]
fn a_drop_inside_the_destination_counts() {
    let mut scene = Scene::new();
    let packet = udp(POD1, POD3, 1, b"hello");
    scene.leave(0, &packet);
    let identity = scene.arrive(40_000, &packet);
    scene.drop(NODE2, 75_000, Some(POD3), NO_SOCKET, identity, &packet);
    let (paths, _) = scene.play();
    assert_eq!((paths[0].verdict, paths[0].reason.as_deref()), (Verdict::Dropped, Some("NO_SOCKET")));
    assert_eq!(steps(&paths[0]).last().unwrap(), "eth0 drop");
}

#[test]
fn a_frame_for_another_link_address_is_not_delivered() {
    let mut scene = Scene::new();
    let packet = echo(POD1, POD3, 1, 1);
    scene.leave(0, &packet);
    let identity = scene.arrive(40_000, &packet);
    scene.drop(NODE2, 75_000, Some(POD3), OTHERHOST, identity, &packet);
    let (paths, summary) = scene.play();
    assert_eq!((paths[0].verdict, paths[0].reason.as_deref()), (Verdict::Dropped, Some("OTHERHOST")));
    assert_eq!(paths[0].hops.last().unwrap().pod.as_deref(), Some("default/pod3"));
    assert_eq!((summary.paths.delivered, summary.paths.dropped), (0, 1));
}

#[test]
fn a_drop_at_the_nodes_end_of_a_veth_is_not_inside_the_pod() {
    for pod in [POD1, POD3] {
        let mut scene = Scene::new();
        let packet = echo(POD1, POD3, 1, 1);
        let (node, identity) = if pod == POD1 {
            let identity = scene.identity();
            scene.see(NODE1, 0, At::FromPod(POD1), identity, &packet);
            (NODE1, identity)
        } else {
            scene.leave(0, &packet);
            (NODE2, scene.arrive(40_000, &packet))
        };
        scene.drop_at_veth(node, 75_000, pod, NEIGH_FAILED, identity, &packet);
        let (paths, _) = scene.play();
        assert_eq!(paths[0].verdict, Verdict::Dropped);
        let last = paths[0].hops.last().unwrap();
        assert_eq!((last.device.as_deref(), last.pod.as_deref()), (Some("veth10"), None));
    }
}

#[test]
fn a_closed_udp_port_rejects() {
    let mut scene = Scene::new();
    let packet = udp(POD1, POD3, 9, b"hello");
    scene.leave(0, &packet);
    let identity = scene.arrive(40_000, &packet);
    scene.drop(NODE2, 75_000, Some(POD3), NO_SOCKET, identity, &packet);
    scene.cross(76_000, &port_unreachable(POD3, POD1, &packet));
    let (paths, summary) = scene.play();
    assert_eq!(paths.len(), 2);
    assert_eq!(paths[0].verdict, Verdict::Rejected);
    assert_eq!(paths[0].reason.as_deref(), Some("ICMP port unreachable from 10.42.1.10"));
    assert_eq!(paths[1].label, "destination unreachable: port");
    assert_eq!(paths[1].flow.id, paths[0].flow.id);
    assert_eq!(paths[1].flow.direction, Direction::Reply);
    assert_eq!(paths[1].verdict, Verdict::Delivered);
    assert_eq!((summary.paths.rejected, summary.paths.delivered), (1, 1));
}

#[test]
fn a_reset_rejects_what_it_answers() {
    let mut scene = Scene::new();
    let syn = Tcp { flags: "S", ack: 0, ..Tcp::data(1000, 0, 5) };
    scene.cross(0, &syn.wire());
    let reset = Tcp { src: POD3, dst: POD1, seq: 0, ack: 1001, flags: "RA", payload: 0, id: 0, segments: 1 };
    scene.cross(80_000, &reset.wire());
    let (paths, _) = scene.play();
    assert_eq!((paths[0].label.as_str(), paths[0].verdict), ("SYN", Verdict::Rejected));
    assert_eq!(paths[0].reason.as_deref(), Some("TCP reset by default/pod3"));
    assert_eq!((paths[1].label.as_str(), paths[1].verdict), ("RST-ACK", Verdict::Delivered));
    assert_eq!(paths[1].flow.direction, Direction::Reply);
}

#[test]
fn what_is_lost_on_the_wire_has_vanished() {
    let mut scene = Scene::new();
    scene.quiet = 6_000_000_000;
    scene.leave(0, &echo(POD1, POD3, 1, 1));
    scene.cross(1_000_000, &echo(POD1, POD3, 2, 2));
    let (paths, summary) = scene.play();
    assert_eq!(paths[0].verdict, Verdict::Delivered);
    assert_eq!(paths[1].verdict, Verdict::Vanished);
    assert_eq!(paths[1].reason.as_deref(), Some("left node1 at eth0, never seen on node2"));
    assert_eq!(paths[1].hops.len(), 4);
    assert_eq!(summary.paths.vanished, 1);
    assert!(summary.complete);
}

#[test]
fn what_has_not_had_its_time_is_open() {
    let mut scene = Scene::new();
    scene.leave(0, &echo(POD1, POD3, 1, 1));
    let (paths, summary) = scene.play();
    assert_eq!(paths[0].verdict, Verdict::Open);
    assert_eq!(summary.paths.open, 1);
}

#[test]
fn a_bridged_packet_that_vanishes_says_where_it_should_have_been() {
    let mut scene = Scene::new();
    scene.quiet = 6_000_000_000;
    let identity = scene.identity();
    scene.see(NODE1, 0, At::FromPod(POD1), identity, &echo(POD1, POD2, 1, 1));
    let (paths, _) = scene.play();
    assert_eq!(
        paths[0].reason.as_deref(),
        Some("left the source pod at veth10 on node1, never seen at veth11, where default/pod2 is")
    );
}

#[test]
fn a_lost_event_is_told_in_the_summary() {
    let mut scene = Scene::new();
    scene.lost = vec![2];
    scene.cross(0, &echo(POD1, POD3, 1, 1));
    let (paths, summary) = scene.play();
    assert_eq!((paths.len(), paths[0].verdict, paths[0].hops.len()), (1, Verdict::Delivered, 7));
    assert!(!summary.complete);
    assert_eq!((summary.events.produced, summary.events.delivered, summary.events.lost_ring), (8, 7, 1));
}

#[test]
fn a_packet_whose_events_may_be_lost_has_not_vanished() {
    for (at, verdict) in [(30_000, Verdict::Open), (20_000_000_000, Verdict::Vanished)] {
        let mut scene = Scene::new();
        scene.quiet = 12_000_000_000;
        // Seen as far as the wire, and no event of node2 is left.
        scene.leave(0, &echo(POD1, POD3, 1, 1));
        scene.lost = (8..16).collect();
        scene.cross(at + 1_000_000, &echo(POD1, POD3, 2, 2));
        scene.cross(at + 2_000_000, &echo(POD1, POD3, 3, 3));
        let (paths, summary) = scene.play();
        let path = paths.iter().find(|path| path.label.ends_with("seq 1")).unwrap();
        assert_eq!(path.verdict, verdict, "{:?}", path.reason);
        if verdict == Verdict::Open {
            assert_eq!(path.reason.as_deref(), Some("events were lost on a node while it was in flight"));
        }
        assert!(!summary.complete);
    }
}

#[test]
fn a_path_without_its_beginning_is_told_and_counted() {
    let mut scene = Scene::new();
    scene.arrive(40_000, &echo(POD1, POD3, 1, 1));
    let (paths, summary) = scene.play();
    assert_eq!(paths.len(), 1);
    assert_eq!(paths[0].reason.as_deref(), Some("first hops not seen"));
    assert!(paths[0].confidence < 1.0);
    assert_eq!(steps(&paths[0]), CROSSING[4..]);
    assert_eq!(summary.events.unmatched, 4);
    assert!(!summary.complete);
}

#[test]
fn a_node_that_falls_silent_makes_nothing_vanish() {
    let mut scene = Scene::new();
    scene.quiet = 6_000_000_000;
    scene.leave(0, &echo(POD1, POD3, 1, 1));
    let mut engine = podtrace_path::Engine::new(scene.context());
    let mut paths = Vec::new();
    engine.node_ended(NODE2);
    for (node, frame) in scene.frames(100_000_000) {
        if node == NODE1 {
            engine.ingest(node, &frame, &mut paths);
        }
    }
    let summary = engine.finish(&mut paths);
    assert_eq!(paths[0].verdict, Verdict::Open);
    assert_eq!(
        paths[0].reason.as_deref(),
        Some("left node1 at eth0; the connection to the agent on node2 was lost")
    );
    assert!(!summary.complete);
}

#[test]
fn what_is_held_for_a_silent_node_is_bounded_and_counted() {
    let mut scene = Scene::new();
    scene.quiet = 6_000_000_000;
    for number in 0..100 {
        let at = u64::from(number) * 10_000_000;
        scene.cross(at, &echo(POD1, POD3, number, number));
    }
    let mut engine = podtrace_path::Engine::new(scene.context());
    engine.hold_at_most(80);
    let mut paths = Vec::new();
    let mut most = 0;
    for (node, frame) in scene.frames(100_000_000) {
        // Node 2 says who it is, and then nothing.
        let is_event =
            matches!(frame, FromAgent::Events(_) | FromAgent::Heartbeat { .. } | FromAgent::Goodbye { .. });
        if node == NODE1 || !is_event {
            engine.ingest(node, &frame, &mut paths);
        }
        most = most.max(engine.under_way());
    }
    assert!(most <= 120, "{most} were held");
    engine.node_ended(NODE2);
    let summary = engine.finish(&mut paths);
    assert!(summary.events.unmatched > 0 && !summary.complete, "{summary:?}");
    assert_eq!(summary.paths.vanished, 0, "{summary:?}");
}

#[test]
fn a_destination_that_is_not_traced_is_not_judged() {
    let mut scene = Scene::new();
    scene.one_node = true;
    scene.leave(0, &echo(POD1, POD3, 1, 1));
    let (paths, _) = scene.play();
    assert_eq!(paths[0].verdict, Verdict::Open);
    assert_eq!(paths[0].reason.as_deref(), Some("left through eth0 towards node2, which is not traced"));
}

#[test]
fn events_of_unknown_devices_and_garbage_are_counted() {
    let mut scene = Scene::new();
    scene.cross(0, &echo(POD1, POD3, 1, 1));
    let mut frames = scene.frames(100_000_000);
    let at = frames.len() - 2;
    frames.insert(at, (NODE1, FromAgent::Events(vec![1; 30].into())));
    let (paths, summary) = play(scene.context(), &frames);
    assert_eq!((paths.len(), summary.events.unmatched, summary.complete), (1, 1, false));
}

#[test]
fn a_drop_told_late_says_nothing_of_the_clocks() {
    let mut scene = Scene::new();
    let reply = echo_reply(POD3, POD1, 1, 1);
    // It left node2, and only after it had arrived at node1 node2 tells of a drop.
    let there = scene.leave(0, &reply);
    scene.arrive(40_000, &reply);
    scene.drop(NODE2, 120_000, None, NEIGH_FAILED, there, &reply);
    let request = echo(POD1, POD3, 2, 2);
    scene.cross(1_000_000, &request);
    let (paths, _) = scene.play();
    for path in &paths {
        for pair in path.hops.windows(2).filter(|pair| pair[0].node != pair[1].node) {
            let (Some(left), Some(arrived)) = (pair[0].at_ns, pair[1].at_ns) else { continue };
            let bound = pair[0].clock_error_ns + pair[1].clock_error_ns;
            // The wire takes 10 µs here, whatever the clocks say.
            let wrong = (arrived - left).abs_diff(10_000);
            assert!(wrong <= bound, "{}: {} ns on the wire, ±{bound}", path.label, arrived - left);
        }
    }
    assert_eq!(paths.len(), 2);
}
