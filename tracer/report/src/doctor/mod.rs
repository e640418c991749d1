//! What is wrong with a cluster's pod networking as it stands: the nodes' state in, findings out. No packet is needed.
//!
//! 1. [`cluster`] makes one picture of what the agents read and of what the inventory says.
//! 2. [`shared`] takes the findings of the checks that also explain packets ([`crate::diagnose::check`]), and says how bad
//!    they are at a node that nobody traces: most of them are harmless somewhere.
//! 3. [`check`] adds what only a look at all nodes shows: routes, tunnel ends and rules against what the others have.
//! 4. [`fold`] puts equal findings together, consequences under their cause, and what explains most first.
//! 5. [`portrait`] describes the network, an area a line.
//!
//! A finding is a fault only where the state proves that packets are lost. What was not read proves nothing.

mod check;
mod cluster;
mod fold;
mod issue;
mod meaning;
mod portrait;
#[cfg(test)]
mod sample;
mod shared;
mod way;

use podtrace_protocol::inventory::Inventory;
use podtrace_protocol::topology::{Device, Survey};

use self::cluster::Cluster;
pub use self::issue::{Issue, Kind, Severity};
pub use self::portrait::Area;
pub use self::way::Way;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    /// What is wrong, what explains most first.
    pub issues: Vec<Issue>,
    /// The cluster's network, an area a line.
    pub areas: Vec<Area>,
    /// What could not be looked at, a sentence each with its node.
    pub unseen: Vec<(String, String)>,
    /// Nodes that were looked at.
    pub nodes: usize,
    /// Pods with a network namespace of their own on these nodes.
    pub pods: usize,
}

/// What the findings are limited to. Everything is looked at all the same, since nodes are compared with one another.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Names of nodes; all if empty.
    pub nodes: Vec<String>,
    /// Only what lies on this way.
    pub way: Option<Way>,
}

/// Examines a cluster.
#[must_use]
pub fn examine(surveys: &[Survey], inventory: &Inventory, limits: &Limits) -> Examination {
    let cluster = Cluster::new(surveys, inventory);
    let mut issues = shared::issues(&cluster);
    check::all(&cluster, &mut issues);
    issues.retain(|issue| {
        limits.nodes.is_empty() || limits.nodes.iter().any(|node| concerns_node(issue, node, &cluster))
    });
    if let Some(way) = &limits.way {
        issues.retain(|issue| way.concerns(issue, &cluster));
    }
    let issues = fold::fold(issues);
    let areas = portrait::areas(&cluster, &issues);
    let seen = |name: &String| limits.nodes.is_empty() || limits.nodes.contains(name);
    let read = surveys.iter().filter(|survey| survey.found.is_ok() && seen(&survey.node));
    Examination {
        unseen: cluster::unseen(surveys).into_iter().filter(|(node, _)| seen(node)).collect(),
        nodes: read.clone().count(),
        pods: read.map(|survey| cluster.pods_of(&survey.node)).sum(),
        issues,
        areas,
    }
}

/// Whether a finding concerns a node: what differs between two nodes is filed under one of them.
fn concerns_node(issue: &Issue, name: &str, cluster: &Cluster<'_>) -> bool {
    let Some(own) = cluster.facts.node(name).and_then(|node| node.topology.node()) else {
        return issue.node == name;
    };
    let holds =
        |device: &Device| device.addresses.iter().any(|address| issue.about.contains(&address.trunc()));
    issue.node == name
        || match issue.kind {
            Kind::TunnelMismatch => {
                own.devices.iter().any(|device| Some(&device.name) == issue.device.as_ref())
            }
            Kind::SubnetTwice => own.devices.iter().any(holds),
            _ => false,
        }
}

impl Examination {
    /// How many findings there are of a severity, consequences not counted.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.issues.iter().filter(|issue| issue.severity == severity).count()
    }

    /// Whether nothing above a note was found.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.issues.iter().all(|issue| issue.severity == Severity::Note)
    }
}

#[cfg(test)]
mod tests {
    use podtrace_protocol::topology::DeviceKind;

    use super::*;

    #[test]
    fn what_differs_between_two_nodes_is_found_at_both() {
        let (mut surveys, inventory) = sample::healthy();
        for device in &mut sample::node(&mut surveys, 1).devices {
            if let DeviceKind::Vxlan(settings) = &mut device.kind {
                settings.port = 4789;
            }
        }
        for node in ["node1", "node2"] {
            let limits = Limits { nodes: vec![node.to_owned()], way: None };
            let found = examine(&surveys, &inventory, &limits).issues;
            assert!(found.iter().any(|issue| issue.kind == Kind::TunnelMismatch), "{node}: {found:#?}");
        }
    }
}
