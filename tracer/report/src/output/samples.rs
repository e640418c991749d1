//! Paths made by hand, one of every kind: what the tests of all outputs show.

#![expect(clippy::unwrap_used, reason = "these values are written down here, and only tests build them")]

use std::net::IpAddr;

use crate::diagnose::Diagnosis;
use crate::totals::{self, Collector, Finished};

use podtrace_path::{
    Action, Direction, Drop, End, Evidence, FlowRef, Hop, HopEvent, Nat, NatKind, Outer, Path, Point,
    Protocol, RouteTaken, Tuple, Verdict,
};

/// Every sample with its name, in the order of their numbers.
pub fn all() -> Vec<(&'static str, Path)> {
    vec![
        ("cross_node_request", cross_node_request()),
        ("cross_node_reply", cross_node_reply()),
        ("same_node", same_node()),
        ("dropped", dropped()),
        ("vanished", vanished()),
        ("split_tcp", split_tcp()),
        ("rejected", rejected()),
        ("nat", nat()),
        ("ipv6", ipv6()),
        ("hostile", hostile()),
        ("open", open()),
    ]
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn end(pod: &str, address: &str, port: Option<u16>, node: &str) -> End {
    let pod = (!pod.is_empty()).then(|| pod.into());
    End { pod, ip: ip(address), port, node: (!node.is_empty()).then(|| node.into()), service: None }
}

/// A path without hops between two ends.
fn path(id: u64, verdict: Verdict, proto: Protocol, label: &str, bytes: u32, from: End, to: End) -> Path {
    Path {
        id,
        verdict,
        reason: None,
        advice: None,
        confidence: 1.0,
        flow: FlowRef { id, direction: Direction::Request },
        from,
        to,
        translated: None,
        proto,
        label: label.to_owned(),
        bytes,
        payload: bytes - 28,
        started_at: 1_795_323_600_000_000_000,
        duration_ns: 0,
        duration_error_ns: 0,
        hops: Vec::new(),
        forged: None,
        segment: None,
        seen: None,
        wire_packets: 1,
    }
}

/// Builds a path hop by hop.
trait Sketch: Sized {
    /// Adds an observed hop that is like the packet was when it set out, or as it was at the hop before.
    fn hop(self, node: &str, at_us: f64, device: &str, point: Point, action: Action) -> Self;
    /// Changes the hop added last.
    fn but(self, change: impl FnOnce(&mut Hop)) -> Self;
}

impl Sketch for Path {
    fn hop(mut self, node: &str, at_us: f64, device: &str, point: Point, action: Action) -> Self {
        let (tuple, bytes, packets, merged) = match self.hops.last() {
            Some(hop) => (hop.tuple, hop.bytes, hop.packets, hop.merged),
            None => {
                let tuple = Tuple {
                    src: self.from.ip,
                    dst: self.to.ip,
                    proto: self.proto,
                    sport: self.from.port,
                    dport: self.to.port,
                };
                (tuple, self.bytes, 1, false)
            }
        };
        #[expect(clippy::cast_possible_truncation, reason = "small, and written down here")]
        let at_ns = (at_us * 1e3).round() as i64;
        let clock_error_ns = if self.hops.first().is_none_or(|hop| &*hop.node == node) { 0 } else { 3_000 };
        let pod = match action {
            Action::PodEgress => self.from.pod.clone(),
            Action::PodIngress => self.to.pod.clone(),
            _ => None,
        };
        self.duration_ns = at_ns;
        self.duration_error_ns = clock_error_ns;
        self.hops.push(Hop {
            index: u32::try_from(self.hops.len()).unwrap(),
            node: node.into(),
            device: (!device.is_empty()).then(|| device.into()),
            point: Some(point),
            action,
            at_ns: Some(at_ns),
            clock_error_ns,
            evidence: Evidence::Observed,
            tuple,
            bytes,
            packets,
            merged,
            outer: None,
            nat: None,
            conntrack: None,
            route: None,
            pod,
            drop: None,
            neighbour: None,
            queued_ns: None,
            flooded: false,
            events: vec![HopEvent {
                point,
                device: (!device.is_empty()).then(|| device.into()),
                at_ns,
                detail: None,
            }],
            sources: Vec::new(),
        });
        self
    }

    fn but(mut self, change: impl FnOnce(&mut Hop)) -> Self {
        change(self.hops.last_mut().unwrap());
        self
    }
}

fn route(hop: &mut Hop, destination: &str, gateway: Option<&str>, device: &str) {
    hop.route = Some(RouteTaken {
        destination: Some(destination.to_owned()),
        device: device.into(),
        gateway: gateway.map(ip),
        evidence: Evidence::Inferred,
    });
}

fn vxlan(src: &str, dst: &str) -> Outer {
    Outer {
        kind: "vxlan".into(),
        vni: Some(1),
        src: ip(src),
        dst: ip(dst),
        sport: Some(51_234),
        dport: Some(8472),
        overhead: 50,
    }
}

/// The first half of a way from node1 to node2, up to the wire.
fn out_of_node1(path: Path) -> Path {
    path.hop("node1", 0.0, "veth1a2b", Point::TcIngress, Action::PodEgress)
        .hop("node1", 24.1, "cni0", Point::TcIngress, Action::Route)
        .but(|hop| route(hop, "10.42.1.0/24", Some("10.42.1.0"), "flannel.1"))
        .hop("node1", 38.6, "flannel.1", Point::TcEgress, Action::Encapsulate)
        .but(|hop| hop.outer = Some(vxlan("192.168.56.11", "192.168.56.12")))
        .hop("node1", 56.3, "eth0", Point::TcEgress, Action::NodeEgress)
        .but(|hop| hop.outer = Some(vxlan("192.168.56.11", "192.168.56.12")))
}

/// The second half, from the wire on.
fn into_node2(path: Path) -> Path {
    path.hop("node2", 66.9, "eth0", Point::TcIngress, Action::NodeIngress)
        .but(|hop| hop.outer = Some(vxlan("192.168.56.11", "192.168.56.12")))
        .hop("node2", 81.2, "flannel.1", Point::TcIngress, Action::Decapsulate)
        .but(|hop| hop.outer = Some(vxlan("192.168.56.11", "192.168.56.12")))
        .hop("node2", 85.8, "cni0", Point::TcEgress, Action::Route)
        .but(|hop| route(hop, "10.42.1.0/24", None, "cni0"))
        .hop("node2", 88.8, "veth9c8d", Point::TcEgress, Action::PodIngress)
}

fn pod1(port: Option<u16>) -> End {
    end("default/pod1", "10.42.0.10", port, "node1")
}

fn pod3(port: Option<u16>) -> End {
    end("default/pod3", "10.42.1.10", port, "node2")
}

/// What these paths amount to.
pub fn finished(paths: impl IntoIterator<Item = Path>) -> Finished {
    let mut collector = Collector::default();
    paths.into_iter().for_each(|path| collector.add(&path));
    collector.finished(totals::End::default())
}

/// A ping's request from one node to another.
pub fn cross_node_request() -> Path {
    let label = "echo request id 7 seq 1";
    into_node2(out_of_node1(path(1, Verdict::Delivered, Protocol::Icmp, label, 84, pod1(None), pod3(None))))
}

/// And the reply to it.
pub fn cross_node_reply() -> Path {
    let mut reply =
        path(2, Verdict::Delivered, Protocol::Icmp, "echo reply id 7 seq 1", 84, pod3(None), pod1(None))
            .hop("node2", 0.0, "veth9c8d", Point::TcIngress, Action::PodEgress)
            .hop("node2", 9.2, "cni0", Point::TcIngress, Action::Route)
            .but(|hop| route(hop, "10.42.0.0/24", Some("10.42.0.0"), "flannel.1"))
            .hop("node2", 14.0, "flannel.1", Point::TcEgress, Action::Encapsulate)
            .but(|hop| hop.outer = Some(vxlan("192.168.56.12", "192.168.56.11")))
            .hop("node2", 19.8, "eth0", Point::TcEgress, Action::NodeEgress)
            .hop("node1", 31.0, "eth0", Point::TcIngress, Action::NodeIngress)
            .hop("node1", 39.5, "flannel.1", Point::TcIngress, Action::Decapsulate)
            .but(|hop| hop.outer = Some(vxlan("192.168.56.12", "192.168.56.11")))
            .hop("node1", 43.1, "cni0", Point::TcEgress, Action::Route)
            .but(|hop| route(hop, "10.42.0.0/24", None, "cni0"))
            .hop("node1", 45.7, "veth1a2b", Point::TcEgress, Action::PodIngress);
    reply.flow = FlowRef { id: 1, direction: Direction::Reply };
    reply
}

/// A ping's request over a bridge, which is inferred.
pub fn same_node() -> Path {
    let to = end("default/pod2", "10.42.0.11", None, "node1");
    path(3, Verdict::Delivered, Protocol::Icmp, "echo request id 8 seq 1", 84, pod1(None), to)
        .hop("node1", 0.0, "veth1a2b", Point::TcIngress, Action::PodEgress)
        .hop("node1", 0.0, "cni0", Point::TcIngress, Action::Bridge)
        .but(|hop| (hop.evidence, hop.point, hop.at_ns) = (Evidence::Inferred, None, None))
        .hop("node1", 18.4, "veth3c4d", Point::TcEgress, Action::PodIngress)
}

/// A packet that a netfilter rule drops while it is forwarded.
pub fn dropped() -> Path {
    let mut path =
        path(4, Verdict::Dropped, Protocol::Udp, "datagram", 128, pod1(Some(40_000)), pod3(Some(53)))
            .hop("node1", 0.0, "veth1a2b", Point::TcIngress, Action::PodEgress)
            .hop("node1", 24.1, "cni0", Point::TcIngress, Action::Route)
            .but(|hop| route(hop, "10.42.1.0/24", Some("10.42.1.0"), "flannel.1"))
            .hop("node1", 29.9, "cni0", Point::KfreeSkb, Action::Drop)
            .but(|hop| {
                hop.drop = Some(Drop {
                    reason: Some("NETFILTER_DROP".to_owned()),
                    location: Some("nf_hook_slow".to_owned()),
                    ..Drop::default()
                });
            });
    path.reason = Some("NETFILTER_DROP".to_owned());
    Diagnosis::default().annotate(&mut path);
    path
}

/// A packet that leaves its node and is not seen at the other.
pub fn vanished() -> Path {
    let mut path = path(5, Verdict::Vanished, Protocol::Tcp, "SYN", 60, pod1(Some(41_000)), pod3(Some(8080)));
    path = out_of_node1(path);
    path.reason = Some("left node1 at eth0, never seen on node2".to_owned());
    Diagnosis::default().annotate(&mut path);
    path
}

/// A large segment that the uplink takes apart and the other node puts together with others'.
pub fn split_tcp() -> Path {
    let mut path = path(
        6,
        Verdict::Delivered,
        Protocol::Tcp,
        "data 64,000 B seq 1",
        64_052,
        pod1(Some(41_002)),
        pod3(Some(5201)),
    )
    .hop("node1", 0.0, "veth1a2b", Point::TcIngress, Action::PodEgress)
    .hop("node1", 2_240.1, "flannel.1", Point::TcEgress, Action::Encapsulate)
    .but(|hop| hop.outer = Some(vxlan("192.168.56.11", "192.168.56.12")))
    .hop("node1", 2_256.3, "eth0", Point::TcEgress, Action::NodeEgress)
    .hop("node2", 2_290.9, "eth0", Point::TcIngress, Action::NodeIngress)
    .but(|hop| (hop.packets, hop.bytes) = (46, 66_392))
    .hop("node2", 2_301.2, "flannel.1", Point::TcIngress, Action::Decapsulate)
    .but(|hop| hop.outer = Some(vxlan("192.168.56.11", "192.168.56.12")))
    .hop("node2", 2_312.0, "cni0", Point::TcEgress, Action::Route)
    .but(|hop| {
        route(hop, "10.42.1.0/24", None, "cni0");
        (hop.packets, hop.bytes, hop.merged) = (2, 64_104, true);
    })
    .hop("node2", 2_315.0, "veth9c8d", Point::TcEgress, Action::PodIngress);
    path.confidence = 0.5;
    path
}

/// A connection that nobody listens for.
pub fn rejected() -> Path {
    let mut path = path(7, Verdict::Rejected, Protocol::Tcp, "SYN", 60, pod1(Some(41_004)), pod3(Some(9)));
    path = into_node2(out_of_node1(path));
    path.reason = Some("reset by default/pod3: nothing listens on port 9".to_owned());
    path
}

/// A look-up by a Service's address.
pub fn nat() -> Path {
    let to = end("kube-system/coredns-6d8c4cb4d-x2x7k", "10.42.0.5", Some(53), "node1");
    let mut path = path(8, Verdict::Delivered, Protocol::Udp, "datagram", 71, pod1(Some(40_002)), to)
        .hop("node1", 0.0, "veth1a2b", Point::TcIngress, Action::PodEgress)
        .but(|hop| (hop.tuple.dst, hop.tuple.dport) = (ip("10.96.0.10"), Some(53)))
        .hop("node1", 12.5, "cni0", Point::TcIngress, Action::Nat)
        .but(|hop| {
            let before = hop.tuple;
            hop.tuple.dst = ip("10.42.0.5");
            hop.nat = Some(Nat { kind: NatKind::Dnat, before, after: hop.tuple, service: None, rule: None });
        })
        .hop("node1", 17.0, "vethc0de", Point::TcEgress, Action::PodIngress)
        .but(|hop| (hop.tuple.src, hop.tuple.sport) = (ip("10.42.0.1"), Some(1024)));
    path.flow.direction = Direction::Request;
    path
}

/// Both families, a node's own address, clocks that are further apart than the wire is long.
pub fn ipv6() -> Path {
    let from = end("", "fd00:56::11", Some(51_000), "node1");
    let to = end("shop/cart-0", "fd00:42:1::10", Some(443), "node2");
    let mut path = path(9, Verdict::Delivered, Protocol::Tcp, "SYN", 80, from, to)
        .hop("node1", 0.0, "eth0", Point::TcEgress, Action::LocalOut)
        .hop("node2", -40.0, "eth0", Point::TcIngress, Action::NodeIngress)
        .hop("node2", -31.6, "lxc12", Point::TcEgress, Action::PodIngress);
    for hop in &mut path.hops[1..] {
        hop.clock_error_ns = 2_500_000;
    }
    path.duration_error_ns = 2_500_000;
    path
}

/// Names that would take over a terminal.
pub fn hostile() -> Path {
    let from = end("default/\u{202e}1dop\x1b[2J", "10.42.0.66", Some(1), "node1\r");
    let to = end("default/pod\u{200b}2", "10.42.0.11", Some(80), "node1\r");
    let mut path = path(10, Verdict::Dropped, Protocol::Other(89), "\x1b]0;owned\x07", 60, from, to)
        .hop("node1\r", 0.0, "veth\n✓", Point::TcIngress, Action::PodEgress)
        .hop("node1\r", 1.0, "", Point::KfreeSkb, Action::Drop)
        .but(|hop| {
            hop.drop = Some(Drop {
                reason: Some("\x1b[32mOK".to_owned()),
                location: None,
                advice: Some("run\nthis".to_owned()),
                ..Drop::default()
            });
        });
    path.reason = Some("\u{9b}31m".to_owned());
    path
}

/// A packet that was on its way when tracing stopped.
pub fn open() -> Path {
    let mut path =
        path(11, Verdict::Open, Protocol::Tcp, "FIN ACK", 52, pod1(Some(41_002)), pod3(Some(5201)))
            .hop("node1", 0.0, "veth1a2b", Point::TcIngress, Action::PodEgress)
            .hop("node1", 24.1, "cni0", Point::TcIngress, Action::Route);
    path.flow.id = 6;
    path
}
