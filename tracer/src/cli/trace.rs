//! `podtrace --from … --to …`.

use anyhow::Result;
use tracing::warn;

use super::args::Trace;
use super::expect::Judging;
use super::notes;
use super::output::{choose_color, reports};
use super::status::Status;
use super::{FAILED, meaning, runtime};
use crate::session::{Plan, Progress, trace};
use podtrace_report::diagnose::Diagnosis;
use podtrace_report::output::losses;

pub(super) fn run(args: &Trace) -> Result<u8> {
    choose_color(args.output.color);
    let status = Status::of(&args.output);
    notes::show(&args.output, status.clone());
    let runtime = runtime()?;
    let plan = runtime.block_on(meaning::plan(args))?;
    let mut judging = Judging::begin(&args.expect, &plan.inventory, &plan.title)?;
    let mut report =
        judging.watch(status.beside(reports(&args.output, &plan.title, args.write.takes_stdout())?));
    let mut before = Progress::default();
    let outcome = runtime.block_on(trace(&plan, &mut report, &mut |now| {
        status.show(&before, now);
        before = *now;
    }));
    status.end();
    let mut outcome = outcome?;
    if let Some(losses) = losses(&outcome.summary) {
        warn!("{losses}");
    }
    // A trace that had an end of its own, and no packet until then; Ctrl-C is the user's answer to silence.
    let had_its_time = plan.timeout.is_some() || plan.probe.is_some();
    let nothing_seen = !outcome.saw_packets() && had_its_time && !outcome.all_lost;
    if nothing_seen {
        warn!("no packet of {} was seen on {}", plan.title, plan.nodes.join(", "));
        for reason in silence(&plan, &mut outcome.diagnosis) {
            warn!("{reason}");
        }
    }
    let status = judging.end(&outcome.summary, nothing_seen)?;
    // What was seen until the last node was lost is judged, but was not what was asked for.
    Ok(if outcome.all_lost { FAILED } else { status })
}

/// Pods whose silence is explained at most: of many, one explanation each is no help.
const SILENT: usize = 4;

/// What may be why nothing was seen: what is wrong where the packets had to begin.
fn silence(plan: &Plan, diagnosis: &mut Diagnosis) -> Vec<String> {
    let Plan { inventory, filter, .. } = plan;
    let is_from = |ips: &[std::net::IpAddr]| ips.iter().any(|ip| filter.from.addresses.contains(ip));
    let pods: Vec<_> = inventory.pods.iter().filter(|pod| is_from(&pod.ips)).collect();
    if pods.len() > SILENT {
        return Vec::new();
    }
    pods.iter().flat_map(|pod| diagnosis.silence(&pod.full_name(), &filter.to.addresses)).collect()
}
