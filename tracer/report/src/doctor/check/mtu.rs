//! MTUs along the way: pods against their node's tunnel, and tunnels against one another.

use podtrace_protocol::topology::{DeviceKind, Role};

use crate::diagnose::words::quoted;
use crate::doctor::cluster::{Cluster, role};
use crate::doctor::issue::{Issue, Kind, Severity};

pub(super) fn check(cluster: &Cluster<'_>, found: &mut Vec<Issue>) {
    for (node, own) in cluster.nodes() {
        let routed = |index: u32| own.routes.iter().any(|route| route.device == index);
        let tunnels = own.devices.iter().filter(|device| {
            matches!(device.kind, DeviceKind::Vxlan(_))
                && role(node, own, device) == Role::Tunnel
                && routed(device.index)
        });
        let tunnels: Vec<_> = tunnels.collect();
        // With two stacks, the tunnel of one version takes less than the other's, by its own headers.
        let largest = tunnels.iter().map(|tunnel| tunnel.mtu).max().unwrap_or(0);
        for tunnel in tunnels {
            let pods = node
                .topology
                .namespaces
                .iter()
                .filter_map(|namespace| Some((namespace, namespace.pod.as_ref()?)));
            for (namespace, pod) in pods {
                let device = namespace.devices.iter().find(|device| device.peer.is_some() && device.up);
                let Some(device) = device.filter(|device| device.mtu > tunnel.mtu) else { continue };
                let (name, through, at) = (quoted(&device.name), quoted(&tunnel.name), quoted(&node.name));
                let problem = format!(
                    "{name} of {} has MTU {}, and {through} of {at} takes {}",
                    quoted(pod),
                    device.mtu,
                    tunnel.mtu
                );
                let severity = if device.mtu > largest { Severity::Warning } else { Severity::Note };
                let mut issue = Issue::at(severity, Kind::Mtu, &node.name, Some(&device.name))
                    .found(problem, format!("at most {}, the MTU of {through}", tunnel.mtu))
                    .follows("Large packets to other nodes are refused with an ICMP error, or vanish where that is filtered: connections open and then hang")
                    .shown_by(format!("ip link show {name}"))
                    .fixed_by(Some(format!("ip link set {name} mtu {}", tunnel.mtu)));
                issue.pod = Some(pod.clone());
                found.push(issue);
            }
        }
    }
    between(cluster, found);
}

/// Tunnels of one name have one MTU on all nodes.
fn between(cluster: &Cluster<'_>, found: &mut Vec<Issue>) {
    let tunnels = || {
        cluster.nodes().flat_map(|(node, own)| {
            own.devices
                .iter()
                .filter(|device| matches!(device.kind, DeviceKind::Vxlan(_)))
                .map(move |device| (node, device))
        })
    };
    for (node, device) in tunnels() {
        let largest =
            tunnels().filter(|(_, other)| other.name == device.name).max_by_key(|(_, other)| other.mtu);
        let Some((other, theirs)) = largest.filter(|(_, other)| other.mtu > device.mtu) else { continue };
        let name = quoted(&device.name);
        let problem = format!(
            "{name} has MTU {} on {} and {} on {}",
            device.mtu,
            quoted(&node.name),
            theirs.mtu,
            quoted(&other.name)
        );
        found.push(
            Issue::at(Severity::Warning, Kind::Mtu, &node.name, Some(&device.name))
                .found(
                    problem,
                    format!("one MTU on all nodes, such as {} on {}", theirs.mtu, quoted(&other.name)),
                )
                .follows("Large packets are refused or fragmented in one direction only")
                .shown_by(format!("ip -d link show {name}"))
                .fixed_by(None),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::sample::{self, node};

    #[test]
    fn a_tunnel_that_takes_less_than_its_pods_send_is_found() {
        assert_eq!(sample::found(|_| (), check), []);
        let found = sample::found(|surveys| node(surveys, 0).devices[3].mtu = 1300, check);
        let found: Vec<_> = found.iter().map(|issue| (issue.place(), issue.found.as_str())).collect();
        assert_eq!(
            found,
            [
                ("default/pod1", "eth0 of default/pod1 has MTU 1450, and flannel.1 of node1 takes 1300"),
                ("node1", "flannel.1 has MTU 1300 on node1 and 1450 on node2"),
            ]
        );
    }
}
