//! Packets with a source address that is not their sender's.

use crate::testkit::*;
use podtrace_path::{Path, Verdict};

const MS: u64 = 1_000_000;

/// From pod2's veth to pod3, whatever the packet says of its source.
fn send_from_pod2(scene: &mut Scene, at: u64, packet: &Wire) {
    let identity = scene.identity();
    scene.see(NODE1, at, At::FromPod(POD2), identity, packet);
    scene.see(NODE1, at + 10_000, At::BridgeIn, identity, packet);
    scene.see(NODE1, at + 20_000, At::TunnelOut, identity, packet);
    scene.see(NODE1, at + 30_000, At::UplinkOut, identity, packet);
    scene.arrive(at + 40_000, packet);
}

fn reason(path: &Path) -> &str {
    path.reason.as_deref().unwrap_or_default()
}

#[test]
fn a_packet_belongs_to_the_pod_whose_veth_it_came_from() {
    let mut scene = Scene::new();
    scene.cross(0, &udp(POD1, POD3, 1, b"its own"));
    send_from_pod2(&mut scene, MS, &udp(POD1, POD3, 2, b"not its own"));
    let (paths, summary) = scene.play();
    assert!(summary.complete, "{summary:?}");
    let [own, forged] = paths.as_slice() else { panic!("{paths:?}") };
    assert_eq!((own.from.pod.as_deref(), &own.forged), (Some("default/pod1"), &None));
    assert_eq!((forged.from.pod.as_deref(), forged.verdict), (Some("default/pod2"), Verdict::Delivered));
    assert_eq!(reason(forged), "not from default/pod1: it entered at veth11 of default/pod2");
    assert_ne!(own.flow.id, forged.flow.id, "it is no packet of pod1's flow");
}

#[test]
fn an_icmp_error_that_no_node_sent_rejects_nothing() {
    let mut scene = Scene::new();
    let packet = udp(POD1, POD2, 1, b"data");
    scene.bridge(0, &packet);
    let error = port_unreachable([10, 42, 0, 1], POD1, &packet);
    let identity = scene.identity();
    scene.see(NODE1, MS, At::FromPod(POD2), identity, &error);
    scene.see(NODE1, MS + 10_000, At::ToPod(POD1), identity, &error);
    let (paths, summary) = scene.play();
    assert!(summary.complete, "{summary:?}");
    assert_eq!((paths[0].verdict, paths[0].reason.as_deref()), (Verdict::Delivered, None));
    assert_eq!(reason(&paths[1]), "not from node1: it entered at veth11 of default/pod2");
}

#[test]
fn a_tunnel_packet_of_a_pod_is_no_tunnel_packet_until_a_node_takes_it_for_one() {
    let mut scene = Scene::new();
    let inner = udp(POD1, POD3, 1, b"forged");
    let outer = in_tunnel_of(POD2, [192, 168, 56, 12], &inner);
    // On the sender's node it is a datagram between addresses that are not traced.
    let identity = scene.identity();
    for (at, place) in [(0, At::FromPod(POD2)), (10_000, At::BridgeIn)] {
        scene.see(NODE1, at, place, identity, &outer);
    }
    // The receiver's node decapsulates it.
    let identity = scene.identity();
    scene.see_bare(NODE2, 40_000, At::UplinkIn, identity, &outer);
    scene.see(NODE2, 50_000, At::TunnelIn, identity, &inner);
    scene.see(NODE2, 60_000, At::BridgeOut, identity, &inner);
    scene.see(NODE2, 70_000, At::ToPod(POD3), identity, &inner);
    let (paths, summary) = scene.play_filtered(&[POD1], &[POD3]);
    assert!(summary.complete, "{summary:?}");
    let [path] = paths.as_slice() else { panic!("{paths:?}") };
    assert_eq!(
        reason(path),
        "not from default/pod1: it entered node2 at eth0, in a tunnel from 10.42.0.11, which is no node"
    );
    assert_eq!((path.from.pod.as_deref(), path.verdict), (None, Verdict::Delivered));
    assert_eq!(path.hops[0].outer.as_ref().map(|outer| outer.src), Some(POD2.into()));
}
