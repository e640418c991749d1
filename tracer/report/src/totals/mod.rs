//! What a trace amounts to: flows, routes, causes and numbers.
//!
//! Input: finished paths with their advice, in order. Output: [`Finished`], from which outputs are made; and for outputs that
//! show paths, [`Novelty`] says which of them are like one before. Nothing here depends on how it is shown, and live traces and
//! recordings use it alike.
//!
//! 1. A round trip is measured where an answer completes it (`exchange`).
//! 2. Paths are summed by flow (`flow`), by sequence of hops (`route`) and, if they failed, by cause (`cause`).
//! 3. Durations go into histograms (`histogram`): percentiles to 1/32, in bounded memory.
//!
//! Each list has a bound. What is beyond it is in the sums, which say how much that is.
//!
//! # Examples
//!
//! ```
//! use podtrace_report::output::Report;
//! use podtrace_report::recording::Reader;
//! use podtrace_report::replay::{ReplayOptions, replay};
//! use podtrace_report::totals::Finished;
//! # use podtrace_path::{Path, Summary};
//!
//! struct RoundTrip(Option<u64>);
//!
//! impl Report for RoundTrip {
//!     fn totals(&mut self, totals: &Finished) -> std::io::Result<()> {
//!         self.0 = totals.flows[0].rtt.map(|rtt| rtt.rtt.avg_ns);
//!         Ok(())
//!     }
//! #   fn path(&mut self, _: &Path) -> std::io::Result<()> { Ok(()) }
//! #   fn summary(&mut self, _: &Summary) -> std::io::Result<()> { Ok(()) }
//! }
//!
//! let recording = Reader::new(std::fs::File::open("../../tests/recordings/cross-node-ping.pcapng")?)?;
//! let mut round_trip = RoundTrip(None);
//! replay(recording, ReplayOptions::default(), &mut round_trip)?;
//! assert!(round_trip.0.is_some_and(|ns| ns < 1_000_000));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod cause;
mod estimate;
mod exchange;
mod finished;
mod flow;
mod histogram;
mod loss;
mod novelty;
mod numbers;
mod route;
#[cfg(test)]
mod tests;

pub use finished::{
    Cause, Estimate, ExchangeKind, Exchanged, Finished, Flow, FlowRoundTrips, Latency, Loss, Pair,
    RoundTrips, Route, RouteHop, Totals, Way, all, failed,
};
pub use flow::packets;
pub use loss::Losses;
pub use novelty::{Compared, First, Novelty};

use std::num::NonZeroU32;

use podtrace_path::{Path, Protocol, VerdictCounts};
use tracer_common::wire::SAMPLED_SEGMENTS;

pub(crate) use finished::count;

use cause::Causes;
use estimate::Sampled;
use exchange::Exchanges;
use flow::Flows;
use route::Routes;

/// What is known of a trace besides its paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Whether every answer to a request that was traced is traced as well.
    pub are_answers_traced: bool,
    /// Whether it ended at its number of paths.
    pub is_limited: bool,
    /// Whether no event is missing.
    pub is_complete: bool,
    /// One in so many packets was traced; `None` for all.
    pub sample: Option<NonZeroU32>,
}

impl Default for End {
    fn default() -> Self {
        Self { are_answers_traced: true, is_limited: false, is_complete: true, sample: None }
    }
}

/// Sums paths.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    paths: VerdictCounts,
    bytes: u64,
    sampled: Sampled,
    exchanges: Exchanges,
    flows: Flows,
    routes: Routes,
    causes: Causes,
}

impl Collector {
    /// Adds a finished path with its advice.
    pub fn add(&mut self, path: &Path) {
        count(path.verdict, &mut self.paths);
        self.bytes += u64::from(path.bytes);
        // Of datagrams that GSO splits, the first one decides; of segments, the first ones.
        let deciding = if path.proto == Protocol::Tcp { path.wire_packets.min(SAMPLED_SEGMENTS) } else { 1 };
        self.sampled.add(deciding);
        let progress = self.exchanges.add(path);
        self.flows.add(path, progress);
        self.routes.add(path);
        self.causes.add(path);
    }

    /// Paths by verdict.
    #[must_use]
    pub fn paths(&self) -> VerdictCounts {
        self.paths
    }

    /// What the paths so far amount to.
    #[must_use]
    pub fn finished(&self, end: End) -> Finished {
        Finished {
            causes: self.causes.finished(),
            routes: self.routes.finished(),
            flows: self.flows.finished(end.are_answers_traced && !end.is_limited && end.is_complete),
            totals: Totals {
                paths: self.paths,
                bytes: self.bytes,
                retransmitted: self.flows.retransmitted(),
                flows: self.flows.count(),
                unlisted_flows: flow::unlisted(&self.flows),
                unlisted_flow_paths: self.flows.unlisted(),
                unlisted_route_paths: self.routes.unlisted(),
                unlisted_cause_paths: self.causes.unlisted(),
                exchanges: self.exchanges.finished(end.are_answers_traced, end.sample.is_some()),
                limited: end.is_limited,
                sample: end.sample.map(|one_in| self.sampled.estimate(one_in)),
                complete: end.is_complete,
            },
        }
    }
}
