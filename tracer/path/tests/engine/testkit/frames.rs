//! The frames that the agents of a scene send, and the cluster that the engine knows.

use std::collections::BTreeMap;

use bytes::Bytes;
use tracer_common::hook;

use podtrace_path::{Context, Path, Summary};
use podtrace_protocol::frame::{
    Accounting, Attached, FilterSpec, FromAgent, Hello, HookState, Mechanism, Side,
};
use podtrace_protocol::hook::{HOOKS, Hook};
use podtrace_protocol::inventory::{Inventory, Node, Pod, Service, ServicePort};
use podtrace_protocol::record::encode;

use super::nodes::topology;
use super::{
    NEIGH_FAILED, NETFILTER_DROP, NO_SOCKET, NOT_SPECIFIED, OTHERHOST, POD1, POD2, POD3, POD4, Scene,
    TCP_ABORT_ON_DATA, TCP_FLAGS, TCP_OLD_DATA, TCP_PAWS, WEB, play,
};

impl Scene {
    pub(crate) fn context(&self) -> Context {
        let pod = |name: &str, address: [u8; 4], node: &str| Pod {
            namespace: "default".into(),
            name: name.into(),
            ips: vec![address.into()],
            node: node.into(),
            host_network: false,
            owner: None,
            labels: [].into(),
        };
        let node = |name: &str, last| Node {
            name: name.into(),
            addresses: vec![[192, 168, 56, last].into()],
            run: podtrace_protocol::inventory::Run::Here,
        };
        Context {
            inventory: Inventory {
                nodes: vec![node("node1", 11), node("node2", 12)],
                pods: vec![
                    pod("pod1", POD1, "node1"),
                    pod("pod2", POD2, "node1"),
                    pod("pod3", POD3, "node2"),
                    pod("pod4", POD4, "node2"),
                ],
                services: vec![Service {
                    namespace: "default".into(),
                    name: "web".into(),
                    cluster_ips: vec![WEB.into()],
                    ports: vec![ServicePort {
                        name: None,
                        protocol: "udp".into(),
                        port: 5000,
                        target_port: 5000,
                        node_port: None,
                    }],
                    endpoints: vec!["default/pod2".into(), "default/pod3".into()],
                }],
                ..Inventory::default()
            },
            nodes: if self.one_node { vec!["node1".into()] } else { vec!["node1".into(), "node2".into()] },
            filter: FilterSpec::default(),
            memory: None,
        }
    }

    fn heads(&self, node: usize) -> Vec<FromAgent> {
        let reasons = [
            (NO_SOCKET, "NO_SOCKET"),
            (TCP_ABORT_ON_DATA, "TCP_ABORT_ON_DATA"),
            (NEIGH_FAILED, "NEIGH_FAILED"),
            (OTHERHOST, "OTHERHOST"),
            (TCP_OLD_DATA, "TCP_OLD_DATA"),
            (TCP_PAWS, "TCP_RFC7323_PAWS"),
            (NETFILTER_DROP, "NETFILTER_DROP"),
            (NOT_SPECIFIED, "NOT_SPECIFIED"),
            (TCP_FLAGS, "TCP_FLAGS"),
        ];
        vec![
            FromAgent::Hello(Hello {
                monotonic_ns: self.clocks[node],
                realtime_ns: 1_800_000_000_000_000_000,
                ..Hello::default()
            }),
            FromAgent::Topology(topology(node)),
            FromAgent::Attached(Attached {
                notes: Vec::new(),
                hooks: attached_hooks(),
                drop_reasons: reasons.into_iter().map(|(number, name)| (number, name.to_owned())).collect(),
            }),
            FromAgent::Symbols(BTreeMap::from([(0xffff_ffff_8100_0000, self.dropped_in.to_owned())])),
            FromAgent::Clock {
                sent_ns: 0,
                node_ns: self.clocks[node] + self.round_trip / 2,
                received_ns: self.round_trip,
            },
        ]
    }

    fn nodes(&self) -> usize {
        if self.one_node { 1 } else { 2 }
    }

    /// The frames as they come live: a heartbeat of each node every `beat` nanoseconds.
    pub(crate) fn frames(&self, beat: u64) -> Vec<(usize, FromAgent)> {
        let mut frames: Vec<(usize, FromAgent)> = (0..self.nodes())
            .flat_map(|node| self.heads(node).into_iter().map(move |frame| (node, frame)))
            .collect();
        let end = self.events.iter().map(|(_, at, ..)| *at).max().unwrap_or(0) + self.quiet;
        let mut counters = [Accounting::default(); 2];
        let mut from = 0;
        while from <= end {
            let until = from + beat;
            for (node, counters) in counters.iter_mut().enumerate().take(self.nodes()) {
                let mut body = Vec::new();
                for (number, (of, at, event, bytes)) in self.events.iter().enumerate() {
                    if *of != node || !(from..until).contains(at) {
                        continue;
                    }
                    counters.produced += 1;
                    if self.lost.contains(&number) {
                        counters.lost_ring += 1;
                    } else {
                        counters.sent += 1;
                        encode(event, self.connections.get(&number), bytes, &mut body);
                    }
                }
                if !body.is_empty() {
                    frames.push((node, FromAgent::Events(Bytes::from(body))));
                }
                let now_ns = self.clocks[node] + until;
                frames.push((node, FromAgent::Heartbeat { now_ns, counters: *counters }));
            }
            from = until;
        }
        for (node, counters) in counters.into_iter().enumerate().take(self.nodes()) {
            frames.push((node, FromAgent::Goodbye { counters }));
        }
        frames
    }

    /// Plays the scene, traced between these addresses.
    pub(crate) fn play_filtered(&self, from: &[[u8; 4]], to: &[[u8; 4]]) -> (Vec<Path>, Summary) {
        let side = |addresses: &[[u8; 4]]| Side {
            addresses: addresses.iter().map(|address| (*address).into()).collect(),
            ..Side::default()
        };
        let filter = FilterSpec { from: side(from), to: side(to), ..FilterSpec::default() };
        play(Context { filter, ..self.context() }, &self.frames(100_000_000))
    }

    /// Plays the scene with heartbeats every 100 ms.
    pub(crate) fn play(&self) -> (Vec<Path>, Summary) {
        play(self.context(), &self.frames(100_000_000))
    }
}

/// All hooks of the stack.
pub(in super::super) fn attached_hooks() -> Vec<HookState> {
    HOOKS.iter().map(|hook| attached(Mechanism::Fentry, hook)).chain([queue()]).collect()
}

fn attached(how: Mechanism, hook: &Hook) -> HookState {
    let kind = if how == Mechanism::RawTracepoint { "tp" } else { how.name() };
    HookState { mechanism: Some(how), ..HookState::absent(&format!("{kind}:{}", hook.function)) }
}

fn queue() -> HookState {
    Hook::of(hook::START_XMIT).map(|hook| attached(Mechanism::RawTracepoint, hook)).unwrap()
}
