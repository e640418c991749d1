//! How bridges treat packets between their own pods: hairpin mode, and whether iptables sees them.

use podtrace_protocol::topology::{Device, DeviceKind};

use crate::diagnose::facts::Node;
use crate::diagnose::words::{quoted, sysctl};
use crate::doctor::cluster::Cluster;
use crate::doctor::issue::{Issue, Kind, Severity};

pub(super) fn check(cluster: &Cluster<'_>, found: &mut Vec<Issue>) {
    for (node, own) in cluster.nodes() {
        for bridge in own.devices.iter().filter(|device| device.kind == DeviceKind::Bridge) {
            let ports: Vec<_> = own.devices.iter().filter(|port| port.master == Some(bridge.index)).collect();
            hairpin(node, own.inode, &ports, found);
        }
        unfiltered(cluster, node, found);
    }
}

/// A pod that calls its own Service is answered by the port it came in by. Ports of one bridge are made alike.
fn hairpin(node: &Node, netns: u32, ports: &[&Device], found: &mut Vec<Issue>) {
    let is_on = |port: &&&Device| port.port.is_some_and(|port| port.hairpin);
    let Some(other) = ports.iter().find(is_on) else { return };
    for port in ports.iter().filter(|port| port.port.is_some_and(|port| !port.hairpin)) {
        let Some(pod) = node.topology.pod_behind(netns, port.index) else { continue };
        let name = quoted(&port.name);
        let problem = format!(
            "the bridge port {name} of {}, where {} hangs, is not in hairpin mode",
            quoted(&node.name),
            quoted(pod)
        );
        found.push(
            Issue::at(Severity::Warning, Kind::HairpinOff, &node.name, Some(&port.name))
                .found(problem, format!("hairpin mode, as {} of the same bridge has it", quoted(&other.name)))
                .follows(format!("{} does not reach itself by a Service", quoted(pod)))
                .shown_by(format!("bridge -d link show dev {name}"))
                .fixed_by(Some(format!("bridge link set dev {name} hairpin on"))),
        );
    }
}

/// Where iptables does not see what a bridge passes, a Service's answer on the same node is not translated back.
fn unfiltered(cluster: &Cluster<'_>, node: &Node, found: &mut Vec<Issue>) {
    let Some(own) = node.topology.node() else { return };
    let has_services =
        cluster.rules.get(&node.name).is_some_and(|finder| super::services::any(cluster, finder));
    for (path, is_v4) in
        [("bridge/bridge-nf-call-iptables", true), ("bridge/bridge-nf-call-ip6tables", false)]
    {
        let on_bridge =
            cluster.pods.iter().filter(|pod| pod.node == node.name && pod.address.is_ipv4() == is_v4);
        let bridge = on_bridge.filter_map(|pod| cluster.bridge(pod)).next();
        // Without the setting, the kernel may not have the module: that is not read.
        let (Some(0), Some(bridge), true) = (own.state.sysctls.get(path), bridge, has_services) else {
            continue;
        };
        let path = sysctl(path);
        found.push(
            Issue::at(Severity::Warning, Kind::BridgeUnfiltered, &node.name, Some(&bridge.name))
                .found(format!("{} on {} does not show its packets to iptables: {path} is 0", quoted(&bridge.name), quoted(&node.name)), "1: this node's Services are made by rules, and kube-proxy needs it")
                .follows("A pod that calls a Service whose endpoint is on its own node gets no answer, and NetworkPolicies do not hold between pods of one node")
                .shown_by(format!("sysctl {path}"))
                .fixed_by(Some(format!("sysctl -w {path}=1"))),
        );
    }
}

#[cfg(test)]
mod tests {
    use podtrace_protocol::topology::{Port, PortState};

    use super::*;
    use crate::doctor::sample::{self, node};

    #[test]
    fn a_port_unlike_the_others_is_found() {
        let port = |hairpin| Some(Port { state: PortState::Forwarding, hairpin, isolated: false });
        let found = sample::found(
            |surveys| {
                let own = node(surveys, 0);
                own.devices[4].port = port(false);
                let other = Device {
                    index: 9,
                    name: "veth9".into(),
                    peer: None,
                    port: port(true),
                    ..own.devices[4].clone()
                };
                own.devices.push(other);
            },
            check,
        );
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].fix.as_deref(), Some("bridge link set dev veth1 hairpin on"));
        let all_off = sample::found(|surveys| node(surveys, 0).devices[4].port = port(false), check);
        assert_eq!(all_off, []);
    }
}
