//! What became of a cluster since it was looked at last.

use std::collections::HashMap;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use super::model::{Inventory, Node, Pod, Service};

/// What makes one inventory of another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delta {
    /// Nodes that are new, or are not as they were.
    pub nodes: Vec<Node>,
    /// Pods that are new, or are not as they were.
    pub pods: Vec<Pod>,
    /// Full names of pods that are not there any more.
    pub pods_gone: Vec<String>,
    /// Services that are new, or are not as they were.
    pub services: Vec<Service>,
    /// Full names of Services that are not there any more.
    pub services_gone: Vec<String>,
}

impl Delta {
    /// From one inventory to a later one. A node that the later one lacks is kept: its agent may still speak.
    #[must_use]
    pub fn between(before: &Inventory, after: &Inventory) -> Self {
        let Inventory { nodes, pods, services, untraceable: _ } = after;
        let (nodes, _) = differing(&before.nodes, nodes, |node| &node.name);
        let (pods, pods_gone) = differing(&before.pods, pods, |pod| (&pod.namespace, &pod.name));
        let (services, services_gone) =
            differing(&before.services, services, |service| (&service.namespace, &service.name));
        Self {
            nodes,
            pods,
            pods_gone: pods_gone.into_iter().map(Pod::full_name).collect(),
            services,
            services_gone: services_gone.into_iter().map(Service::full_name).collect(),
        }
    }

    /// Whether nothing became of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is new or other among the later, and what of the earlier is not there any more.
fn differing<'a, T: Clone + PartialEq, K: Eq + Hash>(
    before: &'a [T],
    after: &'a [T],
    key: impl Fn(&'a T) -> K,
) -> (Vec<T>, Vec<&'a T>) {
    let mut known: HashMap<K, &T> = before.iter().map(|item| (key(item), item)).collect();
    let mut other = Vec::new();
    for item in after {
        if known.remove(&key(item)) != Some(item) {
            other.push(item.clone());
        }
    }
    let mut gone: Vec<_> = known.into_values().collect();
    let place = |item: &&T| before.iter().position(|other| std::ptr::eq(other, *item));
    gone.sort_by_key(place);
    (other, gone)
}

impl Inventory {
    /// Makes of it what became of the cluster. What is nobody's any more of `untraceable` is left as it is.
    pub fn apply(&mut self, delta: &Delta) {
        let Delta { nodes, pods, pods_gone, services, services_gone } = delta;
        self.pods.retain(|pod| !pods_gone.contains(&pod.full_name()));
        self.services.retain(|service| !services_gone.contains(&service.full_name()));
        replace(&mut self.nodes, nodes, |one, other| one.name == other.name);
        replace(&mut self.pods, pods, |one, other| {
            (&one.namespace, &one.name) == (&other.namespace, &other.name)
        });
        replace(&mut self.services, services, |one, other| {
            (&one.namespace, &one.name) == (&other.namespace, &other.name)
        });
    }
}

fn replace<T: Clone>(all: &mut Vec<T>, with: &[T], is_same: impl Fn(&T, &T) -> bool) {
    for item in with {
        match all.iter_mut().find(|known| is_same(known, item)) {
            Some(known) => known.clone_from(item),
            None => all.push(item.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(pods: &[(&str, &str)], endpoints: &[&str]) -> Inventory {
        let pods = pods.iter().map(|(name, ip)| format!("- {{name: {name}, ips: [{ip}], node: node1}}\n"));
        let pods: String = pods.collect();
        let endpoints: Vec<_> = endpoints.iter().map(|name| format!("default/{name}")).collect();
        crate::inventory::parse(&format!(
            "nodes: [{{name: node1, addresses: [192.168.56.11]}}]\n\
             pods:\n{pods}\
             services: [{{name: web, cluster_ips: [10.96.0.20], endpoints: [{}]}}]\n",
            endpoints.join(", ")
        ))
        .unwrap()
    }

    fn names(pods: &[Pod]) -> Vec<String> {
        pods.iter().map(Pod::full_name).collect()
    }

    #[test]
    fn a_delta_makes_the_later_inventory_of_the_earlier() {
        let before = inventory(&[("a", "10.42.0.1"), ("b", "10.42.0.2"), ("c", "10.42.0.3")], &["a", "b"]);
        let after = inventory(&[("a", "10.42.0.1"), ("b", "10.42.0.9"), ("d", "10.42.0.3")], &["b", "d"]);
        let delta = Delta::between(&before, &after);
        assert_eq!(names(&delta.pods), ["default/b", "default/d"]);
        assert_eq!(delta.pods_gone, ["default/c"]);
        assert_eq!((delta.services.len(), delta.nodes.len()), (1, 0));
        let mut made = before.clone();
        made.apply(&delta);
        assert_eq!(made, after);
        assert!(Delta::between(&made, &after).is_empty());
    }

    #[test]
    fn a_node_that_is_not_listed_any_more_is_kept() {
        let before = inventory(&[("a", "10.42.0.1")], &[]);
        let after = Inventory { nodes: Vec::new(), ..before.clone() };
        assert!(Delta::between(&before, &after).is_empty());
    }

    #[test]
    fn it_reads_back_as_what_it_was() {
        let before = inventory(&[("a", "10.42.0.1"), ("b", "10.42.0.2")], &["a"]);
        let after = inventory(&[("a", "10.42.0.7")], &["a"]);
        let delta = Delta::between(&before, &after);
        let text = serde_json::to_string(&delta).unwrap();
        assert_eq!(serde_json::from_str::<Delta>(&text).unwrap(), delta);
    }
}
