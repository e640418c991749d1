//! The Kubernetes objects that podtrace creates, as YAML files with placeholders.

use serde_json::{Value, json};

/// Installed by an administrator: a DaemonSet of agents, and the roles for those who trace.
const AGENTS: &str = include_str!("manifests/agents.yaml");
/// Limits what may be executed in agents' pods.
const ADMISSION: &str = include_str!("manifests/admission.yaml");
/// Created by podtrace for one trace, on a node without an installed agent.
const SHORT_LIVED: &str = include_str!("manifests/short-lived.yaml");

/// Stands for the image in [`AGENTS`].
const IMAGE: &str = "PODTRACE_IMAGE";
/// Stands for podtrace's version.
const VERSION: &str = "PODTRACE_VERSION";

/// The image of agents unless another is given. It is in no registry, so nobody else's image is pulled by accident.
#[must_use]
pub fn default_image() -> String {
    format!("localhost/podtrace:{}", env!("CARGO_PKG_VERSION"))
}

/// The manifest that an administrator installs: YAML, several documents. Servers before Kubernetes 1.30 do not know the
/// admission policy.
#[must_use]
pub fn manifest(image: &str, with_admission_policy: bool) -> String {
    // A JSON string is a YAML string, whatever it contains.
    let agents = AGENTS.replace(VERSION, env!("CARGO_PKG_VERSION")).replace(IMAGE, &json!(image).to_string());
    if with_admission_policy { agents + ADMISSION } else { agents }
}

/// A short-lived pod on a node.
#[expect(clippy::expect_used, reason = "the file is part of the binary, and a test parses it")]
pub(super) fn short_lived(node: &str, image: &str) -> Value {
    let text = SHORT_LIVED.replace(VERSION, env!("CARGO_PKG_VERSION"));
    let mut pod: Value = serde_saphyr::from_str(&text).expect("valid YAML");
    pod["spec"]["nodeName"] = json!(node);
    pod["spec"]["containers"][0]["image"] = json!(image);
    pod
}

#[cfg(test)]
#[cfg(feature = "kube")]
mod tests {
    use super::super::agent_pods::{CONTAINER, IDLE, INSTALLED, LABEL, NAMESPACE};
    use super::*;

    fn objects() -> Vec<Value> {
        serde_saphyr::from_multiple(&manifest("img", true)).unwrap()
    }

    fn daemon_set() -> Value {
        objects().into_iter().find(|object| object["kind"] == "DaemonSet").unwrap()
    }

    #[test]
    fn image_and_version_are_filled_in() {
        let image = "registry/\"quoted\": #x";
        let text = manifest(image, true);
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        assert_eq!(objects[2]["spec"]["template"]["spec"]["containers"][0]["image"], image);
        let pod = short_lived("node1", image);
        assert_eq!(pod["spec"]["containers"][0]["image"], image);
        assert_eq!(pod["spec"]["nodeName"], "node1");
        for text in [text, pod.to_string()] {
            assert!(!text.contains(IMAGE) && !text.contains(VERSION), "{text}");
        }
    }

    #[test]
    fn names_and_times_are_those_of_the_code() {
        let (daemon_set, pod) = (daemon_set(), short_lived("node1", "img"));
        assert_eq!(daemon_set["metadata"]["namespace"], NAMESPACE);
        assert_eq!(daemon_set["metadata"]["name"], INSTALLED);
        assert_eq!(daemon_set["spec"]["template"]["spec"]["serviceAccountName"], INSTALLED);
        assert_eq!(pod["metadata"]["generateName"], format!("{INSTALLED}-"));
        assert_eq!(pod["spec"]["restartPolicy"], "Never");
        for spec in [&daemon_set["spec"]["template"]["spec"], &pod["spec"]] {
            assert_eq!(spec["containers"][0]["name"], CONTAINER);
        }
        assert_eq!(pod["spec"]["containers"][0]["args"][2], format!("{}s", IDLE.as_secs()));
    }

    #[test]
    fn both_kinds_of_pod_see_the_same_of_a_node() {
        let (daemon_set, pod) = (daemon_set(), short_lived("node1", "img"));
        let installed = &daemon_set["spec"]["template"]["spec"];
        for field in ["hostNetwork", "hostPID", "nodeSelector", "tolerations", "volumes"] {
            assert_eq!(installed[field], pod["spec"][field], "{field}");
        }
        assert_eq!(installed["containers"][0]["volumeMounts"], pod["spec"]["containers"][0]["volumeMounts"]);
    }

    #[test]
    fn a_daemon_set_does_not_adopt_short_lived_pods() {
        let daemon_set = daemon_set();
        let selects = |labels: &Value| {
            let selector = daemon_set["spec"]["selector"]["matchLabels"].as_object().unwrap();
            selector.iter().all(|(name, value)| labels[name] == *value)
        };
        assert!(selects(&daemon_set["spec"]["template"]["metadata"]["labels"]));
        let short_lived = short_lived("node1", "img");
        assert!(!selects(&short_lived["metadata"]["labels"]));
        // A search for agents finds both.
        for pod in [&short_lived, &daemon_set["spec"]["template"]] {
            assert_eq!(pod["metadata"]["labels"][LABEL.0], LABEL.1);
        }
    }

    #[test]
    fn installed_agents_have_no_more_privileges_than_they_need() {
        let daemon_set = daemon_set();
        let context = &daemon_set["spec"]["template"]["spec"]["containers"][0]["securityContext"];
        assert!(context.get("privileged").is_none());
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
        // Who may trace is the administrator's decision.
        assert!(!objects().iter().any(|object| object["kind"].as_str().unwrap().ends_with("RoleBinding")));
    }

    #[test]
    fn only_agents_are_executed_in_agents_pods() {
        let policy =
            objects().into_iter().find(|object| object["kind"] == "ValidatingAdmissionPolicy").unwrap();
        let spec = &policy["spec"];
        assert_eq!(spec["failurePolicy"], "Fail");
        assert_eq!(spec["matchConstraints"]["resourceRules"][0]["resources"], json!(["pods/exec"]));
        let [program, command] = super::super::agent_pods::AGENT_COMMAND;
        let expression = spec["validations"][0]["expression"].as_str().unwrap();
        assert_eq!(
            expression,
            format!("has(object.command) && object.command == ['{program}', '{command}']")
        );
        let namespaces = &spec["matchConstraints"]["namespaceSelector"]["matchLabels"];
        assert_eq!(namespaces["kubernetes.io/metadata.name"], NAMESPACE);
        assert!(!manifest("img", false).contains("admissionregistration"));
        for spec in [&daemon_set()["spec"]["template"]["spec"], &short_lived("node1", "img")["spec"]] {
            assert_eq!(spec["containers"][0]["env"][0]["name"], crate::cluster::AGENT_ONLY);
        }
    }
}
