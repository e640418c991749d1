//! Who took a packet: the right receiver, another one with its address, the link, or nobody that was looked at.

use crate::testkit::*;
use podtrace_path::{Path, Verdict};
use podtrace_protocol::frame::{FilterSpec, FromAgent, Side};
use podtrace_protocol::topology::{DeviceKind, Namespace};
use podtrace_rules::{Family, Rules, iptables, nft};

/// Plays a scene on nodes that differ from the usual ones.
fn play_on(scene: &Scene, change: impl Fn(usize, &mut Vec<Namespace>)) -> Vec<Path> {
    let mut frames = scene.frames(100_000_000);
    for (node, frame) in &mut frames {
        if let FromAgent::Topology(topology) = frame {
            change(*node, &mut topology.namespaces);
        }
    }
    play(scene.context(), &frames).0
}

fn give(namespaces: &mut [Namespace], pod: Option<&str>, device: &str, address: &str) {
    let namespace = namespaces.iter_mut().find(|namespace| namespace.pod.as_deref() == pod).unwrap();
    let device = namespace.devices.iter_mut().find(|known| known.name == device).unwrap();
    device.addresses.push(address.parse().unwrap());
}

/// To pod3, whose bridge sends copies to pod4 as well. One of the two refuses its copy.
fn flooded(refused_by: [u8; 4], reason: u32) -> Scene {
    let mut scene = Scene::new();
    let packet = echo(POD1, POD3, 1, 1);
    scene.leave(0, &packet);
    let identity = scene.identity();
    scene.see(NODE2, 40_000, At::UplinkIn, identity, &packet);
    scene.see(NODE2, 50_000, At::TunnelIn, identity, &packet);
    scene.see(NODE2, 60_000, At::BridgeOut, identity, &packet);
    let copy = scene.identity();
    scene.see_copy(NODE2, 65_000, At::ToPod(POD4), copy, identity, &packet);
    scene.see(NODE2, 70_000, At::ToPod(POD3), identity, &packet);
    let of = if refused_by == POD3 { identity } else { copy };
    scene.drop(NODE2, 75_000, Some(refused_by), reason, of, &packet);
    scene.dropped_in = "ip_rcv_core";
    scene
}

#[test]
fn of_two_pods_with_one_address_the_one_that_took_it_counts() {
    let twice = |node: usize, namespaces: &mut Vec<Namespace>| {
        if node == NODE2 {
            give(namespaces, Some("default/pod4"), "eth0", "10.42.1.10/24");
        }
    };
    // Kernels without reasons free it in the same function.
    for reason in [OTHERHOST, 0] {
        let paths = play_on(&flooded(POD3, reason), twice);
        assert_eq!(paths[0].verdict, Verdict::Vanished);
        assert_eq!(
            paths[0].reason.as_deref(),
            Some("reached default/pod4, which also has 10.42.1.10, instead of default/pod3")
        );
        let last = paths[0].hops.last().unwrap();
        assert_eq!((last.device.as_deref(), last.pod.as_deref()), (Some("veth11"), Some("default/pod4")));
        // The other way round nothing is wrong.
        let paths = play_on(&flooded(POD4, reason), twice);
        assert_eq!((paths[0].verdict, paths[0].reason.as_deref()), (Verdict::Delivered, None));
        assert_eq!(paths[0].hops.last().unwrap().pod.as_deref(), Some("default/pod3"));
    }
    // Without the address a pod that gets a copy has nothing to do with it.
    let paths = play_on(&flooded(POD3, OTHERHOST), |_, _| {});
    assert_eq!((paths[0].verdict, paths[0].reason.as_deref()), (Verdict::Dropped, Some("OTHERHOST")));
}

#[test]
fn a_pod_that_has_the_address_of_one_that_is_gone_is_its_receiver() {
    let mut scene = Scene::new();
    let packet = echo(POD1, POD3, 1, 1);
    scene.leave(0, &packet);
    let identity = scene.identity();
    scene.see(NODE2, 40_000, At::UplinkIn, identity, &packet);
    scene.see(NODE2, 50_000, At::TunnelIn, identity, &packet);
    scene.see(NODE2, 60_000, At::BridgeOut, identity, &packet);
    scene.see(NODE2, 65_000, At::ToPod(POD4), identity, &packet);
    let paths = play_on(&scene, |node, namespaces| {
        if node == NODE2 {
            give(namespaces, Some("default/pod4"), "eth0", "10.42.1.10/24");
            namespaces.retain(|namespace| namespace.pod.as_deref() != Some("default/pod3"));
        }
    });
    assert_eq!(paths[0].verdict, Verdict::Delivered);
}

#[test]
fn a_node_with_a_pods_address_is_not_the_pod() {
    let mut scene = Scene::new();
    let packet = Tcp { flags: "S", ..Tcp::data(1000, 0, 7) }.wire();
    let identity = scene.identity();
    scene.see(NODE1, 0, At::FromPod(POD1), identity, &packet);
    scene.see(NODE1, 10_000, At::BridgeIn, identity, &packet);
    let held = |node: usize, namespaces: &mut Vec<Namespace>| {
        if node == NODE1 {
            give(namespaces, None, "cni0", "10.42.1.10/32");
        }
    };
    let paths = play_on(&scene, held);
    assert_eq!(paths[0].verdict, Verdict::Vanished);
    let reason = paths[0].reason.as_deref().unwrap();
    assert_eq!(reason, "reached node1, which also has 10.42.1.10, instead of default/pod3");
    // Its reset is the node's.
    let reset = Tcp { src: POD3, dst: POD1, seq: 0, ack: 1001, flags: "RA", ..Tcp::data(0, 0, 8) }.wire();
    let own = scene.identity();
    scene.see(NODE1, 20_000, At::BridgeOut, own, &reset);
    scene.see(NODE1, 30_000, At::ToPod(POD1), own, &reset);
    let paths = play_on(&scene, held);
    assert_eq!(
        (paths[0].verdict, paths[0].reason.as_deref()),
        (Verdict::Rejected, Some("TCP reset by node1"))
    );
}

#[test]
fn multicast_has_its_link_for_a_receiver() {
    let mut scene = Scene::new();
    let packet = udp(POD1, [224, 0, 0, 251], 1, b"hello");
    let identity = scene.identity();
    scene.see(NODE1, 0, At::FromPod(POD1), identity, &packet);
    scene.see(NODE1, 10_000, At::BridgeIn, identity, &packet);
    scene.drop(NODE1, 20_000, None, NOT_SPECIFIED, identity, &packet);
    let (paths, summary) = scene.play();
    assert_eq!(paths[0].verdict, Verdict::Delivered);
    assert_eq!(paths[0].reason.as_deref(), Some("multicast, sent to its link at cni0"));
    assert!(summary.complete);
    // One that is dropped before is lost.
    let mut scene = Scene::new();
    let identity = scene.identity();
    scene.see(NODE1, 0, At::FromPod(POD1), identity, &packet);
    scene.drop_at_veth(NODE1, 5_000, POD1, NETFILTER_DROP, identity, &packet);
    assert_eq!(scene.play().0[0].verdict, Verdict::Dropped);
}

#[test]
fn a_services_address_is_nobodys_outside() {
    for (to, verdict, reason) in [
        (WEB, Verdict::Vanished, "left node1 at eth0, with 10.43.0.10 of Service default/web untranslated"),
        (WORLD, Verdict::Delivered, "left the cluster at eth0"),
    ] {
        let mut scene = Scene::new();
        scene.tunnel = false;
        scene.quiet = 6_000_000_000;
        let packet = udp(POD1, to, 1, b"hello");
        scene.leave(0, &packet);
        let (paths, _) = scene.play();
        assert_eq!((paths[0].verdict, paths[0].reason.as_deref()), (verdict, Some(reason)));
    }
}

#[test]
fn what_comes_after_a_close_was_delivered_and_what_comes_after_a_reset_alone_was_not() {
    for (closed, verdict) in [(true, Verdict::Delivered), (false, Verdict::Rejected)] {
        let mut scene = Scene::new();
        if closed {
            scene.cross(0, &Tcp { src: POD3, dst: POD1, flags: "FA", ..Tcp::data(1, 0, 6) }.wire());
        }
        let late = Tcp::data(1000, 5, 7).wire();
        scene.leave(200_000, &late);
        let identity = scene.arrive(240_000, &late);
        scene.drop(NODE2, 275_000, Some(POD3), NOT_SPECIFIED, identity, &late);
        scene.cross(280_000, &Tcp { src: POD3, dst: POD1, seq: 1, flags: "R", ..Tcp::data(1, 0, 8) }.wire());
        let (paths, _) = scene.play();
        let path = paths.iter().find(|path| path.payload == 5).unwrap();
        assert_eq!(path.verdict, verdict, "{closed}: {:?}", path.reason);
        assert_eq!(path.hops.iter().any(|hop| hop.drop.is_some()), !closed);
    }
}

#[test]
fn a_reset_of_the_receivers_own_ends_the_connection_for_what_comes_then() {
    for (first, verdict) in [("RA", Verdict::Delivered), ("A", Verdict::Rejected)] {
        let mut scene = Scene::new();
        let from_pod3 = |flags, id| Tcp { src: POD3, dst: POD1, flags, ack: 1000, ..Tcp::data(1, 0, id) };
        scene.cross(0, &Tcp { flags: "S", ..Tcp::data(999, 0, 1) }.wire());
        scene.cross(100_000, &from_pod3("SA", 2).wire());
        scene.cross(200_000, &from_pod3(first, 3).wire());
        let late = Tcp { flags: "FA", ..Tcp::data(1000, 0, 7) }.wire();
        scene.leave(300_000, &late);
        let identity = scene.arrive(340_000, &late);
        scene.cross(370_000, &Tcp { seq: 1, ack: 0, ..from_pod3("R", 4) }.wire());
        scene.drop(NODE2, 375_000, Some(POD3), NO_SOCKET, identity, &late);
        let (paths, _) = scene.play();
        let path = paths.iter().find(|path| path.label.starts_with("FIN-ACK")).unwrap();
        assert_eq!(path.verdict, verdict, "{first}: {:?}", path.reason);
    }
}

#[test]
fn a_syn_that_is_refused_is_refused_whatever_was_before() {
    // Above what was acknowledged before, and below.
    for seq in [5999, 99] {
        let mut scene = Scene::new();
        let from_pod3 = |flags, id| Tcp { src: POD3, dst: POD1, flags, ack: 1000, ..Tcp::data(1, 0, id) };
        scene.cross(0, &Tcp { flags: "S", ..Tcp::data(999, 0, 1) }.wire());
        scene.cross(100_000, &from_pod3("SA", 2).wire());
        scene.cross(200_000, &from_pod3("FA", 3).wire());
        scene.cross(300_000, &Tcp { flags: "S", ..Tcp::data(seq, 0, 4) }.wire());
        scene.cross(400_000, &Tcp { seq: 0, ack: seq + 1, ..from_pod3("RA", 5) }.wire());
        let (paths, _) = scene.play();
        let syn = paths.iter().rfind(|path| path.label.starts_with("SYN") && !path.label.contains("ACK"));
        assert_eq!(syn.unwrap().verdict, Verdict::Rejected, "{seq}");
    }
}

#[test]
fn a_syn_for_another_connection_was_not_answered_by_the_former_ones_answer() {
    for (seq, verdict) in [(999, Verdict::Delivered), (5999, Verdict::Dropped)] {
        let mut scene = Scene::new();
        scene.dropped_in = "tcp_v4_rcv";
        let syn = |seq, id| Tcp { flags: "S", ..Tcp::data(seq, 0, id) }.wire();
        scene.cross(0, &syn(999, 1));
        let answer = Tcp { src: POD3, dst: POD1, flags: "SA", ack: 1000, ..Tcp::data(1, 0, 2) };
        scene.cross(100_000, &answer.wire());
        scene.leave(300_000, &syn(seq, 3));
        let identity = scene.arrive(340_000, &syn(seq, 3));
        scene.drop(NODE2, 375_000, Some(POD3), NOT_SPECIFIED, identity, &syn(seq, 3));
        let (paths, _) = scene.play();
        let path = paths.iter().max_by_key(|path| path.started_at).unwrap();
        assert_eq!(path.verdict, verdict, "{seq}: {:?}", path.reason);
    }
}

#[test]
fn what_its_receiver_has_acknowledged_is_not_refused() {
    // From (>) pod1 or to (<) it; the last is a reset whose numbers fit the first or the second.
    let (syn, syn_ack, ack) = ((">S", 999, 0), ("<SA", 1, 1000), (">A", 1000, 2));
    for (segments, refused) in [
        (&[syn, syn_ack, ack, (">R", 2, 0)][..], None),
        (&[syn, syn_ack, (">R", 1000, 0)], Some("SYN-ACK")),
        (&[syn, syn_ack, ("<RA", 2, 1000)], None),
        (&[syn, ("<RA", 0, 1000)], Some("SYN")),
    ] {
        let mut scene = Scene::new();
        for (number, (said, seq, ack)) in (0_u16..).zip(segments) {
            let (way, flags) = said.split_at(1);
            let (src, dst) = if way == ">" { (POD1, POD3) } else { (POD3, POD1) };
            let segment = Tcp { src, dst, flags, ack: *ack, ..Tcp::data(*seq, 0, 20 + number) };
            scene.cross(u64::from(number) * 100_000, &segment.wire());
        }
        let (paths, _) = scene.play();
        let rejected = paths.iter().find(|path| path.verdict == Verdict::Rejected);
        assert_eq!(rejected.map(|path| path.label.as_str()), refused, "{segments:?}");
    }
}

#[test]
fn of_packets_that_are_refused_together_each_has_its_own_reset() {
    let mut scene = Scene::new();
    scene.cross(0, &Tcp { src: POD3, dst: POD1, flags: "FA", ..Tcp::data(1, 0, 6) }.wire());
    let late = [Tcp::data(1000, 5, 7), Tcp { flags: "FA", ..Tcp::data(1005, 0, 8) }];
    for (at, packet) in (0..).zip(&late) {
        scene.leave(200_000 + at * 1_000, &packet.wire());
    }
    for (at, packet) in (0..).zip(&late) {
        let identity = scene.arrive(240_000 + at * 1_000, &packet.wire());
        scene.drop(NODE2, 275_000 + at * 1_000, Some(POD3), NOT_SPECIFIED, identity, &packet.wire());
    }
    for (at, id) in [(0, 9), (1, 10)] {
        let reset = Tcp { src: POD3, dst: POD1, seq: 1, ack: 0, flags: "R", payload: 0, id, segments: 1 };
        scene.cross(280_000 + at * 1_000, &reset.wire());
    }
    let (paths, summary) = scene.play();
    assert_eq!((paths.len(), summary.paths.delivered), (5, 5), "{paths:#?}");
}

#[test]
fn what_tcp_frees_without_a_reason_is_harmless_where_the_ends_have_said_so() {
    const CLOSED: &str = "the receiver had already closed the connection";
    const DISCARDED: &str = "the receiver's TCP discarded it without a reason";
    const BOTH: [&str; 4] = [">S", "<SA", "<FA", ">FA"];
    // What the ends had said, from (>) the sender or to (<) it, the payload, the kernel's reason, the verdict, its reason.
    for (said, payload, number, verdict, reason) in [
        (&BOTH[..], 5, NOT_SPECIFIED, Verdict::Delivered, CLOSED),
        (&BOTH, 0, TCP_FLAGS, Verdict::Delivered, CLOSED),
        (&BOTH, 0, NO_SOCKET, Verdict::Delivered, CLOSED),
        (&BOTH[..3], 0, TCP_FLAGS, Verdict::Dropped, "TCP_FLAGS"),
        (&BOTH[..2], 0, NO_SOCKET, Verdict::Dropped, "NO_SOCKET"),
        (&BOTH[..2], 5, TCP_ABORT_ON_DATA, Verdict::Dropped, "TCP_ABORT_ON_DATA"),
        // Its program has closed the socket.
        (&BOTH[..3], 5, NOT_SPECIFIED, Verdict::Delivered, CLOSED),
        (&BOTH[..3], 5, TCP_ABORT_ON_DATA, Verdict::Delivered, CLOSED),
        (&BOTH[..3], 0, NO_SOCKET, Verdict::Delivered, CLOSED),
        (&[">S", "<SA", "<RA"], 5, NO_SOCKET, Verdict::Delivered, CLOSED),
        (&[">S", "<SA", ">RA"], 0, NO_SOCKET, Verdict::Delivered, CLOSED),
        // A SYN that was refused says nothing of what follows.
        (&[">S", "<RA"], 5, NO_SOCKET, Verdict::Dropped, "NO_SOCKET"),
        (&BOTH[..3], 0, NOT_SPECIFIED, Verdict::Delivered, CLOSED),
        (&[], 0, NOT_SPECIFIED, Verdict::Delivered, CLOSED),
        (&BOTH[..2], 0, NOT_SPECIFIED, Verdict::Delivered, DISCARDED),
        (&BOTH[..2], 5, NOT_SPECIFIED, Verdict::Dropped, "NOT_SPECIFIED"),
        (&[], 5, NOT_SPECIFIED, Verdict::Dropped, "NOT_SPECIFIED"),
    ] {
        let mut scene = Scene::new();
        scene.dropped_in = "tcp_v4_rcv";
        for (number, said) in (0_u16..).zip(said) {
            let segment = match said.split_at(1) {
                (">", flags) => Tcp { flags, ..Tcp::data(999, 0, 20 + number) },
                (_, flags) => Tcp { src: POD3, dst: POD1, flags, ack: 1000, ..Tcp::data(1, 0, 30 + number) },
            };
            scene.cross(u64::from(number) * 100_000, &segment.wire());
        }
        let late = Tcp::data(1000, payload, 7).wire();
        scene.leave(400_000, &late);
        let identity = scene.arrive(440_000, &late);
        scene.drop(NODE2, 475_000, Some(POD3), number, identity, &late);
        let (paths, _) = scene.play();
        let path = paths.iter().max_by_key(|path| path.started_at).unwrap();
        let found = (path.verdict, path.reason.as_deref());
        assert_eq!(found, (verdict, Some(reason)), "{said:?} {payload} {number}");
    }
}

#[test]
fn a_syn_that_is_sent_again_is_freed_where_it_was_answered() {
    for (answered, verdict) in [(true, Verdict::Delivered), (false, Verdict::Dropped)] {
        for reason in [NOT_SPECIFIED, 0] {
            let mut scene = Scene::new();
            scene.dropped_in = "tcp_v4_rcv";
            let syn = |id| Tcp { flags: "S", ..Tcp::data(999, 0, id) }.wire();
            scene.cross(0, &syn(1));
            if answered {
                let answer = Tcp { src: POD3, dst: POD1, flags: "SA", ack: 1000, ..Tcp::data(1, 0, 2) };
                scene.cross(100_000, &answer.wire());
            }
            scene.leave(1_000_000_000, &syn(3));
            let identity = scene.arrive(1_000_040_000, &syn(3));
            scene.drop(NODE2, 1_000_075_000, Some(POD3), reason, identity, &syn(3));
            let (paths, _) = scene.play();
            let path = paths.iter().max_by_key(|path| path.started_at).unwrap();
            assert_eq!(path.verdict, verdict, "{answered} {reason}: {:?}", path.reason);
        }
    }
}

#[test]
fn a_reset_that_acknowledges_a_segment_has_not_refused_it() {
    for (flags, verdict) in [("PA", Verdict::Delivered), ("S", Verdict::Rejected)] {
        let mut scene = Scene::new();
        let payload = if flags == "S" { 0 } else { 500 };
        let packet = Tcp { flags, ..Tcp::data(1000, payload, 7) }.wire();
        scene.cross(0, &packet);
        let ack = 1000 + if flags == "S" { 1 } else { 500 };
        scene.cross(
            200_000,
            &Tcp { src: POD3, dst: POD1, seq: 1, ack, flags: "RA", ..Tcp::data(1, 0, 8) }.wire(),
        );
        let (paths, _) = scene.play();
        assert_eq!(paths[0].verdict, verdict, "{flags}: {:?}", paths[0].reason);
    }
}

#[test]
fn never_seen_needs_a_node_that_looked() {
    let side = |addresses: &[[u8; 4]]| Side {
        addresses: addresses.iter().map(|address| (*address).into()).collect(),
        ..Side::default()
    };
    for (to, verdict, reason) in [
        (vec![POD3], Verdict::Open, "left node1 at eth0 for node2, where this trace does not include"),
        (vec![POD3, POD4], Verdict::Vanished, "left node1 at eth0, never seen on node2"),
        (vec![], Verdict::Vanished, "left node1 at eth0, never seen on node2"),
    ] {
        let mut scene = Scene::new();
        scene.quiet = 6_000_000_000;
        let (sent, translated) = (udp(POD1, POD3, 1, b"hello"), udp(POD1, POD4, 1, b"hello"));
        let identity = scene.identity();
        scene.see(NODE1, 0, At::FromPod(POD1), identity, &sent);
        scene.see(NODE1, 10_000, At::BridgeIn, identity, &sent);
        scene.see(NODE1, 20_000, At::TunnelOut, identity, &translated);
        scene.see(NODE1, 30_000, At::UplinkOut, identity, &translated);
        let mut context = scene.context();
        context.filter = FilterSpec { from: side(&[POD1]), to: side(&to), ..FilterSpec::default() };
        let (paths, _) = play(context, &scene.frames(100_000_000));
        assert_eq!(paths[0].verdict, verdict, "{to:?}");
        assert!(paths[0].reason.as_deref().unwrap().starts_with(reason), "{:?}", paths[0].reason);
    }
}

#[test]
fn a_tunnel_on_another_port_was_not_looked_into() {
    let mut scene = Scene::new();
    scene.quiet = 6_000_000_000;
    scene.leave(0, &echo(POD1, POD3, 1, 1));
    for (port, reason) in [
        (4789, "left node1 at eth0, for UDP port 8472 of node2, where no tunnel of node2 listens"),
        (8472, "left node1 at eth0, never seen on node2"),
    ] {
        let paths = play_on(&scene, |node, namespaces| {
            for device in &mut namespaces[0].devices {
                if let (NODE2, DeviceKind::Vxlan(vxlan)) = (node, &mut device.kind) {
                    vxlan.port = port;
                }
            }
        });
        assert_eq!((paths[0].verdict, paths[0].reason.as_deref()), (Verdict::Vanished, Some(reason)));
    }
}

#[test]
fn what_a_rule_sends_on_has_not_arrived_at_the_node() {
    let listing = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 192.168.56.12/32 -p udp -m udp --dport 5000 -j DNAT \
                   --to-destination 10.42.1.99:5000\nCOMMIT\n";
    for (rule, seen_in_stack, verdict) in [
        (true, false, Verdict::Vanished),
        (true, true, Verdict::Delivered),
        (false, false, Verdict::Delivered),
    ] {
        let mut scene = Scene::new();
        scene.tunnel = false;
        scene.quiet = 6_000_000_000;
        let packet = udp(POD1, [192, 168, 56, 12], 1, b"hello");
        scene.leave(0, &packet);
        let identity = scene.identity();
        scene.see(NODE2, 40_000, At::UplinkIn, identity, &packet);
        if seen_in_stack {
            scene.pass(NODE2, 50_000, tracer_common::hook::IP_LOCAL_IN, ETH0, identity, blank());
        }
        let mut frames = scene.frames(100_000_000);
        let tables = if rule { iptables::parse(listing, Family::Ip) } else { Vec::new() };
        let rules = Rules { tables, local: vec![[192, 168, 56, 12].into()], ..Rules::default() };
        let after_heads = frames.iter().position(|(_, frame)| matches!(frame, FromAgent::Heartbeat { .. }));
        frames.insert(after_heads.unwrap_or(0).saturating_sub(1), (NODE2, FromAgent::Rules(rules)));
        let (paths, _) = play(scene.context(), &frames);
        assert_eq!(paths[0].verdict, verdict, "{rule} {seen_in_stack}: {:?}", paths[0].reason);
    }
}

/// What dropped a packet of pod1's by these rules of node1, after it was seen at these places.
fn dropper(listing: &str, places: &[At], pod_veth: bool) -> Option<String> {
    let mut scene = Scene::new();
    let packet = udp(POD1, POD3, 1, b"hello");
    let identity = scene.identity();
    for (number, place) in (0..).zip(places) {
        scene.see(NODE1, number * 10_000, *place, identity, &packet);
    }
    if pod_veth {
        scene.drop_at_veth(NODE1, 50_000, POD1, NETFILTER_DROP, identity, &packet);
    } else {
        scene.drop(NODE1, 50_000, None, NETFILTER_DROP, identity, &packet);
    }
    let rules = Rules { tables: nft::parse(listing).unwrap().tables, ..Rules::default() };
    let mut frames = scene.frames(100_000_000);
    let after_heads = frames.iter().position(|(_, frame)| matches!(frame, FromAgent::Events(_))).unwrap();
    frames.insert(after_heads, (NODE1, FromAgent::Rules(rules)));
    let (paths, _) = play(scene.context(), &frames);
    let drop = paths[0].hops.last().unwrap().drop.clone().unwrap();
    drop.rule.and_then(|rule| rule.table.clone())
}

fn chain(family: &str, hook: &str, more: &str, condition: &str) -> String {
    format!(
        r#"{{"nftables": [{{"chain": {{"family": "{family}", "table": "guard", "name": "c", "type": "filter", "hook": "{hook}", "prio": 0, "policy": "accept"{more}}}}},
        {{"rule": {{"family": "{family}", "table": "guard", "chain": "c", "handle": 4, "expr": [{condition}{{"drop": null}}]}}}}]}}"#
    )
}

#[test]
fn rules_of_a_device_are_asked_where_the_packet_was_at_that_device() {
    let at = |device: &str| chain("netdev", "ingress", &format!(r#", "dev": "{device}""#), "");
    let from_pod = [At::FromPod(POD1)];
    assert_eq!(dropper(&at("veth10"), &from_pod, true).as_deref(), Some("guard"));
    assert_eq!(dropper(&at("veth11"), &from_pod, true), None);
    let on_bridge = [At::FromPod(POD1), At::BridgeIn];
    assert_eq!(dropper(&at("veth10"), &on_bridge, false), None);
}

#[test]
fn what_a_tunnel_has_taken_in_is_an_outer_packet_of_the_nodes_own() {
    let port = |port: u16| {
        let condition = format!(
            r#"{{"match": {{"op": "==", "left": {{"payload": {{"protocol": "udp", "field": "dport"}}}}, "right": {port}}}}}, "#
        );
        chain("inet", "output", "", &condition)
    };
    let encapsulated = [At::FromPod(POD1), At::BridgeIn, At::TunnelOut];
    assert_eq!(dropper(&port(8472), &encapsulated, false).as_deref(), Some("guard"));
    // The inner packet's port is not the outer one's.
    assert_eq!(dropper(&port(5000), &encapsulated, false), None);
    assert_eq!(dropper(&port(8472), &encapsulated[..2], false), None);
}
