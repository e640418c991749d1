//! `podtrace --from … --to …`.

use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::Result;
use tracing::{info, warn};

use super::args::Trace;
use super::expect::Judging;
use super::notes;
use super::output::{choose_color, reports, stats_report};
use super::status::Status;
use super::{FAILED, plan, runtime};
use crate::priority;
use crate::session::{Plan, Progress, trace};
use podtrace_report::diagnose::Diagnosis;
use podtrace_report::output::losses;

pub(super) fn run(args: &Trace) -> Result<u8> {
    choose_color(args.output.color);
    let status = if args.stats { Status::none() } else { Status::of(&args.output) };
    notes::show(&args.output, status.clone());
    let runtime = runtime()?;
    // This thread makes paths of events. The others, which start agents and read from them, are there already and stay as
    // they are: an agent that is slow loses events.
    priority::yield_to_traffic();
    let plan = runtime.block_on(plan::plan(args))?;
    let mut judging = Judging::start(&args.expect, &plan.inventory, &plan.title, &plan.inputs)?;
    let reports = if args.stats {
        stats_report(args.output.output)?
    } else {
        reports(&args.output, &plan.title, args.write.takes_stdout(), &plan.inputs)?
    };
    let mut report = judging.wrap(status.wrap(reports));
    let mut before = Progress::default();
    let mut hint = (!args.stats).then(|| hint(&plan));
    let outcome = runtime.block_on(trace(&plan, &mut report, &mut |now| {
        if now.events + now.unsampled > 0 {
            hint = None;
        } else if now.elapsed >= SILENCE
            && let Some(hint) = hint.take()
        {
            info!("{hint}");
        }
        status.show(&before, now);
        before = *now;
        ControlFlow::Continue(())
    }));
    // What still blocks, such as looking up the name of a server that does not answer, must not hold up the end.
    runtime.shutdown_background();
    status.clear();
    let mut outcome = outcome?;
    if let Some(losses) = losses(&outcome.summary) {
        warn!("{losses}");
    }
    // Only if the trace ended by itself: a user who presses Ctrl-C knows that there was no packet.
    let ended_by_itself = plan.timeout.is_some() || plan.probe.is_some();
    let nothing_seen = !outcome.saw_packets() && ended_by_itself && !outcome.all_lost;
    if nothing_seen {
        let others = match outcome.summary.events.delivered {
            0 => String::new(),
            events => format!("; {events} events were of other packets, such as copies and late answers"),
        };
        warn!("no packet matched {} on {}{others}", plan.title, plan.nodes.join(", "));
        for reason in silence(&plan, &mut outcome.diagnosis) {
            warn!("{reason}");
        }
    }
    let status = judging.finish(&outcome.summary, nothing_seen)?;
    // The expectations cover what was seen before the last node was lost, but the trace is not what the user asked for.
    Ok(if outcome.all_lost { FAILED } else { status })
}

/// After this time without any event, a hint says how to go on.
const SILENCE: Duration = Duration::from_secs(4);

/// What to do where nothing is seen: send a packet, where that is possible and not what is being done.
fn hint(plan: &Plan) -> String {
    let (from, to) = (&plan.filter.from, &plan.filter.to);
    let source = plan.inventory.pods.iter().filter(|pod| !pod.host_network);
    let sources = source.filter(|pod| pod.ips.iter().any(|ip| from.addresses.contains(ip))).count();
    let kind = match plan.filter.protocol {
        Some(6) => Some("tcp"),
        Some(17) => Some("udp"),
        Some(1) => Some("icmp"),
        None => Some(if from.ports.is_empty() && to.ports.is_empty() { "icmp" } else { "tcp" }),
        Some(_) => None,
    };
    match kind.filter(|_| plan.probe.is_none() && sources == 1 && !to.addresses.is_empty()) {
        Some(kind) => format!("nothing seen yet; `--probe {kind}` sends a packet"),
        None => format!("nothing seen yet: no packet matched {}", plan.title),
    }
}

/// Explanations are given for at most this many pods: more are of no help.
const SILENT: usize = 4;

/// Possible reasons why no packet was seen: problems of the source pods.
fn silence(plan: &Plan, diagnosis: &mut Diagnosis) -> Vec<String> {
    let Plan { inventory, filter, .. } = plan;
    let is_from = |ips: &[std::net::IpAddr]| ips.iter().any(|ip| filter.from.addresses.contains(ip));
    let pods: Vec<_> = inventory.pods.iter().filter(|pod| is_from(&pod.ips)).collect();
    if pods.len() > SILENT {
        return Vec::new();
    }
    let explain = |pod: &podtrace_protocol::inventory::Pod| {
        diagnosis.explain_no_traffic(&pod.full_name(), &filter.to.addresses, filter.protocol)
    };
    pods.into_iter().flat_map(explain).collect()
}
