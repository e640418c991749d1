//! What a tracer and an agent say to each other: frames on stdin and stdout.
//!
//! On the wire a frame is a little-endian `u32` length of all that follows it, one byte of kind ([`KIND_JSON`],
//! [`KIND_EVENTS`]) and the body. Control frames are JSON, so that a newer side can add to them; events are
//! records as [`crate::record`] encodes them, back to back.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::topology::Topology;
use podtrace_rules::Rules;

/// Version of the frames; both sides must have the same.
pub const PROTOCOL_VERSION: u32 = 4;

/// Largest frame that is read, in bytes: anything longer is a broken stream.
pub const MAX_FRAME: u32 = 16 << 20;

/// Kind byte of a control frame.
pub const KIND_JSON: u8 = 0;
/// Kind byte of [`FromAgent::Events`].
pub const KIND_EVENTS: u8 = 1;

/// What the tracer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToAgent {
    /// First: what to trace. Answered by `Topology` and `Attached`, or `Failed`.
    Configure(Configuration),
    /// Instead of `Configure`: tell the node's networking, and attach nothing. Answered by `Topology`, after a
    /// `Warning` for whatever is missing from it.
    Look {
        /// Pods on the agent's node.
        pods: Vec<PodAddresses>,
    },
    /// Begin to emit events; sent once every agent is attached, so that no path lacks its beginning. Answered by
    /// `Started`.
    Start {
        /// Addresses that nodes have themselves, which they may give to the packets of others.
        via: Vec<IpAddr>,
    },
    /// What is to be traced from here on, in place of what was. Answered by `Topology` and `Updated`. What the
    /// kernel programs were loaded with stays: ports, protocol, whether a side may be anything.
    Update {
        /// The tracer's monotonic clock when this became known, in nanoseconds; echoed.
        at_ns: u64,
        /// What is to be traced.
        configuration: Configuration,
    },
    /// Answered at once by [`FromAgent::Clock`].
    Clock {
        /// The tracer's monotonic clock when it sent this, in nanoseconds; echoed.
        sent_ns: u64,
    },
    /// Send packets from inside a pod. Answered by [`FromAgent::Probed`] when done.
    Probe(Probe),
    /// Detach, drain and say goodbye. End of input means the same.
    Stop,
}

/// What an agent is to trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// The packets of interest.
    pub filter: FilterSpec,
    /// Pods on the agent's node: where their addresses are found, their veths are.
    pub pods: Vec<PodAddresses>,
    /// Full names of the pods whose veths are tapped.
    pub tapped: Vec<String>,
    /// The node's own addresses: the device that has one leads out.
    pub node_addresses: Vec<IpAddr>,
}

/// A pod's name and addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAddresses {
    /// `namespace/name`.
    pub pod: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
}

/// Which packets are of interest, in the user's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterSpec {
    /// One end.
    pub from: Side,
    /// The other end.
    pub to: Side,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Only packets from `from` to `to`, not the way back.
    pub one_way: bool,
}

/// One end of the traffic of interest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Its addresses; none means any.
    pub addresses: Vec<IpAddr>,
    /// Its ports; none means any.
    pub ports: Vec<u16>,
    /// Where nodes themselves are on this side: IP protocol numbers and ports.
    #[serde(default)]
    pub node_ports: Vec<(u8, u16)>,
}

impl Side {
    /// Whether one end of a packet, by its address and port, is on this side.
    #[must_use]
    pub fn has(&self, address: IpAddr, port: Option<u16>) -> bool {
        (self.addresses.is_empty() || self.addresses.contains(&address))
            && (self.ports.is_empty() || port.is_some_and(|port| self.ports.contains(&port)))
    }
}

/// Packets to send from inside a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// `namespace/name` of the pod that sends.
    pub pod: String,
    /// Where to.
    pub destination: IpAddr,
    /// What to send.
    pub kind: ProbeKind,
    /// How many exchanges.
    pub count: u32,
    /// Pause between two exchanges, in milliseconds.
    pub interval_ms: u64,
}

/// Kinds of probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeKind {
    /// ICMP echo request.
    Icmp,
    /// TCP connection to this port, closed as soon as it stands.
    Tcp(u16),
    /// One UDP datagram to this port.
    Udp(u16),
}

/// What an agent says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromAgent {
    /// First, unasked.
    Hello(Hello),
    /// The node's networking at the time of attaching.
    Topology(Topology),
    /// The node's packet filter at that time; comes when it has been read, at the latest some seconds after
    /// `Attached`.
    Rules(Rules),
    /// All hooks are in place, or known to be absent.
    Attached(Attached),
    /// Events are emitted from now on.
    Started,
    /// What is traced is what the last [`ToAgent::Update`] said.
    Updated(Updated),
    /// Hop events, encoded; see [`crate::record::Records`].
    #[serde(skip)]
    Events(Bytes),
    /// What connection tracking counts on the node: once before the first events, and again when packets were dropped
    /// and it counts something new.
    Conntracked(Conntracked),
    /// Names of kernel addresses that occur in `Event::location`; sent before the first events that carry them.
    Symbols(BTreeMap<u64, String>),
    /// Everything that was produced before `now_ns` has been sent.
    Heartbeat {
        /// The node's monotonic clock, nanoseconds.
        now_ns: u64,
        /// Counted since attaching.
        counters: Accounting,
    },
    /// Answer to [`ToAgent::Clock`].
    Clock {
        /// As it came.
        sent_ns: u64,
        /// The node's monotonic clock, nanoseconds.
        node_ns: u64,
        /// The tracer's monotonic clock when this arrived, filled in by the tracer.
        #[serde(default)]
        received_ns: u64,
    },
    /// A probe was sent.
    Probed {
        /// Exchanges begun.
        sent: u32,
        /// Why it ended early.
        error: Option<String>,
    },
    /// Something the user should know; the trace goes on.
    Warning {
        /// One line.
        text: String,
    },
    /// The agent cannot go on.
    Failed {
        /// What was attempted, on what, and what to do.
        error: String,
    },
    /// Last: everything is detached and drained.
    Goodbye {
        /// Final counts.
        counters: Accounting,
    },
}

/// What connection tracking counts in a node's own namespace since that was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conntracked {
    /// Packets dropped because the table was full or there was no memory.
    pub drop: u64,
    /// Connections thrown out of the table to make room.
    pub early_drop: u64,
    /// Packets dropped because another one had opened the same connection meanwhile.
    pub insert_failed: u64,
    /// Connections in the table now.
    pub count: Option<u64>,
    /// Connections that the table may hold.
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
    /// The node's monotonic clock, nanoseconds.
    pub monotonic_ns: u64,
    /// The node's wall clock at the same moment, nanoseconds since 1970.
    pub realtime_ns: u64,
}

/// What was attached where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// One entry a hook and device.
    pub hooks: Vec<HookState>,
    /// What else was done or found on the way, a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Names of this kernel's `enum skb_drop_reason`.
    pub drop_reasons: BTreeMap<u32, String>,
}

/// What came of an update.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updated {
    /// `at_ns` of the update that this is about; those before it are done with it.
    pub of: u64,
    /// The node's monotonic clock when it was done, nanoseconds.
    pub at_ns: u64,
    /// Hooks at devices that are new.
    pub hooks: Vec<HookState>,
    /// Full names of pods whose veths are to be tapped and were not found.
    pub missing: Vec<String>,
    /// Why it is not as it was to be.
    pub error: Option<String>,
}

/// The state of one hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookState {
    /// `tc:ingress`, `tp:kfree_skb`, `fentry:ip_forward`, `kprobe:ip_forward`, …
    pub point: String,
    /// Name of the device, for tc hooks.
    pub device: Option<String>,
    /// `tcx`, `clsact`, `raw_tracepoint`, `fentry`, `kprobe`, …; `None` if it is absent.
    pub how: Option<String>,
    /// Why it is absent or not attached the best way, and what that means.
    pub note: Option<String>,
    /// Instructions that the kernel's verifier went through for its program; `None` before 5.16.
    #[serde(default)]
    pub instructions: Option<u32>,
}

impl HookState {
    /// A hook that is not in place.
    #[must_use]
    pub fn absent(point: &str) -> Self {
        Self { point: point.to_owned(), device: None, how: None, note: None, instructions: None }
    }
}

/// Where hop events went, for one node: `produced == sent + lost_ring` once all is drained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounting {
    /// Events the kernel programs set out to emit.
    pub produced: u64,
    /// Events the agent has sent.
    pub sent: u64,
    /// Events lost because the ring buffer was full.
    pub lost_ring: u64,
    /// Identities lost because a map was full.
    pub lost_map: u64,
    /// Times that the kernel skipped a program (recursion, nmissed).
    pub missed_probes: u64,
}
