//! `podtrace drops`.
//!
//! 1. The traffic of the endpoints, both ways, is traced as ever: only a packet's path tells which rule dropped it, and whether
//!    its drop matters at all. A packet counts where one of its ends is among the endpoints.
//! 2. Paths are not shown but summed by cause. On a terminal, a table of the causes is drawn again and again.
//! 3. At the end: all causes, what is harmless, and what is missing.

use std::cell::RefCell;
use std::io;
use std::ops::ControlFlow;
use std::rc::Rc;

use anstream::AutoStream;
use anyhow::Result;
use clap::Parser as _;
use tracing::{info, warn};

use super::args::{Cli, Drops as Args, DropsFormat, Format, Output, Trace};
use super::output::{choose_color, width};
use super::status::Status;
use super::{FAILED, FINDINGS, SUCCESS, UsageError, notes, plan, runtime};
use crate::priority;
use crate::session::{Plan, Progress, trace};
use podtrace_path::{Change, Path, Summary};
use podtrace_protocol::frame::Side;
use podtrace_protocol::inventory::{Endpoint, Resolved, Selector};
use podtrace_report::output::drops::{self, Watched};
use podtrace_report::output::{Drops, Report, losses};
use podtrace_report::totals::Finished;

/// Addresses that the eBPF programs' filter holds, but for those of nodes.
const ADDRESSES: usize = 3_500;

/// How often the table is drawn, in ticks of the session.
const DRAWN_EVERY: u64 = 4;

pub(super) fn run(args: &Args) -> Result<u8> {
    choose_color(args.look.color);
    let options = options(args)?;
    let status = Status::of(&options.output);
    notes::show(&options.output, status.clone());
    let runtime = runtime()?;
    priority::yield_to_traffic();
    let mut plan = runtime.block_on(plan::plan(&options))?;
    keep_to_filter(&mut plan);
    let dropped = Rc::new(RefCell::new(report(args)));
    // For how long is known from the first look on.
    dropped.borrow_mut().watch(Watched { nodes: plan.nodes.clone(), over: None });
    let mut shared = Shared { dropped: dropped.clone(), status: status.clone() };
    let (mut before, mut ticks) = (Progress::default(), 0);
    let outcome = runtime.block_on(trace(&plan, &mut shared, &mut |now| {
        let mut dropped = dropped.borrow_mut();
        dropped.watch(Watched { nodes: plan.nodes.clone(), over: Some(now.elapsed) });
        if ticks % DRAWN_EVERY == 0 {
            draw(&status, &dropped, &before, now);
            before = *now;
        }
        ticks += 1;
        match args.count {
            Some(count) if dropped.losses().failed() >= count => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }));
    runtime.shutdown_background();
    status.clear();
    let outcome = outcome?;
    if let Some(losses) = losses(&outcome.summary) {
        warn!("{losses}");
    }
    let failed = dropped.borrow().losses().failed();
    Ok(match failed {
        // What was found counts for more than what was not looked at.
        1.. => FINDINGS,
        0 if outcome.all_lost || is_doubtful(&outcome.summary) => FAILED,
        0 => SUCCESS,
    })
}

/// Whether drops may have been missed.
fn is_doubtful(summary: &Summary) -> bool {
    drops::missing(summary).is_some() || summary.drops.unexplained > 0
}

/// The options of the trace that shows them.
fn options(args: &Args) -> Result<Trace> {
    let Args { endpoints, selector, namespace, all_namespaces, proto, filter, duration, .. } = args;
    // What nobody has typed is as it is for every trace.
    let mut options = Cli::try_parse_from(["podtrace"])?.trace;
    options.ends.from.clone_from(endpoints);
    options.ends.namespace.clone_from(namespace);
    let has_ends = !endpoints.is_empty() || selector.is_some();
    options.ends.all_namespaces = *all_namespaces || (!has_ends && namespace.is_none());
    options.ends.selector = match selector {
        Some(selector) => vec![selector.clone()],
        None if endpoints.is_empty() => vec![Selector::all()],
        None => Vec::new(),
    };
    options.ends.proto = *proto;
    options.filter.clone_from(filter);
    options.timeout = *duration;
    options.write = args.write.clone();
    options.max_memory = args.max_memory;
    let look = args.look.clone();
    (options.cluster, options.kubeconfig, options.context) = (look.cluster, look.kubeconfig, look.context);
    options.agent_image = look.agent_image;
    options.output = Output {
        output: Format::Drops,
        verbose: look.verbose,
        quiet: look.quiet,
        color: look.color,
        ..options.output
    };
    if args.write.takes_stdout() {
        return Err(UsageError("--write - needs stdout, where the drops go: name a file".to_owned()).into());
    }
    Ok(options)
}

/// Traces everything where the filter cannot hold the addresses of all pods.
fn keep_to_filter(plan: &mut Plan) {
    let number = plan.filter.from.addresses.len();
    if number <= ADDRESSES {
        return;
    }
    info!("{number} addresses are more than the trace filter holds: all traffic of the nodes is traced");
    plan.filter.from = Side::default();
    plan.tapped = None;
    plan.title = "all traffic".to_owned();
    plan.nodes = plan.inventory.nodes.iter().map(|node| node.name.clone()).collect();
    if let Some(following) = &mut plan.following {
        following.aim.from = Endpoint::Any;
        following.from =
            Resolved { nodes: plan.nodes.clone(), what: "any".to_owned(), ..Resolved::default() };
    }
}

/// Where the output goes.
type Out = Box<dyn io::Write>;

fn report(args: &Args) -> Drops<Out> {
    match args.output {
        DropsFormat::Text => Drops::new(Box::new(AutoStream::auto(io::stdout())) as Out).with_width(width()),
        DropsFormat::Json => Drops::json(Box::new(io::stdout()) as Out),
    }
}

fn draw(status: &Status, dropped: &Drops<Out>, before: &Progress, now: &Progress) {
    // Where stdout goes elsewhere, the table is there in the end.
    if io::IsTerminal::is_terminal(&io::stdout()) {
        status.show_table(|columns, lines| {
            let mut text = drops::table(dropped.losses(), now.harmless, columns, lines.saturating_sub(1));
            text.push_str(&status.line(before, now, columns));
            text
        });
    } else {
        status.show(before, now);
    }
}

/// The report, which the table looks into while the trace runs.
struct Shared {
    dropped: Rc<RefCell<Drops<Out>>>,
    status: Status,
}

impl Report for Shared {
    fn path(&mut self, path: &Path) -> io::Result<()> {
        self.dropped.borrow_mut().path(path)
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        self.dropped.borrow_mut().change(change)
    }

    fn damage(&mut self, damage: &str) -> io::Result<()> {
        self.dropped.borrow_mut().damage(damage)
    }

    fn totals(&mut self, totals: &Finished) -> io::Result<()> {
        self.dropped.borrow_mut().totals(totals)
    }

    fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        self.status.clear();
        self.dropped.borrow_mut().summary(summary)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parsed(line: &str) -> Trace {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Some(super::super::Command::Drops(args)) = cli.command else {
            panic!("{line} is something else")
        };
        options(&args).unwrap()
    }

    #[test]
    fn without_endpoints_all_pods_are_looked_at() {
        for (line, everywhere, selector) in [
            ("podtrace drops", true, Some("")),
            ("podtrace drops -A", true, Some("")),
            ("podtrace drops -n shop", false, Some("")),
            ("podtrace drops -l app=web", false, Some("app=web")),
            ("podtrace drops pod1 svc/web", false, None),
        ] {
            let ends = parsed(line).ends;
            let selectors: Vec<_> = ends.selector.iter().map(ToString::to_string).collect();
            assert_eq!(ends.all_namespaces, everywhere, "{line}");
            assert_eq!(selectors.first().map(String::as_str), selector, "{line}");
        }
        assert_eq!(parsed("podtrace drops pod1 svc/web").ends.from, ["pod1", "svc/web"]);
        assert_eq!(parsed("podtrace drops --for 10s").timeout, Some(Duration::from_secs(10)));
    }
}
