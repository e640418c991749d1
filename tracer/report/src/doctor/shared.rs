//! The findings of the checks that also explain packets, at nodes where no packet was lost: how bad each is there.
//!
//! A check finds everything that may explain a drop, and the packet decides. Without one, the node's state has to: whose
//! device it is, which way a route would have to go, whether the address is a known pod's. What says nothing by itself
//! is left out.

use std::net::IpAddr;

use ipnet::IpNet;
use podtrace_protocol::topology::state::{NeighbourState, PolicyAction};
use podtrace_protocol::topology::{Device, DeviceKind, Namespace, Role};

use super::cluster::{Cluster, PodAddress, role};
use super::issue::{Issue, Severity};
use super::meaning::meaning;
use crate::diagnose::check;
use crate::diagnose::facts::{Node, has};
use crate::diagnose::finding::{Finding, Kind as Shared, Subject};

/// All of them.
pub(super) fn issues(cluster: &Cluster<'_>) -> Vec<Issue> {
    check::findings(&cluster.facts).into_iter().filter_map(|finding| issue(cluster, finding)).collect()
}

fn issue(cluster: &Cluster<'_>, finding: Finding) -> Option<Issue> {
    let at = Spot::of(cluster, &finding)?;
    let severity = severity(cluster, &at, &finding)?;
    let meaning = meaning(finding.kind, at.node);
    let bridge = at.device.and_then(|device| at.namespace.device(device.master?));
    let below = bridge.map(|bridge| bridge.name.clone());
    let about = match finding.subject {
        Subject::To(address) | Subject::Address(address) => vec![address.into()],
        Subject::Between(from, to) => from.into_iter().chain(to).collect(),
        Subject::Device | Subject::Family { .. } => Vec::new(),
    };
    let Finding { node, pod, device, problem, show, fix, possible, .. } = finding;
    let mut issue = Issue::at(severity, meaning.kind, &node, device.as_deref())
        .found(problem, meaning.expected)
        .follows(meaning.effect)
        .shown_by(show)
        .fixed_by(fix)
        .about(about);
    (issue.pod, issue.below, issue.possible, issue.lasting) = (pod, below, possible, meaning.lasting);
    Some(issue)
}

/// Where a finding is.
struct Spot<'a> {
    node: &'a Node,
    /// The node's own namespace.
    own: &'a Namespace,
    /// The namespace of the finding.
    namespace: &'a Namespace,
    device: Option<&'a Device>,
}

impl<'a> Spot<'a> {
    fn of(cluster: &'a Cluster<'_>, finding: &Finding) -> Option<Self> {
        let node = cluster.facts.node(&finding.node)?;
        let mut spaces = node.topology.namespaces.iter();
        let namespace = spaces.find(|space| space.pod == finding.pod)?;
        let named = |device: &&Device| Some(&device.name) == finding.device.as_ref();
        let device = namespace.devices.iter().find(named);
        Some(Self { node, own: node.topology.node()?, namespace, device })
    }

    fn role(&self) -> Role {
        match (self.device, self.namespace.pod.is_some()) {
            (Some(device), false) => role(self.node, self.own, device),
            _ => Role::Other,
        }
    }

    /// Whether the device is a pod's way to its node.
    fn leads_to_node(&self) -> bool {
        self.namespace.pod.is_some() && self.device.is_some_and(|device| device.peer.is_some())
    }
}

/// How bad it is; `None` where it says nothing by itself.
fn severity(cluster: &Cluster<'_>, at: &Spot<'_>, finding: &Finding) -> Option<Severity> {
    use Severity::{Fault, Note, Warning};
    match finding.kind {
        Shared::LinkDown => link_down(cluster, at),
        Shared::WrongNeighbour => Some(if is_permanent(at, finding) { Fault } else { Warning }),
        Shared::NoTunnelEnd => {
            let floods = |device: &Device| {
                at.own
                    .state
                    .forwarding
                    .iter()
                    .any(|entry| entry.device == device.index && entry.mac == [0; 6])
            };
            (!at.device.is_some_and(floods)).then_some(Fault)
        }
        Shared::WrongTunnelEnd | Shared::TunnelAddress => Some(Fault),
        // Tunnels of others may have one name by chance.
        Shared::TunnelMismatch => {
            let is_routed = |device: &Device| at.own.routes.iter().any(|route| route.device == device.index);
            Some(if at.device.is_some_and(is_routed) { Fault } else { Note })
        }
        Shared::NoRoute => {
            let has_gateway = at.namespace.routes.iter().any(|route| route.gateway.is_some());
            let severity = if has_gateway { Warning } else { Fault };
            at.leads_to_node().then_some(severity)
        }
        Shared::WrongGateway => at.leads_to_node().then_some(Fault),
        Shared::Unanswered => unanswered(cluster, at, finding),
        Shared::Refused => refused(cluster, at, finding),
        Shared::Diverted => Some(diverted(cluster, at, finding)),
        // Of a family that no pod of the node has: that of a network beside the pods'.
        Shared::ForwardingOff
            if matches!(finding.subject, Subject::Family { ipv6 } if !cluster
                .pods
                .iter()
                .any(|pod| pod.node == at.node.name && pod.address.is_ipv6() == ipv6)) =>
        {
            None
        }
        Shared::ForwardingOff => match (at.device, at.role()) {
            (None, _) | (_, Role::Bridge | Role::Tunnel | Role::PodVeth) => Some(Fault),
            _ => None,
        },
        Shared::ReversePath => reverse_path(cluster, at).then_some(Fault),
        Shared::BridgePort => {
            let is_pods = at
                .device
                .is_some_and(|device| at.node.topology.pod_behind(at.own.inode, device.index).is_some());
            // Spanning tree opens a port by and by.
            let waits = finding.problem.ends_with("listening") || finding.problem.ends_with("learning");
            Some(if is_pods && !waits { Fault } else { Warning })
        }
        Shared::PortsIsolated | Shared::TunnelMtu | Shared::EchoIgnored => Some(Warning),
        Shared::Mtu => at.leads_to_node().then_some(Warning),
        Shared::Xdp => Some(Note),
        Shared::AddressTwice => address_twice(cluster, finding),
    }
}

/// Which devices' being down cuts somebody off.
fn link_down(cluster: &Cluster<'_>, at: &Spot<'_>) -> Option<Severity> {
    let device = at.device?;
    if at.namespace.pod.is_some() {
        return at.leads_to_node().then_some(Severity::Fault);
    }
    let is_pods = |port: &Device| at.node.topology.pod_behind(at.own.inode, port.index).is_some();
    match at.role() {
        Role::PodVeth => is_pods(device).then_some(Severity::Fault),
        Role::Bridge => {
            let mut ports = at.own.devices.iter().filter(|port| port.master == Some(device.index));
            ports.any(is_pods).then_some(Severity::Fault)
        }
        // Kernels have devices such as tunl0 and sit0 that are down where nobody uses them.
        Role::Tunnel if matches!(device.kind, DeviceKind::Vxlan(_)) => {
            let up_elsewhere = cluster.nodes().any(|(node, own)| {
                node.name != at.node.name
                    && own.devices.iter().any(|other| other.name == device.name && other.up)
            });
            Some(if up_elsewhere { Severity::Fault } else { Severity::Note })
        }
        Role::Uplink => {
            let carries = at.node.addresses.iter().any(|address| has(device, *address));
            Some(if carries { Severity::Fault } else { Severity::Note })
        }
        Role::Tunnel | Role::Other => None,
    }
}

fn is_permanent(at: &Spot<'_>, finding: &Finding) -> bool {
    let Subject::To(address) = finding.subject else { return false };
    let entries = at.namespace.state.neighbours.iter();
    entries.filter(|entry| entry.address == address).any(|entry| entry.state == NeighbourState::Permanent)
}

/// An address that nobody answered for is worth a word only if somebody has it, or a route needs it.
fn unanswered(cluster: &Cluster<'_>, at: &Spot<'_>, finding: &Finding) -> Option<Severity> {
    let Subject::To(address) = finding.subject else { return None };
    let is_held = cluster.facts.holders(address).next().is_some();
    let is_gateway = at.namespace.routes.iter().any(|route| route.gateway == Some(address));
    (is_held || is_gateway).then_some(Severity::Warning)
}

/// Priority of the kernel's own rule that looks into the main table.
const MAIN_TABLE_PRIORITY: u32 = 32_766;

/// A route or rule that refuses is a fault where a known pod is refused by it, and no longer route leads there.
fn refused(cluster: &Cluster<'_>, at: &Spot<'_>, finding: &Finding) -> Option<Severity> {
    let Subject::Between(from, to) = finding.subject else { return None };
    let is_rule = finding.problem.contains("policy rule");
    if is_rule {
        let is_known = |network: Option<IpNet>| {
            network.is_none_or(|network| cluster.pods.iter().any(|pod| network.contains(&pod.address)))
        };
        // What is routed by the main table never comes to a rule behind it.
        let is_before_main = at.namespace.state.policy.iter().any(|rule| {
            (rule.from, rule.to) == (from, to)
                && rule.priority < MAIN_TABLE_PRIORITY
                && matches!(rule.action, PolicyAction::Refuse(_))
        });
        let certain = is_known(from)
            && is_known(to)
            && is_before_main
            && !finding.problem.contains("more conditions")
            && finding.device.is_none();
        return Some(if certain { Severity::Fault } else { Severity::Note });
    }
    let network = to?;
    // Tables of their own are for those whom a rule sends there.
    let main = at
        .namespace
        .state
        .refusing
        .iter()
        .any(|route| route.destination == network && [253, 254, 255].contains(&route.table));
    let leads = |address: IpAddr| {
        at.namespace.routes.iter().any(|route| {
            route.destination.contains(&address) && route.destination.prefix_len() >= network.prefix_len()
        })
    };
    let mut pods = cluster.pods.iter().filter(|pod| network.contains(&pod.address));
    (main && pods.any(|pod| !leads(pod.address))).then_some(Severity::Fault)
}

/// Another table than the main one matters where the main one has the tunnels' routes.
fn diverted(cluster: &Cluster<'_>, at: &Spot<'_>, finding: &Finding) -> Severity {
    let Subject::Between(Some(from), None) = finding.subject else { return Severity::Note };
    let own = cluster.pods.iter().any(|pod| pod.node == at.node.name && from.contains(&pod.address));
    let tunnelled = at.node.topology.tunnels().any(|tunnel| {
        at.own.routes.iter().any(|route| route.device == tunnel.index && route.gateway.is_some())
    });
    if own && tunnelled { Severity::Warning } else { Severity::Note }
}

/// Strict filtering refuses what comes out of a tunnel where the route back does not lead into it.
fn reverse_path(cluster: &Cluster<'_>, at: &Spot<'_>) -> bool {
    let Some(device) = at.device else { return false };
    let of_ipv4 = |pod: &&PodAddress| pod.address.is_ipv4();
    cluster.pods.iter().filter(of_ipv4).filter(|pod| pod.node != at.node.name).any(|pod| {
        let Some(other) = cluster.facts.node(&pod.node) else { return false };
        let comes_by = cluster.tunnel(at.node, other, pod.address);
        let back = at.node.topology.route_to(pod.address);
        // Nodes of one network may send without the tunnel that both have.
        let sends_by = |far: &Device| {
            let mut own = cluster.pods.iter().filter(of_ipv4).filter(|own| own.node == at.node.name);
            own.any(|own| other.topology.route_to(own.address).is_some_and(|route| route.device == far.index))
        };
        comes_by.is_some_and(|tunnel| tunnel.near.index == device.index && sends_by(tunnel.far))
            && back.is_some_and(|route| route.device != device.index)
    })
}

/// Two pods may have bridges of their own within, with one address; what the node reaches them by has to differ.
fn address_twice(cluster: &Cluster<'_>, finding: &Finding) -> Option<Severity> {
    let Subject::Address(address) = finding.subject else { return None };
    let is_pods_own = |(place, device): (crate::diagnose::facts::Place<'_>, &Device)| {
        place.namespace.pod.is_some() && device.peer.is_none()
    };
    let mut holders = cluster.facts.holders(address);
    if holders.any(is_pods_own) {
        return None;
    }
    // An address that the cluster does not know is one of a network beside it, such as a pod's second one.
    let is_known = cluster.pods.iter().any(|pod| pod.address == address)
        || cluster.owner(address).is_some_and(|node| node.addresses.contains(&address));
    Some(if is_known { Severity::Fault } else { Severity::Note })
}

#[cfg(test)]
mod tests {
    use podtrace_protocol::topology::state::{PolicyRule, Refusal, RefusingRoute};
    use podtrace_protocol::topology::{Device, DeviceKind, Survey};

    use super::*;
    use crate::doctor::issue::Kind;
    use crate::doctor::sample::{self, node};

    fn found(change: impl Fn(&mut Vec<Survey>)) -> Vec<(Severity, Kind, String)> {
        let found = sample::found(change, |cluster, issues| issues.extend(super::issues(cluster)));
        found.into_iter().map(|issue| (issue.severity, issue.kind, issue.found)).collect()
    }

    #[test]
    fn healthy_nodes_are_silent() {
        assert_eq!(found(|_| ()), []);
    }

    #[test]
    fn devices_that_nobody_uses_may_be_down() {
        let spare = |surveys: &mut Vec<Survey>, kind: DeviceKind, name: &str| {
            let own = node(surveys, 0);
            let device = Device {
                index: 20,
                name: name.into(),
                kind,
                up: false,
                addresses: Vec::new(),
                peer: None,
                master: None,
                ..own.devices[1].clone()
            };
            own.devices.push(device);
        };
        for (kind, name) in [
            (DeviceKind::Other("ipip".into()), "tunl0"),
            (DeviceKind::Bridge, "docker0"),
            (DeviceKind::Physical, "eno2"),
        ] {
            assert_eq!(found(|surveys| spare(surveys, kind.clone(), name)), [], "{name}");
        }
        let tunnel = found(|surveys| node(surveys, 1).devices[3].up = false);
        assert_eq!(tunnel.len(), 1, "{tunnel:?}");
        assert_eq!((tunnel[0].0, tunnel[0].1), (Severity::Fault, Kind::LinkDown));
    }

    #[test]
    fn strict_filtering_is_a_fault_only_where_packets_come_another_way() {
        let strict = |surveys: &mut Vec<Survey>| {
            node(surveys, 1).state.sysctls.insert("ipv4/conf/flannel.1/rp_filter".to_owned(), 1);
        };
        assert_eq!(found(strict), []);
        let found = found(|surveys| {
            strict(surveys);
            node(surveys, 1).routes[2].device = 2;
        });
        assert_eq!(found[0].1, Kind::ReversePath, "{found:?}");
    }

    #[test]
    fn strict_filtering_of_a_tunnel_that_the_other_node_does_not_use_is_none() {
        let found = found(|surveys| {
            node(surveys, 1).state.sysctls.insert("ipv4/conf/flannel.1/rp_filter".to_owned(), 1);
            // Nodes of one network, which send to each other directly.
            for number in [0, 1] {
                node(surveys, number).routes[2].device = 2;
            }
        });
        assert!(found.iter().all(|(_, kind, _)| *kind != Kind::ReversePath), "{found:?}");
    }

    #[test]
    fn a_family_that_no_pod_has_need_not_be_forwarded() {
        let off = |address: &'static str, setting: &'static str| {
            found(move |surveys| {
                let own = node(surveys, 0);
                let bridge = own.devices.iter_mut().find(|device| device.kind == DeviceKind::Bridge).unwrap();
                bridge.addresses.push(address.parse().unwrap());
                own.state.sysctls.insert(setting.to_owned(), 0);
            })
        };
        assert_eq!(off("fd77::1/64", "ipv6/conf/all/forwarding"), []);
        assert_eq!(off("10.99.0.1/24", "ipv4/ip_forward")[0].1, Kind::ForwardingOff);
    }

    #[test]
    fn a_rule_that_refuses_behind_the_main_table_refuses_no_pod() {
        for (priority, severity) in [(100, Severity::Fault), (40_000, Severity::Note)] {
            let rule = PolicyRule {
                priority,
                from: None,
                to: None,
                input: None,
                conditional: false,
                action: PolicyAction::Refuse(Refusal::Blackhole),
            };
            let found = found(|surveys| node(surveys, 0).state.policy.push(rule.clone()));
            assert_eq!((found[0].0, found[0].1), (severity, Kind::Refused), "{priority}: {found:?}");
        }
    }

    #[test]
    fn an_address_of_a_network_beside_the_cluster_may_be_held_twice() {
        let twice = |address: &'static str| {
            found(move |surveys| {
                for survey in surveys {
                    let pod = &mut survey.found.as_mut().unwrap().namespaces[1];
                    let own = pod.devices.iter().find(|device| device.name == "eth0").unwrap();
                    let second = Device {
                        index: 9,
                        name: "net1".into(),
                        addresses: vec![address.parse().unwrap()],
                        ..own.clone()
                    };
                    pod.devices.push(second);
                }
            })
        };
        let beside = twice("10.99.0.5/24");
        assert!(beside.iter().all(|(severity, ..)| *severity == Severity::Note), "{beside:?}");
        let of_pod = twice("10.42.0.10/24");
        let is_fault = |(severity, kind, _): &(Severity, Kind, String)| {
            (*severity, *kind) == (Severity::Fault, Kind::AddressTwice)
        };
        assert!(of_pod.iter().any(is_fault), "{of_pod:?}");
    }

    #[test]
    fn a_blackhole_for_a_nodes_own_block_is_ordinary() {
        let block = |destination: &str| RefusingRoute {
            destination: destination.parse().unwrap(),
            table: 254,
            refusal: Refusal::Blackhole,
        };
        assert_eq!(found(|surveys| node(surveys, 0).state.refusing.push(block("10.42.0.0/24"))), []);
        let other = found(|surveys| node(surveys, 0).state.refusing.push(block("10.42.1.10/32")));
        assert_eq!((other[0].0, other[0].1), (Severity::Fault, Kind::Refused), "{other:?}");
    }
}
