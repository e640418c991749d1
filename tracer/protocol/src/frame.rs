//! The protocol between a tracer and the agent on a node: frames on the agent's stdin and stdout.
//!
//! # Encoding
//!
//! | bytes | content |
//! | --- | --- |
//! | 4 | length of the kind and the body, little-endian, at most [`MAX_FRAME`] |
//! | 1 | kind: [`KIND_JSON`] or [`KIND_EVENTS`] |
//! | … | body |
//!
//! Control frames are JSON. Within one protocol version, fields may be added: receivers ignore unknown ones. Events are
//! binary: records as [`crate::record`] encodes them, back to back.
//!
//! # Sequence
//!
//! | tracer | agent | |
//! | --- | --- | --- |
//! | | `Hello` | on its own; the tracer checks the version |
//! | `Configure` | `Warning`…, `Topology`, `Attached` | programs are attached and silent; `Rules` follows when it is read |
//! | `Start` | `Started` | once all agents are attached and their clocks compared; again when a node joins (new NAT addresses) |
//! | | `Symbols`, `Events`, `ConntrackStats`, `Heartbeat` | until the end |
//! | `Update` | `Topology`, `Updated` | any number of times |
//! | `Clock`, `Probe` | `Clock`, `Probed` | any number of times; `Clock` also before `Configure` |
//! | `Stop` or end of input | `Goodbye` | programs are detached and all events sent |
//!
//! Instead of `Configure`, `ReadTopology` asks for the topology, and the rules if they are wanted. `Failed` can come at any
//! time and is the last frame.
//!
//! # Ends and backpressure
//!
//! The tracer ends an agent by `Stop`, or by closing its stdin. The agent then sends what it has and closes its stdout,
//! after `Goodbye` if it had attached. A goodbye that the tracer did not ask for, as after SIGTERM on the node, counts as a
//! loss.
//!
//! A tracer that reads slowly makes the agent wait: the ring buffer fills up, and what it has no room for is counted as lost.
//! A tracer never waits for an agent: one that does not take what it is sent is given up.
//!
//! # Times and names
//!
//! Times are nanoseconds of `CLOCK_MONOTONIC`, on the clock of the node or of the tracer as noted. Recordings hold the
//! same frames, so the names in the JSON never change: where ours became clearer, `rename` keeps the old one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;

use ipnet::IpNet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::stats::Stats;
use crate::topology::Topology;
use podtrace_rules::Rules;

/// Version of the protocol. Both sides must have the same.
pub const PROTOCOL_VERSION: u32 = 9;

/// Maximum length of a frame in bytes. A longer one means that the stream is not this protocol.
pub const MAX_FRAME: u32 = 16 << 20;

/// Kind of a control frame: the body is JSON.
pub const KIND_JSON: u8 = 0;
/// Kind of [`FromAgent::Events`]: the body is encoded records.
pub const KIND_EVENTS: u8 = 1;

/// A frame from the tracer to an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToAgent {
    /// Attach programs for this trace. Answer: `Topology` and `Attached`, or `Failed`.
    Configure(Configuration),
    /// Report the node's networking and attach nothing. Answer: `Topology`, after a `Warning` for each thing that could
    /// not be read; then `Rules`, if they are wanted.
    #[serde(rename = "look")]
    ReadTopology {
        /// Pods on the agent's node.
        pods: Vec<PodAddresses>,
        /// Whether the packet filter is read, too: the node's and that of these pods.
        rules: bool,
    },
    /// Start to emit events. Answer: `Started`. To an agent that emits already, it adds addresses.
    Start {
        /// Addresses of nodes. NAT may put them in place of an address of the filter.
        #[serde(rename = "via")]
        nat_addresses: Vec<IpAddr>,
    },
    /// Replace the configuration of a running trace. Answer: `Topology` and `Updated`.
    ///
    /// Addresses, node ports, pods and taps change. Ports, protocol, direction, sample, and whether a side has addresses at
    /// all are constants of the loaded programs and do not.
    Update {
        /// Identifies the update in the answer: the tracer's clock when it learned of the change.
        at_ns: u64,
        /// The new configuration.
        configuration: Configuration,
    },
    /// Report the node's time. Answer, at once: [`FromAgent::Clock`].
    Clock {
        /// The tracer's clock when it sent this; repeated in the answer.
        sent_ns: u64,
    },
    /// Send packets from inside a pod. Answer, when done: [`FromAgent::Probed`].
    Probe(Probe),
    /// Detach, send the remaining events and end. Answer: `Goodbye`. The end of input means the same.
    Stop,
}

/// What an agent traces, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Which packets.
    pub filter: FilterSpec,
    /// All pods on the agent's node. The agent finds their namespaces and veths by their addresses.
    pub pods: Vec<PodAddresses>,
    /// `NAMESPACE/NAME` of the pods whose veths get a tap.
    #[serde(rename = "tapped")]
    pub tapped_pods: Vec<String>,
    /// The node's own addresses. A device that has one of them is an uplink.
    pub node_addresses: Vec<IpAddr>,
}

/// A pod and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAddresses {
    /// `NAMESPACE/NAME`.
    pub pod: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
}

/// Which packets to trace: those between `from` and `to`, in both directions unless `one_way`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterSpec {
    /// One side.
    pub from: Side,
    /// The other side.
    pub to: Side,
    /// IP protocol number; `None` for all.
    pub protocol: Option<u8>,
    /// Only packets from `from` to `to`, no replies.
    pub one_way: bool,
    /// Only one in so many of these packets, the same ones on every node; `None` for all. A constant of the loaded
    /// programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<NonZeroU32>,
    /// Packets are counted in the kernel in place of being reported, see [`Stats`]. A constant of the loaded programs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stats: bool,
}

/// One side of the filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Its addresses; empty for all, or those of its networks.
    pub addresses: Vec<IpAddr>,
    /// Its networks, in place of addresses. The eBPF programs match any address instead: the tracer selects the paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    /// Its ports; empty for all.
    pub ports: Vec<u16>,
    /// `NodePort`s that lead to this side, as IP protocol number and port. At these, nodes' own addresses belong to it.
    #[serde(default)]
    pub node_ports: Vec<(u8, u16)>,
}

impl Side {
    /// Whether the source or destination of a packet is on this side. `node_ports` are not considered: at these, which
    /// addresses are nodes' own has to be known.
    #[must_use]
    pub fn has(&self, address: IpAddr, port: Option<u16>) -> bool {
        let is_here = match self.networks.as_slice() {
            [] => self.addresses.is_empty() || self.addresses.contains(&address),
            networks => networks.iter().any(|network| network.contains(&address)),
        };
        is_here && (self.ports.is_empty() || port.is_some_and(|port| self.ports.contains(&port)))
    }
}

/// Packets to send from inside a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// `NAMESPACE/NAME` of the pod that sends.
    pub pod: String,
    /// Destination address.
    pub destination: IpAddr,
    /// What to send.
    pub kind: ProbeKind,
    /// Number of exchanges.
    pub count: u32,
    /// Time between two exchanges in milliseconds.
    pub interval_ms: u64,
}

/// Kinds of probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeKind {
    /// An ICMP echo request.
    Icmp,
    /// A TCP connection to this port, closed once it is established.
    Tcp(u16),
    /// One UDP datagram to this port.
    Udp(u16),
}

/// A frame from an agent to the tracer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromAgent {
    /// The first frame: who the agent is.
    Hello(Hello),
    /// The node's networking at the time of attaching or updating.
    Topology(Topology),
    /// The kernel announced a change of the node's networking, which is being read: `NetworkChanged` or
    /// `NetworkUnchanged` follows.
    NetworkChanging,
    /// What was read is what was sent before.
    NetworkUnchanged,
    /// The node's networking after a change that the kernel announced while tracing. It explains what happens from then
    /// on; taps and roles of devices stay those of the last `Topology`.
    NetworkChanged(Topology),
    /// The packet filter (iptables, nft) of the node and of the traced pods. Reading it can take some seconds, so it follows
    /// `Attached`; again after an update and when nft announces a change.
    Rules(Rules),
    /// The programs are attached. Answer to [`ToAgent::Configure`].
    Attached(Attached),
    /// Events are emitted from now on. Answer to [`ToAgent::Start`].
    Started,
    /// The configuration was replaced. Answer to [`ToAgent::Update`].
    Updated(Updated),
    /// Hop events, encoded; see [`crate::record::Records`]. The only frame that is not JSON.
    #[serde(skip)]
    Events(Bytes),
    /// What was counted so far, with [`FilterSpec::stats`]: once a second and before `Goodbye`. There are no events then.
    Stats(Stats),
    /// Connection tracking's counters: once before the first events, and again after drops if they have changed.
    #[serde(rename = "conntracked")]
    ConntrackStats(ConntrackStats),
    /// Names of the kernel functions that dropped packets, by address (`Event::location`). Sent before the first events
    /// that contain the address.
    Symbols(BTreeMap<u64, String>),
    /// A watermark, every 30 milliseconds: all events before `now_ns` have been sent.
    Heartbeat {
        /// The node's clock. 0 while the backlog is not drained: then no watermark is given.
        now_ns: u64,
        /// Counts since attaching.
        counters: Accounting,
    },
    /// Answer to [`ToAgent::Clock`].
    Clock {
        /// The tracer's clock from the question.
        sent_ns: u64,
        /// The node's clock.
        node_ns: u64,
        /// The tracer's clock when the answer arrived. 0 on the wire; the tracer sets it.
        #[serde(default)]
        received_ns: u64,
    },
    /// A probe has ended. Answer to [`ToAgent::Probe`].
    Probed {
        /// Number of exchanges that were started.
        sent: u32,
        /// Why it ended before all were sent.
        error: Option<String>,
    },
    /// A message for the user. The trace continues.
    Warning {
        /// One line.
        text: String,
    },
    /// The agent ends because of an error.
    Failed {
        /// What was attempted, on what, and what to do.
        error: String,
    },
    /// The last frame: all programs are detached and all events sent. Answer to [`ToAgent::Stop`].
    Goodbye {
        /// Final counts.
        counters: Accounting,
    },
}

/// Counters of connection tracking in the node's own namespace, since the namespace was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConntrackStats {
    /// Packets dropped because the table was full or memory ran out.
    pub drop: u64,
    /// Connections evicted from the table to make room.
    pub early_drop: u64,
    /// Packets dropped because another packet inserted the same connection first.
    pub insert_failed: u64,
    /// Connections in the table (`nf_conntrack_count`).
    pub count: Option<u64>,
    /// Maximum number of connections (`nf_conntrack_max`).
    pub max: Option<u64>,
}

/// Who the agent is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`].
    pub protocol: u32,
    /// Version of the agent's podtrace.
    pub version: String,
    /// `uname -r`.
    pub kernel: String,
    /// The node's monotonic clock.
    pub monotonic_ns: u64,
    /// The node's wall clock at the same moment, in nanoseconds since 1970.
    pub realtime_ns: u64,
}

/// Which hooks are attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// One entry per hook and device.
    pub hooks: Vec<HookState>,
    /// Other messages for the user, one line each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Names of this kernel's drop reasons (`enum skb_drop_reason`) by value.
    pub drop_reasons: BTreeMap<u32, String>,
}

/// The result of an update.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updated {
    /// `at_ns` of the [`ToAgent::Update`]. Earlier updates without an answer are superseded by this one.
    #[serde(rename = "of")]
    pub update_id: u64,
    /// The node's clock when the update was complete.
    pub at_ns: u64,
    /// Hooks on new devices.
    pub hooks: Vec<HookState>,
    /// Pods of [`Configuration::tapped_pods`] whose veths were not found.
    #[serde(rename = "missing")]
    pub missing_pods: Vec<String>,
    /// Why the update failed.
    pub error: Option<String>,
}

/// The state of one hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookState {
    /// `tc:ingress`, `tp:kfree_skb`, `fentry:ip_forward`, `kprobe:ip_forward`, …
    pub point: String,
    /// Name of the device, for tc hooks.
    pub device: Option<String>,
    /// How it is attached; `None` if it is not.
    #[serde(rename = "how")]
    pub mechanism: Option<Mechanism>,
    /// Why it is not attached, or not by the preferred mechanism, and what follows from that.
    pub note: Option<String>,
    /// Number of instructions that the kernel's verifier processed; `None` before Linux 5.16.
    #[serde(default)]
    pub instructions: Option<u32>,
}

impl HookState {
    /// A hook that is not attached.
    #[must_use]
    pub fn absent(point: &str) -> Self {
        Self { point: point.to_owned(), device: None, mechanism: None, note: None, instructions: None }
    }
}

/// The kernel interface by which a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mechanism {
    /// A tcx link on a device (Linux 6.6).
    Tcx,
    /// A tc filter on a device's clsact qdisc.
    Clsact,
    /// A raw tracepoint.
    RawTracepoint,
    /// A trampoline at a function's entry (BTF needed).
    Fentry,
    /// A trampoline at a function's return (BTF needed).
    Fexit,
    /// A kprobe at a function's entry.
    Kprobe,
    /// One that this version does not know.
    #[serde(other)]
    Other,
}

impl Mechanism {
    /// Name in frames, messages and points such as `fentry:ip_forward`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::RawTracepoint => "raw_tracepoint",
            Self::Fentry => "fentry",
            Self::Fexit => "fexit",
            Self::Kprobe => "kprobe",
            Self::Other => "other",
        }
    }
}

impl std::fmt::Display for Mechanism {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Counts of hop events on one node. At the end, `produced == sent + lost_ring`, or the trace is incomplete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting {
    /// Events that the eBPF programs tried to emit.
    pub produced: u64,
    /// Events that the agent has sent.
    pub sent: u64,
    /// Events lost because the ring buffer was full.
    pub lost_ring: u64,
    /// Packet identities lost because a map was full.
    pub lost_map: u64,
    /// How often the kernel skipped a program because it was already running on that CPU (`recursion_misses`).
    pub missed_probes: u64,
    /// Matching packets that are not in the sample, once for each hook that would have reported them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unsampled: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recordings have them, and agents of the same version.
    #[test]
    fn names_on_the_wire_stay() {
        let json = |frame: &FromAgent| serde_json::to_value(frame).unwrap();
        let hook = serde_json::to_value(HookState::absent("tc:ingress")).unwrap();
        assert!(hook.get("how").is_some(), "{hook}");
        let updated = json(&FromAgent::Updated(Updated::default()));
        assert!(
            updated["updated"].get("of").is_some() && updated["updated"].get("missing").is_some(),
            "{updated}"
        );
        let stats = json(&FromAgent::ConntrackStats(ConntrackStats::default()));
        assert!(stats.get("conntracked").is_some(), "{stats}");

        let json = |frame: &ToAgent| serde_json::to_value(frame).unwrap();
        assert_eq!(
            json(&ToAgent::Start { nat_addresses: Vec::new() }),
            serde_json::json!({"start": {"via": []}})
        );
        assert_eq!(json(&ToAgent::ReadTopology { pods: Vec::new(), rules: false })["look"]["rules"], false);
        let configure = json(&ToAgent::Configure(Configuration::default()));
        assert!(configure["configure"].get("tapped").is_some(), "{configure}");
    }

    #[test]
    fn mechanisms_travel_by_their_names() {
        for mechanism in [
            Mechanism::Tcx,
            Mechanism::Clsact,
            Mechanism::RawTracepoint,
            Mechanism::Fentry,
            Mechanism::Fexit,
            Mechanism::Kprobe,
        ] {
            let json = serde_json::to_string(&mechanism).unwrap();
            assert_eq!(json, format!("\"{mechanism}\""));
            assert_eq!(serde_json::from_str::<Mechanism>(&json).unwrap(), mechanism);
        }
        assert_eq!(serde_json::from_str::<Mechanism>("\"netkit\"").unwrap(), Mechanism::Other);
    }
}
