//! The objects of the fake cluster, and the history of their changes.

use std::collections::BTreeMap;

use podtrace_protocol::inventory::{self, Inventory};
use serde_json::{Value, json};

/// Kinds, by the last part of their path.
pub(super) const KINDS: [&str; 4] = ["nodes", "pods", "services", "endpointslices"];

/// All objects. Each change increments the version.
#[derive(Debug)]
pub(super) struct Objects {
    /// By kind and name.
    all: BTreeMap<(&'static str, String), Value>,
    /// Kind and event, in the order of their versions from 2 on.
    log: Vec<(&'static str, Value)>,
    /// Changes before this version have expired.
    forgotten: usize,
}

impl Objects {
    pub(super) fn of(inventory: &Inventory) -> Self {
        let mut objects = Self { all: BTreeMap::new(), log: Vec::new(), forgotten: 0 };
        for node in &inventory.nodes {
            objects.all.insert(("nodes", node.name.clone()), described(node));
        }
        for pod in &inventory.pods {
            let ips: Vec<_> = pod.ips.iter().map(ToString::to_string).collect();
            objects.put("pods", &pod.name, running(&pod.name, &ips, &pod.node, "1"));
        }
        objects.log.clear();
        objects
    }

    /// The current version.
    pub(super) fn version(&self) -> usize {
        1 + self.log.len()
    }

    pub(super) fn list(&self, kind: &str) -> Value {
        let items: Vec<_> =
            self.all.iter().filter(|((of, _), _)| *of == kind).map(|(_, item)| item).collect();
        json!({"metadata": {"resourceVersion": self.version().to_string()}, "items": items})
    }

    /// The events of a kind after a version, one line each; `None` if they have expired.
    pub(super) fn since(&self, kind: &str, version: usize) -> Option<String> {
        if version < self.forgotten {
            return None;
        }
        let events = self.log.iter().skip(version.saturating_sub(1)).filter(|(of, _)| *of == kind);
        Some(events.map(|(_, event)| format!("{event}\n")).collect())
    }

    /// Expires all changes so far.
    pub(super) fn forget(&mut self) {
        self.forgotten = self.version();
    }

    pub(super) fn put(&mut self, kind: &'static str, name: &str, object: Value) {
        let mut object = object;
        object["metadata"]["resourceVersion"] = json!((self.version() + 1).to_string());
        let before = self.all.insert((kind, name.to_owned()), object.clone());
        let what = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.log.push((kind, json!({"type": what, "object": object})));
    }

    pub(super) fn remove(&mut self, kind: &'static str, name: &str) {
        if let Some(mut object) = self.all.remove(&(kind, name.to_owned())) {
            object["metadata"]["resourceVersion"] = json!((self.version() + 1).to_string());
            self.log.push((kind, json!({"type": "DELETED", "object": object})));
        }
    }
}

fn described(node: &inventory::Node) -> Value {
    let addresses: Vec<_> =
        node.addresses.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
    json!({"metadata": {"name": node.name}, "status": {"addresses": addresses}})
}

/// A running pod; another `uid` makes it another pod of the same name.
pub(super) fn running(name: &str, ips: &[String], node: &str, uid: &str) -> Value {
    let ips: Vec<_> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    json!({
        "metadata": {"name": name, "namespace": "default", "uid": uid},
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "podIPs": ips},
    })
}

/// A headless Service.
pub(super) fn headless(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"clusterIP": "None"}})
}

/// Its endpoints.
pub(super) fn slice(service: &str, pods: &[&str]) -> Value {
    let target = |pod: &&str| json!({"targetRef": {"kind": "Pod", "namespace": "default", "name": pod}});
    let labels = json!({"kubernetes.io/service-name": service});
    json!({
        "metadata": {"name": format!("{service}-1"), "namespace": "default", "labels": labels},
        "endpoints": pods.iter().map(target).collect::<Vec<_>>(),
    })
}
