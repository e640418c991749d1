//! Turns the options of a trace into a plan: resolves endpoints, finds the cluster, and rejects contradictions.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU32;

use anyhow::{Context as _, Result, bail, ensure};

use super::UsageError;
use super::args::{Ends, Proto, Trace};
use super::ends::{self, Named};
use super::source::{self, Cluster};
use crate::cgroup;
use crate::cluster::Wanted;
use crate::files::Inputs;
use crate::session::{Followed, Plan, ProbePlan};
use podtrace_protocol::frame::ProbeKind;
use podtrace_protocol::inventory::{Endpoint, Inventory, ResolveError, Resolved, locate};
use podtrace_report::replay::Aim;

/// Port of a TCP probe if none is given.
const TCP_PORT: u16 = 80;
/// Port of a UDP probe if none is given: traceroute's first port, on which usually nothing listens.
const UDP_PORT: u16 = 33434;
/// Maximum number of probe requests, in case `--count` is never reached.
const PROBES_AT_MOST: u32 = 100_000;

/// Makes the plan of a live trace.
pub(super) async fn plan(args: &Trace) -> Result<Plan> {
    let Named { from, to, filter, anything } = ends::named(&args.ends, &args.words)?;
    if !anything {
        return Err(UsageError(
            "nothing to trace: give --from ENDPOINT, --to ENDPOINT or both, or -A for all pods; see --help"
                .to_owned(),
        )
        .into());
    }
    let choice = match (filter, &args.filter) {
        (Some(words), Some(option)) => {
            return Err(UsageError(format!(
                "the filter is given twice, as `{words}` and by --filter '{option}': join them by `and`"
            ))
            .into());
        }
        (words, option) => words.or_else(|| option.clone()),
    };
    let probe = args.probe.as_deref().map(parse_probe).transpose()?;
    check_ports(args, probe, &from)?;
    let write = args.write.target()?;

    let wanted = Wanted {
        cluster: args.cluster.clone(),
        kubeconfig: args.kubeconfig.clone(),
        context: args.context.clone(),
    };
    let Cluster { mut inventory, namespace, pods, watch } =
        source::find(&wanted, args.agent_image.as_deref()).await?;
    let namespace = args.ends.namespace.clone().unwrap_or(namespace);
    let (from, to) = located(&args.ends, from, to, &inventory)?;
    let (port, protocol, one_way) = (args.ends.port, args.ends.proto.map(number), args.ends.one_way);
    let sample = args.sample.filter(|one_in| one_in.get() > 1);
    let aim = Aim { from, to, namespace, port, protocol, one_way, sample, stats: args.stats };
    let (from, to) = aim.ends(&inventory)?;
    // Only needed for error messages while resolving names.
    inventory.untraceable.clear();
    let nodes = aim.nodes(&inventory, &from, &to);
    check_root(&inventory, &nodes)?;
    let probe = probe.map(|kind| probe_plan(kind, args, &inventory, &from, &to)).transpose()?;
    if let Some(filter) = &choice {
        detail!(
            "the filter '{filter}' selects paths in user space, by the captured bytes of inner and outer headers; event \
             counts cover everything that the kernel filter (--from, --to, --proto, --port) matched"
        );
    }
    let tapped: BTreeSet<_> = from.pods.iter().chain(&to.pods).cloned().collect();
    // Without addresses, an endpoint may be any pod.
    let open = from.addresses.is_empty() || to.addresses.is_empty();
    let filter = aim.filter(&from, &to);
    Ok(Plan {
        title: title(&from, &to, sample),
        pods,
        nodes,
        tapped: (!open).then_some(tapped),
        filter,
        probe,
        count: args.count,
        timeout: args.timeout,
        choice,
        write,
        inputs: Inputs::new(args.cluster.iter().chain(&args.kubeconfig).cloned()),
        snaplen: (usize::from(args.snaplen) < tracer_common::CAPTURE).then_some(args.snaplen),
        memory: args.max_memory.unwrap_or_else(cgroup::memory_for_trace),
        inventory,
        following: watch.map(|watch| Followed { watch, aim, from, to }),
    })
}

fn title(from: &Resolved, to: &Resolved, sample: Option<NonZeroU32>) -> String {
    let of = sample.map(|one_in| format!(" (sampled 1 in {one_in})")).unwrap_or_default();
    format!("{} → {}{of}", from.what, to.what)
}

/// The traffic selected from a recording.
pub(super) fn aim(ends: &Ends, inventory: &Inventory) -> Result<Aim> {
    check_port(ends.port, ends.proto)?;
    let Named { from, to, .. } = ends::named(ends, &[])?;
    let (from, to) = located(ends, from, to, inventory)?;
    Ok(Aim {
        from,
        to,
        namespace: ends.namespace.clone().unwrap_or_else(|| source::NAMESPACE.to_owned()),
        port: ends.port,
        protocol: ends.proto.map(number),
        one_way: ends.one_way,
        sample: None,
        stats: false,
    })
}

/// With `-A`, the ends in the namespaces where they are.
fn located(
    ends: &Ends,
    from: Endpoint,
    to: Endpoint,
    inventory: &Inventory,
) -> Result<(Endpoint, Endpoint), ResolveError> {
    if !ends.all_namespaces {
        return Ok((from, to));
    }
    Ok((locate(from, inventory)?, locate(to, inventory)?))
}

/// Checks for root if a local node is traced. Agents on other nodes have their own rights.
fn check_root(inventory: &Inventory, nodes: &[String]) -> Result<()> {
    let local = inventory.nodes.iter().any(|node| nodes.contains(&node.name) && node.run.is_local());
    ensure!(!local || nix::unistd::geteuid().is_root(), "loading eBPF programs needs root: sudo podtrace …");
    Ok(())
}

fn check_ports(args: &Trace, probe: Option<Probe>, from: &Endpoint) -> Result<()> {
    let refuse = |text: String| Err(UsageError(text).into());
    check_port(args.ends.port, args.ends.proto)?;
    let fits = match (probe, args.ends.proto) {
        (_, None) | (None, _) => true,
        (Some(Probe::Icmp), Some(proto)) => proto == Proto::Icmp,
        (Some(Probe::Tcp(_)), Some(proto)) => proto == Proto::Tcp,
        (Some(Probe::Udp(_)), Some(proto)) => proto == Proto::Udp,
    };
    if !fits {
        return refuse("--probe and --proto name different protocols".to_owned());
    }
    if let (Some(Probe::Tcp(Some(own)) | Probe::Udp(Some(own))), Some(port)) = (probe, args.ends.port)
        && own != port
    {
        return refuse(format!(
            "--probe sends to port {own}, but --port {port} traces another: give one of them, or the same twice"
        ));
    }
    if probe == Some(Probe::Icmp) && args.ends.port.is_some() {
        return refuse("--port does not apply to --probe icmp: ICMP has no ports".to_owned());
    }
    if probe.is_some() && args.sample.is_some() && args.count.is_none() {
        return refuse(
            "--probe sends one request, which --sample may leave out: give --count N, and it sends until N are traced"
                .to_owned(),
        );
    }
    if probe.is_some() && *from == Endpoint::Any {
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
    if !to.networks.is_empty() {
        bail!("--probe sends to one address, but --to {} is a network: give --to an endpoint", to.what);
    }
    let source = inventory.pods.iter().find(|candidate| candidate.full_name() == *pod);
    let source = source.with_context(|| format!("{pod} is not in the inventory"))?;
    let speaks = |ip: &&IpAddr| source.ips.iter().any(|own| own.is_ipv4() == ip.is_ipv4());
    let destination = to.addresses.iter().find(speaks);
    let destination = destination
        .with_context(|| format!("--probe: {} has no address of {pod}'s address family", to.what))?;
    let port = |given: Option<u16>, proto: Proto, usual: u16| {
        given.or(args.ends.port).or_else(|| to.port_of(number(proto))).unwrap_or(usual)
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
