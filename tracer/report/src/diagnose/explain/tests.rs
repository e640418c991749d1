//! Each finding explains the packet that met it, and no other.

mod lab;

use podtrace_path::Translated;
use podtrace_protocol::topology::state::{
    Neighbour, NeighbourState, PolicyAction, PolicyRule, Refusal, RefusingRoute,
};
use podtrace_protocol::topology::{Device, DeviceKind, Peer, Port, PortState, Route, Topology};

use super::super::check::findings;
use super::*;
use crate::output::samples;
use lab::{change, dropped, explained, facts, give, nodes};

#[test]
fn healthy_nodes_have_no_findings() {
    assert_eq!(findings(&facts(nodes())), []);
}

#[test]
fn a_neighbour_entry_with_anothers_address_explains_what_the_pod_refuses() {
    let wrong = |address: &str| {
        let [first, mut second] = nodes();
        let bridge = second.namespaces[0].devices.iter().find(|device| device.name == "cni0").unwrap().index;
        second.namespaces[0].state.neighbours.push(Neighbour {
            device: bridge,
            address: address.parse().unwrap(),
            mac: Some([2, 0, 0, 0, 0, 0x99]),
            state: NeighbourState::Permanent,
        });
        [first, second]
    };
    let path = dropped("node2", "OTHERHOST", "ip_rcv_core");
    let text = explained(wrong("10.42.1.10"), &path).unwrap();
    assert_eq!(
        text,
        "node2's neighbour entry for 10.42.1.10 on cni0 has 02:00:00:00:00:99, permanently, which is no traced \
         device's; default/pod3 has 0a:58:0a:2a:01:01. On node2: `ip neigh show 10.42.1.10 dev cni0`; to fix it: `ip \
         neigh del 10.42.1.10 dev cni0`"
    );
    // Of another address, for another reason, or on the other node it explains nothing.
    assert_eq!(explained(wrong("10.42.1.77"), &path), None);
    assert_eq!(explained(wrong("10.42.1.10"), &dropped("node2", "NETFILTER_DROP", "nf_hook_slow")), None);
    assert_eq!(explained(wrong("10.42.1.10"), &dropped("node1", "OTHERHOST", "ip_rcv_core")), None);
}

#[test]
fn a_forwarding_entry_that_leads_astray_is_known_where_the_packet_shows_it() {
    let mut path = samples::vanished();
    let astray = |remote: &str| {
        let [mut first, second] = nodes();
        first.namespaces[0].state.forwarding[0].remote = Some(remote.parse().unwrap());
        first.namespaces[0].routes.retain(|route| route.destination.prefix_len() == 24);
        [first, second]
    };
    let text = explained(astray("192.168.56.99"), &path).unwrap();
    assert!(
        text.starts_with("possibly: flannel.1 on node1 sends what is for node2 to 192.168.56.99"),
        "{text}"
    );
    for hop in &mut path.hops {
        if let Some(outer) = &mut hop.outer {
            outer.dst = "192.168.56.99".parse().unwrap();
        }
    }
    let text = explained(astray("192.168.56.99"), &path).unwrap();
    assert!(text.starts_with("flannel.1 on node1 sends"), "{text}");
    assert!(text.contains("bridge fdb replace 02:00:00:00:00:02 dev flannel.1 dst 192.168.56.12"), "{text}");
    assert_eq!(explained(nodes(), &path), None);
}

#[test]
fn a_rule_that_refuses_is_named_if_it_matches() {
    let prohibited = |from: &str| {
        let [mut first, second] = nodes();
        first.namespaces[0].state.policy.push(PolicyRule {
            priority: 100,
            from: Some(from.parse().unwrap()),
            to: None,
            input: None,
            conditional: false,
            action: PolicyAction::Refuse(Refusal::Prohibit),
        });
        [first, second]
    };
    let path = dropped("node1", "IP_INNOROUTES", "ip_error");
    let text = explained(prohibited("10.42.0.10/32"), &path).unwrap();
    assert!(text.contains("policy rule 100 is `from 10.42.0.10/32 prohibit`"), "{text}");
    assert_eq!(explained(prohibited("10.42.0.11/32"), &path), None);
}

#[test]
fn a_blackhole_route_counts_only_if_no_longer_one_leads_on() {
    let with = |destination: &str| {
        let [mut first, second] = nodes();
        let destination = destination.parse().unwrap();
        first.namespaces[0].state.refusing.push(RefusingRoute {
            destination,
            table: 254,
            refusal: Refusal::Blackhole,
        });
        [first, second]
    };
    let path = dropped("node1", "IP_INNOROUTES", "ip_error");
    assert!(explained(with("10.42.1.10/32"), &path).unwrap().contains("blackhole route for 10.42.1.10/32"));
    // The CNI's own, for what no pod has.
    assert_eq!(explained(with("10.42.0.0/16"), &path), None);
}

#[test]
fn ports_that_are_isolated_explain_what_is_lost_between_them() {
    let [mut first, second] = nodes();
    let mut pod2 = first.namespaces[1].clone();
    (pod2.inode, pod2.pod) = (pod2.inode + 7, Some("default/pod2".to_owned()));
    pod2.devices.iter_mut().for_each(|device| device.addresses.clear());
    let own = &mut first.namespaces[0];
    let port = Some(Port { state: PortState::Forwarding, hairpin: false, isolated: true });
    let is_veth = |device: &&mut Device| device.kind == DeviceKind::Veth && device.master.is_some();
    let veth = own.devices.iter_mut().find(is_veth).unwrap();
    veth.port = port;
    let mut other = veth.clone();
    (other.index, other.name) = (77, "veth77".to_owned());
    other.peer = Some(Peer { netns: Some(pod2.inode), index: 2 });
    own.devices.push(other);
    first.namespaces.push(pod2);
    let mut path = samples::cross_node_request();
    path.verdict = Verdict::Vanished;
    path.hops.truncate(1);
    (path.to.pod, path.to.node) = (Some("default/pod2".into()), Some("node1".into()));
    let text = explained([first.clone(), second.clone()], &path).unwrap();
    assert!(text.starts_with("possibly: the bridge ports ") && text.contains("and veth77"), "{text}");
    assert!(text.contains("isolated off"), "{text}");
    // One alone exchanges packets with all others.
    first.namespaces[0].devices.last_mut().unwrap().port = None;
    assert_eq!(explained([first, second], &path), None);
}

#[test]
fn what_is_wrong_elsewhere_explains_nothing() {
    let [mut first, second] = nodes();
    let lone = first.namespaces[0].devices.len() as u32 + 40;
    let mut device = first.namespaces[0].devices[1].clone();
    (device.index, device.name, device.up) = (lone, "dummy0".to_owned(), false);
    device.addresses.clear();
    first.namespaces[0].devices.push(device);
    assert_eq!(explained([first, second], &samples::vanished()), None);
}

#[test]
fn a_pod_that_cannot_send_is_told_from_one_that_does_not() {
    let to: IpAddr = "10.42.1.10".parse().unwrap();
    let silence = |change: &dyn Fn(&mut Topology)| {
        let [mut first, second] = nodes();
        change(&mut first);
        let facts = facts([first, second]);
        let findings = findings(&facts);
        for_no_traffic("default/pod1", &[to], &facts, &findings)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(silence(&|_| {}), [] as [&str; 0]);
    assert_eq!(
        silence(&|node| node.namespaces[1].routes.clear()),
        ["default/pod1 has no default route. In default/pod1: `ip route`"]
    );
    assert_eq!(
        silence(&|node| node.namespaces[1].routes[0].gateway = Some("10.42.0.254".parse().unwrap())),
        [
            "default/pod1's default route is by 10.42.0.254, which no device of node1 has; cni0 has 10.42.0.1. In \
          default/pod1: `ip route`; to fix it: `ip route replace default via 10.42.0.1`"
        ]
    );
    let unanswered = silence(&|node| {
        node.namespaces[1].state.neighbours.push(Neighbour {
            device: 2,
            address: "10.42.0.1".parse().unwrap(),
            mac: None,
            state: NeighbourState::Failed,
        });
    });
    assert!(unanswered[0].starts_with("nobody answers default/pod1's ARP requests for 10.42.0.1 on eth0"));
    let down = silence(&|node| node.namespaces[1].devices[1].up = false);
    assert_eq!(
        down,
        [
            "eth0 of default/pod1 is down. In default/pod1: `ip link show eth0`; to fix it: `ip link set eth0 up`"
        ]
    );
}

#[test]
fn an_address_that_is_held_twice_explains_what_the_other_holder_took() {
    let held = |address: &str| {
        let [mut first, second] = nodes();
        give(&mut first, 0, "cni0", address);
        [first, second]
    };
    let mut path = samples::cross_node_request();
    path.hops.truncate(2);
    let mut taken = path.hops[1].clone();
    (taken.index, taken.action, taken.evidence) = (2, Action::LocalIn, Evidence::Inferred);
    path.verdict = Verdict::Vanished;
    path.hops[1].action = Action::Bridge;
    // It went on from there, as far as is known.
    let on_the_way = path.clone();
    path.hops.push(taken);
    let text = explained(held("10.42.1.10/32"), &path).unwrap();
    assert_eq!(
        text,
        "10.42.1.10 is also held by node1 (cni0), besides default/pod3 (eth0 on node2). On node1: `ip addr show \
         to 10.42.1.10`"
    );
    assert_eq!(explained(held("10.42.1.77/32"), &path), None);
    assert_eq!(explained(held("10.42.1.10/32"), &on_the_way), None);
    // What another namespace refuses is not by this.
    let refused = dropped("node2", "NO_SOCKET", "tcp_v4_rcv");
    assert_eq!(explained(held("10.42.1.10/32"), &refused), None);
}

#[test]
fn another_port_is_known_for_the_cause_only_where_the_packet_has_it() {
    let listening = |port: u16| {
        let [first, mut second] = nodes();
        for device in &mut second.namespaces[0].devices {
            if let DeviceKind::Vxlan(vxlan) = &mut device.kind {
                vxlan.port = port;
            }
        }
        [first, second]
    };
    let mut path = samples::vanished();
    assert!(explained(listening(4789), &path).unwrap().starts_with("flannel.1 has UDP port 8472 on node1"));
    assert_eq!(explained(listening(8472), &path), None);
    // One that the other tunnel of the node would take.
    for hop in &mut path.hops {
        if let Some(outer) = &mut hop.outer {
            outer.dport = Some(4789);
        }
    }
    assert!(explained(listening(4789), &path).unwrap().starts_with("possibly: "));
}

#[test]
fn what_a_pod_cannot_resolve_is_looked_for_in_the_pod() {
    let unanswered = |address: &str, namespace: usize| {
        let [mut first, second] = nodes();
        first.namespaces[namespace].state.neighbours.push(Neighbour {
            device: 2,
            address: address.parse().unwrap(),
            mac: None,
            state: NeighbourState::Failed,
        });
        [first, second]
    };
    let mut path = dropped("node1", "NEIGH_FAILED", "neigh_invalidate");
    path.hops.last_mut().unwrap().pod = Some("default/pod1".into());
    let text = explained(unanswered("10.42.0.1", 1), &path).unwrap();
    assert!(text.starts_with("nobody answers default/pod1's ARP requests for 10.42.0.1 on eth0"), "{text}");
    assert!(text.contains("Possible: ") && text.contains("`tc filter show dev veth"), "{text}");
    // Neither what the pod did not ask for, nor what the node could not resolve.
    assert_eq!(explained(unanswered("10.42.0.77", 1), &path), None);
    assert_eq!(explained(unanswered("10.42.0.1", 0), &path), None);
}

#[test]
fn a_device_that_is_down_explains_the_route_that_went_with_it() {
    let without = |device: &str| {
        let [first, mut second] = nodes();
        change(&mut second, 0, device, |device| device.up = false);
        [first, second]
    };
    let path = dropped("node2", "IP_INNOROUTES", "ip_error");
    let text = explained(without("cni0"), &path).unwrap();
    assert!(text.starts_with("cni0 of node2 is down. On node2: `ip link show cni0`; to fix it:"), "{text}");
    // Neither by a device of another network, nor on another node.
    assert_eq!(explained(without("flannel.1"), &path), None);
    assert_eq!(explained(without("cni0"), &dropped("node1", "IP_INNOROUTES", "ip_error")), None);
    // A tunnel has no network of its own: that it would have led there is likely.
    let [mut first, second] = nodes();
    change(&mut first, 0, "flannel.1", |device| device.up = false);
    let text = explained([first, second], &dropped("node1", "IP_INNOROUTES", "ip_error")).unwrap();
    assert!(text.starts_with("possibly: flannel.1 of node1 is down"), "{text}");
}

#[test]
fn a_tunnel_that_is_down_takes_nothing_out_of_it() {
    let mut path = dropped("node2", "NO_SOCKET", "__udp4_lib_rcv");
    let arrived = path.hops.iter().rposition(|hop| hop.action == Action::NodeIngress).unwrap();
    let last = path.hops.pop().unwrap();
    path.hops.truncate(arrived + 1);
    path.hops.push(Hop { index: arrived as u32 + 1, ..last });
    let without = |port: u16| {
        let [first, mut second] = nodes();
        change(&mut second, 0, "flannel.1", |device| {
            device.up = false;
            if let DeviceKind::Vxlan(vxlan) = &mut device.kind {
                vxlan.port = port;
            }
        });
        [first, second]
    };
    assert!(explained(without(8472), &path).unwrap().starts_with("flannel.1 of node2 is down"));
    assert_eq!(explained(without(4789), &path), None, "it would not have taken this port either");
    assert_eq!(explained(nodes(), &path), None);
}

#[test]
fn a_tunnel_sends_from_an_address_of_its_node() {
    let from = |local: &str| {
        let [mut first, second] = nodes();
        change(&mut first, 0, "flannel.1", |device| {
            if let DeviceKind::Vxlan(vxlan) = &mut device.kind {
                vxlan.local = Some(local.parse().unwrap());
            }
        });
        [first, second]
    };
    let mut path = dropped("node1", "IP_OUTNOROUTES", "vxlan_xmit_one");
    path.hops.last_mut().unwrap().device = Some("flannel.1".into());
    let text = explained(from("192.168.56.77"), &path).unwrap();
    assert!(text.starts_with("flannel.1 on node1 sends from 192.168.56.77, which no device"), "{text}");
    assert_eq!(explained(from("192.168.56.11"), &path), None);
    path.hops.last_mut().unwrap().device = Some("cni0".into());
    assert_eq!(explained(from("192.168.56.77"), &path), None);
}

#[test]
fn a_pods_mtu_explains_only_packets_that_exceed_it() {
    let with = |mtu: u32| {
        let [first, mut second] = nodes();
        change(&mut second, 1, "eth0", |device| device.mtu = mtu);
        [first, second]
    };
    let path = dropped("node2", "NOT_SPECIFIED", "__dev_forward_skb2");
    let bytes = path.hops.last().unwrap().bytes;
    let text = explained(with(bytes - 1), &path).unwrap();
    assert!(
        text.starts_with(&format!("eth0 of default/pod3 has MTU {}, and its other end", bytes - 1)),
        "{text}"
    );
    assert_eq!(explained(with(bytes), &path), None);
    assert_eq!(explained(with(bytes - 1), &dropped("node2", "NETFILTER_DROP", "nf_hook_slow")), None);
    // Sent to a Service, which chose this pod.
    let mut translated = path.clone();
    let service = End { ip: [10, 43, 0, 10].into(), port: None, pod: None, node: None, service: None };
    let pod = std::mem::replace(&mut translated.to, service);
    translated.translated = Some(Box::new(Translated { from: path.from.clone(), to: pod }));
    assert_eq!(explained(with(bytes - 1), &translated).unwrap(), text);
}

#[test]
fn a_pods_refusing_route_counts_only_if_the_pod_has_no_longer_one() {
    let with = |longer_of: usize| {
        let [mut first, second] = nodes();
        first.namespaces[1].state.refusing.push(RefusingRoute {
            destination: "10.42.0.0/16".parse().unwrap(),
            table: 254,
            refusal: Refusal::Blackhole,
        });
        first.namespaces[longer_of].routes.push(Route {
            destination: "10.42.1.10/32".parse().unwrap(),
            gateway: Some("10.42.0.1".parse().unwrap()),
            device: 2,
            metric: 0,
        });
        [first, second]
    };
    let path = dropped("node1", "IP_OUTNOROUTES", "ip_route_output_flow");
    let text = explained(with(0), &path);
    assert!(text.as_ref().is_some_and(|text| text.contains("blackhole")), "{text:?}");
    assert_eq!(explained(with(1), &path), None);
}

#[test]
fn without_a_veth_a_nodes_findings_are_not_a_silent_pods() {
    let [mut first, second] = nodes();
    first.namespaces[0].devices.retain(|device| !matches!(device.kind, DeviceKind::Veth));
    first.namespaces[0].state.policy.push(PolicyRule {
        priority: 5270,
        from: None,
        to: None,
        input: None,
        conditional: false,
        action: PolicyAction::Refuse(Refusal::Blackhole),
    });
    let facts = facts([first, second]);
    let findings = findings(&facts);
    assert!(findings.iter().any(|finding| finding.device.is_none() && finding.node == "node1"));
    assert_eq!(for_no_traffic("default/pod1", &[], &facts, &findings), Vec::<&Finding>::new());
}

#[test]
fn a_rule_that_diverts_is_named_only_where_the_packet_left_the_main_tables_way() {
    let diverted = |from: &str, conditional: bool| {
        let [mut first, second] = nodes();
        let mut vpn = first.namespaces[0].devices[1].clone();
        (vpn.index, vpn.name) = (77, "tailscale0".to_owned());
        (vpn.kind, vpn.peer, vpn.master) = (DeviceKind::Physical, None, None);
        vpn.addresses.clear();
        first.namespaces[0].devices.push(vpn);
        first.namespaces[0].state.policy.push(PolicyRule {
            priority: 5270,
            from: Some(from.parse().unwrap()),
            to: None,
            input: None,
            conditional,
            action: PolicyAction::Lookup(52),
        });
        [first, second]
    };
    let mut path = dropped("node1", "QDISC_DROP", "noop_enqueue");
    path.hops.last_mut().unwrap().device = Some("tailscale0".into());
    let text = explained(diverted("10.42.0.0/24", false), &path).unwrap();
    assert!(text.contains("(5270) has packets from 10.42.0.0/24 routed by table 52"), "{text}");
    assert_eq!(explained(diverted("10.42.7.0/24", false), &path), None);
    assert_eq!(explained(diverted("10.42.0.0/24", true), &path), None);
    path.hops.last_mut().unwrap().device = Some("flannel.1".into());
    assert_eq!(explained(diverted("10.42.0.0/24", false), &path), None);
}
