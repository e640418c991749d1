//! Readings of the node, each beside the ring buffer, which must not fill up meanwhile: its packet filter, its networking for
//! an update of the trace, and its networking after a change.
//!
//! Every `next` here waits for the next result, and is cancel-safe. What a result means is in [`changes`](super::changes).

use std::time::Duration;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use podtrace_protocol::frame::{Configuration, PodAddresses};
use podtrace_protocol::topology::Topology;
use podtrace_rules::Rules;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::node;
use crate::node::topology::Reading;
use crate::node::topology::changes::Changes;

/// How long after an update the packet filter is read again: kube-proxy learns of the change at the same time, and takes a
/// second to write its rules.
const RULES_AFTER: Duration = Duration::from_secs(2);

/// How long after the first of several changes the networking is read again.
const SETTLED_AFTER: Duration = Duration::from_millis(50);

/// Reading the networking again takes at most one part in this many of the time: with many pods, a reading takes long.
const READING_SHARE: u32 = 10;

/// Reads the node's networking.
pub(super) async fn networking(pods: Vec<PodAddresses>) -> Result<Reading> {
    let reading = tokio::task::spawn_blocking(move || node::topology::read(&pods)).await;
    reading.context("reading the node's networking")?
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Readings of the packet filter: one at the start, and one some time after each update.
pub(super) struct RulesReadings {
    running: Option<oneshot::Receiver<Rules>>,
    due: Option<Instant>,
}

impl RulesReadings {
    /// Starts the first one.
    pub(super) fn begin(topology: &Topology) -> Self {
        Self { running: Some(read_rules(topology)), due: None }
    }

    /// Asks for another one in [`RULES_AFTER`].
    pub(super) fn read_again(&mut self) {
        self.due = Some(Instant::now() + RULES_AFTER);
    }

    pub(super) async fn next(&mut self, topology: &Topology) -> Rules {
        loop {
            tokio::select! {
                // A thread that panicked prints that to stderr, and has no result.
                read = async { self.running.as_mut()?.await.ok() }, if self.running.is_some() => {
                    self.running = None;
                    if let Some(rules) = read {
                        return rules;
                    }
                }
                () = sleep_until(self.due), if self.running.is_none() => {
                    self.due = None;
                    self.running = Some(read_rules(topology));
                }
            }
        }
    }
}

/// Reads the packet filter in a thread.
fn read_rules(topology: &Topology) -> oneshot::Receiver<Rules> {
    let (done, rules) = oneshot::channel();
    let own = topology.namespaces.first();
    let addresses = own.into_iter().flat_map(|own| &own.devices).flat_map(|device| &device.addresses);
    let local = addresses.map(IpNet::addr).collect();
    std::thread::spawn(move || {
        // Fails if the trace is over.
        let _ = done.send(node::rules::read(local));
    });
    rules
}

/// The networking read for an update: the update's id, its configuration, and what was read.
pub(super) type ForUpdate = (u64, Configuration, Result<Reading>);

/// Readings for updates, one at a time. Of the updates that come meanwhile, only the last one counts.
pub(super) struct UpdateReadings {
    is_running: bool,
    pending: Option<(u64, Configuration)>,
    done: mpsc::UnboundedSender<ForUpdate>,
    results: mpsc::UnboundedReceiver<ForUpdate>,
}

impl UpdateReadings {
    pub(super) fn new() -> Self {
        let (done, results) = mpsc::unbounded_channel();
        Self { is_running: false, pending: None, done, results }
    }

    pub(super) fn start(&mut self, at_ns: u64, configuration: Configuration) {
        if self.is_running {
            self.pending = Some((at_ns, configuration));
            return;
        }
        self.is_running = true;
        let done = self.done.clone();
        tokio::spawn(async move {
            let reading = networking(configuration.pods.clone()).await;
            // Fails if the trace is over.
            let _ = done.send((at_ns, configuration, reading));
        });
    }

    pub(super) async fn next(&mut self) -> ForUpdate {
        let Some(read) = self.results.recv().await else {
            // Not reached: this holds a sender.
            return std::future::pending().await;
        };
        self.is_running = false;
        if let Some((at_ns, configuration)) = self.pending.take() {
            self.start(at_ns, configuration);
        }
        read
    }
}

/// Readings after changes that the kernel announces.
pub(super) struct ChangeReadings {
    /// `None` where the kernel announces none.
    changes: Option<Changes>,
    /// When the next reading starts, if a change was announced.
    due: Option<Instant>,
    /// Changes that are announced while it runs start another one.
    is_running: bool,
    not_before: Instant,
    done: mpsc::UnboundedSender<(Duration, Result<Reading>)>,
    results: mpsc::UnboundedReceiver<(Duration, Result<Reading>)>,
}

impl ChangeReadings {
    /// Starts one at once, for what changed before `changes` were listened for.
    pub(super) fn begin(changes: Option<Changes>) -> Self {
        let (done, results) = mpsc::unbounded_channel();
        let now = Instant::now();
        Self { changes, due: Some(now), is_running: false, not_before: now, done, results }
    }

    /// Listens for other changes from here on.
    pub(super) fn set_changes(&mut self, changes: Option<Changes>) {
        self.changes = changes;
    }

    pub(super) async fn next(&mut self, pods: &[PodAddresses]) -> Result<Reading> {
        loop {
            tokio::select! {
                () = announced(self.changes.as_mut()), if self.due.is_none() && !self.is_running => {
                    self.due = Some(self.not_before.max(Instant::now() + SETTLED_AFTER));
                }
                () = sleep_until(self.due), if self.due.is_some() => {
                    self.due = None;
                    self.is_running = true;
                    self.start(pods.to_vec());
                }
                Some((took, reading)) = self.results.recv() => {
                    self.is_running = false;
                    self.not_before = Instant::now() + took * READING_SHARE;
                    return reading;
                }
            }
        }
    }

    fn start(&self, pods: Vec<PodAddresses>) {
        let done = self.done.clone();
        tokio::spawn(async move {
            let started = Instant::now();
            let reading = networking(pods).await;
            // Fails if the trace is over.
            let _ = done.send((started.elapsed(), reading));
        });
    }
}

async fn announced(changes: Option<&mut Changes>) {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}
