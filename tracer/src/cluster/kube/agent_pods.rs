//! The pods that agents run in: finding, creating, inspecting and deleting them.
//!
//! An administrator installs them on every node as a DaemonSet ([`super::manifest()`]). On a node without one, podtrace
//! creates a short-lived pod, which ends by itself once no agent has run in it for [`IDLE`].

use std::time::Duration;

use kube::api::{DeleteParams, GetParams, ListParams, PostParams};
use kube::core::Request;
use serde::Deserialize;
use serde_json::Value;

use super::access::Api;
use super::error::{ApiError, Permission};
use super::list::{PODS, ask, list_some};
use super::manifest::short_lived;
use super::objects::nullable;

/// Namespace of installed agents.
pub const NAMESPACE: &str = "podtrace";

/// Namespace of short-lived pods if [`NAMESPACE`] does not exist. Clusters admit privileged pods in it.
const SYSTEM: &str = "kube-system";

/// The command that starts an agent in such a pod.
pub const AGENT_COMMAND: [&str; 2] = ["podtrace", "agent"];

/// Name of the pods' only container.
pub const CONTAINER: &str = "agent";

/// The label of all such pods.
pub(super) const LABEL: (&str, &str) = ("app.kubernetes.io/name", "podtrace-agent");

/// How long a short-lived pod waits for the next agent before it ends.
pub const IDLE: Duration = Duration::from_secs(60);

/// A pod that agents run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The agent pods of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnNode {
    /// One that can start agents.
    pub running: Option<AgentPod>,
    /// Those that have ended but are not deleted yet.
    pub ended: Vec<AgentPod>,
}

/// The state of a pod, as far as starting an agent is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Running: agents can be started.
    Running,
    /// Not running yet, and what it waits for.
    Starting(String),
    /// It cannot start without somebody's help, and why.
    Blocked(String),
    /// Ended or being deleted, and why.
    Ended(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pod {
    metadata: PodMeta,
    status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodMeta {
    name: String,
    namespace: String,
    deletion_timestamp: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodStatus {
    phase: String,
    reason: String,
    message: String,
    #[serde(deserialize_with = "nullable")]
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    #[serde(deserialize_with = "nullable")]
    state: ContainerState,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    waiting: Option<Waiting>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Waiting {
    reason: String,
    message: String,
}

/// Reasons for which a container waits until somebody corrects its configuration or image.
const BLOCKED: [&str; 6] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
];

impl Pod {
    fn state(&self) -> State {
        let Self { metadata, status } = self;
        let why = || {
            let parts = [status.reason.as_str(), status.message.as_str()];
            let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            if parts.is_empty() { "no reason given".to_owned() } else { parts.join(": ") }
        };
        let waiting = status.container_statuses.iter().find_map(|container| container.state.waiting.as_ref());
        match (status.phase.as_str(), waiting) {
            ("Succeeded" | "Failed", _) => State::Ended(why()),
            _ if metadata.deletion_timestamp.is_some() => State::Ended("it is being deleted".to_owned()),
            ("Running", None) => State::Running,
            (_, Some(Waiting { reason, message })) if BLOCKED.contains(&reason.as_str()) => {
                State::Blocked(format!("{reason}: {message}"))
            }
            (_, Some(Waiting { reason, .. })) => State::Starting(reason.clone()),
            (phase, None) => State::Starting(phase.to_owned()),
        }
    }
}

/// The agent pods of a node.
///
/// # Errors
///
/// If the API server does not list them.
pub async fn on_node(api: &Api, node: &str) -> Result<OnNode, ApiError> {
    let params = ListParams::default()
        .labels(&format!("{}={}", LABEL.0, LABEL.1))
        .fields(&format!("spec.nodeName={node}"));
    let mut found = OnNode::default();
    for pod in list_some::<Pod>(api, PODS, params).await?.items {
        let state = pod.state();
        let Pod { metadata: PodMeta { name, namespace, deletion_timestamp }, status: _ } = pod;
        let named = AgentPod { namespace, name };
        match state {
            State::Running => found.running = Some(named),
            State::Ended(_) if deletion_timestamp.is_none() => found.ended.push(named),
            _ => {}
        }
    }
    Ok(found)
}

/// Creates a short-lived pod on a node.
///
/// # Errors
///
/// If the API server denies it.
pub async fn create(api: &Api, node: &str, image: &str) -> Result<AgentPod, ApiError> {
    match create_in(api, NAMESPACE, node, image).await {
        // The namespace does not exist: no agents are installed.
        Err(ApiError::NotFound { .. }) => create_in(api, SYSTEM, node, image).await,
        other => other,
    }
}

async fn create_in(api: &Api, namespace: &str, node: &str, image: &str) -> Result<AgentPod, ApiError> {
    let body = short_lived(node, image).to_string().into_bytes();
    let request = pods_in(namespace).create(&PostParams::default(), body);
    let Pod { metadata, .. } = ask(api, permission("create", namespace), request).await?;
    Ok(AgentPod { namespace: namespace.to_owned(), name: metadata.name })
}

/// The state of a pod.
///
/// # Errors
///
/// If the API server does not return it.
pub async fn state(api: &Api, pod: &AgentPod) -> Result<State, ApiError> {
    let request = pods_in(&pod.namespace).get(&pod.name, &GetParams::default());
    Ok(ask::<Pod>(api, permission("get", &pod.namespace), request).await?.state())
}

/// Deletes a pod at once. It is no error if the pod no longer exists.
///
/// # Errors
///
/// If the API server denies it.
pub async fn delete(api: &Api, pod: &AgentPod) -> Result<(), ApiError> {
    let request = pods_in(&pod.namespace).delete(&pod.name, &DeleteParams::default().grace_period(0));
    match ask::<Value>(api, permission("delete", &pod.namespace), request).await {
        Ok(_) | Err(ApiError::NotFound { .. }) => Ok(()),
        Err(refusal) => Err(refusal),
    }
}

fn pods_in(namespace: &str) -> Request {
    Request::new(format!("/api/v1/namespaces/{namespace}/pods"))
}

fn permission(verb: &'static str, namespace: &str) -> Permission {
    Permission { verb, group: "", resource: "pods", namespace: Some(namespace.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{cluster, pod};
    use super::*;
    use serde_json::json;

    fn state_of(status: &Value) -> State {
        serde_json::from_value::<Pod>(json!({"metadata": {"name": "a"}, "status": status})).unwrap().state()
    }

    #[test]
    fn a_pods_state_follows_from_what_it_waits_for() {
        let waiting = |reason: &str| json!([{"state": {"waiting": {"reason": reason, "message": "m"}}}]);
        for (status, state) in [
            (json!({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}), State::Running),
            (json!({"phase": "Pending", "containerStatuses": null}), State::Starting("Pending".to_owned())),
            (
                json!({"phase": "Pending", "containerStatuses": waiting("ContainerCreating")}),
                State::Starting("ContainerCreating".to_owned()),
            ),
            (
                json!({"phase": "Pending", "containerStatuses": waiting("ErrImagePull")}),
                State::Blocked("ErrImagePull: m".to_owned()),
            ),
            (
                json!({"phase": "Failed", "reason": "OutOfcpu", "message": "no room"}),
                State::Ended("OutOfcpu: no room".to_owned()),
            ),
        ] {
            assert_eq!(state_of(&status), state, "{status}");
        }
    }

    #[tokio::test]
    async fn running_and_ended_pods_are_found() {
        let mut running = pod("podtrace-agent-x", "node2", "192.168.56.12", "Running");
        running["metadata"]["namespace"] = json!(NAMESPACE);
        let ended = pod("podtrace-agent-y", "node2", "", "Succeeded");
        let mut leaving = pod("podtrace-agent-z", "node2", "", "Running");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-11-25T15:00:00Z");
        let server = cluster().with("/api/v1/pods", vec![running, ended, leaving]);
        let found = on_node(&server.api(), "node2").await.unwrap();
        let named =
            |namespace: &str, name: &str| AgentPod { namespace: namespace.to_owned(), name: name.to_owned() };
        assert_eq!(
            found,
            OnNode {
                running: Some(named("podtrace", "podtrace-agent-x")),
                ended: vec![named("default", "podtrace-agent-y")]
            }
        );
        assert_eq!(
            server.asked(),
            [
                "/api/v1/pods?&fieldSelector=spec.nodeName%3Dnode2&labelSelector=app.kubernetes.io%2Fname%3Dpodtrace-agent&limit=500"
            ]
        );
    }
}
