//! What the frames of a live trace go through: the recording, the engine, the report.

use anyhow::Result;
use tokio::time::Instant;
use tracing::info;

use super::Progress;
use podtrace_path::{Context, Engine, Path, Update};
use podtrace_protocol::frame::{Accounting, FromAgent};
use podtrace_protocol::record;
use podtrace_report::replay::{Outcome, Presenter};

/// The part of a trace that frames go through.
pub(super) struct Live<'a> {
    pub(super) engine: Engine,
    pub(super) presenter: Presenter<'a>,
    snaplen: Option<u16>,
    /// What each node counted last.
    counted: Vec<Accounting>,
    paths: Vec<Path>,
    nodes: Vec<String>,
}

impl<'a> Live<'a> {
    /// With nothing taken yet; `snaplen` is how many bytes are kept of each packet, where that is fewer than come.
    pub(super) fn new(context: Context, presenter: Presenter<'a>, snaplen: Option<u16>) -> Self {
        let counted = vec![Accounting::default(); context.nodes.len()];
        let nodes = context.nodes.clone();
        let engine = Engine::new(context);
        Self { engine, presenter, snaplen, counted, paths: Vec::new(), nodes }
    }

    /// How many nodes the engine has.
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Takes a change of the cluster.
    pub(super) fn update(&mut self, update: &Update) -> Result<()> {
        self.engine.update(update);
        self.nodes.extend(update.joined.iter().cloned());
        self.counted.resize(self.counted.len() + update.joined.len(), Accounting::default());
        self.presenter.handle_update(update)
    }

    /// Takes a frame, or the end of a node's stream.
    pub(super) fn take(&mut self, node: usize, frame: Option<&FromAgent>) -> Result<()> {
        let shortened = match (frame, self.snaplen) {
            (Some(FromAgent::Events(body)), Some(snaplen)) => {
                Some(FromAgent::Events(record::shorten(body, snaplen)))
            }
            _ => None,
        };
        // Everything goes by what is kept, so that reading it again comes to the same.
        let frame = shortened.as_ref().or(frame);
        self.presenter.handle_frame(node, frame);
        if let (Some(FromAgent::Heartbeat { counters, .. }), Some(counted)) =
            (frame, self.counted.get_mut(node))
        {
            *counted = *counters;
        }
        if let (Some(FromAgent::Rules(rules)), Some(name)) = (frame, self.nodes.get(node)) {
            for gap in &rules.gaps {
                info!("{name}: {}", gap.text);
            }
        }
        if let (Some(FromAgent::Stats(stats)), Some(name)) = (frame, self.nodes.get(node)) {
            self.presenter.report_stats(name, stats)?;
        }
        match frame {
            Some(frame) => self.engine.ingest(node, frame, &mut self.paths),
            None => self.engine.node_ended(node),
        }
        self.presenter.report_paths(&mut self.paths)
    }

    pub(super) fn progress(&self, ready: Instant) -> Progress {
        let sum = |count: fn(&Accounting) -> u64| self.counted.iter().map(count).sum();
        Progress {
            paths: self.presenter.reported(),
            under_way: u64::try_from(self.engine.under_way()).unwrap_or(u64::MAX),
            events: sum(|counted| counted.produced),
            unsampled: sum(|counted| counted.unsampled),
            lost: sum(|counted| counted.lost_ring + counted.lost_map + counted.missed_probes),
            harmless: self.engine.harmless_drops(),
            elapsed: ready.elapsed(),
        }
    }

    /// Ends a trace whose output could not be written. Returns the summary if it could not be reported.
    pub(super) fn fail(mut self) -> Option<String> {
        let summary = self.engine.finish(&mut self.paths);
        self.presenter.fail(summary)
    }

    pub(super) fn finish(mut self) -> Result<Outcome> {
        let summary = self.engine.finish(&mut self.paths);
        self.presenter.report_paths(&mut self.paths)?;
        self.presenter.finish(summary)
    }
}
