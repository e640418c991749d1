//! Follows a cluster that changes during the trace.
//!
//! Input: what the Kubernetes API reports. Output: updates for the engine and the reports, new configurations for the
//! agents, and agents on nodes that traced packets now pass. What a change means for the filter is in
//! [`follow`](super::follow).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use podtrace_path::{Change, ChangeKind, Update};
use podtrace_protocol::frame::{Attached, Updated};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::agents::{Agents, Notification};
use super::follow::{Following, Moment};
use super::live::Live;
use super::{Plan, hooks};
use crate::agent::clock;
use crate::cluster::kube::{News, Watching};

/// An event of the cluster.
pub(super) enum Event {
    /// News of its API; `None` when it is no longer watched.
    News(Option<News>),
    /// Addresses of deleted pods can leave the filter.
    Expired,
}

/// The cluster of a trace.
pub(super) struct Changes {
    watching: Option<Watching>,
    following: Option<Following>,
    /// Nodes that got an agent, or cannot have one. An agent that is lost or fails is started again by [`Agents`].
    reached: BTreeSet<String>,
    /// Nodes that traced packets pass and that are not traced, and why.
    unreached: BTreeMap<String, String>,
    /// What was said of hooks that updates attached.
    notes: hooks::Notes,
}

impl Changes {
    /// The cluster of a plan, not watched yet.
    pub(super) fn of(plan: &Plan) -> Self {
        let following = plan.following.as_ref().map(|followed| {
            let ends = (followed.from.clone(), followed.to.clone());
            Following::new(
                followed.aim.clone(),
                plan.inventory.clone(),
                ends,
                plan.filter.clone(),
                plan.tapped.clone(),
            )
        });
        let reached = plan.nodes.iter().cloned().collect();
        Self {
            watching: None,
            following,
            reached,
            unreached: BTreeMap::new(),
            notes: hooks::Notes::default(),
        }
    }

    /// Watches the cluster, from the state that the plan was made of.
    pub(super) fn watch(&mut self, plan: &Plan) {
        self.watching = plan.following.as_ref().map(|followed| followed.watch.clone().begin());
    }

    /// Waits for the next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> Event {
        let Self { watching, following, .. } = self;
        let expiry = following.as_ref().and_then(Following::next_expiry).filter(|_| watching.is_some());
        tokio::select! {
            news = next_news(watching) => Event::News(news),
            () = until(expiry) => Event::Expired,
        }
    }

    /// Handles an event.
    pub(super) fn handle(
        &mut self,
        event: Event,
        agents: &mut Agents,
        live: &mut Live<'_>,
    ) -> Result<Vec<Notification>> {
        match event {
            Event::News(Some(News::Cluster { inventory, recreated })) => {
                let Some(following) = &mut self.following else { return Ok(Vec::new()) };
                let Some(mut update) = following.take(*inventory, &recreated, now()) else {
                    return Ok(Vec::new());
                };
                self.add_untraced(&mut update);
                live.update(&update)?;
                let notifications = self.configure(agents, update.at_ns, &recreated);
                self.reach_nodes(agents, live)?;
                return Ok(notifications);
            }
            Event::News(Some(News::Lost(why))) => {
                warn!(
                    "{why}; tracing continues, and cluster changes are reported once the connection is back"
                );
            }
            Event::News(Some(News::Back)) => {
                info!("the Kubernetes API is back: watching cluster changes again");
            }
            Event::News(Some(News::Denied(why))) => {
                warn!("cluster changes are not watched: {why}");
                self.watching = None;
            }
            Event::News(None) => self.watching = None,
            Event::Expired => {
                let update = self.following.as_mut().and_then(|following| following.expire(now()));
                if let Some(update) = update {
                    live.update(&update)?;
                    return Ok(self.configure(agents, update.at_ns, &BTreeSet::new()));
                }
            }
        }
        Ok(Vec::new())
    }

    /// Sends the agents their configurations, where these have changed.
    pub(super) fn configure(
        &self,
        agents: &mut Agents,
        at_ns: u64,
        recreated: &BTreeSet<String>,
    ) -> Vec<Notification> {
        let Some(following) = &self.following else { return Vec::new() };
        agents.update_configurations(at_ns, recreated, |node| following.configuration(node), Instant::now())
    }

    /// Handles an agent's answer to an update of its configuration.
    pub(super) fn updated(&mut self, name: &str, updated: &Updated, live: &mut Live<'_>) -> Result<()> {
        let Updated { update_id: _, at_ns: _, hooks, missing_pods, error } = updated;
        hooks::report(name, &Attached { hooks: hooks.clone(), ..Attached::default() }, &mut self.notes);
        self.notes.report();
        detail!("{name}: trace filter updated");
        let why = |pod: &String| match error {
            Some(error) => Some(error.clone()),
            None if missing_pods.contains(pod) => {
                Some(format!("no network namespace on {name} has its address"))
            }
            None => None,
        };
        let pods = self.following.as_ref().map(|following| following.on_node(name)).unwrap_or_default();
        let now = now();
        let changes: Vec<_> = pods
            .into_iter()
            .filter_map(|(pod, place)| {
                let detail = Some(why(&pod)?);
                let change = Change::of(now.realtime_ns, pod, ChangeKind::Untraced);
                Some(Change { now: Some(place), detail, ..change })
            })
            .collect();
        if let Some(error) = error {
            warn!("{name}: could not update the trace filter: {error}");
        }
        if changes.is_empty() && error.is_none() {
            return Ok(());
        }
        live.update(&Update { at_ns: now.monotonic_ns, blind: true, changes, ..Update::default() })
    }

    /// A node is traced that was not.
    pub(super) fn joined(&mut self, name: &str, live: &mut Live<'_>) -> Result<()> {
        self.unreached.remove(name);
        let now = now();
        let changes = vec![Change::of(now.realtime_ns, format!("node/{name}"), ChangeKind::Traced)];
        let joined = vec![name.to_owned()];
        live.update(&Update { at_ns: now.monotonic_ns, joined, changes, ..Update::default() })
    }

    /// A node is not traced any more.
    pub(super) fn lost(&mut self, name: &str) {
        self.unreached.insert(name.to_owned(), "its agent was lost".to_owned());
    }

    /// A node that traced packets pass is not traced.
    pub(super) fn failed(&mut self, name: &str, why: &str, live: &mut Live<'_>) -> Result<()> {
        self.unreached.insert(name.to_owned(), why.to_owned());
        let now = now();
        let pods = self.following.as_ref().map(|following| following.on_node(name)).unwrap_or_default();
        let mut changes: Vec<_> = pods
            .into_iter()
            .map(|(pod, place)| {
                let change = Change::of(now.realtime_ns, pod, ChangeKind::Untraced);
                Change { now: Some(place), detail: Some(why.to_owned()), ..change }
            })
            .collect();
        if changes.is_empty() {
            let change = Change::of(now.realtime_ns, format!("node/{name}"), ChangeKind::Untraced);
            changes.push(Change { detail: Some(why.to_owned()), ..change });
        }
        live.update(&Update { at_ns: now.monotonic_ns, blind: true, changes, ..Update::default() })
    }

    /// Starts agents on nodes that traced packets pass now and did not before.
    fn reach_nodes(&mut self, agents: &mut Agents, live: &mut Live<'_>) -> Result<()> {
        let Some(following) = &self.following else { return Ok(()) };
        let mut refused = Vec::new();
        for name in following.nodes() {
            if !self.reached.insert(name.clone()) {
                continue;
            }
            let Some(node) = following.inventory().nodes.iter().find(|node| node.name == name) else {
                continue;
            };
            if node.run.is_local() && !nix::unistd::geteuid().is_root() {
                refused.push((name, "tracing this machine needs root".to_owned()));
                continue;
            }
            info!("{name}: starting an agent, as traced traffic now passes this node");
            let configuration = following.configuration(&name).unwrap_or_default();
            agents.add_late(node.clone(), configuration, Instant::now());
        }
        for (name, why) in refused {
            self.failed(&name, &why, live)?;
        }
        Ok(())
    }

    /// Adds to an update the pods that came to a node which is not traced.
    fn add_untraced(&self, update: &mut Update) {
        let Some(following) = &self.following else { return };
        for (node, why) in &self.unreached {
            for (pod, place) in following.on_node(node) {
                let came = update.changes.iter().any(|change| {
                    matches!(change.kind, ChangeKind::Moved | ChangeKind::Back) && change.about == pod
                        || change.added.contains(&pod)
                });
                if came {
                    let at = now().realtime_ns;
                    let change = Change::of(at, pod, ChangeKind::Untraced);
                    update.changes.push(Change { now: Some(place), detail: Some(why.clone()), ..change });
                    update.blind = true;
                }
            }
        }
    }
}

async fn next_news(watching: &mut Option<Watching>) -> Option<News> {
    match watching {
        Some(watching) => watching.next().await,
        None => std::future::pending().await,
    }
}

async fn until(monotonic_ns: Option<u64>) {
    match monotonic_ns {
        Some(at) => sleep(Duration::from_nanos(at.saturating_sub(clock::monotonic_ns()))).await,
        None => std::future::pending().await,
    }
}

fn now() -> Moment {
    Moment { monotonic_ns: clock::monotonic_ns(), realtime_ns: clock::realtime_ns() }
}
