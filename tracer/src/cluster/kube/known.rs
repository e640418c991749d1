//! What is known of a cluster's objects: what was listed, and what was told of them since.

use std::collections::{BTreeMap, BTreeSet};

use super::machine::Machine;
use super::objects::{EndpointSlice, Endpoints, Node, Object, Pod, Service};
use super::translate::{self, Backing};
use podtrace_protocol::inventory::Inventory;

/// Namespace and name.
type Key = (String, String);

/// Objects of a cluster, of which only what is needed is kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) nodes: Vec<Node>,
    pods: BTreeMap<Key, Pod>,
    services: BTreeMap<Key, Service>,
    /// By the slice that tells of it, or by the Service where there are no slices.
    backing: BTreeMap<Key, Vec<Backing>>,
    /// Pods that were removed and made anew under the same name.
    renewed: BTreeSet<String>,
    /// Pods that were removed since that was asked last.
    removed: BTreeSet<Key>,
}

/// What was told of objects of a kind.
#[derive(Clone, Debug)]
pub(super) enum Told<T> {
    /// It is there, and is so.
    Is(T),
    /// It is not there any more.
    Gone(T),
    /// These are all.
    All(Vec<T>),
}

impl Known {
    /// Takes what was told, and tells whether that was new.
    pub(super) fn pods(&mut self, told: Told<Pod>) -> bool {
        let pods = match &told {
            Told::Is(pod) => std::slice::from_ref(pod),
            Told::All(pods) => pods,
            Told::Gone(pod) => {
                self.removed.insert(pod.metadata.key());
                &[]
            }
        };
        for Pod { metadata, .. } in pods {
            let key = metadata.key();
            let known = self.pods.get(&key);
            if known.is_some_and(|known| known.metadata.uid != metadata.uid) || self.removed.contains(&key) {
                self.renewed.insert(format!("{}/{}", metadata.namespace, metadata.name));
            }
        }
        take(&mut self.pods, told, |mut pod| {
            forget(&mut pod.metadata.labels, &mut pod.metadata.resource_version);
            if !pod.spec.node_name.is_empty() {
                // Only the scheduler's words are ever told.
                pod.status.conditions = Vec::new();
            }
            pod
        })
    }

    /// As [`Known::pods`].
    pub(super) fn services(&mut self, told: Told<Service>) -> bool {
        take(&mut self.services, told, |mut service| {
            forget(&mut service.metadata.labels, &mut service.metadata.resource_version);
            service
        })
    }

    /// As [`Known::pods`].
    pub(super) fn slices(&mut self, told: Told<EndpointSlice>) -> bool {
        take(&mut self.backing, told, |slice| Backing::of_slice(slice).into_iter().collect())
    }

    /// As [`Known::pods`].
    pub(super) fn endpoints(&mut self, told: Told<Endpoints>) -> bool {
        take(&mut self.backing, told, Backing::of_endpoints)
    }

    /// The cluster as it is now, and notes of what was left out.
    pub(super) fn inventory(&self, machine: &Machine) -> (Inventory, Vec<String>) {
        let Self { nodes, pods, services, backing, renewed: _, removed: _ } = self;
        translate::inventory(machine, nodes, pods.values(), services.values(), backing.values().flatten())
    }

    /// Names of nodes that pods are on and that are not known.
    pub(super) fn unknown_nodes(&self) -> BTreeSet<String> {
        let known: BTreeSet<_> = self.nodes.iter().map(|node| node.metadata.name.as_str()).collect();
        let nodes = self.pods.values().map(|pod| pod.spec.node_name.as_str());
        nodes.filter(|node| !node.is_empty() && !known.contains(node)).map(str::to_owned).collect()
    }

    /// Full names of the pods that were made anew since this was asked last.
    pub(super) fn take_renewed(&mut self) -> BTreeSet<String> {
        self.removed.clear();
        std::mem::take(&mut self.renewed)
    }
}

fn forget(labels: &mut BTreeMap<String, String>, version: &mut String) {
    *labels = BTreeMap::new();
    *version = String::new();
}

/// Most of what is told of pods is about what is not kept of them.
fn take<T: Object, V: PartialEq>(all: &mut BTreeMap<Key, V>, told: Told<T>, kept: impl Fn(T) -> V) -> bool {
    match told {
        Told::Is(object) => {
            let (key, object) = (object.meta().key(), kept(object));
            if all.get(&key) == Some(&object) {
                return false;
            }
            all.insert(key, object);
            true
        }
        Told::Gone(object) => all.remove(&object.meta().key()).is_some(),
        Told::All(objects) => {
            let objects = objects.into_iter().map(|object| (object.meta().key(), kept(object)));
            let before = std::mem::replace(all, objects.collect());
            before != *all
        }
    }
}
