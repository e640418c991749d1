//! `podtrace top`: a trace as a live table.
//!
//! A command of its own, as users of `kubectl top` and `mtr` look for it, with all options of a trace. It needs a terminal. When it
//! ends, what the trace amounts to is printed as by `-o summary`.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _};
use std::ops::ControlFlow;

use anyhow::Result;
use tracing::warn;

use super::args::{Color, Format, Trace};
use super::output::{choose_color, reports};
use super::{FAILED, SUCCESS, UsageError, notes, plan, runtime};
use crate::priority;
use crate::session::trace;
use crate::top::{Messages, Shared, View};
use podtrace_path::{Change, Path, Summary};
use podtrace_report::output::{Report, losses};
use podtrace_report::totals::Finished;

pub(super) fn run(args: &Trace) -> Result<u8> {
    if !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        return Err(UsageError(
            "podtrace top needs a terminal; `podtrace -o summary` prints what it would show in the end"
                .to_owned(),
        )
        .into());
    }
    if args.stats || !args.expect.expect.is_empty() {
        let text = "podtrace top shows packets and judges nothing: --stats and --expect are for `podtrace`";
        return Err(UsageError(text.to_owned()).into());
    }
    let mut args = args.clone();
    args.output.output = match args.output.output {
        Format::Text | Format::Summary => Format::Summary,
        format @ (Format::Flows | Format::Drops) => format,
        Format::Wide | Format::Json => {
            let text =
                "podtrace top draws on the terminal: -o summary, flows or drops is what it prints in the end";
            return Err(UsageError(text.to_owned()).into());
        }
    };
    choose_color(args.output.color);
    let messages = Messages::default();
    notes::keep(&args.output, messages.clone());
    let result = traced(&args, &messages);
    let (lines, dropped) = messages.take();
    if dropped > 0 {
        anstream::eprintln!("{dropped} earlier messages were left out");
    }
    for line in lines {
        anstream::eprintln!("{}", podtrace_escape::escape(&line));
    }
    result
}

fn traced(args: &Trace, messages: &Messages) -> Result<u8> {
    let runtime = runtime()?;
    priority::yield_to_traffic();
    let mut plan = runtime.block_on(plan::plan(args))?;
    if let Some(probe) = plan.probe.as_mut().filter(|_| args.count.is_none()) {
        // Until it is asked to end.
        probe.exchanges = u32::MAX;
    }
    let shared = Shared::default();
    let is_coloured = args.output.color != Color::Never;
    let reports = reports(&args.output, &plan.title, args.write.takes_stdout(), &plan.inputs)?;
    let view = View::begin(plan.title.clone(), shared.clone(), messages.clone(), is_coloured)?;
    let mut report = Watched { shared: shared.clone(), view: Some(view), reports, changes: VecDeque::new() };
    let outcome = runtime.block_on(trace(&plan, &mut report, &mut |now| {
        shared.progress(*now);
        ControlFlow::Continue(())
    }));
    // The terminal is free before anything is printed.
    report.view = None;
    runtime.shutdown_background();
    let outcome = outcome?;
    if let Some(losses) = losses(&outcome.summary) {
        warn!("{losses}");
    }
    Ok(if outcome.all_lost { FAILED } else { SUCCESS })
}

/// The reports, and the numbers that the live view shows.
struct Watched {
    shared: Shared,
    /// `None` once the trace is over.
    view: Option<View>,
    reports: Box<dyn Report>,
    /// Changes of the cluster, to be printed in the end.
    changes: VecDeque<Change>,
}

/// How many changes are kept; the newest ones.
const CHANGES: usize = 1_000;

impl Report for Watched {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        self.shared.board(|board| board.add(path));
        self.reports.path(path)
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        // Printed once the terminal is free.
        if self.changes.len() == CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(change.clone());
        Ok(())
    }

    fn damage(&mut self, damage: &str) -> io::Result<()> {
        self.reports.damage(damage)
    }

    fn totals(&mut self, totals: &Finished) -> io::Result<()> {
        self.view = None;
        for change in std::mem::take(&mut self.changes) {
            self.reports.change(&change)?;
        }
        self.reports.totals(totals)
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.view = None;
        self.reports.summary(summary)
    }
}
