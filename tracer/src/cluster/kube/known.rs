//! The current objects of a cluster: the lists, updated by the watch events since.

use std::collections::{BTreeMap, BTreeSet};

use super::machine::Machine;
use super::objects::{EndpointSlice, Endpoints, Node, Object, Pod, Service};
use super::translate::{self, Backing};
use podtrace_protocol::inventory::Inventory;

/// Namespace and name.
type Key = (String, String);

/// The current objects, reduced to the fields that are needed.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) nodes: Vec<Node>,
    pods: BTreeMap<Key, Pod>,
    services: BTreeMap<Key, Service>,
    /// Endpoints by slice, or by Service on servers without slices.
    backing: BTreeMap<Key, Vec<Backing>>,
    /// `NAMESPACE/NAME` of pods that were deleted and created again since the last [`Known::take_recreated`].
    recreated: BTreeSet<String>,
    /// Pods that were deleted since then.
    deleted: BTreeSet<Key>,
}

/// A change to the objects of one kind.
#[derive(Clone, Debug)]
pub(super) enum Change<T> {
    /// An object was added or modified.
    Set(T),
    /// An object was deleted.
    Deleted(T),
    /// The complete list.
    All(Vec<T>),
}

impl Known {
    /// Applies a change. Returns whether anything that is kept has changed.
    pub(super) fn pods(&mut self, change: Change<Pod>) -> bool {
        let pods = match &change {
            Change::Set(pod) => std::slice::from_ref(pod),
            Change::All(pods) => pods,
            Change::Deleted(pod) => {
                self.deleted.insert(pod.metadata.key());
                &[]
            }
        };
        for Pod { metadata, .. } in pods {
            let key = metadata.key();
            let known = self.pods.get(&key);
            if known.is_some_and(|known| known.metadata.uid != metadata.uid) || self.deleted.contains(&key) {
                self.recreated.insert(format!("{}/{}", metadata.namespace, metadata.name));
            }
        }
        apply(&mut self.pods, change, |mut pod| {
            // Its labels stay: endpoints may select by them.
            pod.metadata.resource_version = String::new();
            if !pod.spec.node_name.is_empty() {
                // Conditions are only needed for the scheduler's message.
                pod.status.conditions = Vec::new();
            }
            pod
        })
    }

    /// Like [`Known::pods`].
    pub(super) fn services(&mut self, change: Change<Service>) -> bool {
        apply(&mut self.services, change, |mut service| {
            service.metadata.labels = BTreeMap::new();
            service.metadata.resource_version = String::new();
            service
        })
    }

    /// Like [`Known::pods`].
    pub(super) fn slices(&mut self, change: Change<EndpointSlice>) -> bool {
        apply(&mut self.backing, change, |slice| Backing::of_slice(slice).into_iter().collect())
    }

    /// Like [`Known::pods`].
    pub(super) fn endpoints(&mut self, change: Change<Endpoints>) -> bool {
        apply(&mut self.backing, change, Backing::of_endpoints)
    }

    /// The current inventory, and notes about what was left out.
    pub(super) fn inventory(&self, machine: &Machine) -> (Inventory, Vec<String>) {
        let Self { nodes, pods, services, backing, recreated: _, deleted: _ } = self;
        translate::inventory(machine, nodes, pods.values(), services.values(), backing.values().flatten())
    }

    /// Names of nodes that have pods but are not in the list of nodes.
    pub(super) fn unknown_nodes(&self) -> BTreeSet<String> {
        let known: BTreeSet<_> = self.nodes.iter().map(|node| node.metadata.name.as_str()).collect();
        let nodes = self.pods.values().map(|pod| pod.spec.node_name.as_str());
        nodes.filter(|node| !node.is_empty() && !known.contains(node)).map(str::to_owned).collect()
    }

    /// `NAMESPACE/NAME` of the pods that were deleted and created again since the last call.
    pub(super) fn take_recreated(&mut self) -> BTreeSet<String> {
        self.deleted.clear();
        std::mem::take(&mut self.recreated)
    }
}

/// Most modifications of pods concern fields that are not kept; these count as no change.
fn apply<T: Object, V: PartialEq>(
    all: &mut BTreeMap<Key, V>,
    change: Change<T>,
    kept: impl Fn(T) -> V,
) -> bool {
    match change {
        Change::Set(object) => {
            let (key, object) = (object.meta().key(), kept(object));
            if all.get(&key) == Some(&object) {
                return false;
            }
            all.insert(key, object);
            true
        }
        Change::Deleted(object) => all.remove(&object.meta().key()).is_some(),
        Change::All(objects) => {
            let objects = objects.into_iter().map(|object| (object.meta().key(), kept(object)));
            let before = std::mem::replace(all, objects.collect());
            before != *all
        }
    }
}
