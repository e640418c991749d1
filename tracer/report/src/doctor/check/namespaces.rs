//! Pods that have an address by the inventory, and no network namespace with it.

use crate::diagnose::words::quoted;
use crate::doctor::cluster::Cluster;
use crate::doctor::issue::{Issue, Kind, Severity};

pub(super) fn check(cluster: &Cluster<'_>, found: &mut Vec<Issue>) {
    for (node, _) in cluster.nodes() {
        let known =
            |name: &str| node.topology.namespaces.iter().any(|space| space.pod.as_deref() == Some(name));
        let of_node = || cluster.pods.iter().filter(|pod| pod.node == node.name);
        // Where no pod is behind a veth, the plugin works otherwise.
        let severity = if of_node().any(|pod| known(&pod.pod)) { Severity::Warning } else { Severity::Note };
        for pod in of_node().filter(|pod| !known(&pod.pod)) {
            let (name, address) = (quoted(&pod.pod), pod.address);
            let issue = Issue::at(severity, Kind::NoNamespace, &node.name, None)
                .found(
                    format!("no network namespace behind a veth of {} has {address}, the address of {name}", quoted(&node.name)),
                    "a veth pair into the pod, as the other pods of the node have it: the API says that the pod has this address",
                )
                .follows(format!("{name} is cut off, unless it just started or ended, or its network is no veth"))
                .shown_by("ip -d link show type veth")
                .fixed_by(None)
                .about([address.into()]);
            found.push(issue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::sample;

    #[test]
    fn a_pod_without_its_namespace_is_found() {
        assert_eq!(sample::found(|_| (), check), []);
        let found = sample::found(|surveys| surveys[0].found.as_mut().unwrap().namespaces.truncate(1), check);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].severity, Severity::Note, "no pod of the node is behind a veth");
    }
}
