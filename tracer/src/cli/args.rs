//! The command line as typed. [`super::plan`] turns it into a plan.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use podtrace_protocol::inventory::Selector;
use podtrace_report::expect::Expectation;
use podtrace_report::filter::Filter;
use podtrace_report::recording::Rotation;

/// Trace packets hop by hop from one Kubernetes pod to another.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "podtrace",
    version,
    args_conflicts_with_subcommands = true,
    override_usage = "podtrace [OPTIONS] [FROM [TO]] [PCAP EXPRESSION]\n       podtrace <COMMAND>",
    after_help = "ENDPOINT, FROM, TO: [pod/][NS/]POD, svc/[NS/]NAME[:PORT], deploy|ds|sts|job/[NS/]NAME, node/NAME,\n\
                  IP[:PORT], CIDR or any; the kind may be spelled as kubectl takes it\n\n\
                  Exit status: 0 success, 1 could not run, 2 usage error, 3 an expectation failed\n\
                  or podtrace doctor or drops found something wrong, 4 no matching packet before --timeout\n\n\
                  Try it without a cluster:  sudo podtrace demo"
)]
pub struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) trace: Trace,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Show a recorded trace (no root, no cluster needed)
    Read(Box<Read>),
    /// Compare two recordings: causes of failures, routes, latencies
    ///
    /// Causes that are new come first. Exit status: 0 no cause is new or more frequent, 3 one is.
    Diff(Diff),
    /// Check the nodes' pod networking: what is wrong, and the commands that fix and show it
    ///
    /// Reads the state of all nodes, compares them with one another and with the inventory, and sends no packet. If nothing
    /// is wrong, it describes the network. Exit status: 0 nothing wrong, 3 something is, 1 a node could not be read.
    Doctor(Doctor),
    /// Trace as a live table: per hop packets, loss, latency; flows; causes
    ///
    /// Takes what a trace takes. With --probe it sends until it ends. Keys are shown at the bottom; q ends it and prints what
    /// the trace amounts to.
    Top(Box<Trace>),
    /// Show what is dropped on all nodes, by cause, until Ctrl-C; no ends need be known
    ///
    /// Traces all traffic of the endpoints, by default of all pods, and shows each cause of a loss: how often, where and by
    /// which rule, whom it hits, since when, one packet, and what to do. Drops that a healthy network has as well are one line.
    /// Exit status: 0 nothing but these, 3 something was dropped, 1 a node could not be traced or drops may have been missed.
    Drops(Box<Drops>),
    /// Show how pods, veths, bridges, tunnels and uplinks are connected
    Topology(Topology),
    /// Manage a two-node pod network in network namespaces, for experiments
    Lab(Lab),
    /// Build a lab, trace a same-node and a cross-node ping, remove the lab
    Demo,
    /// Trace on one node and report over stdin/stdout (started by podtrace itself)
    Agent(Agent),
    /// Print the manifest that installs agents: podtrace manifest | kubectl apply -f -
    Manifest(Manifest),
    /// Print a shell completion script
    #[command(visible_alias = "completion")]
    Completions {
        /// Shell to complete for
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Options that name the traffic.
#[derive(Args, Clone, Debug)]
pub(super) struct Ends {
    /// Source of the traffic; repeat for several [default: any]
    #[arg(long, value_name = "ENDPOINT")]
    pub(super) from: Vec<String>,
    /// Destination of the traffic; repeat for several [default: any]
    #[arg(long, value_name = "ENDPOINT")]
    pub(super) to: Vec<String>,
    /// Pods with these labels as the end that is not given: `app=web`, `app in (a, b),!canary`. Given twice: source and
    /// destination
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(super) selector: Vec<Selector>,
    /// Namespace of endpoints given without one [default: the kubeconfig context's, else `default`]
    #[arg(short, long)]
    pub(super) namespace: Option<String>,
    /// Look for endpoints given without a namespace in all of them; without endpoints, trace all pods
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(super) all_namespaces: bool,
    /// Destination port (TCP, UDP or SCTP)
    #[arg(long)]
    pub(super) port: Option<u16>,
    /// Only this protocol
    #[arg(long, value_enum)]
    pub(super) proto: Option<Proto>,
    /// Only packets from source to destination, without replies
    #[arg(long)]
    pub(super) one_way: bool,
}

/// Options of a live trace.
#[derive(Args, Clone, Debug)]
pub(super) struct Trace {
    /// Source, destination and pcap filter, as in `podtrace pod1 svc/web tcp port 80`; instead of --from, --to, --filter
    #[arg(value_name = "FROM TO EXPRESSION", hide = true)]
    pub(super) words: Vec<String>,
    #[command(flatten)]
    pub(super) ends: Ends,
    /// Show only paths matching a pcap filter, on inner or outer headers: `icmp or tcp port 80` (docs/filter.md)
    #[arg(long, value_name = "EXPRESSION")]
    pub(super) filter: Option<Filter>,
    /// Stop after N finished paths
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// Stop after this time: 10s, 2m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(super) timeout: Option<Duration>,
    /// Also send packets from the --from pod: `icmp`, `tcp[:PORT]` or `udp[:PORT]`. Sends one request, or with --count as
    /// many as needed; waits up to one second for a TCP or UDP reply
    #[arg(long, value_name = "KIND")]
    pub(super) probe: Option<String>,
    /// Trace only one in N packets, chosen by what no hop, NAT or tunnel changes: the same ones on every node
    #[arg(long, value_name = "1/N", value_parser = super::sample::one_in)]
    pub(super) sample: Option<NonZeroU32>,
    /// Only count, in the kernel: packets, bytes and latencies at each device, drops by reason and place. For rates at which
    /// single packets are too many; with -o text, a table that is drawn again each second, or json
    #[arg(long, conflicts_with_all = ["filter", "count", "probe", "write", "expect", "html", "all", "verdict", "failed"])]
    pub(super) stats: bool,
    /// Bytes to capture of each packet
    #[arg(long, value_name = "BYTES", default_value_t = SNAPLEN.1, value_parser = clap::value_parser!(u16).range(i64::from(SNAPLEN.0)..=i64::from(SNAPLEN.1)))]
    pub(super) snaplen: u16,
    /// Memory for packets and flows, at least 16M; beyond it the oldest are given up, and the trace is incomplete [default:
    /// a quarter of the cgroup's limit, or 256M]
    #[arg(long, value_name = "SIZE", value_parser = super::size::memory)]
    pub(super) max_memory: Option<u64>,
    /// Read the cluster from a YAML inventory instead of the Kubernetes API
    #[arg(long, value_name = "FILE")]
    pub(super) cluster: Option<PathBuf>,
    /// Kubeconfig file
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Kubeconfig context
    #[arg(long)]
    pub(super) context: Option<String>,
    /// Image for temporary agents, on nodes without an installed one (docs/kubernetes.md)
    #[arg(long, value_name = "IMAGE", env = "PODTRACE_AGENT_IMAGE")]
    pub(super) agent_image: Option<String>,
    #[command(flatten)]
    pub(super) write: Write,
    #[command(flatten)]
    pub(super) expect: Expect,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Smallest and largest `--snaplen`, in bytes. The smallest still covers a tunnel's outer and inner headers; the eBPF
/// programs copy no more than the largest.
const SNAPLEN: (u16, u16) = (128, tracer_common::CAPTURE as u16);

/// Options of the recording.
#[derive(Args, Clone, Debug)]
pub(super) struct Write {
    /// Record to a pcapng file for `podtrace read`, Wireshark and tshark (`-` for stdout)
    #[arg(short, long, value_name = "FILE")]
    pub(super) write: Option<PathBuf>,
    /// Start a new file at this size, at least 50k: 100M, or 100M,5 to keep only the last five files
    #[arg(long, value_name = "SIZE[,FILES]", requires = "write", value_parser = super::write::rotation)]
    pub(super) rotate: Option<Rotation>,
}

/// Options that check the reported paths.
#[derive(Args, Clone, Debug)]
pub(super) struct Expect {
    /// Exit with status 3 unless this holds: `delivered and no-nat`, `loss == 0`, `any(via cni0)`; repeatable
    /// (docs/expect.md)
    #[arg(long, value_name = "EXPRESSION")]
    pub(super) expect: Vec<Expectation>,
    /// Write the results of --expect as JUnit XML
    #[arg(long, value_name = "FILE", requires = "expect")]
    pub(super) junit: Option<PathBuf>,
}

/// Options of every command that reports paths.
#[derive(Args, Clone, Debug)]
pub(super) struct Output {
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub(super) output: Format,
    /// Show every path in full, also those like an earlier one
    #[arg(long)]
    pub(super) all: bool,
    /// Show only paths with these verdicts; totals count all
    #[arg(long, value_enum, value_name = "VERDICT,…", value_delimiter = ',')]
    pub(super) verdict: Vec<VerdictName>,
    /// Show only paths that were dropped or rejected, or vanished
    #[arg(long, conflicts_with = "verdict")]
    pub(super) failed: bool,
    /// Also write an HTML page; to stdout, in place of paths, with `-`
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Print details to stderr: where the cluster was found, which hooks are attached
    #[arg(short, long, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Print only warnings and errors to stderr
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// When to use colors; auto honors NO_COLOR
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub(super) color: Color,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Read {
    /// Recording written by --write, `-` for stdin; give all files of a rotated one, in order
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) ends: Ends,
    /// Show only paths matching a pcap filter, on inner or outer headers (docs/filter.md) [default: the filter of the
    /// recorded trace]
    #[arg(long, value_name = "EXPRESSION")]
    pub(super) filter: Option<Filter>,
    /// Stop after N paths
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    #[command(flatten)]
    pub(super) write: Write,
    #[command(flatten)]
    pub(super) expect: Expect,
    #[command(flatten)]
    pub(super) output: Output,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Drops {
    /// Only traffic to or from these [default: all pods]
    #[arg(value_name = "ENDPOINT")]
    pub(super) endpoints: Vec<String>,
    /// Only traffic of pods with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "endpoints")]
    pub(super) selector: Option<Selector>,
    /// Only traffic of pods in this namespace; namespace of endpoints given without one
    #[arg(short, long)]
    pub(super) namespace: Option<String>,
    /// All namespaces: the default without endpoints
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(super) all_namespaces: bool,
    /// Only this protocol
    #[arg(long, value_enum)]
    pub(super) proto: Option<Proto>,
    /// Only packets matching a pcap filter, on inner or outer headers: `tcp port 80` (docs/filter.md)
    #[arg(long, value_name = "EXPRESSION")]
    pub(super) filter: Option<Filter>,
    /// Stop after this time: 10s, 2m
    #[arg(long = "for", alias = "timeout", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(super) duration: Option<Duration>,
    /// Stop soon after N packets were dropped
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = DropsFormat::Text)]
    pub(super) output: DropsFormat,
    #[command(flatten)]
    pub(super) write: Write,
    /// Memory for packets and flows, at least 16M [default: a quarter of the cgroup's limit, or 256M]
    #[arg(long, value_name = "SIZE", value_parser = super::size::memory)]
    pub(super) max_memory: Option<u64>,
    #[command(flatten)]
    pub(super) look: Look,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Diff {
    /// The recording to compare with
    #[arg(value_name = "BEFORE")]
    pub(super) before: PathBuf,
    /// The recording that is compared
    #[arg(value_name = "AFTER")]
    pub(super) after: PathBuf,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = DiffFormat::Text)]
    pub(super) output: DiffFormat,
    /// When to use colors; auto honors NO_COLOR
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub(super) color: Color,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Topology {
    /// Output format
    #[arg(short, long, value_enum, default_value_t = TopologyFormat::Text)]
    pub(super) output: TopologyFormat,
    #[command(flatten)]
    pub(super) look: Look,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Doctor {
    /// Show only findings on these nodes; all are read, since they are compared with one another
    #[arg(value_name = "NODE")]
    pub(super) nodes: Vec<String>,
    /// Show only what lies on the way from this endpoint
    #[arg(long, value_name = "ENDPOINT")]
    pub(super) from: Option<String>,
    /// Show only what lies on the way to this endpoint
    #[arg(long, value_name = "ENDPOINT")]
    pub(super) to: Option<String>,
    /// Namespace of endpoints given without one [default: the kubeconfig context's, else `default`]
    #[arg(short, long)]
    pub(super) namespace: Option<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = DoctorFormat::Text)]
    pub(super) output: DoctorFormat,
    #[command(flatten)]
    pub(super) look: Look,
}

/// Where nodes are looked at, and how much is said meanwhile.
#[derive(Args, Clone, Debug)]
pub(super) struct Look {
    /// Read the cluster from a YAML inventory instead of the Kubernetes API
    #[arg(long, value_name = "FILE")]
    pub(super) cluster: Option<PathBuf>,
    /// Kubeconfig file
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Kubeconfig context
    #[arg(long)]
    pub(super) context: Option<String>,
    /// Image for temporary agents, on nodes without an installed one (docs/kubernetes.md)
    #[arg(long, value_name = "IMAGE", env = "PODTRACE_AGENT_IMAGE")]
    pub(super) agent_image: Option<String>,
    /// Print details to stderr: where the cluster was found
    #[arg(short, long, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Print only warnings and errors to stderr
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// When to use colors; auto honors NO_COLOR
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub(super) color: Color,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Agent {
    /// Do not trace: keep a pod running for agents started in it by exec. With a duration, exit once no agent has run
    /// for that long
    #[arg(long, value_name = "DURATION", num_args = 0..=1, value_parser = humantime::parse_duration)]
    pub(super) idle: Option<Option<Duration>>,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Manifest {
    /// Image to run agents from
    #[arg(long, value_name = "IMAGE", default_value_t = crate::cluster::kube::default_image())]
    pub(super) image: String,
    /// Leave out the policy that allows exec of agents only in their pods: needed before Kubernetes 1.30
    #[arg(long)]
    pub(super) no_admission_policy: bool,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Lab {
    /// Lab name, to run several labs side by side
    #[arg(long, env = crate::lab::NAME_VARIABLE, default_value = crate::lab::DEFAULT_NAME, global = true)]
    pub(super) name: String,
    #[command(subcommand)]
    pub(super) command: LabCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum LabCommand {
    /// Build the lab, or rebuild a damaged one
    Up {
        /// Wire it as this CNI plugin does: flannel-vxlan (the default), flannel-host-gw, flannel-dual-stack,
        /// flannel-ipv6, calico-bgp, calico-vxlan or kindnet
        #[arg(long, env = crate::lab::NETWORK_VARIABLE)]
        network: Option<crate::lab::Network>,
        /// Implement Services with nft, iptables or none [default: whichever is installed]
        #[arg(long, env = crate::lab::RULES_VARIABLE)]
        rules: Option<crate::lab::RuleSet>,
    },
    /// Listen in a pod (started by `lab up` itself)
    #[command(hide = true)]
    Listen {
        /// Name of the pod
        pod: String,
        /// Address to listen at
        #[arg(default_value = "0.0.0.0")]
        address: std::net::IpAddr,
    },
    /// Remove the lab and kill the processes in it
    Down,
    /// Run a command in a pod or node: podtrace lab exec pod1 -- ping -c 1 10.42.1.10
    Exec {
        /// pod1 to pod4, node1, node2 or world
        pod: String,
        /// Command and arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Show the lab's state
    Status,
    /// List the networks that a lab can have, and what each follows
    Networks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Proto {
    Tcp,
    Udp,
    Icmp,
    Sctp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Human-readable: what is new in full, the rest folded; at the end causes, routes and flows
    Text,
    /// Only the end: causes of failures, routes, flows, numbers
    Summary,
    /// A table of flows
    Flows,
    /// What was dropped, by cause, as in podtrace drops
    Drops,
    /// Like text, for wide terminals: adds tuples, hook points, and times since the start
    Wide,
    /// One JSON object per line, described by schema/podtrace.schema.json
    Json,
}

/// Verdicts by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum VerdictName {
    Delivered,
    Dropped,
    Vanished,
    /// Refused: answered by a TCP reset or an ICMP error
    #[value(alias = "refused")]
    Rejected,
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TopologyFormat {
    /// Human-readable
    Text,
    /// A graph for Graphviz: podtrace topology -o dot | dot -Tsvg >network.svg
    Dot,
    /// One JSON object per node and line, described by schema/topology.schema.json
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DiffFormat {
    /// Human-readable
    Text,
    /// One JSON object: causes and routes as in schema/podtrace.schema.json, each with its numbers before and after
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DropsFormat {
    /// Human-readable: the causes, the most frequent first
    Text,
    /// One JSON object per line, described by schema/drops.schema.json
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DoctorFormat {
    /// Human-readable: the findings, the worst first; if there are none, a description of the network (with -v, always)
    Text,
    /// One JSON object per line, described by schema/doctor.schema.json
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}
