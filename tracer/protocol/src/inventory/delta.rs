//! The changes from one inventory to the next.

use std::collections::HashMap;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use super::model::{Inventory, Node, Pod, Service};

/// The difference between two inventories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delta {
    /// New and changed nodes.
    pub nodes: Vec<Node>,
    /// New and changed pods.
    pub pods: Vec<Pod>,
    /// `NAMESPACE/NAME` of deleted pods.
    pub pods_gone: Vec<String>,
    /// New and changed Services.
    pub services: Vec<Service>,
    /// `NAMESPACE/NAME` of deleted Services.
    pub services_gone: Vec<String>,
}

impl Delta {
    /// Compares two inventories. A node that is missing from the later one counts as unchanged: its agent may still send
    /// events.
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

    /// Whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The items that are new or changed in `after`, and those of `before` that are not in it any more.
fn differing<'a, T: Clone + PartialEq, K: Eq + Hash>(
    before: &'a [T],
    after: &'a [T],
    key: impl Fn(&'a T) -> K,
) -> (Vec<T>, Vec<&'a T>) {
    let mut known: HashMap<K, &T> = before.iter().map(|item| (key(item), item)).collect();
    let mut changed = Vec::new();
    for item in after {
        if known.remove(&key(item)) != Some(item) {
            changed.push(item.clone());
        }
    }
    let mut gone: Vec<_> = known.into_values().collect();
    let place = |item: &&T| before.iter().position(|other| std::ptr::eq(other, *item));
    gone.sort_by_key(place);
    (changed, gone)
}

impl Inventory {
    /// Applies the changes. `untraceable` stays as it is.
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
    fn a_delta_turns_the_earlier_inventory_into_the_later() {
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
    fn a_delta_survives_encoding() {
        let before = inventory(&[("a", "10.42.0.1"), ("b", "10.42.0.2")], &["a"]);
        let after = inventory(&[("a", "10.42.0.7")], &["a"]);
        let delta = Delta::between(&before, &after);
        let text = serde_json::to_string(&delta).unwrap();
        assert_eq!(serde_json::from_str::<Delta>(&text).unwrap(), delta);
    }
}
