//! What follows from a reading of the node: updates of the trace, and frames that report changes.

use anyhow::Result;

use super::readings::{RulesOnce, networking, rules_once};
use super::stdio::Output;
use super::{Serving, settings};
use crate::agent::clock;
use crate::node::topology::Reading;
use crate::node::topology::changes::Changes;
use podtrace_protocol::frame::{Configuration, FromAgent, HookState, PodAddresses, Updated};
use podtrace_protocol::topology::Topology;

/// Reads the node's networking and sends it.
pub(super) async fn send_topology(out: &mut Output, pods: Vec<PodAddresses>) -> Result<Topology> {
    let Reading { topology, warnings } = networking(pods).await?;
    for text in warnings {
        out.send(&FromAgent::Warning { text })?;
    }
    out.send(&FromAgent::Topology(topology.clone()))?;
    Ok(topology)
}

/// Reads the packet filter of the node and of its pods once, and sends it.
pub(super) async fn send_rules(out: &mut Output, topology: &Topology) -> Result<()> {
    let RulesOnce { rules, left_out } = rules_once(topology).await?;
    if left_out > 0 {
        let text = format!("the rules inside {left_out} pods were not read: there are too many pods");
        out.send(&FromAgent::Warning { text })?;
    }
    out.send(&FromAgent::Rules(rules))
}

impl Serving<'_> {
    /// Updates the trace to a configuration, and answers with the result.
    pub(super) fn update(
        &mut self,
        update_id: u64,
        configuration: &Configuration,
        reading: Result<Reading>,
    ) -> Result<()> {
        let updated = reading.and_then(|reading| self.renew(configuration, reading.topology));
        let (hooks, error) = match updated {
            Ok(hooks) => (hooks, None),
            Err(error) => (Vec::new(), Some(format!("{error:#}"))),
        };
        let is_missing = |pod: &&String| self.topology.host_veth_of(pod).is_none();
        let missing_pods = configuration.tapped_pods.iter().filter(is_missing).cloned().collect();
        let updated = Updated { update_id, at_ns: clock::monotonic_ns(), hooks, missing_pods, error };
        self.out.send(&FromAgent::Updated(updated))
    }

    fn renew(&mut self, configuration: &Configuration, topology: Topology) -> Result<Vec<HookState>> {
        // Events so far are of the devices of the former topology.
        self.drain()?;
        self.out.send(&FromAgent::Topology(topology.clone()))?;
        self.topology = topology.clone();
        self.sent_topology = topology;
        self.pods.clone_from(&configuration.pods);
        self.tapped.clone_from(&configuration.tapped_pods);
        self.programs.update(&settings(configuration, &self.topology, &|| true))
    }

    /// Listens for changes of the node's networking. If that is impossible, the tracer is warned, and explains drops by the
    /// state read before.
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

    /// Sends the node's networking, read again, if anything in it changed.
    pub(super) fn changed(&mut self, reading: Result<Reading>) -> Result<()> {
        // A reading that fails is repeated at the next change. No warning: a pod that has just ended causes it, too.
        let Ok(Reading { topology, warnings: _ }) = reading else { return Ok(()) };
        if topology == self.sent_topology {
            return self.out.send(&FromAgent::NetworkUnchanged);
        }
        self.drain()?;
        self.out.send(&FromAgent::NetworkChanged(topology.clone()))?;
        self.sent_topology = topology;
        Ok(())
    }
}
