//! What a configuration asks of an agent: whether a new one differs, and whether its pods are on the node.

use std::collections::BTreeSet;

use podtrace_protocol::frame::{Configuration, PodAddresses};
use podtrace_protocol::topology::Topology;

/// Whether an agent has to get its new configuration: the filter or a tapped pod changed. A pod that is gone is no reason:
/// the agent still needs its addresses for packets in flight.
pub(super) fn differs(before: &Configuration, now: &Configuration, recreated: &BTreeSet<String>) -> bool {
    let known: Vec<&PodAddresses> = tapped(before).collect();
    let is_new = |pod: &PodAddresses| !known.contains(&pod) || recreated.contains(&pod.pod);
    before.filter != now.filter || tapped(now).any(is_new)
}

/// The tapped pods of a configuration.
fn tapped(configuration: &Configuration) -> impl Iterator<Item = &PodAddresses> {
    configuration.pods.iter().filter(|pod| configuration.tapped_pods.contains(&pod.pod))
}

/// Refuses a topology without the veth of a pod that is traced: nothing would be seen of it, which looks like an answer.
pub(super) fn check_pods(
    node: &str,
    topology: &Topology,
    configuration: &Configuration,
) -> Result<(), String> {
    let tapped = configuration.tapped_pods.iter();
    let missing: Vec<_> =
        tapped.filter(|pod| topology.host_veth_of(pod).is_none()).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "no network namespace on {node} has the address of {}: is the inventory outdated, or the pod gone?",
        missing.join(", ")
    ))
}
