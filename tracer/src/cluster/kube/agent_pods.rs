//! The pods that agents run in: what they are, and asking for them.
//!
//! An administrator can have them on every node ([`manifest`]). Where none is, short-lived ones are made on the nodes
//! that are asked; they end by themselves once no agent has run in them for [`IDLE`].

use std::time::Duration;

use kube::api::{DeleteParams, GetParams, ListParams, PostParams};
use kube::core::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::Api;
use super::list::{PODS, ask, list_some};
use super::objects::nullable;
use super::refusal::{Refusal, Right};

/// Namespace of installed agents.
pub const NAMESPACE: &str = "podtrace";

/// Namespace of short-lived ones where the other is not there: what is privileged is at home in it.
const SYSTEM: &str = "kube-system";

/// Starts an agent in such a pod.
pub const AGENT_COMMAND: [&str; 2] = ["podtrace", "agent"];

/// Name of the pods' only container.
pub const CONTAINER: &str = "agent";

/// What all such pods are labelled with.
const LABEL: (&str, &str) = ("app.kubernetes.io/name", "podtrace-agent");

/// What only those of installed agents are labelled with besides. A DaemonSet takes every pod that its selector fits for
/// its own, and removes what it did not make like that.
const INSTALLED: (&str, &str) = ("app.kubernetes.io/component", "installed");

/// How long a short-lived pod waits for the next agent.
pub const IDLE: Duration = Duration::from_secs(60);

/// When the cluster ends a short-lived pod whatever happens in it, in seconds.
const DEADLINE: u64 = 24 * 60 * 60;

/// Image of the agents, if none is named.
#[must_use]
pub fn default_image() -> String {
    // Of no registry: where it was not imported, nobody else's is fetched.
    format!("localhost/podtrace:{}", env!("CARGO_PKG_VERSION"))
}

/// What an agent needs of root's rights. That of `SYS_ADMIN` includes `BPF` and `PERFMON`.
const CAPABILITIES: [&str; 6] = ["NET_ADMIN", "NET_RAW", "SYSLOG", "SYS_ADMIN", "SYS_PTRACE", "SYS_RESOURCE"];

/// A pod that agents run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The pods of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// One that agents can be started in.
    pub running: Option<AgentPod>,
    /// Those that have ended and are still there.
    pub ended: Vec<AgentPod>,
}

/// How far a pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// It does not yet, and what it waits for.
    Starting(String),
    /// It will not, and why.
    Hopeless(String),
    /// It did, and why no more.
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

/// A container that waits for one of these waits for a person.
const HOPELESS: [&str; 6] = [
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
            if parts.is_empty() { "it says nothing about it".to_owned() } else { parts.join(": ") }
        };
        let waiting = status.container_statuses.iter().find_map(|container| container.state.waiting.as_ref());
        match (status.phase.as_str(), waiting) {
            ("Succeeded" | "Failed", _) => State::Ended(why()),
            _ if metadata.deletion_timestamp.is_some() => State::Ended("it is being removed".to_owned()),
            ("Running", None) => State::Running,
            (_, Some(Waiting { reason, message })) if HOPELESS.contains(&reason.as_str()) => {
                State::Hopeless(format!("{reason}: {message}"))
            }
            (_, Some(Waiting { reason, .. })) => State::Starting(reason.clone()),
            (phase, None) => State::Starting(phase.to_owned()),
        }
    }
}

/// The agent pods of a node.
///
/// # Errors
/// If they cannot be listed.
pub async fn standing(api: &Api, node: &str) -> Result<Standing, Refusal> {
    let params = ListParams::default()
        .labels(&format!("{}={}", LABEL.0, LABEL.1))
        .fields(&format!("spec.nodeName={node}"));
    let mut standing = Standing::default();
    for pod in list_some::<Pod>(api, PODS, params).await?.items {
        let state = pod.state();
        let Pod { metadata: PodMeta { name, namespace, deletion_timestamp }, status: _ } = pod;
        let named = AgentPod { namespace, name };
        match state {
            State::Running => standing.running = Some(named),
            State::Ended(_) if deletion_timestamp.is_none() => standing.ended.push(named),
            _ => {}
        }
    }
    Ok(standing)
}

/// Makes a short-lived pod on a node.
///
/// # Errors
/// If the API does not allow it.
pub async fn create(api: &Api, node: &str, image: &str) -> Result<AgentPod, Refusal> {
    match create_in(api, NAMESPACE, node, image).await {
        // Nothing is installed.
        Err(Refusal::NotFound { .. }) => create_in(api, SYSTEM, node, image).await,
        other => other,
    }
}

async fn create_in(api: &Api, namespace: &str, node: &str, image: &str) -> Result<AgentPod, Refusal> {
    let body = short_lived(node, image).to_string().into_bytes();
    let request = of(namespace).create(&PostParams::default(), body);
    let Pod { metadata, .. } = ask(api, right("create", namespace), request).await?;
    Ok(AgentPod { namespace: namespace.to_owned(), name: metadata.name })
}

/// How far a pod is.
///
/// # Errors
/// If it cannot be looked at.
pub async fn state(api: &Api, pod: &AgentPod) -> Result<State, Refusal> {
    let request = of(&pod.namespace).get(&pod.name, &GetParams::default());
    Ok(ask::<Pod>(api, right("get", &pod.namespace), request).await?.state())
}

/// Removes a pod at once. One that is not there any more is removed.
///
/// # Errors
/// If the API does not allow it.
pub async fn remove(api: &Api, pod: &AgentPod) -> Result<(), Refusal> {
    let request = of(&pod.namespace).delete(&pod.name, &DeleteParams::default().grace_period(0));
    match ask::<Value>(api, right("delete", &pod.namespace), request).await {
        Ok(_) | Err(Refusal::NotFound { .. }) => Ok(()),
        Err(refusal) => Err(refusal),
    }
}

fn of(namespace: &str) -> Request {
    Request::new(format!("/api/v1/namespaces/{namespace}/pods"))
}

fn right(verb: &'static str, namespace: &str) -> Right {
    Right { verb, group: "", resource: "pods", namespace: Some(namespace.to_owned()) }
}

/// A pod of our own: privileged, since it is there for a trace only and has to work wherever it is let in.
fn short_lived(node: &str, image: &str) -> Value {
    let mut spec =
        spec(image, &json!({"privileged": true}), &["agent", "--idle", &format!("{}s", IDLE.as_secs())]);
    // Not by way of the scheduler: the node is given, whatever it is kept free of.
    spec["nodeName"] = json!(node);
    spec["restartPolicy"] = json!("Never");
    spec["activeDeadlineSeconds"] = json!(DEADLINE);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "podtrace-agent-", "labels": labels()},
        "spec": spec,
    })
}

fn labels() -> Value {
    json!({LABEL.0: LABEL.1, "app.kubernetes.io/version": env!("CARGO_PKG_VERSION")})
}

fn spec(image: &str, privileges: &Value, arguments: &[&str]) -> Value {
    json!({
        // The node's network is what it looks at, and its processes lead to the pods' networks.
        "hostNetwork": true,
        "hostPID": true,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 0,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"operator": "Exists"}],
        "containers": [{
            "name": CONTAINER,
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["podtrace"],
            "args": arguments,
            "securityContext": privileges,
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
            // Where what a killed agent leaves attached is written down (before Linux 6.6).
            "volumeMounts": [{"name": "state", "mountPath": "/run/podtrace"}],
        }],
        "volumes": [{"name": "state", "hostPath": {"path": "/run/podtrace", "type": "DirectoryOrCreate"}}],
    })
}

/// What an administrator installs: agents on all nodes, and the roles of those who trace. A document an object.
#[must_use]
pub fn manifest(image: &str) -> Vec<Value> {
    let account = "podtrace-agent";
    let metadata = |name: &str| json!({"name": name, "namespace": NAMESPACE, "labels": labels()});
    let privileges = json!({
        "runAsUser": 0,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"], "add": CAPABILITIES},
    });
    let mut spec = spec(image, &privileges, &["agent", "--idle"]);
    spec["serviceAccountName"] = json!(account);
    let mut installed = labels();
    installed[INSTALLED.0] = json!(INSTALLED.1);
    let unconfined = format!("container.apparmor.security.beta.kubernetes.io/{CONTAINER}");
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "privileged"}},
        }),
        json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": metadata(account),
            "automountServiceAccountToken": false,
        }),
        json!({
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": metadata(account),
            "spec": {
                "selector": {"matchLabels": {LABEL.0: LABEL.1, INSTALLED.0: INSTALLED.1}},
                "template": {
                    // The runtime's profile keeps a container from looking at the node's processes.
                    "metadata": {"labels": installed, "annotations": {unconfined: "unconfined"}},
                    "spec": spec,
                },
            },
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "podtrace-names"},
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["nodes", "pods", "services", "endpoints"],
                    "verbs": ["get", "list", "watch"],
                },
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["get", "list", "watch"],
                },
            ],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": metadata("podtrace-user"),
            // Servers ask for one or the other, by how they are spoken to.
            "rules": [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create", "get"]}],
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::samples::{cluster, pod};
    use super::*;

    fn state_of(status: &Value) -> State {
        serde_json::from_value::<Pod>(json!({"metadata": {"name": "a"}, "status": status})).unwrap().state()
    }

    #[test]
    fn a_pod_is_known_by_what_it_waits_for() {
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
                State::Hopeless("ErrImagePull: m".to_owned()),
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
    async fn an_agent_that_stands_is_used_and_what_has_ended_is_named() {
        let mut running = pod("podtrace-agent-x", "node2", "192.168.56.12", "Running");
        running["metadata"]["namespace"] = json!(NAMESPACE);
        let ended = pod("podtrace-agent-y", "node2", "", "Succeeded");
        let mut leaving = pod("podtrace-agent-z", "node2", "", "Running");
        leaving["metadata"]["deletionTimestamp"] = json!("2026-11-25T15:00:00Z");
        let server = cluster().with("/api/v1/pods", vec![running, ended, leaving]);
        let found = standing(&server.api(), "node2").await.unwrap();
        let named =
            |namespace: &str, name: &str| AgentPod { namespace: namespace.to_owned(), name: name.to_owned() };
        assert_eq!(
            found,
            Standing {
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

    #[test]
    fn a_daemon_set_takes_no_short_lived_pod_for_its_own() {
        let objects = manifest("img");
        let daemon_set = objects.iter().find(|object| object["kind"] == "DaemonSet").unwrap();
        let fits = |labels: &Value| {
            let selector = daemon_set["spec"]["selector"]["matchLabels"].as_object().unwrap();
            selector.iter().all(|(name, value)| labels[name] == *value)
        };
        assert!(fits(&daemon_set["spec"]["template"]["metadata"]["labels"]));
        let short_lived = short_lived("node1", "img");
        assert!(!fits(&short_lived["metadata"]["labels"]));
        // Whoever looks for agents finds both.
        for pod in [&short_lived, &daemon_set["spec"]["template"]] {
            assert_eq!(pod["metadata"]["labels"][LABEL.0], LABEL.1);
        }
    }

    #[test]
    fn installed_agents_ask_for_no_more_than_they_need() {
        let objects = manifest("img");
        let daemon_set = objects.iter().find(|object| object["kind"] == "DaemonSet").unwrap();
        let container = &daemon_set["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "img");
        assert!(container["securityContext"].get("privileged").is_none());
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
        let bound = |kind: &str| objects.iter().any(|object| object["kind"] == kind);
        assert!(!bound("ClusterRoleBinding") && !bound("RoleBinding"), "who may trace is not ours to say");
    }
}
