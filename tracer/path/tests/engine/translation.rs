//! Packets whose addresses change on the way: what they are joined by, and what is told of it.

use tracer_common::{Conntrack, ConntrackTuple, status};

use podtrace_protocol::frame::{ConntrackStats, FromAgent};

use crate::testkit::*;
use podtrace_path::{ConnState, Direction, DropCause, Evidence, NatKind, Verdict};

const TUNNEL1: [u8; 4] = [10, 42, 0, 0];
const NODE1_ADDRESS: [u8; 4] = [192, 168, 56, 11];

/// One direction of a UDP connection.
fn ends(src: [u8; 4], sport: u16, dst: [u8; 4], dport: u16) -> ConntrackTuple {
    let address = |v4: [u8; 4]| {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&v4);
        bytes
    };
    ConntrackTuple {
        src: address(src),
        sport: sport.to_be_bytes(),
        family: 2,
        dst: address(dst),
        dport: dport.to_be_bytes(),
        protocol: 17,
        direction: 0,
    }
}

/// From the pod through its node's tunnel to another pod, which the Service stands for.
fn to_service(scene: &mut Scene, at: u64, id: u16) {
    let (asked, chosen) = (udp(POD1, WEB, id, b"hello"), udp(POD1, POD3, id, b"hello"));
    let identity = scene.identity();
    scene.see(NODE1, at, At::FromPod(POD1), identity, &asked);
    scene.see(NODE1, at + 10_000, At::BridgeIn, identity, &asked);
    scene.see(NODE1, at + 20_000, At::TunnelOut, identity, &chosen);
    scene.see(NODE1, at + 30_000, At::UplinkOut, identity, &chosen);
    scene.arrive(at + 40_000, &chosen);
}

/// The answer, on whose way the endpoint's address becomes the Service's again.
fn from_service(scene: &mut Scene, at: u64, id: u16) {
    let (sent, told) = (udp(POD3, POD1, id, b"hi").back(), udp(WEB, POD1, id, b"hi").back());
    scene.leave(at, &sent);
    let identity = scene.identity();
    scene.see(NODE1, at + 40_000, At::UplinkIn, identity, &sent);
    scene.see(NODE1, at + 50_000, At::TunnelIn, identity, &sent);
    scene.see(NODE1, at + 60_000, At::BridgeOut, identity, &told);
    scene.see(NODE1, at + 70_000, At::ToPod(POD1), identity, &told);
}

#[test]
fn a_service_is_followed_to_its_endpoint_and_back() {
    let mut scene = Scene::new();
    to_service(&mut scene, 0, 100);
    from_service(&mut scene, 100_000, 200);
    let (paths, summary) = scene.play();
    assert!(summary.complete, "{summary:?}");
    assert_eq!(paths.len(), 2);
    let [request, reply] = paths.as_slice() else { unreachable!() };
    assert_eq!(steps(request)[..3], ["veth10 pod-egress", "[cni0 nat]", "cni0 route"]);
    assert_eq!((request.hops.len(), request.verdict, request.confidence), (9, Verdict::Delivered, 1.0));
    let nat = request.hops[1].nat.as_ref().unwrap();
    assert_eq!(
        (nat.kind, nat.before.dst.to_string(), nat.after.dst.to_string()),
        (NatKind::Dnat, "10.43.0.10".to_owned(), "10.42.1.10".to_owned())
    );
    let service = nat.service.as_ref().unwrap();
    assert_eq!((&*service.name, service.port, service.endpoints), ("default/web", 5000, 2));
    assert_eq!(service.endpoint.as_deref(), Some("default/pod3"));
    // The route is that of where it went, not of where it was sent to.
    assert_eq!(request.hops[2].route.as_ref().unwrap().destination.as_deref(), Some("10.42.1.0/24"));
    assert_eq!(request.to.service.as_deref(), Some("default/web"));
    assert_eq!(request.translated.as_ref().unwrap().to.pod.as_deref(), Some("default/pod3"));

    assert_eq!(
        steps(reply)[5..],
        ["flannel.1 decapsulate", "[cni0 nat]", "cni0 route", "veth10 pod-ingress"]
    );
    assert_eq!(reply.hops[6].nat.as_ref().unwrap().kind, NatKind::UnDnat);
    assert_eq!((reply.flow.id, reply.flow.direction), (request.flow.id, Direction::Reply));
}

#[test]
fn clocks_that_are_far_apart_do_not_part_what_was_translated() {
    for (clocks, round_trip) in [([1, 900_000], 2_000_000), ([900_000, 1], 2_000_000)] {
        let mut scene = Scene::new();
        scene.clocks = clocks.map(|off| 1_000_000_000_000 + off);
        scene.round_trip = round_trip;
        to_service(&mut scene, 0, 100);
        from_service(&mut scene, 100_000, 200);
        to_service(&mut scene, 200_000, 101);
        let (paths, summary) = scene.play();
        assert!(summary.complete, "{summary:?}");
        assert_eq!(paths.iter().map(|path| path.hops.len()).collect::<Vec<_>>(), [9, 9, 9]);
    }
}

#[test]
fn an_answer_that_is_read_before_its_question_is_of_its_flow_all_the_same() {
    for early in [NODE1, NODE2] {
        let mut scene = Scene::new();
        to_service(&mut scene, 0, 100);
        from_service(&mut scene, 100_000, 200);
        to_service(&mut scene, 200_000, 101);
        from_service(&mut scene, 300_000, 201);
        let mut frames = scene.frames(10_000_000);
        scene.misread_clock(&mut frames, early);
        let mut context = scene.context();
        context.filter.from.addresses = vec![POD1.into()];
        context.filter.to.addresses = vec![WEB.into(), POD3.into()];
        let (paths, summary) = play(context, &frames);
        assert!(summary.complete, "{summary:?}");
        let told: Vec<_> = paths.iter().map(|path| (path.hops.len(), path.verdict, path.flow.id)).collect();
        assert_eq!(told, [(9, Verdict::Delivered, 1); 4]);
        let replies = paths.iter().filter(|path| path.flow.direction == Direction::Reply).count();
        assert_eq!(replies, 2);
    }
}

#[test]
fn by_a_node_port_both_ends_are_translated() {
    let mut scene = Scene::new();
    let (asked, chosen) = (udp(WORLD, NODE1_ADDRESS, 1, b"hello"), udp(TUNNEL1, POD3, 1, b"hello"));
    let identity = scene.identity();
    scene.tunnel = false;
    scene.see(NODE1, 0, At::UplinkIn, identity, &asked);
    scene.tunnel = true;
    scene.see(NODE1, 10_000, At::TunnelOut, identity, &chosen);
    scene.see(NODE1, 20_000, At::UplinkOut, identity, &chosen);
    let first = scene.count();
    scene.arrive(30_000, &chosen);
    let answer = udp(POD3, TUNNEL1, 2, b"hi").back();
    scene.leave(100_000, &answer);
    // On the other node only the first one's address lets them through.
    scene.only_via(first);
    let identity = scene.identity();
    scene.see(NODE1, 140_000, At::UplinkIn, identity, &answer);
    scene.see(NODE1, 150_000, At::TunnelIn, identity, &answer);
    let told = udp(NODE1_ADDRESS, WORLD, 2, b"hi").back();
    scene.tunnel = false;
    scene.see(NODE1, 160_000, At::UplinkOut, identity, &told);
    let (paths, summary) = scene.play();
    assert!(summary.complete, "{summary:?}");
    assert_eq!(
        steps(&paths[0])[..5],
        ["eth0 node-ingress", "[eth0 nat]", "[eth0 route]", "[flannel.1 nat]", "flannel.1 encapsulate"]
    );
    assert_eq!(paths[0].verdict, Verdict::Delivered);
    let kinds = |path: &podtrace_path::Path| -> Vec<NatKind> {
        path.hops.iter().filter_map(|hop| Some(hop.nat.as_ref()?.kind)).collect()
    };
    assert_eq!(kinds(&paths[0]), [NatKind::Dnat, NatKind::Masquerade]);
    assert_eq!(kinds(&paths[1]), [NatKind::UnMasquerade, NatKind::UnDnat]);
    assert_eq!(paths[1].reason.as_deref(), Some("left the cluster at eth0"));
    assert_eq!(paths[1].flow.id, paths[0].flow.id);
}

#[test]
fn a_node_port_may_take_its_time() {
    let mut scene = Scene::new();
    let (asked, chosen) = (udp(WORLD, NODE1_ADDRESS, 1, b"hello"), udp(WORLD, POD1, 1, b"hello"));
    let identity = scene.identity();
    scene.tunnel = false;
    scene.see(NODE1, 0, At::UplinkIn, identity, &asked);
    scene.see(NODE1, 200_000_000, At::BridgeOut, identity, &chosen);
    scene.see(NODE1, 210_000_000, At::ToPod(POD1), identity, &chosen);
    let (paths, summary) = play(scene.context(), &scene.frames(5_000_000));
    assert!(summary.complete, "{summary:?}");
    assert_eq!(steps(&paths[0]), ["eth0 node-ingress", "[eth0 nat]", "cni0 route", "veth10 pod-ingress"]);
    assert_eq!(paths.len(), 1);
}

#[test]
fn what_a_nodes_address_lets_through_has_to_be_somebodys() {
    let mut scene = Scene::new();
    let stranger = udp(TUNNEL1, POD3, 7, b"not ours");
    scene.arrive(0, &stranger);
    scene.leave(60_000, &udp(POD3, TUNNEL1, 8, b"nor is this").back());
    scene.only_via(0);
    to_service(&mut scene, 100_000, 100);
    let (paths, summary) = scene.play();
    assert_eq!(paths.len(), 1);
    assert_eq!(paths[0].hops.len(), 9);
    assert!(summary.complete, "{summary:?}");
}

#[test]
fn connection_tracking_tells_which_way_a_connection_goes() {
    let mut scene = Scene::new();
    // The trace begins with an answer: nothing but the connection tells that it is one.
    let connection = Conntrack {
        original: ends(POD1, 4000, WEB, 5000),
        reply: ends(POD3, 5000, POD1, 4000),
        status: status::SEEN_REPLY | status::CONFIRMED | status::DST_NAT,
        info: 3,
        ..Conntrack::default()
    };
    let (sent, told) = (udp(POD2, POD1, 9, b"hi").back(), udp(WEB, POD1, 9, b"hi").back());
    let identity = scene.identity();
    scene.see(NODE1, 0, At::FromPod(POD2), identity, &sent);
    scene.see(NODE1, 10_000, At::ToPod(POD1), identity, &told);
    scene.tracked(Conntrack { reply: ends(POD2, 5000, POD1, 4000), ..connection });
    let (paths, summary) = scene.play();
    assert!(summary.complete, "{summary:?}");
    assert_eq!(
        steps(&paths[0]),
        ["veth11 pod-egress", "[cni0 bridge]", "[veth10 nat]", "veth10 pod-ingress"]
    );
    assert_eq!(paths[0].hops[2].nat.as_ref().unwrap().kind, NatKind::UnDnat);
    let seen = paths[0].hops[3].conntrack.as_ref().unwrap();
    assert_eq!((seen.state, seen.direction), (ConnState::Established, Direction::Reply));
    assert_eq!(seen.original.dst.to_string(), "10.43.0.10");
    assert_eq!(seen.status, ["seen-reply", "confirmed", "dnat"]);
}

#[test]
fn a_hook_of_the_stack_sees_a_translation_happen() {
    let mut scene = Scene::new();
    let (asked, chosen) = (udp(POD1, WEB, 1, b"hello"), udp(POD1, POD3, 1, b"hello"));
    let identity = scene.identity();
    scene.see(NODE1, 0, At::FromPod(POD1), identity, &asked);
    scene.see(NODE1, 10_000, At::BridgeIn, identity, &asked);
    let more = tracer_common::Event { aux: tracer_common::manip::DESTINATION, ..blank() };
    scene.pass(NODE1, 12_000, tracer_common::hook::NAT, CNI0, identity, more);
    scene.pass(NODE1, 14_000, tracer_common::hook::IP_FORWARD, CNI0, identity, blank());
    scene.see(NODE1, 20_000, At::TunnelOut, identity, &chosen);
    scene.see(NODE1, 30_000, At::UplinkOut, identity, &chosen);
    scene.arrive(40_000, &chosen);
    let (paths, _) = scene.play();
    let (nat, route) = (&paths[0].hops[1], &paths[0].hops[2]);
    assert_eq!((nat.evidence, nat.at_ns), (Evidence::Observed, Some(12_000)));
    // What follows a translation is not told to have been before it.
    assert_eq!((route.evidence, route.at_ns), (Evidence::Observed, Some(14_000)));
}

#[test]
fn what_connection_tracking_drops_is_told_by_what_it_counts() {
    let mut scene = Scene::new();
    let packet = udp(POD1, POD3, 1, b"hello");
    let identity = scene.identity();
    scene.see(NODE1, 0, At::FromPod(POD1), identity, &packet);
    scene.drop(NODE1, 10_000, None, NETFILTER_DROP, identity, &packet);
    let counted = |drop, insert_failed| {
        let table = ConntrackStats { count: Some(12), max: Some(12), ..ConntrackStats::default() };
        (NODE1, FromAgent::ConntrackStats(ConntrackStats { drop, insert_failed, ..table }))
    };
    let causes = |later: (u64, u64)| {
        let mut frames = scene.frames(5_000_000);
        frames.splice(0..0, [counted(3, 3), counted(later.0, later.1)]);
        let (paths, _) = play(scene.context(), &frames);
        paths[0].hops.last().unwrap().drop.as_ref().unwrap().cause
    };
    assert_eq!(causes((4, 3)), Some(DropCause::ConntrackTableFull { count: Some(12), max: Some(12) }));
    // One without a connection lost no race for it, and what was counted before the trace says nothing of it.
    assert_eq!((causes((3, 4)), causes((3, 3))), (None, None));
}

#[test]
fn a_packet_that_lost_the_race_for_its_connection_is_told() {
    let mut scene = Scene::new();
    let packet = udp(POD1, WORLD, 1, b"hello");
    let identity = scene.identity();
    scene.tunnel = false;
    scene.see(NODE1, 0, At::FromPod(POD1), identity, &packet);
    scene.see(NODE1, 10_000, At::BridgeIn, identity, &packet);
    scene.drop(NODE1, 20_000, None, NETFILTER_DROP, identity, &packet);
    scene.tracked(Conntrack {
        original: ends(POD1, 4000, WORLD, 5000),
        reply: ends(WORLD, 5000, NODE1_ADDRESS, 4000),
        status: status::SRC_NAT,
        info: 2,
        ..Conntrack::default()
    });
    let mut frames = scene.frames(5_000_000);
    let counted = |insert_failed| {
        (NODE1, FromAgent::ConntrackStats(ConntrackStats { insert_failed, ..ConntrackStats::default() }))
    };
    frames.splice(0..0, [counted(0), counted(1)]);
    let (paths, _) = play(scene.context(), &frames);
    let drop = paths[0].hops.last().unwrap().drop.as_ref().unwrap();
    assert_eq!(drop.cause, Some(DropCause::ConntrackClash));
}

/// Out of the pod and, masqueraded, out of the node: the packet as it was sent, and as it left.
fn masqueraded() -> (Scene, Wire, Wire) {
    let mut scene = Scene::new();
    let (sent, left) = (udp(POD1, WORLD, 5, b"hello"), udp(NODE1_ADDRESS, WORLD, 5, b"hello"));
    let identity = scene.identity();
    scene.tunnel = false;
    scene.see(NODE1, 0, At::FromPod(POD1), identity, &sent);
    scene.see(NODE1, 10_000, At::BridgeIn, identity, &sent);
    scene.see(NODE1, 20_000, At::UplinkOut, identity, &left);
    (scene, sent, left)
}

#[test]
fn what_another_pods_packet_was_translated_to_is_not_taken_for_the_nodes_own() {
    let (mut scene, ..) = masqueraded();
    // The other pod's was masqueraded to the same port at the same time, and so lost the race.
    let other = udp(NODE1_ADDRESS, WORLD, 9, b"hello");
    let identity = scene.identity();
    scene.drop(NODE1, 30_000, None, NETFILTER_DROP, identity, &other);
    scene.tracked(Conntrack {
        original: ends(POD2, 4000, WORLD, 5000),
        reply: ends(WORLD, 5000, NODE1_ADDRESS, 4000),
        status: status::SRC_NAT,
        info: 2,
        ..Conntrack::default()
    });
    let mut context = scene.context();
    context.filter.from.addresses = vec![POD1.into()];
    let (paths, summary) = play(context, &scene.frames(5_000_000));
    assert_eq!(paths.len(), 1, "{:?}", paths.iter().map(steps).collect::<Vec<_>>());
    assert_eq!(paths[0].from.pod.as_deref(), Some("default/pod1"));
    assert!(summary.complete, "{summary:?}");
}

#[test]
fn an_error_about_a_translated_packet_is_its_refusal() {
    let (mut scene, sent, left) = masqueraded();
    let error = port_unreachable(WORLD, NODE1_ADDRESS, &left);
    let back = port_unreachable(WORLD, POD1, &sent);
    let identity = scene.identity();
    scene.see(NODE1, 30_000, At::UplinkIn, identity, &error);
    scene.see(NODE1, 40_000, At::BridgeOut, identity, &back);
    scene.see(NODE1, 50_000, At::ToPod(POD1), identity, &back);
    let (paths, summary) = scene.play();
    assert!(summary.complete, "{summary:?}");
    let refused = paths.iter().find(|path| path.verdict == Verdict::Rejected).unwrap();
    assert_eq!(refused.hops[2].nat.as_ref().unwrap().kind, NatKind::Masquerade);
    assert_eq!(paths.len(), 2);
    assert_eq!(paths[0].flow.id, paths[1].flow.id);
}
