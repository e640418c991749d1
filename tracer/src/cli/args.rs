//! What was typed. What it means is decided in [`super::meaning`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use podtrace_report::expect::Expectation;
use podtrace_report::filter::Filter;
use podtrace_report::recording::Rotation;

/// Shows, packet by packet and hop by hop, the way from one Kubernetes pod to another.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "podtrace",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "ENDPOINT: [NS/]POD, svc/[NS/]NAME[:PORT], node/NAME, IP[:PORT] or any.\n\
                  Exit status: 0 traced, 1 could not run, 2 wrong usage, 3 an expectation failed, 4 no matching packet before --timeout.\n\n\
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
    /// Show a recorded trace again; needs no root and no cluster
    Read(Box<Read>),
    /// Draw which pod hangs on which veth, bridge, tunnel and uplink
    Topology(Topology),
    /// A small two-node pod network in network namespaces, to try things in
    Lab(Lab),
    /// Build a lab, trace a same-node and a cross-node ping in it, and remove it
    Demo,
    /// Serve one node's hop events on stdin and stdout; started by podtrace itself
    Agent(Agent),
    /// Print what installs agents on a cluster's nodes: podtrace manifest | kubectl apply -f -
    Manifest(Manifest),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Options of a live trace.
#[derive(Args, Clone, Debug)]
pub(super) struct Trace {
    /// One end of the traffic; any if left out
    #[arg(long, value_name = "ENDPOINT")]
    pub(super) from: Option<String>,
    /// The other end of the traffic; any if left out
    #[arg(long, value_name = "ENDPOINT")]
    pub(super) to: Option<String>,
    /// Kubernetes namespace of endpoints given without one; else the kubeconfig's context says, or it is `default`
    #[arg(short, long)]
    pub(super) namespace: Option<String>,
    /// Port on the --to side (TCP, UDP or SCTP)
    #[arg(long)]
    pub(super) port: Option<u16>,
    /// Only this protocol
    #[arg(long, value_enum)]
    pub(super) proto: Option<Proto>,
    /// Only packets from --from to --to, not the way back
    #[arg(long)]
    pub(super) one_way: bool,
    /// Only paths that hold a pcap expression, inside or outside of tunnels: `icmp or tcp port 80` (docs/filter.md)
    #[arg(long, value_name = "EXPRESSION")]
    pub(super) filter: Option<Filter>,
    /// Stop after this many finished paths
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// Stop after this long, such as 10s or 2m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(super) timeout: Option<Duration>,
    /// Send the packets too, from inside the --from pod: `icmp`, `tcp[:PORT]` or `udp[:PORT]`. One exchange, or with
    /// --count as many as it takes; an answer by tcp or udp is waited for up to a second
    #[arg(long, value_name = "KIND")]
    pub(super) probe: Option<String>,
    /// Bytes kept of each packet
    #[arg(long, value_name = "BYTES", default_value_t = SNAPLEN.1, value_parser = clap::value_parser!(u16).range(i64::from(SNAPLEN.0)..=i64::from(SNAPLEN.1)))]
    pub(super) snaplen: u16,
    /// Static inventory of the cluster instead of the Kubernetes API
    #[arg(long, value_name = "FILE")]
    pub(super) cluster: Option<PathBuf>,
    /// Kubeconfig to find the cluster by
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long)]
    pub(super) context: Option<String>,
    /// Image for agents on nodes where none are installed (docs/kubernetes.md)
    #[arg(long, value_name = "IMAGE", env = "PODTRACE_AGENT_IMAGE")]
    pub(super) agent_image: Option<String>,
    #[command(flatten)]
    pub(super) write: Write,
    #[command(flatten)]
    pub(super) expect: Expect,
    #[command(flatten)]
    pub(super) output: Output,
}

/// Fewest and most bytes that can be kept of a packet: both headers of a tunnel have to be among them, and kernel
/// programs copy no more.
const SNAPLEN: (u16, u16) = (128, tracer_common::CAPTURE as u16);

/// Options of the file that a trace leaves behind.
#[derive(Args, Clone, Debug)]
pub(super) struct Write {
    /// Write the trace to a pcapng file, for `podtrace read`, Wireshark and tshark; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    pub(super) write: Option<PathBuf>,
    /// Go on in a new file when one has this size: 100M, or 100M,5 to keep the last five
    #[arg(long, value_name = "SIZE[,FILES]", requires = "write", value_parser = super::write::rotation)]
    pub(super) rotate: Option<Rotation>,
}

/// Options that judge the paths told.
#[derive(Args, Clone, Debug)]
pub(super) struct Expect {
    /// What must hold, or the exit status is 3: `delivered and no-nat`, `loss == 0`, `any(via cni0)`, …; may be given
    /// several times (docs/expect.md)
    #[arg(long, value_name = "EXPRESSION")]
    pub(super) expect: Vec<Expectation>,
    /// Write how the expectations fared as JUnit XML
    #[arg(long, value_name = "FILE", requires = "expect")]
    pub(super) junit: Option<PathBuf>,
}

/// Options of everything that tells paths.
#[derive(Args, Clone, Debug)]
pub(super) struct Output {
    /// How paths are told
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub(super) output: Format,
    /// Write the paths as a page to look at in a browser, too
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Tell more on stderr: where the cluster was found, what was attached
    #[arg(short, long, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Tell only warnings and errors on stderr
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Whether output is coloured; NO_COLOR is honoured
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub(super) color: Color,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Read {
    /// File written by --write; of one that was rotated, all in their order
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Only paths of traffic of this end
    #[arg(long, value_name = "ENDPOINT")]
    pub(super) from: Option<String>,
    /// Only paths of traffic of this other end
    #[arg(long, value_name = "ENDPOINT")]
    pub(super) to: Option<String>,
    /// Kubernetes namespace of endpoints given without one; else `default`
    #[arg(short, long)]
    pub(super) namespace: Option<String>,
    /// Port on the --to side (TCP, UDP or SCTP)
    #[arg(long)]
    pub(super) port: Option<u16>,
    /// Only this protocol
    #[arg(long, value_enum)]
    pub(super) proto: Option<Proto>,
    /// Only packets from --from to --to, not the way back
    #[arg(long)]
    pub(super) one_way: bool,
    /// Only paths that hold a pcap expression, inside or outside of tunnels (docs/filter.md); without one the
    /// trace's own
    #[arg(long, value_name = "EXPRESSION")]
    pub(super) filter: Option<Filter>,
    /// Show only the first paths
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
pub(super) struct Topology {
    /// How it is told
    #[arg(short, long, value_enum, default_value_t = TopologyFormat::Text)]
    pub(super) output: TopologyFormat,
    /// Static inventory of the cluster instead of the Kubernetes API
    #[arg(long, value_name = "FILE")]
    pub(super) cluster: Option<PathBuf>,
    /// Kubeconfig to find the cluster by
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long)]
    pub(super) context: Option<String>,
    /// Image for agents on nodes where none are installed (docs/kubernetes.md)
    #[arg(long, value_name = "IMAGE", env = "PODTRACE_AGENT_IMAGE")]
    pub(super) agent_image: Option<String>,
    /// Tell more on stderr: where the cluster was found
    #[arg(short, long, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Tell only warnings and errors on stderr
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Whether output is coloured; NO_COLOR is honoured
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    pub(super) color: Color,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Agent {
    /// Serve nothing, and keep a pod alive for agents that are started in it; with a duration, until there has been
    /// none for so long
    #[arg(long, value_name = "DURATION", num_args = 0..=1, value_parser = humantime::parse_duration)]
    pub(super) idle: Option<Option<Duration>>,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Manifest {
    /// Image of the agents
    #[arg(long, value_name = "IMAGE", default_value_t = crate::cluster::kube::default_image())]
    pub(super) image: String,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Lab {
    /// Name of the lab, for having several
    #[arg(long, env = crate::lab::NAME_VARIABLE, default_value = crate::lab::DEFAULT_NAME, global = true)]
    pub(super) name: String,
    #[command(subcommand)]
    pub(super) command: LabCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum LabCommand {
    /// Build it, or repair it
    Up {
        /// How the rules that make its Services are written: nft, iptables or none [default: what is installed]
        #[arg(long, env = crate::lab::RULES_VARIABLE)]
        rules: Option<crate::lab::RuleSet>,
    },
    /// Serve in a pod; started by `lab up` itself
    #[command(hide = true)]
    Listen {
        /// Name of the pod
        pod: String,
    },
    /// Remove it, and end what runs in it
    Down,
    /// Run a command in a pod (or node): podtrace lab exec pod1 -- ping -c 1 10.42.1.10
    Exec {
        /// pod1 to pod4, node1 or node2
        pod: String,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// Tell what stands
    Status,
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
    /// For people
    Text,
    /// For people with wide terminals: also tuples, points and both kinds of times
    Wide,
    /// For programs: one object a line, described by schema/podtrace.schema.json
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TopologyFormat {
    /// For people
    Text,
    /// For programs: one object a node and line, described by schema/topology.schema.json
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}
