//! Devices that pass nothing: links that are down, bridge ports that do not forward, XDP programs.

use podtrace_protocol::topology::{Device, DeviceKind, PortState};

use crate::diagnose::facts::{Facts, Place};
use crate::diagnose::finding::{Finding, Kind, Subject};
use crate::diagnose::words::quoted;

/// Ports that one finding names at most.
const NAMED: usize = 4;

pub(super) fn check(facts: &Facts, found: &mut Vec<Finding>) {
    for place in facts.places() {
        for device in place.namespace.devices.iter().filter(|device| device.kind != DeviceKind::Loopback) {
            link(facts, place, device, found);
            mtu(facts, place, device, found);
            port(place, device, found);
            xdp(place, device, found);
        }
    }
}

/// The other end of a veth pair, where it is known.
fn peer<'a>(facts: &'a Facts, place: Place<'a>, device: &Device) -> Option<(Place<'a>, &'a Device)> {
    let peer = device.peer?;
    let node = place.node;
    let namespace = node.topology.namespaces.iter().find(|other| Some(other.inode) == peer.netns)?;
    let device = namespace.device(peer.index)?;
    facts.nodes().iter().any(|known| known.name == node.name).then_some((Place { node, namespace }, device))
}

/// A pod's end of its veth pair takes no larger packets than its MTU, whatever the other end sends.
fn mtu(facts: &Facts, place: Place<'_>, device: &Device, found: &mut Vec<Finding>) {
    let Some(pod) = &place.namespace.pod else { return };
    let Some((_, host)) = peer(facts, place, device).filter(|(_, host)| host.mtu > device.mtu) else {
        return;
    };
    let name = quoted(&device.name);
    let problem = format!(
        "{name} of {} has MTU {}, and its other end {} of {} has {}",
        quoted(pod),
        device.mtu,
        quoted(&host.name),
        quoted(&place.node.name),
        host.mtu
    );
    let finding = Finding::at(place, &device.name, Kind::Mtu, Subject::Device);
    found.push(finding.says(problem, format!("ip link show {name}")));
}

fn link(facts: &Facts, place: Place<'_>, device: &Device, found: &mut Vec<Finding>) {
    // The other end's own finding says more.
    if device.up && peer(facts, place, device).is_some_and(|(_, other)| !other.up) {
        return;
    }
    let name = quoted(&device.name);
    let at = quoted(place.name());
    // A bridge without a pod has no carrier, and that is as it should be.
    let is_bridge = device.kind == DeviceKind::Bridge;
    let problem = match (device.up, device.carrier) {
        (false, _) => format!("{name} of {at} is down"),
        (true, Some(false)) if !is_bridge => format!("{name} of {at} is up, and its other end is not"),
        _ => return,
    };
    let finding = Finding::at(place, &device.name, Kind::LinkDown, Subject::Device)
        .says(problem, format!("ip link show {name}"));
    found.push(if device.up { finding } else { finding.fixed_by(format!("ip link set {name} up")) });
}

fn port(place: Place<'_>, device: &Device, found: &mut Vec<Finding>) {
    let Some(port) = device.port else { return };
    let name = quoted(&device.name);
    let at = quoted(place.name());
    let finding = |problem: String, fix: &str| {
        Finding::at(place, &device.name, Kind::BridgePort, Subject::Device)
            .says(problem, format!("bridge -d link show dev {name}"))
            .fixed_by(format!("bridge link set dev {name} {fix}"))
    };
    if port.state != PortState::Forwarding && device.up {
        found.push(finding(format!("the bridge port {name} of {at} is {}", port.state), "state 3"));
    }
    let isolated = if port.isolated { isolated_ports(place, device) } else { Vec::new() };
    // One alone exchanges packets with all.
    if isolated.len() > 1 {
        let problem =
            format!("the bridge ports {} of {at} are isolated from one another", isolated.join(" and "));
        let isolated = finding(problem, "isolated off");
        found.push(Finding { kind: Kind::PortsIsolated, ..isolated });
    }
}

/// Names of the isolated ports of a device's bridge, at most [`NAMED`] of them: the device's own is one.
fn isolated_ports(place: Place<'_>, device: &Device) -> Vec<String> {
    let is_other = |other: &&Device| {
        other.master == device.master
            && other.index != device.index
            && other.port.is_some_and(|port| port.isolated)
    };
    let others = place.namespace.devices.iter().filter(is_other).take(NAMED - 1);
    std::iter::once(device).chain(others).map(|device| quoted(&device.name)).collect()
}

fn xdp(place: Place<'_>, device: &Device, found: &mut Vec<Finding>) {
    let Some(program) = device.xdp else { return };
    let name = quoted(&device.name);
    let problem = format!("XDP program {program} is attached to {name} of {}", quoted(place.name()));
    found.push(
        Finding::at(place, &device.name, Kind::Xdp, Subject::Device)
            .says(problem, format!("bpftool prog show id {program}"))
            .fixed_by(format!("ip link set dev {name} xdp off")),
    );
}
