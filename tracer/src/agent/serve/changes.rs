//! Follows the node: reads its networking and rules beside the ring, when the tracer or the kernel says that they changed.

use std::time::Duration;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot};

use super::stdio::Output;
use super::{Serving, settings};
use crate::agent::clock;
use crate::node;
use crate::node::topology::Reading;
use crate::node::topology::changes::Changes;
use podtrace_protocol::frame::{Configuration, FromAgent, HookState, PodAddresses, Updated};
use podtrace_protocol::topology::Topology;
use podtrace_rules::Rules;

/// The node's packet filter, read while the programs are attached, and beyond that if it takes longer.
pub(super) fn read_rules(topology: &Topology) -> oneshot::Receiver<Rules> {
    let (done, rules) = oneshot::channel();
    let own = topology.namespaces.first();
    let addresses = own.into_iter().flat_map(|own| &own.devices).flat_map(|device| &device.addresses);
    let local = addresses.map(IpNet::addr).collect();
    std::thread::spawn(move || {
        // Nobody waits for it if the trace is over.
        let _ = done.send(node::rules::read(local));
    });
    rules
}

pub(super) async fn survey(pods: Vec<PodAddresses>) -> Result<Reading> {
    let reading = tokio::task::spawn_blocking(move || node::topology::read(&pods)).await;
    reading.context("reading the node's networking")?
}

/// The node's networking, read again, and how long that took.
pub(super) type Looked = (Duration, Result<Reading>);

/// Reads the node's networking again, beside the ring.
pub(super) fn look_again(pods: Vec<PodAddresses>, done: mpsc::UnboundedSender<Looked>) {
    tokio::spawn(async move {
        let started = tokio::time::Instant::now();
        let reading = survey(pods).await;
        // Nobody waits for it if the trace is over.
        let _ = done.send((started.elapsed(), reading));
    });
}

/// Waits for a change of the node's networking; for ever where nothing announces any.
pub(super) async fn next_change(changes: Option<&mut Changes>) {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

pub(super) type Surveyed = (u64, Configuration, Result<Reading>);

/// Looks at the node beside the ring, which is not to run full meanwhile.
pub(super) fn survey_for(at_ns: u64, configuration: Configuration, done: mpsc::UnboundedSender<Surveyed>) {
    tokio::spawn(async move {
        let reading = survey(configuration.pods.clone()).await;
        // Nobody waits for it if the trace is over.
        let _ = done.send((at_ns, configuration, reading));
    });
}

pub(super) async fn tell_topology(out: &mut Output, pods: Vec<PodAddresses>) -> Result<Topology> {
    let Reading { topology, warnings } = survey(pods).await?;
    for text in warnings {
        out.send(&FromAgent::Warning { text })?;
    }
    out.send(&FromAgent::Topology(topology.clone()))?;
    Ok(topology)
}

impl Serving<'_> {
    /// Traces what is to be traced from here on, and says what came of it.
    pub(super) fn update(
        &mut self,
        of: u64,
        configuration: &Configuration,
        reading: Result<Reading>,
    ) -> Result<()> {
        let updated = reading.and_then(|reading| self.renew(configuration, reading.topology));
        let (hooks, error) = match updated {
            Ok(hooks) => (hooks, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        let is_missing = |pod: &&String| self.topology.host_veth_of(pod).is_none();
        let missing = configuration.tapped.iter().filter(is_missing).cloned().collect();
        let updated = Updated { of, at_ns: clock::monotonic_ns(), hooks, missing, error };
        self.out.send(&FromAgent::Updated(updated))
    }

    fn renew(&mut self, configuration: &Configuration, topology: Topology) -> Result<Vec<HookState>> {
        // What was seen so far was seen at the devices that were.
        self.drain()?;
        self.out.send(&FromAgent::Topology(topology.clone()))?;
        self.topology = topology.clone();
        self.sent_topology = topology;
        self.pods.clone_from(&configuration.pods);
        self.tapped.clone_from(&configuration.tapped);
        self.tracer.update(&settings(configuration, &self.topology, &|| true))
    }

    /// Listens for changes of the node's networking. Where that is impossible, explanations go by what was read at the
    /// start, and the tracer is warned.
    pub(super) fn listen(&mut self) -> Option<Changes> {
        match Changes::listen(&self.topology, &self.tapped) {
            Ok(changes) => Some(changes),
            Err(error) => {
                let text = format!("changes of the node's networking are not noticed: {error:#}");
                // If the tracer is gone, the next frame finds out.
                let _ = self.out.send(&FromAgent::Warning { text });
                None
            }
        }
    }

    /// The node's networking was read again: sends it if anything in it is new.
    pub(super) fn changed(&mut self, reading: Result<Reading>) -> Result<()> {
        // What cannot be read now is read at the next change; a pod that has just ended is no matter to warn of.
        let Ok(Reading { topology, warnings: _ }) = reading else { return Ok(()) };
        if topology == self.sent_topology {
            return Ok(());
        }
        self.drain()?;
        self.out.send(&FromAgent::NetworkChanged(topology.clone()))?;
        self.sent_topology = topology;
        Ok(())
    }
}
