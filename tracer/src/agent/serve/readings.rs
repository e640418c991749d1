//! Readings of the node, each beside the ring buffer, which must not fill up meanwhile: its packet filter, its networking for
//! an update of the trace, and its networking after a change.
//!
//! Every `next` here waits for the next result, and is cancel-safe. What a result means is in [`changes`](super::changes).

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use podtrace_protocol::frame::{Configuration, PodAddresses};
use podtrace_protocol::topology::{Namespace, Topology};
use podtrace_rules::Rules;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::netns::Netns;
use crate::node;
use crate::node::topology::Reading;
use crate::node::topology::changes::Changes;

/// How long after an update the packet filter is read again: kube-proxy learns of the change at the same time, and takes a
/// second to write its rules.
const RULES_AFTER: Duration = Duration::from_secs(2);

/// How long after the first of several changes the networking is read again.
const SETTLED_AFTER: Duration = Duration::from_millis(50);

/// Reading something again takes at most one part in this many of the time: with many pods, a reading takes long. The first
/// reading, at the start, does not count.
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

/// Pods whose rules are read at most while tracing: each takes programs of its own.
const PODS: usize = 8;

/// Pods whose rules are read at most where nothing is traced.
const PODS_ONCE: usize = 32;

/// The packet filter, read once.
pub(super) struct RulesOnce {
    pub(super) rules: Rules,
    /// Pods whose own rules were not read.
    pub(super) left_out: usize,
}

/// Reads the packet filter of the node and of its pods.
pub(super) async fn rules_once(topology: &Topology) -> Result<RulesOnce> {
    let pods: Vec<_> = topology.namespaces.iter().filter_map(|namespace| namespace.pod.clone()).collect();
    let rules = read_rules(topology, &pods, PODS_ONCE).await.context("reading the packet filter")?;
    Ok(RulesOnce { rules, left_out: pods.len().saturating_sub(PODS_ONCE) })
}

/// Readings of the packet filter: one at the start, one some time after each update, and after changes that nft announces.
pub(super) struct RulesReadings {
    running: Option<(Instant, oneshot::Receiver<Rules>)>,
    due: Option<Instant>,
    not_before: Instant,
    /// How many times longer than the next reading takes the pause after it is.
    share: u32,
    /// `None` where the kernel announces none.
    changes: Option<Changes>,
}

impl RulesReadings {
    /// Starts the first one. `pods` are the full names of those whose rules are read, too.
    pub(super) fn begin(topology: &Topology, pods: &[String]) -> Self {
        let now = Instant::now();
        let changes = Changes::of_rules(topology, pods).ok();
        Self {
            running: Some((now, read_rules(topology, pods, PODS))),
            due: None,
            not_before: now,
            share: 0,
            changes,
        }
    }

    /// Asks for another one in [`RULES_AFTER`], and listens in the namespaces of these pods from here on.
    pub(super) fn read_again(&mut self, topology: &Topology, pods: &[String]) {
        self.changes = Changes::of_rules(topology, pods).ok();
        self.due = Some(Instant::now() + RULES_AFTER);
    }

    /// The next result; `None` where the kernel announced a change, which is read from now on.
    pub(super) async fn next(&mut self, topology: &Topology, pods: &[String]) -> Option<Rules> {
        loop {
            tokio::select! {
                // A thread that panicked prints that to stderr, and has no result.
                read = async { (&mut self.running.as_mut()?.1).await.ok() }, if self.running.is_some() => {
                    if let Some((started, _)) = self.running.take() {
                        self.not_before = Instant::now() + started.elapsed() * self.share;
                        self.share = READING_SHARE;
                    }
                    if read.is_some() {
                        return read;
                    }
                }
                () = announced(self.changes.as_mut()), if self.due.is_none() => {
                    self.due = Some(self.not_before.max(Instant::now() + SETTLED_AFTER));
                    return None;
                }
                () = sleep_until(self.due), if self.running.is_none() && self.due.is_some() => {
                    self.due = None;
                    self.running = Some((Instant::now(), read_rules(topology, pods, PODS)));
                }
            }
        }
    }
}

/// Reads the packet filter of the node and of these pods, of `at_most` of them, in a thread.
fn read_rules(topology: &Topology, pods: &[String], at_most: usize) -> oneshot::Receiver<Rules> {
    let (done, rules) = oneshot::channel();
    let local = topology.namespaces.first().map(addresses).unwrap_or_default();
    let inside = topology.namespaces.iter().filter_map(|namespace| {
        let pod = namespace.pod.as_ref().filter(|pod| pods.contains(pod))?;
        Some((pod.clone(), namespace.path.clone(), addresses(namespace)))
    });
    let inside: Vec<_> = inside.take(at_most).collect();
    std::thread::spawn(move || {
        let mut rules = node::rules::read(local);
        for (pod, path, local) in inside {
            // A pod that has just ended has no rules.
            let read = Netns::open(path).and_then(|netns| netns.run(|| Ok(node::rules::read(local))));
            if let Some(read) = read.ok().filter(|read| !read.tables.is_empty()) {
                rules.inside.insert(pod, read);
            }
        }
        // Fails if the trace is over.
        let _ = done.send(rules);
    });
    rules
}

fn addresses(namespace: &Namespace) -> Vec<IpAddr> {
    let devices = namespace.devices.iter();
    devices.flat_map(|device| &device.addresses).map(IpNet::addr).collect()
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
    /// How many times longer than the next reading takes the pause after it is.
    share: u32,
    done: mpsc::UnboundedSender<(Duration, Result<Reading>)>,
    results: mpsc::UnboundedReceiver<(Duration, Result<Reading>)>,
}

impl ChangeReadings {
    /// Starts one at once, for what changed before `changes` were listened for.
    pub(super) fn begin(changes: Option<Changes>) -> Self {
        let (done, results) = mpsc::unbounded_channel();
        let now = Instant::now();
        Self { changes, due: Some(now), is_running: false, not_before: now, share: 0, done, results }
    }

    /// Listens for other changes from here on.
    pub(super) fn set_changes(&mut self, changes: Option<Changes>) {
        self.changes = changes;
    }

    /// The next result; `None` where the kernel announced a change, which is read from now on.
    pub(super) async fn next(&mut self, pods: &[PodAddresses]) -> Option<Result<Reading>> {
        loop {
            tokio::select! {
                () = announced(self.changes.as_mut()), if self.due.is_none() && !self.is_running => {
                    self.due = Some(self.not_before.max(Instant::now() + SETTLED_AFTER));
                    return None;
                }
                () = sleep_until(self.due), if self.due.is_some() => {
                    self.due = None;
                    self.is_running = true;
                    self.start(pods.to_vec());
                }
                Some((took, reading)) = self.results.recv() => {
                    self.is_running = false;
                    self.not_before = Instant::now() + took * self.share;
                    self.share = READING_SHARE;
                    return Some(reading);
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
