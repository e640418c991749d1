//! `podtrace --from … --to …`.

use anyhow::Result;
use tracing::warn;

use super::args::Trace;
use super::expect::Judging;
use super::notes;
use super::output::{choose_color, reports};
use super::status::Status;
use super::{FAILED, plan, runtime};
use crate::session::{Progress, trace};
use podtrace_report::output::losses;

pub(super) fn run(args: &Trace) -> Result<u8> {
    choose_color(args.output.color);
    let status = Status::of(&args.output);
    notes::show(&args.output, status.clone());
    let runtime = runtime()?;
    let plan = runtime.block_on(plan::plan(args))?;
    let mut judging = Judging::start(&args.expect, &plan.inventory, &plan.title)?;
    let mut report =
        judging.wrap(status.wrap(reports(&args.output, &plan.title, args.write.takes_stdout())?));
    let mut before = Progress::default();
    let outcome = runtime.block_on(trace(&plan, &mut report, &mut |now| {
        status.show(&before, now);
        before = *now;
    }));
    status.clear();
    let outcome = outcome?;
    if let Some(losses) = losses(&outcome.summary) {
        warn!("{losses}");
    }
    // Only if the trace ended by itself: a user who presses Ctrl-C knows that there was no packet.
    let ended_by_itself = plan.timeout.is_some() || plan.probe.is_some();
    let nothing_seen = !outcome.saw_packets() && ended_by_itself && !outcome.all_lost;
    if nothing_seen {
        warn!("no packet matched {} on {}", plan.title, plan.nodes.join(", "));
    }
    let status = judging.finish(&outcome.summary, nothing_seen)?;
    // The expectations cover what was seen before the last node was lost, but the trace is not what the user asked for.
    Ok(if outcome.all_lost { FAILED } else { status })
}
