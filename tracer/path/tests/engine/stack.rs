//! What hooks of the network stack add to a path: they confirm what is inferred without them, and change no sequence.

use tracer_common::{Event, flag, hook};

use crate::testkit::*;
use podtrace_path::{Action, Evidence, Neighbour, Path, Resolution, Verdict};

/// `NUD_REACHABLE` and `NUD_NONE`.
const REACHABLE: u32 = 2;
const NONE: u32 = 0;

fn hop(path: &Path, action: Action) -> &podtrace_path::Hop {
    path.hops.iter().find(|hop| hop.action == action).unwrap()
}

fn events(path: &Path, at: usize) -> Vec<String> {
    path.hops[at].events.iter().map(|event| event.point.to_string()).collect()
}

fn gateway(last: [u8; 4]) -> [u8; 16] {
    std::net::Ipv4Addr::from(last).to_ipv6_mapped().octets()
}

#[test]
fn a_bridge_that_is_seen_to_forward_is_observed() {
    let mut scene = Scene::new();
    let identity = scene.bridge(0, &echo(POD1, POD2, 1, 1));
    scene.pass(NODE1, 2_000, hook::BRIDGE_INPUT, 10, identity, blank());
    scene.pass(NODE1, 4_000, hook::BRIDGE_FORWARD, 10, identity, blank());
    let (paths, summary) = scene.play();
    let path = &paths[0];
    assert_eq!(steps(path), ["veth10 pod-egress", "cni0 bridge", "veth11 pod-ingress"]);
    let bridge = &path.hops[1];
    assert_eq!((bridge.evidence, bridge.at_ns, bridge.flooded), (Evidence::Observed, Some(4_000), false));
    assert_eq!(bridge.point.unwrap().to_string(), "fentry:br_forward");
    assert_eq!(events(path, 0), ["tc:ingress", "fentry:br_handle_frame_finish"]);
    assert!(summary.complete, "{summary:?}");
}

#[test]
fn a_bridge_that_floods_says_so() {
    let mut scene = Scene::new();
    let identity = scene.bridge(0, &echo(POD1, POD2, 1, 1));
    scene.pass(NODE1, 4_000, hook::BRIDGE_FLOOD, 10, identity, blank());
    let (paths, _) = scene.play();
    assert!(hop(&paths[0], Action::Bridge).flooded);
}

#[test]
fn a_copy_goes_on_as_its_original() {
    let mut scene = Scene::new();
    let packet = echo(POD1, POD2, 1, 1);
    let (original, copy) = (scene.identity(), scene.identity());
    scene.see(NODE1, 0, At::FromPod(POD1), original, &packet);
    scene.pass(NODE1, 4_000, hook::BRIDGE_OUTPUT, 11, copy, Event { parent: original, ..blank() });
    // What its headers say by then is of no account.
    let other = echo(POD1, POD2, 2, 2);
    scene.see_copy(NODE1, 8_000, At::ToPod(POD2), copy, original, &other);
    let (paths, summary) = scene.play();
    assert_eq!(paths.len(), 1);
    assert_eq!(paths[0].verdict, Verdict::Delivered);
    assert_eq!(events(&paths[0], 0), ["tc:ingress", "fentry:br_dev_queue_push_xmit"]);
    assert_eq!(summary.events.unmatched, 0);
}

#[test]
fn the_kernel_tells_the_route() {
    let mut scene = Scene::new();
    let identity = scene.leave(0, &echo(POD1, POD3, 1, 1));
    let route = Event { route_ifindex: FLANNEL, gateway: gateway([10, 42, 1, 7]), ..blank() };
    scene.pass(NODE1, 12_000, hook::IP_FORWARD, CNI0, identity, route);
    scene.arrive(40_000, &echo(POD1, POD3, 1, 1));
    let (paths, _) = scene.play();
    assert_eq!(steps(&paths[0]), CROSSING);
    let route = paths[0].hops[1].route.as_ref().unwrap();
    assert_eq!(
        (route.evidence, route.gateway.unwrap().to_string()),
        (Evidence::Observed, "10.42.1.7".into())
    );
    assert_eq!(events(&paths[0], 1), ["tc:ingress", "fentry:ip_forward"]);
    // On the other node nothing was seen of it.
    assert_eq!(paths[0].hops[6].route.as_ref().unwrap().evidence, Evidence::Inferred);
}

#[test]
fn the_outer_packets_way_belongs_to_the_tunnel() {
    let mut scene = Scene::new();
    let packet = echo(POD1, POD3, 1, 1);
    let outer = || Event { flags: flag::IN_TUNNEL, ..blank() };
    let identity = scene.leave(0, &packet);
    scene.pass(NODE1, 15_000, hook::IP_OUTPUT, CNI0, identity, blank());
    scene.pass(NODE1, 22_000, hook::VXLAN_TRANSMIT, FLANNEL, identity, blank());
    scene.pass(NODE1, 25_000, hook::IP_OUTPUT, ETH0, identity, outer());
    scene.pass(NODE1, 26_000, hook::NEIGHBOUR, ETH0, identity, Event { aux: NONE, ..outer() });
    scene.pass(NODE1, 28_000, hook::NEIGHBOUR, ETH0, identity, Event { aux: REACHABLE, ..outer() });
    let identity = scene.arrive(40_000, &packet);
    scene.pass(NODE2, 45_000, hook::IP_LOCAL_IN, ETH0, identity, outer());
    scene.pass(NODE2, 47_000, hook::VXLAN_RECEIVE, ETH0, identity, outer());
    let (paths, _) = scene.play();
    assert_eq!(steps(&paths[0]), CROSSING);
    assert_eq!(events(&paths[0], 1), ["tc:ingress", "fentry:ip_output"]);
    let tunnel = ["tc:egress", "fentry:vxlan_xmit_one", "fentry:ip_output"];
    assert_eq!(events(&paths[0], 2)[..3], tunnel);
    let asked =
        Neighbour { address: [192, 168, 56, 12].into(), outcome: Resolution::Answered, waited_ns: 2_000 };
    assert_eq!(paths[0].hops[2].neighbour, Some(asked));
    assert_eq!(events(&paths[0], 4), ["tc:ingress", "fentry:ip_local_deliver"]);
    assert_eq!(events(&paths[0], 5), ["fentry:vxlan_rcv", "tc:ingress"]);
}

#[test]
fn a_neighbour_that_does_not_answer_has_failed() {
    let mut scene = Scene::new();
    let packet = echo(POD1, POD3, 1, 1);
    scene.leave(0, &packet);
    let identity = scene.identity();
    scene.see(NODE2, 40_000, At::UplinkIn, identity, &packet);
    scene.see(NODE2, 50_000, At::TunnelIn, identity, &packet);
    scene.pass(NODE2, 60_000, hook::NEIGHBOUR, CNI0, identity, Event { aux: NONE, ..blank() });
    scene.drop(NODE2, 3_000_060_000, None, NEIGH_FAILED, identity, &packet);
    let (paths, _) = scene.play();
    assert_eq!(paths[0].verdict, Verdict::Dropped);
    let neighbour = paths[0].hops.iter().find_map(|hop| hop.neighbour).unwrap();
    assert_eq!((neighbour.outcome, neighbour.waited_ns), (Resolution::Failed, 3_000_000_000));
}

#[test]
fn a_drop_by_a_rule_names_the_hook_it_came_to_last() {
    let mut scene = Scene::new();
    let packet = echo(POD1, POD3, 1, 1);
    let identity = scene.identity();
    scene.see(NODE1, 0, At::FromPod(POD1), identity, &packet);
    scene.see(NODE1, 10_000, At::BridgeIn, identity, &packet);
    let at = |hook| Event { aux: Event::netfilter_aux(hook, 2), ..blank() };
    scene.pass(NODE1, 12_000, hook::NETFILTER, CNI0, identity, at(0));
    scene.pass(NODE1, 14_000, hook::NETFILTER, CNI0, identity, at(2));
    scene.drop(NODE1, 16_000, None, NETFILTER_DROP, identity, &packet);
    let (paths, _) = scene.play();
    let drop = paths[0].hops.iter().find_map(|hop| hop.drop.as_ref()).unwrap();
    assert_eq!(drop.netfilter.as_deref(), Some("FORWARD"));
    assert_eq!(paths[0].hops[1].events[2].detail.as_deref(), Some("FORWARD"));
}

#[test]
fn a_nodes_own_packet_is_seen_to_set_out() {
    let mut scene = Scene::new();
    let packet = echo([10, 42, 0, 1], POD1, 1, 1);
    let identity = scene.identity();
    scene.set_out(NODE1, 0, CNI0, identity, &packet);
    scene.see(NODE1, 5_000, At::BridgeOut, identity, &packet);
    scene.see(NODE1, 9_000, At::ToPod(POD1), identity, &packet);
    let (paths, summary) = scene.play();
    assert_eq!(steps(&paths[0]), ["cni0 local-out", "cni0 route", "veth10 pod-ingress"]);
    let out = &paths[0].hops[0];
    assert_eq!((out.evidence, out.at_ns), (Evidence::Observed, Some(0)));
    assert_eq!(paths[0].duration_ns, 9_000);
    assert!(summary.complete, "{summary:?}");
}

#[test]
fn a_wait_in_a_queue_is_told_where_it_was() {
    let mut scene = Scene::new();
    let packet = echo(POD1, POD3, 1, 1);
    let identity = scene.leave(0, &packet);
    scene.pass(NODE1, 5_030_000, hook::START_XMIT, ETH0, identity, blank());
    scene.arrive(5_040_000, &packet);
    let (paths, _) = scene.play();
    assert_eq!(steps(&paths[0]), CROSSING);
    assert_eq!(hop(&paths[0], Action::NodeEgress).queued_ns, Some(5_000_000));
}

#[test]
fn pieces_of_one_packet_are_one_step() {
    let mut scene = Scene::new();
    let whole = Tcp::data(1000, 2000, 7).in_segments(2).wire();
    let identity = scene.identity();
    scene.see(NODE1, 0, At::FromPod(POD1), identity, &whole);
    scene.see(NODE1, 10_000, At::BridgeIn, identity, &whole);
    scene.see(NODE1, 20_000, At::TunnelOut, identity, &whole);
    for (piece, at) in [(0, 30_000), (1, 31_000)] {
        let segment = Tcp::data(1000 + piece * 1000, 1000, 7 + piece as u16).wire();
        let identity = scene.identity();
        scene.see(NODE1, at, At::UplinkOut, identity, &segment);
        scene.pass(
            NODE1,
            at + 100,
            hook::IP_OUTPUT,
            ETH0,
            identity,
            Event { flags: flag::IN_TUNNEL, ..blank() },
        );
    }
    let (paths, _) = scene.play();
    assert_eq!(events(&paths[0], 3), ["tc:egress", "fentry:ip_output"]);
}
