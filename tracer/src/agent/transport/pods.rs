//! The pods that agents are started in: those of an installed DaemonSet, else some of our own, for as long as it takes.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use crate::cluster::kube::{Api, ApiError, agent_pods as pods};
pub(super) use pods::AgentPod;

/// How long a pod may take to run: an image may have to be pulled.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a pod is looked at until it runs.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The agent pods of a cluster. What was made is to be removed by [`AgentPods::remove`].
pub struct AgentPods {
    api: Api,
    image: String,
    made: Arc<Mutex<Vec<AgentPod>>>,
    /// Requests to create one that are not answered yet.
    creating: TaskTracker,
}

impl AgentPods {
    /// Pods are made of this image where there are none.
    #[must_use]
    pub fn new(api: Api, image: String) -> Self {
        Self { api, image, made: Arc::default(), creating: TaskTracker::new() }
    }

    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// A running pod on this node.
    pub(super) async fn on(&self, node: &str) -> Result<AgentPod> {
        let found = pods::on_node(&self.api, node).await?;
        for pod in &found.ended {
            // Left by a podtrace that was killed: whoever sees it first removes it. Not being allowed to is no reason
            // not to trace.
            let _ = pods::delete(&self.api, pod).await;
        }
        match found.running {
            Some(pod) => Ok(pod),
            None => self.make(node).await,
        }
    }

    async fn make(&self, node: &str) -> Result<AgentPod> {
        let pod = self.create(node).await?.map_err(|refusal| match refusal {
            ApiError::Forbidden { .. } => anyhow::Error::new(refusal).context(format!(
                "no agent stands on node {node} (an administrator can install them: `podtrace manifest | kubectl apply \
                 -f -`), and none can be made"
            )),
            refusal => refusal.into(),
        })?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match pods::state(&self.api, &pod).await? {
                pods::State::Running => return Ok(pod),
                pods::State::Ended(why) => bail!("the agent's pod on node {node} has ended: {why}"),
                pods::State::Blocked(why) => bail!(
                    "the agent's pod on node {node} cannot start: {why}; is its image {} there? Another is named by \
                     --agent-image",
                    self.image
                ),
                pods::State::Starting(why) if Instant::now() >= deadline => bail!(
                    "the agent's pod on node {node} does not run after {} s: {why}",
                    START_TIMEOUT.as_secs()
                ),
                pods::State::Starting(_) => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Creates a pod. This goes on when the caller is cancelled: the server may have made the pod by then, and
    /// [`AgentPods::remove`] has to know.
    async fn create(&self, node: &str) -> Result<Result<AgentPod, ApiError>> {
        ensure!(!self.creating.is_closed(), "the trace has ended");
        let (api, node, image) = (self.api.clone(), node.to_owned(), self.image.clone());
        let made = Arc::clone(&self.made);
        let created = self.creating.spawn(async move {
            let pod = pods::create(&api, &node, &image).await?;
            made.lock().unwrap_or_else(PoisonError::into_inner).push(pod.clone());
            Ok(pod)
        });
        created.await.context("creating a pod for an agent")
    }

    /// Removes the pods that were made. Says of each that could not be.
    pub async fn remove(&self) -> Vec<String> {
        self.creating.close();
        self.creating.wait().await;
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        let removed = made.iter().map(async |pod| {
            let refusal = pods::delete(&self.api, pod).await.err()?;
            Some(format!(
                "could not delete pod {}/{}, which exits by itself within a minute: {refusal}",
                pod.namespace, pod.name
            ))
        });
        join_all(removed).await.into_iter().flatten().collect()
    }
}

impl fmt::Debug for AgentPods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentPods").field("image", &self.image).finish_non_exhaustive()
    }
}
