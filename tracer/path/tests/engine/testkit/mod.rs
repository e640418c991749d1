//! Two nodes on paper: composes packets, the events that eBPF programs would make of them and the frames that
//! agents would send, with each node's clock as far off as a test wants it.

use std::collections::{BTreeMap, BTreeSet};

use tracer_common::{CAPTURE, Conntrack, Event, flag, hook};

use podtrace_protocol::frame::FromAgent;

use podtrace_path::{Context, Engine, Path, Summary};

mod frames;
mod nodes;
mod random;
mod wire;

pub(super) use frames::attached_hooks;
use nodes::pod_inode;
pub(super) use nodes::{device, root, route};
pub(super) use random::Random;
pub(super) use wire::framed;
use wire::in_vxlan;
pub(super) use wire::{Tcp, Wire, echo, echo_reply, fragments, in_tunnel_of, port_unreachable, udp};

pub(super) const NODE1: usize = 0;
pub(super) const NODE2: usize = 1;
pub(super) const POD1: [u8; 4] = [10, 42, 0, 10];
pub(super) const POD2: [u8; 4] = [10, 42, 0, 11];
pub(super) const POD3: [u8; 4] = [10, 42, 1, 10];
pub(super) const POD4: [u8; 4] = [10, 42, 1, 11];
/// The cluster address of a Service, and where the outside begins.
pub(super) const WEB: [u8; 4] = [10, 43, 0, 10];
pub(super) const WORLD: [u8; 4] = [192, 168, 56, 1];
pub(super) const NO_SOCKET: u32 = 3;
pub(super) const NEIGH_FAILED: u32 = 40;
pub(super) const OTHERHOST: u32 = 9;
pub(super) const TCP_OLD_DATA: u32 = 10;
pub(super) const TCP_PAWS: u32 = 11;
pub(super) const NETFILTER_DROP: u32 = 12;
pub(super) const NOT_SPECIFIED: u32 = 2;
pub(super) const TCP_FLAGS: u32 = 13;
pub(super) const TCP_ABORT_ON_DATA: u32 = 14;

pub(super) const ETH0: u32 = 2;
pub(super) const FLANNEL: u32 = 3;
pub(super) const CNI0: u32 = 4;

/// Where an event is made.
#[derive(Clone, Copy, Debug)]
pub(super) enum At {
    FromPod([u8; 4]),
    ToPod([u8; 4]),
    BridgeIn,
    BridgeOut,
    TunnelIn,
    TunnelOut,
    UplinkIn,
    UplinkOut,
}

/// What happens, and what is told of it.
pub(super) struct Scene {
    /// What each node's clock says at moment 0, nanoseconds.
    pub(super) clocks: [u64; 2],
    /// Between question and answer about the clock, nanoseconds.
    pub(super) round_trip: u64,
    pub(super) tunnel: bool,
    /// Bytes that are captured of each packet.
    pub(super) capture: usize,
    /// Events that are produced but lost, by their number among all.
    pub(super) lost: Vec<usize>,
    /// Until when nodes go on after the last event, nanoseconds.
    pub(super) quiet: u64,
    pub(super) one_node: bool,
    /// Name of the function that drops packets.
    pub(super) dropped_in: &'static str,
    events: Vec<(usize, u64, Event, Vec<u8>)>,
    /// Node and identity of the packets that have events.
    seen: BTreeSet<(usize, u64)>,
    /// What connection tracking says, by number of the event.
    connections: BTreeMap<usize, Conntrack>,
    identities: u64,
}

impl Scene {
    pub(super) fn new() -> Self {
        Self {
            clocks: [1_000_000_000_000, 7_000_000_000_000],
            round_trip: 200_000,
            tunnel: true,
            capture: CAPTURE,
            lost: Vec::new(),
            quiet: 1_000_000_000,
            one_node: false,
            dropped_in: "some_function",
            events: Vec::new(),
            seen: BTreeSet::new(),
            connections: BTreeMap::new(),
            identities: 100,
        }
    }

    /// Has questions about the clocks take 8 ms one way and none the other: the estimate of each is off by 4 ms, and
    /// says so. What happens on one node seems to be earlier than it is.
    pub(super) fn misread_clock(&self, frames: &mut [(usize, FromAgent)], early: usize) {
        for (node, frame) in frames {
            if let FromAgent::Clock { sent_ns, node_ns, received_ns } = frame {
                (*sent_ns, *received_ns) = (0, 8_000_000);
                *node_ns = self.clocks[*node] + if *node == early { 8_000_000 } else { 0 };
            }
        }
    }

    /// A new packet identity.
    pub(super) fn identity(&mut self) -> u64 {
        self.identities += 1;
        self.identities
    }

    fn push(&mut self, node: usize, at: u64, mut event: Event, bytes: &[u8]) {
        event.at_ns = self.clocks[node] + at;
        if self.seen.insert((node, event.packet)) {
            event.flags |= flag::FIRST_SEEN;
        }
        let captured = bytes.len().min(self.capture);
        event.captured = captured as u16;
        self.events.push((node, at, event, bytes[..captured].to_vec()));
    }

    /// An event of a tc program.
    pub(super) fn see(&mut self, node: usize, at: u64, place: At, identity: u64, packet: &Wire) {
        let (ifindex, hook) = match place {
            At::FromPod(pod) => (u32::from(pod[3]), hook::TC_INGRESS),
            At::ToPod(pod) => (u32::from(pod[3]), hook::TC_EGRESS),
            At::BridgeIn => (CNI0, hook::TC_INGRESS),
            At::BridgeOut => (CNI0, hook::TC_EGRESS),
            At::TunnelIn => (FLANNEL, hook::TC_INGRESS),
            At::TunnelOut => (FLANNEL, hook::TC_EGRESS),
            At::UplinkIn => (ETH0, hook::TC_INGRESS),
            At::UplinkOut => (ETH0, hook::TC_EGRESS),
        };
        let ip = match place {
            At::UplinkIn if self.tunnel => in_vxlan(node, &packet.bytes, true),
            At::UplinkOut if self.tunnel => in_vxlan(node, &packet.bytes, false),
            _ => packet.bytes.clone(),
        };
        let bytes = framed(&ip);
        let event = Event {
            packet: identity,
            skb: 0xffff_8880_1234_0000,
            netns: root(node),
            ifindex,
            len: (bytes.len() + packet.length - packet.bytes.len()) as u32,
            hook,
            gso_segs: if packet.segments > 1 { packet.segments } else { 0 },
            gso_size: packet.size,
            ..blank()
        };
        self.push(node, at, event, &bytes);
    }

    /// An event of a tc program, of a packet without a tunnel of the nodes' around it.
    pub(super) fn see_bare(&mut self, node: usize, at: u64, place: At, identity: u64, packet: &Wire) {
        let tunnel = std::mem::replace(&mut self.tunnel, false);
        self.see(node, at, place, identity, packet);
        self.tunnel = tunnel;
    }

    /// Connection tracking says this of the packet of the last event.
    pub(super) fn tracked(&mut self, connection: Conntrack) {
        self.connections.insert(self.events.len() - 1, connection);
    }

    /// The packets of the events so far from `first` on matched by a node's address only.
    pub(super) fn only_via(&mut self, first: usize) {
        for (_, _, event, _) in &mut self.events[first..] {
            event.flags |= flag::VIA;
        }
    }

    /// The node of each event so far.
    pub(super) fn nodes_of_events(&self) -> Vec<usize> {
        self.events.iter().map(|(node, ..)| *node).collect()
    }

    /// How many events there are so far.
    pub(super) fn count(&self) -> usize {
        self.events.len()
    }

    /// An event of a tc program that knows the packet for a copy of another.
    pub(super) fn see_copy(
        &mut self,
        node: usize,
        at: u64,
        place: At,
        identity: u64,
        original: u64,
        packet: &Wire,
    ) {
        self.see(node, at, place, identity, packet);
        if let Some((.., event, _)) = self.events.last_mut() {
            event.parent = original;
        }
    }

    /// A packet of the node's own sets out by the device of this index.
    pub(super) fn set_out(&mut self, node: usize, at: u64, ifindex: u32, identity: u64, packet: &Wire) {
        let event = Event {
            packet: identity,
            netns: root(node),
            ifindex,
            route_ifindex: ifindex,
            hook: hook::IP_LOCAL_OUT,
            flags: flag::FROM_NETWORK,
            ..blank()
        };
        self.push(node, at, event, &packet.bytes);
    }

    /// An event of a hook of the network stack, at the device of this index.
    pub(super) fn pass(
        &mut self,
        node: usize,
        at: u64,
        number: u16,
        ifindex: u32,
        identity: u64,
        more: Event,
    ) {
        let event = Event { packet: identity, netns: root(node), ifindex, hook: number, ..more };
        self.push(node, at, event, &[]);
    }

    /// The kernel drops the packet, in the namespace of a pod or of the node.
    pub(super) fn drop(
        &mut self,
        node: usize,
        at: u64,
        pod: Option<[u8; 4]>,
        reason: u32,
        identity: u64,
        packet: &Wire,
    ) {
        let netns = pod.map_or(root(node), |pod| pod_inode(node, pod));
        let ifindex = if pod.is_some() { 2 } else { 0 };
        self.drop_at(node, at, (netns, ifindex), reason, identity, packet);
    }

    /// The kernel drops the packet at the node's end of a pod's veth.
    pub(super) fn drop_at_veth(
        &mut self,
        node: usize,
        at: u64,
        pod: [u8; 4],
        reason: u32,
        identity: u64,
        packet: &Wire,
    ) {
        self.drop_at(node, at, (root(node), u32::from(pod[3])), reason, identity, packet);
    }

    /// The kernel drops the packet at the node's uplink.
    pub(super) fn drop_at_uplink(&mut self, node: usize, at: u64, reason: u32, identity: u64, packet: &Wire) {
        self.drop_at(node, at, (root(node), ETH0), reason, identity, packet);
    }

    fn drop_at(
        &mut self,
        node: usize,
        at: u64,
        (netns, ifindex): (u32, u32),
        reason: u32,
        identity: u64,
        packet: &Wire,
    ) {
        let event = Event {
            packet: identity,
            location: 0xffff_ffff_8100_0000,
            netns,
            ifindex,
            len: packet.length as u32,
            reason,
            hook: hook::KFREE_SKB,
            flags: flag::FROM_NETWORK,
            ..blank()
        };
        self.push(node, at, event, &packet.bytes);
    }

    /// Out of a pod as far as the wire, from `at` on.
    pub(super) fn leave(&mut self, at: u64, packet: &Wire) -> u64 {
        let node = node_of(packet.bytes[12..16].try_into().unwrap());
        let identity = self.identity();
        self.see(node, at, At::FromPod(packet.bytes[12..16].try_into().unwrap()), identity, packet);
        self.see(node, at + 10_000, At::BridgeIn, identity, packet);
        if self.tunnel {
            self.see(node, at + 20_000, At::TunnelOut, identity, packet);
        }
        self.see(node, at + 30_000, At::UplinkOut, identity, packet);
        identity
    }

    /// From the wire into a pod, from `at` on.
    pub(super) fn arrive(&mut self, at: u64, packet: &Wire) -> u64 {
        let pod: [u8; 4] = packet.bytes[16..20].try_into().unwrap();
        let node = node_of(pod);
        let identity = self.identity();
        self.see(node, at, At::UplinkIn, identity, packet);
        if self.tunnel {
            self.see(node, at + 10_000, At::TunnelIn, identity, packet);
        }
        self.see(node, at + 20_000, At::BridgeOut, identity, packet);
        self.see(node, at + 30_000, At::ToPod(pod), identity, packet);
        identity
    }

    /// From pod to pod across the wire: eight events, 70 µs.
    pub(super) fn cross(&mut self, at: u64, packet: &Wire) {
        self.leave(at, packet);
        self.arrive(at + 40_000, packet);
    }

    /// From pod to pod over one bridge.
    pub(super) fn bridge(&mut self, at: u64, packet: &Wire) -> u64 {
        let identity = self.identity();
        let (src, dst) = (packet.bytes[12..16].try_into().unwrap(), packet.bytes[16..20].try_into().unwrap());
        self.see(node_of(src), at, At::FromPod(src), identity, packet);
        self.see(node_of(src), at + 8_000, At::ToPod(dst), identity, packet);
        identity
    }
}

/// Feeds frames to an engine.
pub(super) fn play(context: Context, frames: &[(usize, FromAgent)]) -> (Vec<Path>, Summary) {
    let mut engine = Engine::new(context);
    let mut paths = Vec::new();
    for (node, frame) in frames {
        engine.ingest(*node, frame, &mut paths);
    }
    let summary = engine.finish(&mut paths);
    (paths, summary)
}

/// A path's hops as `device action` words; what was inferred stands in brackets.
pub(super) fn steps(path: &Path) -> Vec<String> {
    path.hops
        .iter()
        .map(|hop| {
            let action = serde_json::to_value(hop.action).unwrap();
            let text = format!("{} {}", hop.device.as_deref().unwrap_or("-"), action.as_str().unwrap());
            if hop.point.is_none() { format!("[{text}]") } else { text }
        })
        .collect()
}

pub(super) const CROSSING: [&str; 8] = [
    "veth10 pod-egress",
    "cni0 route",
    "flannel.1 encapsulate",
    "eth0 node-egress",
    "eth0 node-ingress",
    "flannel.1 decapsulate",
    "cni0 route",
    "veth10 pod-ingress",
];

pub(super) fn blank() -> Event {
    Event {
        at_ns: 0,
        packet: 0,
        skb: 0,
        location: 0,
        sequence: 0,
        parent: 0,
        gateway: [0; 16],
        cpu: 0,
        netns: 0,
        ifindex: 0,
        len: 0,
        reason: 0,
        mark: 0,
        hook: 0,
        flags: 0,
        captured: 0,
        gso_segs: 0,
        gso_size: 0,
        route_ifindex: 0,
        aux: 0,
        reserved: 0,
    }
}

fn node_of(pod: [u8; 4]) -> usize {
    usize::from(pod[2])
}
