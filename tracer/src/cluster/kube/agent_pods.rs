//! The pods that agents run in: finding, creating, inspecting and deleting them.
//!
//! An administrator installs them on every node as a DaemonSet ([`super::manifest()`]). On a node without one, podtrace
//! creates a short-lived pod, which ends by itself once no agent has run in it for [`IDLE`].
//!
//! Anybody may label a pod as an agent's, and such a pod would learn what is traced and answer as the node. So only pods in
//! [`NAMESPACE`] are looked for, where whoever may create pods is trusted with nodes anyway, and only those that the
//! DaemonSet owns and that have its service account. Others are used only by the process that created them. Deleted are
//! pods that this process created, and in [`NAMESPACE`] those that another one created and that have ended.

use std::time::Duration;

use kube::api::{DeleteParams, GetParams, ListParams, PostParams};
use kube::core::Request;
use serde::Deserialize;
use serde_json::Value;

use super::access::Api;
use super::error::{ApiError, Permission};
use super::list::{OWN_PODS, ask, list_some};
use super::manifest::short_lived;
use super::objects::nullable;

/// Namespace of installed agents.
pub const NAMESPACE: &str = "podtrace";

/// Namespace of short-lived pods if [`NAMESPACE`] does not exist. Clusters admit privileged pods in it.
const SYSTEM: &str = "kube-system";

/// The command that starts an agent in such a pod.
pub const AGENT_COMMAND: [&str; 2] = ["podtrace", "agent"];

/// Name of the DaemonSet, of its service account, and with a hyphen the start of the pods' names.
pub(super) const INSTALLED: &str = "podtrace-agent";

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
    /// An installed one that can start agents.
    pub running: Option<AgentPod>,
    /// Short-lived ones that have ended but are not deleted yet.
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
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodMeta {
    name: String,
    namespace: String,
    deletion_timestamp: Option<String>,
    #[serde(deserialize_with = "nullable")]
    owner_references: Vec<Owner>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Owner {
    api_version: String,
    kind: String,
    name: String,
    controller: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    node_name: String,
    service_account_name: String,
    restart_policy: String,
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
    /// Whether the installed DaemonSet created it.
    fn is_installed(&self) -> bool {
        let own = |owner: &Owner| {
            owner.controller
                && owner.kind == "DaemonSet"
                && owner.api_version.starts_with("apps/")
                && owner.name == INSTALLED
        };
        self.metadata.namespace == NAMESPACE
            && self.metadata.owner_references.iter().any(own)
            && self.spec.service_account_name == INSTALLED
    }

    /// Whether a podtrace created it for one trace.
    fn is_short_lived(&self) -> bool {
        let suffix = self.metadata.name.strip_prefix(INSTALLED);
        self.metadata.namespace == NAMESPACE
            && self.metadata.owner_references.is_empty()
            && self.spec.restart_policy == "Never"
            && suffix.is_some_and(|suffix| suffix.starts_with('-'))
    }

    fn state(&self) -> State {
        let Self { metadata, spec: _, status } = self;
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

/// The agent pods of a node: the installed one, and what other processes of podtrace left.
///
/// # Errors
///
/// If the API server does not list them.
pub async fn on_node(api: &Api, node: &str) -> Result<OnNode, ApiError> {
    let params = ListParams::default()
        .labels(&format!("{}={}", LABEL.0, LABEL.1))
        .fields(&format!("spec.nodeName={node}"));
    let mut found = OnNode::default();
    for pod in list_some::<Pod>(api, OWN_PODS, params).await?.items {
        if pod.spec.node_name != node {
            continue;
        }
        let (is_installed, is_short_lived) = (pod.is_installed(), pod.is_short_lived());
        let state = pod.state();
        let PodMeta { name, namespace, deletion_timestamp, .. } = pod.metadata;
        let named = AgentPod { namespace, name };
        match state {
            State::Running if is_installed => found.running = Some(named),
            State::Ended(_) if is_short_lived && deletion_timestamp.is_none() => found.ended.push(named),
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

    /// A pod that the API server lists as one of an agent.
    fn listed(name: &str, phase: &str, service_account: &str, owner: &Value) -> Value {
        let mut pod = pod(name, "node2", "", phase);
        pod["metadata"]["namespace"] = json!(NAMESPACE);
        pod["metadata"]["ownerReferences"] = owner.clone();
        pod["spec"]["serviceAccountName"] = json!(service_account);
        pod["spec"]["restartPolicy"] = json!("Never");
        pod
    }

    fn owner(api_version: &str, kind: &str, name: &str, controller: bool) -> Value {
        json!([{"apiVersion": api_version, "kind": kind, "name": name, "uid": "u", "controller": controller}])
    }

    fn named(name: &str) -> AgentPod {
        AgentPod { namespace: NAMESPACE.to_owned(), name: name.to_owned() }
    }

    #[tokio::test]
    async fn installed_and_left_pods_are_found_in_podtraces_namespace() {
        let installed = owner("apps/v1", "DaemonSet", INSTALLED, true);
        let mut leaving = listed("podtrace-agent-z", "Running", INSTALLED, &installed);
        leaving["metadata"]["deletionTimestamp"] = json!("2026-11-25T15:00:00Z");
        let server = cluster().with(
            "/api/v1/namespaces/podtrace/pods",
            vec![
                listed("podtrace-agent-x", "Running", INSTALLED, &installed),
                listed("podtrace-agent-y", "Succeeded", "default", &Value::Null),
                leaving,
            ],
        );
        let found = on_node(&server.api(), "node2").await.unwrap();
        let expected =
            OnNode { running: Some(named("podtrace-agent-x")), ended: vec![named("podtrace-agent-y")] };
        assert_eq!(found, expected);
        assert_eq!(
            server.asked(),
            [
                "/api/v1/namespaces/podtrace/pods?&fieldSelector=spec.nodeName%3Dnode2&labelSelector=app.kubernetes.io%2Fname%3Dpodtrace-agent&limit=500"
            ]
        );
    }

    #[tokio::test]
    async fn nobody_elses_pod_is_used_or_deleted() {
        let installed = owner("apps/v1", "DaemonSet", INSTALLED, true);
        let mut elsewhere = listed("podtrace-agent-a", "Running", INSTALLED, &installed);
        elsewhere["metadata"]["namespace"] = json!("tenant");
        let mut ended_elsewhere = listed("podtrace-agent-b", "Succeeded", "default", &Value::Null);
        ended_elsewhere["metadata"]["namespace"] = json!("tenant");
        let mut other_node = listed("podtrace-agent-c", "Running", INSTALLED, &installed);
        other_node["spec"]["nodeName"] = json!("node1");
        let pods = vec![
            elsewhere,
            ended_elsewhere,
            other_node,
            listed("podtrace-agent-d", "Running", INSTALLED, &Value::Null),
            listed("podtrace-agent-e", "Running", "default", &installed),
            listed(
                "podtrace-agent-f",
                "Running",
                INSTALLED,
                &owner("apps/v1", "DaemonSet", INSTALLED, false),
            ),
            listed("podtrace-agent-g", "Running", INSTALLED, &owner("apps/v1", "DaemonSet", "other", true)),
            listed(
                "podtrace-agent-h",
                "Running",
                INSTALLED,
                &owner("apps/v1", "ReplicaSet", INSTALLED, true),
            ),
            listed("podtrace-agent-i", "Running", INSTALLED, &owner("evil/v1", "DaemonSet", INSTALLED, true)),
            listed("podtrace-agent-j", "Failed", INSTALLED, &installed),
            listed("other-k", "Succeeded", "default", &Value::Null),
            listed("podtrace-agents", "Succeeded", "default", &Value::Null),
        ];
        let server = cluster().with("/api/v1/namespaces/podtrace/pods", pods);
        assert_eq!(on_node(&server.api(), "node2").await.unwrap(), OnNode::default());
    }
}
