//! Turns the options of a trace into a plan: resolves endpoints, finds the cluster, and rejects contradictions.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};

use super::UsageError;
use super::args::{Proto, Read, Trace};
use super::source::{self, Cluster};
use crate::cgroup;
use crate::cluster::Wanted;
use crate::files::Inputs;
use crate::session::{Followed, Plan, ProbePlan};
use podtrace_protocol::frame::ProbeKind;
use podtrace_protocol::inventory::{Endpoint, Inventory, Resolved};
use podtrace_report::replay::Aim;

/// Port of a TCP probe if none is given.
const TCP_PORT: u16 = 80;
/// Port of a UDP probe if none is given: traceroute's first port, on which usually nothing listens.
const UDP_PORT: u16 = 33434;
/// Maximum number of probe requests, in case `--count` is never reached.
const PROBES_AT_MOST: u32 = 100_000;

/// Makes the plan of a live trace.
pub(super) async fn plan(args: &Trace) -> Result<Plan> {
    if args.from.is_none() && args.to.is_none() {
        return Err(UsageError(
            "nothing to trace: give --from ENDPOINT, --to ENDPOINT or both; see --help".to_owned(),
        )
        .into());
    }
    let from = endpoint(args.from.as_deref())?;
    let to = endpoint(args.to.as_deref())?;
    let probe = args.probe.as_deref().map(parse_probe).transpose()?;
    check_ports(args, probe)?;
    let write = args.write.target()?;

    let wanted = Wanted {
        cluster: args.cluster.clone(),
        kubeconfig: args.kubeconfig.clone(),
        context: args.context.clone(),
    };
    let Cluster { mut inventory, namespace, pods, watch } =
        source::find(&wanted, args.agent_image.as_deref()).await?;
    let namespace = args.namespace.clone().unwrap_or(namespace);
    let (port, protocol, one_way) = (args.port, args.proto.map(number), args.one_way);
    let aim = Aim { from, to, namespace, port, protocol, one_way };
    let (from, to) = aim.ends(&inventory)?;
    // Only needed for error messages while resolving names.
    inventory.untraceable.clear();
    let nodes = aim.nodes(&inventory, &from, &to);
    check_root(&inventory, &nodes)?;
    let probe = probe.map(|kind| probe_plan(kind, args, &inventory, &from, &to)).transpose()?;
    if let Some(filter) = &args.filter {
        detail!(
            "--filter '{filter}' selects paths in user space, by the captured bytes of inner and outer headers; event \
             counts cover everything that the kernel filter (--from, --to, --proto, --port) matched"
        );
    }
    let tapped: BTreeSet<_> = from.pods.iter().chain(&to.pods).cloned().collect();
    // Without addresses, an endpoint may be any pod.
    let open = from.addresses.is_empty() || to.addresses.is_empty();
    let filter = aim.filter(&from, &to);
    Ok(Plan {
        title: format!("{} → {}", from.what, to.what),
        pods,
        nodes,
        tapped: (!open).then_some(tapped),
        filter,
        probe,
        count: args.count,
        timeout: args.timeout,
        choice: args.filter.clone(),
        write,
        inputs: Inputs::new(args.cluster.iter().chain(&args.kubeconfig).cloned()),
        snaplen: (usize::from(args.snaplen) < tracer_common::CAPTURE).then_some(args.snaplen),
        memory: args.max_memory.unwrap_or_else(cgroup::memory_for_trace),
        inventory,
        following: watch.map(|watch| Followed { watch, aim, from, to }),
    })
}

/// The traffic selected from a recording.
pub(super) fn aim(args: &Read) -> Result<Aim> {
    check_port(args.port, args.proto)?;
    Ok(Aim {
        from: endpoint(args.from.as_deref())?,
        to: endpoint(args.to.as_deref())?,
        namespace: args.namespace.clone().unwrap_or_else(|| source::NAMESPACE.to_owned()),
        port: args.port,
        protocol: args.proto.map(number),
        one_way: args.one_way,
    })
}

fn endpoint(text: Option<&str>) -> Result<Endpoint> {
    let Some(text) = text else { return Ok(Endpoint::Any) };
    text.parse::<Endpoint>().map_err(|error| UsageError(error.to_string()).into())
}

/// Checks for root if a local node is traced. Agents on other nodes have their own rights.
fn check_root(inventory: &Inventory, nodes: &[String]) -> Result<()> {
    let local = inventory.nodes.iter().any(|node| nodes.contains(&node.name) && node.run.is_local());
    ensure!(!local || nix::unistd::geteuid().is_root(), "loading eBPF programs needs root: sudo podtrace …");
    Ok(())
}

fn check_ports(args: &Trace, probe: Option<Probe>) -> Result<()> {
    let refuse = |text: String| Err(UsageError(text).into());
    check_port(args.port, args.proto)?;
    let fits = match (probe, args.proto) {
        (_, None) | (None, _) => true,
        (Some(Probe::Icmp), Some(proto)) => proto == Proto::Icmp,
        (Some(Probe::Tcp(_)), Some(proto)) => proto == Proto::Tcp,
        (Some(Probe::Udp(_)), Some(proto)) => proto == Proto::Udp,
    };
    if !fits {
        return refuse("--probe and --proto name different protocols".to_owned());
    }
    if probe == Some(Probe::Icmp) && args.port.is_some() {
        return refuse("--port does not apply to --probe icmp: ICMP has no ports".to_owned());
    }
    if probe.is_some() && args.from.as_deref().is_none_or(|from| from == "any") {
        return refuse("--probe needs a pod to send from: give --from POD".to_owned());
    }
    Ok(())
}

fn check_port(port: Option<u16>, proto: Option<Proto>) -> Result<()> {
    if port.is_some() && proto == Some(Proto::Icmp) {
        return Err(UsageError("--port needs --proto tcp, udp or sctp: ICMP has no ports".to_owned()).into());
    }
    Ok(())
}

/// The value of `--probe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    Icmp,
    Tcp(Option<u16>),
    Udp(Option<u16>),
}

fn parse_probe(text: &str) -> Result<Probe> {
    let (kind, port) = match text.split_once(':') {
        None => (text, None),
        Some((kind, port)) => match port.parse() {
            Ok(port) if port != 0 => (kind, Some(port)),
            _ => return Err(UsageError(format!("--probe {text}: `{port}` is not a port number")).into()),
        },
    };
    match (kind, port) {
        ("icmp", None) => Ok(Probe::Icmp),
        ("tcp", port) => Ok(Probe::Tcp(port)),
        ("udp", port) => Ok(Probe::Udp(port)),
        _ => Err(UsageError(format!("--probe {text}: expected icmp, tcp[:PORT] or udp[:PORT]")).into()),
    }
}

fn probe_plan(
    kind: Probe,
    args: &Trace,
    inventory: &Inventory,
    from: &Resolved,
    to: &Resolved,
) -> Result<ProbePlan> {
    let [pod] = from.pods.as_slice() else {
        bail!("--probe sends from a single pod, but --from {} is {} pods", from.what, from.pods.len());
    };
    let source = inventory.pods.iter().find(|candidate| candidate.full_name() == *pod);
    let source = source.with_context(|| format!("{pod} is not in the inventory"))?;
    let speaks = |ip: &&IpAddr| source.ips.iter().any(|own| own.is_ipv4() == ip.is_ipv4());
    let destination = to.addresses.iter().find(speaks);
    let destination = destination
        .with_context(|| format!("--probe: {} has no address of {pod}'s address family", to.what))?;
    let port = |given: Option<u16>, proto: Proto, usual: u16| {
        given.or(args.port).or_else(|| to.port_of(number(proto))).unwrap_or(usual)
    };
    let kind = match kind {
        Probe::Icmp => ProbeKind::Icmp,
        Probe::Tcp(given) => ProbeKind::Tcp(port(given, Proto::Tcp, TCP_PORT)),
        Probe::Udp(given) => ProbeKind::Udp(port(given, Proto::Udp, UDP_PORT)),
    };
    Ok(ProbePlan {
        pod: pod.clone(),
        node: source.node.clone(),
        destination: *destination,
        kind,
        // With --count, the trace ends when it is reached.
        exchanges: if args.count.is_some() { PROBES_AT_MOST } else { 1 },
    })
}

fn number(proto: Proto) -> u8 {
    match proto {
        Proto::Icmp => 1,
        Proto::Tcp => 6,
        Proto::Udp => 17,
        Proto::Sctp => 132,
    }
}
