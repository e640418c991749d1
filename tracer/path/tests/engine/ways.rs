//! Which hops a packet makes, by where it goes.

use crate::testkit::*;
use podtrace_path::{Action, Direction, Evidence, Point, Verdict};

#[test]
fn a_ping_on_one_node_is_bridged() {
    let mut scene = Scene::new();
    scene.bridge(0, &echo(POD1, POD2, 1, 100));
    scene.bridge(50_000, &echo_reply(POD2, POD1, 1, 200));
    let (paths, summary) = scene.play();
    assert_eq!(steps(&paths[0]), ["veth10 pod-egress", "[cni0 bridge]", "veth11 pod-ingress"]);
    assert_eq!(steps(&paths[1]), ["veth11 pod-egress", "[cni0 bridge]", "veth10 pod-ingress"]);
    assert_eq!(paths[0].label, "echo request id 7 seq 1");
    assert_eq!(paths[1].label, "echo reply id 7 seq 1");
    assert_eq!(paths[0].flow.id, paths[1].flow.id);
    assert_eq!(paths[0].flow.direction, Direction::Request);
    assert_eq!(paths[1].flow.direction, Direction::Reply);
    let bridge = &paths[0].hops[1];
    assert_eq!((bridge.at_ns, bridge.point, bridge.evidence), (None, None, Evidence::Inferred));
    assert_eq!(paths[0].duration_ns, 8_000);
    assert_eq!(paths[0].hops[0].pod.as_deref(), Some("default/pod1"));
    assert_eq!(paths[0].hops[2].pod.as_deref(), Some("default/pod2"));
    assert_eq!(summary.paths.delivered, 2);
    assert!(summary.complete, "{summary:?}");
}

#[test]
fn a_ping_across_nodes_goes_through_the_tunnel() {
    let mut scene = Scene::new();
    scene.cross(0, &echo(POD1, POD3, 1, 100));
    scene.cross(100_000, &echo_reply(POD3, POD1, 1, 200));
    let (paths, summary) = scene.play();
    assert_eq!(paths.len(), 2);
    let path = &paths[0];
    assert_eq!(steps(path), CROSSING);
    assert_eq!(steps(&paths[1]), CROSSING);
    assert_eq!((path.verdict, path.reason.as_deref(), path.confidence), (Verdict::Delivered, None, 1.0));
    assert_eq!(path.bytes, 84);
    assert_eq!(path.payload, 56);
    assert_eq!(path.from.pod.as_deref(), Some("default/pod1"));
    assert_eq!(path.to.node.as_deref(), Some("node2"));
    assert_eq!(&*path.hops[4].node, "node2");
    for hop in 2..6 {
        let outer = path.hops[hop].outer.as_ref().unwrap_or_else(|| panic!("hop {hop} has no outer"));
        assert_eq!((outer.vni, outer.dport, outer.overhead), (Some(1), Some(8472), 50));
        assert_eq!(outer.dst.to_string(), "192.168.56.12");
    }
    let route = path.hops[1].route.as_ref().unwrap();
    assert_eq!(route.destination.as_deref(), Some("10.42.1.0/24"));
    assert_eq!((&*route.device, route.gateway.unwrap().to_string().as_str()), ("flannel.1", "10.42.1.0"));
    assert_eq!(&*path.hops[6].route.as_ref().unwrap().device, "cni0");
    assert!(summary.complete, "{summary:?}");
    assert_eq!(summary.events.delivered, 16);
}

#[test]
fn a_route_may_lead_back_by_the_same_device() {
    let mut scene = Scene::new();
    scene.tunnel = false;
    let packet = udp(WORLD, POD3, 1, b"hello");
    let identity = scene.identity();
    scene.see(NODE1, 0, At::UplinkIn, identity, &packet);
    scene.see(NODE1, 10_000, At::UplinkOut, identity, &packet);
    scene.arrive(20_000, &packet);
    let (paths, _) = scene.play();
    let [path] = paths.as_slice() else { panic!("{paths:?}") };
    let expected =
        ["eth0 node-ingress", "[eth0 route]", "eth0 node-egress", "eth0 node-ingress", "cni0 route"];
    assert_eq!(steps(path)[..5], expected);
}

#[test]
fn a_drop_at_another_device_comes_after_a_route_to_it_unless_that_is_behind_a_bridge() {
    let mut scene = Scene::new();
    let packet = udp(POD3, WORLD, 1, b"hello");
    let identity = scene.identity();
    scene.see(NODE1, 0, At::UplinkIn, identity, &packet);
    scene.see(NODE1, 10_000, At::TunnelIn, identity, &packet);
    scene.drop_at_uplink(NODE1, 20_000, 5, identity, &packet);
    let (paths, _) = scene.play();
    let expected = ["eth0 node-ingress", "flannel.1 decapsulate", "[flannel.1 route]", "eth0 drop"];
    assert_eq!(steps(&paths[0]), expected);

    let mut scene = Scene::new();
    let packet = udp(POD3, POD1, 1, b"hello");
    let identity = scene.identity();
    scene.see(NODE1, 0, At::UplinkIn, identity, &packet);
    scene.see(NODE1, 10_000, At::TunnelIn, identity, &packet);
    scene.drop_at_veth(NODE1, 20_000, POD1, 5, identity, &packet);
    let (paths, _) = scene.play();
    assert_eq!(steps(&paths[0]), ["eth0 node-ingress", "flannel.1 decapsulate", "veth10 drop"]);
}

#[test]
fn hops_name_the_records_that_they_were_made_of() {
    let mut scene = Scene::new();
    scene.cross(0, &echo(POD1, POD3, 1, 100));
    scene.bridge(100_000, &echo(POD1, POD2, 2, 200));
    let (paths, summary) = scene.play();
    let hops = || paths.iter().flat_map(|path| &path.hops);
    for hop in hops() {
        assert_eq!(hop.sources.len(), usize::from(hop.evidence == Evidence::Observed), "{hop:?}");
        assert!(hop.sources.iter().all(|source| *hop.node == *format!("node{}", source.node + 1)));
    }
    let mut numbers = [Vec::new(), Vec::new()];
    for source in hops().flat_map(|hop| &hop.sources) {
        numbers[source.node].push(source.number);
    }
    for numbers in &mut numbers {
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{numbers:?}");
    }
    assert_eq!(numbers.concat().len() as u64, summary.events.delivered);
}

#[test]
fn without_a_tunnel_it_goes_from_uplink_to_uplink() {
    let mut scene = Scene::new();
    scene.tunnel = false;
    scene.cross(0, &echo(POD1, POD3, 1, 100));
    let (paths, _) = scene.play();
    assert_eq!(paths.len(), 1);
    assert_eq!(
        steps(&paths[0]),
        [
            "veth10 pod-egress",
            "cni0 route",
            "eth0 node-egress",
            "eth0 node-ingress",
            "cni0 route",
            "veth10 pod-ingress"
        ]
    );
    assert!(paths[0].hops.iter().all(|hop| hop.outer.is_none()));
}

#[test]
fn a_pod_and_its_gateway_talk_to_one_another() {
    let mut scene = Scene::new();
    let gateway = [10, 42, 0, 1];
    let request = echo(POD1, gateway, 1, 1);
    let identity = scene.identity();
    scene.see(NODE1, 0, At::FromPod(POD1), identity, &request);
    scene.see(NODE1, 5_000, At::BridgeIn, identity, &request);
    let reply = echo_reply(gateway, POD1, 1, 2);
    let identity = scene.identity();
    scene.see(NODE1, 20_000, At::BridgeOut, identity, &reply);
    scene.see(NODE1, 25_000, At::ToPod(POD1), identity, &reply);
    let (paths, summary) = scene.play();
    assert_eq!(steps(&paths[0]), ["veth10 pod-egress", "cni0 bridge", "[cni0 local-in]"]);
    assert_eq!(steps(&paths[1]), ["[cni0 local-out]", "cni0 route", "veth10 pod-ingress"]);
    assert_eq!(summary.paths.delivered, 2);
    assert_eq!(paths[1].from.node.as_deref(), Some("node1"));
    assert!(summary.complete);
}

#[test]
fn the_outside_is_left_for_and_come_from() {
    let mut scene = Scene::new();
    scene.tunnel = false;
    let outside = [93, 184, 216, 34];
    let request = echo(POD1, outside, 1, 1);
    scene.leave(0, &request);
    scene.arrive(500_000, &echo_reply(outside, POD1, 1, 2));
    let (paths, summary) = scene.play();
    assert_eq!(paths[0].reason.as_deref(), Some("left the cluster at eth0"));
    assert_eq!(steps(&paths[1]), ["eth0 node-ingress", "cni0 route", "veth10 pod-ingress"]);
    assert_eq!(summary.paths.delivered, 2);
    assert_eq!(paths[1].flow.direction, Direction::Reply);
    assert!(summary.complete);
}

#[test]
fn flooded_copies_make_no_paths() {
    let mut scene = Scene::new();
    let packet = echo(POD1, POD2, 1, 1);
    // The original goes up to the bridge and is freed there; the clone is what arrives.
    let identity = scene.identity();
    scene.see(NODE1, 0, At::FromPod(POD1), identity, &packet);
    scene.see(NODE1, 4_000, At::BridgeIn, identity, &packet);
    scene.drop(NODE1, 5_000, None, OTHERHOST, identity, &packet);
    let clone = scene.identity();
    scene.see(NODE1, 6_000, At::ToPod(POD2), clone, &packet);
    let (paths, summary) = scene.play();
    assert_eq!(paths.len(), 1);
    assert_eq!(steps(&paths[0]), ["veth10 pod-egress", "[cni0 bridge]", "veth11 pod-ingress"]);
    assert_eq!(paths[0].verdict, Verdict::Delivered);
    assert!(summary.complete);

    // On the other node the flood reaches the wrong pod too, and is dropped there.
    let mut scene = Scene::new();
    let packet = echo(POD1, POD3, 1, 1);
    scene.leave(0, &packet);
    let identity = scene.arrive(40_000, &packet);
    scene.see(NODE2, 71_000, At::ToPod(POD4), identity, &packet);
    scene.drop(NODE2, 72_000, Some(POD4), OTHERHOST, identity, &packet);
    let extra = scene.identity();
    scene.see(NODE2, 73_000, At::ToPod(POD4), extra, &packet);
    scene.drop(NODE2, 74_000, Some(POD4), OTHERHOST, extra, &packet);
    let (paths, summary) = scene.play();
    assert_eq!(paths.len(), 1);
    assert_eq!(steps(&paths[0]), CROSSING);
    assert_eq!(paths[0].verdict, Verdict::Delivered);
    assert!(summary.complete);
}

#[test]
fn every_fragment_is_a_path_of_one_flow() {
    let mut scene = Scene::new();
    let [first, second] = fragments(POD1, POD3, 77);
    scene.cross(0, &first);
    scene.cross(5_000, &second);
    let (paths, _) = scene.play();
    assert_eq!(paths.len(), 2);
    assert_eq!(paths[0].label, "datagram 1472 B, first fragment");
    assert_eq!(paths[1].label, "fragment at 1480");
    assert_eq!(paths[0].flow.id, paths[1].flow.id);
    for path in &paths {
        assert_eq!(steps(path), CROSSING);
    }
}

#[test]
fn a_drop_has_its_point_and_no_action_else() {
    let mut scene = Scene::new();
    let packet = echo(POD1, POD3, 1, 1);
    let identity = scene.identity();
    scene.see(NODE1, 0, At::FromPod(POD1), identity, &packet);
    scene.see(NODE1, 10_000, At::BridgeIn, identity, &packet);
    scene.drop(NODE1, 3_000_000_000, None, NEIGH_FAILED, identity, &packet);
    let (paths, summary) = scene.play();
    let last = paths[0].hops.last().unwrap();
    assert_eq!((last.action, last.point), (Action::Drop, Some(Point::KfreeSkb)));
    let drop = last.drop.as_ref().unwrap();
    assert_eq!(drop.reason.as_deref(), Some("NEIGH_FAILED"));
    assert_eq!(drop.location.as_deref(), Some("some_function"));
    assert_eq!((paths[0].verdict, paths[0].reason.as_deref()), (Verdict::Dropped, Some("NEIGH_FAILED")));
    assert_eq!(summary.paths.dropped, 1);
}
