//! The networking of nodes as a graph in Graphviz' language: a cluster for each node, its devices by role, and lines between what
//! is connected.
//!
//! A line that is drawn solid is a connection of devices; a dotted one what is routed; a dashed one leads to another node.

use std::fmt::{Display, Write as _};

use super::view::{DeviceView, NodeView, PeerView, RoleView};
use podtrace_escape::escape;

/// The graph.
pub(super) fn graph(nodes: &[NodeView<'_>]) -> String {
    let mut text = String::from(
        "graph podtrace {\n  rankdir=TB;\n  node [shape=box, fontname=\"sans-serif\", fontsize=11];\n  edge [fontname=\"sans-serif\", fontsize=9];\n",
    );
    for (number, node) in nodes.iter().enumerate() {
        cluster(number, node, &mut text);
    }
    for node in nodes {
        for device in &node.devices {
            beyond(node, device, nodes, &mut text);
        }
    }
    text.push_str("}\n");
    text
}

/// Text as Graphviz reads it.
fn quoted(text: impl AsRef<str>) -> String {
    let text = escape(text.as_ref()).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{text}\"")
}

/// Lines of a label: each is escaped, and `\n` between them is Graphviz' own.
fn label<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> String {
    let lines: Vec<_> = lines
        .into_iter()
        .map(|line| escape(line.as_ref()).replace('\\', "\\\\").replace('"', "\\\""))
        .collect();
    format!("\"{}\"", lines.join("\\n"))
}

fn id(node: &str, device: &str) -> String {
    quoted(format!("{node}/{device}"))
}

fn list<T: Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn cluster(number: usize, node: &NodeView<'_>, text: &mut String) {
    let NodeView { node: name, addresses, error, warnings: _, cni, devices, other_pods } = node;
    let mut title = vec![format!("{name} {}", list(addresses))];
    title.extend(cni.map(ToString::to_string));
    title.extend(error.map(|error| format!("not looked at: {error}")));
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  subgraph cluster_{number} {{\n    label={};\n    style=rounded;", label(title));
    if devices.is_empty() && other_pods.is_empty() {
        let _ = writeln!(text, "    {} [label=\"\", shape=point];", id(name, ""));
    }
    for device in devices {
        let DeviceView { name: device_name, kind, role, up, mtu, addresses, bridge, pod, vxlan, .. } = device;
        let shape = match role {
            RoleView::Bridge => "shape=box3d",
            RoleView::Tunnel => "shape=cds",
            RoleView::Uplink => "style=bold",
            RoleView::PodVeth | RoleView::Other => "shape=box",
        };
        let state = if *up { String::new() } else { " DOWN".to_owned() };
        let colour = if *up { "" } else { ", color=red, fontcolor=red" };
        let lines = [format!("{device_name}{state}"), format!("{kind}, MTU {mtu}"), list(addresses)];
        let lines = lines.iter().filter(|line| !line.is_empty());
        let own = id(name, device_name);
        let _ = writeln!(text, "    {own} [label={}, {shape}{colour}];", label(lines));
        if let Some(bridge) = bridge {
            let _ = writeln!(text, "    {own} -- {};", id(name, bridge));
        }
        if let Some(through) = vxlan.as_ref().and_then(|vxlan| vxlan.through) {
            let _ = writeln!(text, "    {own} -- {};", id(name, through));
        }
        if let Some(pod) = pod {
            let place = quoted(format!("pod/{}", pod.name));
            let lines = [pod.name.to_owned(), pod.device.to_owned(), list(pod.addresses)];
            let _ =
                writeln!(text, "    {place} [label={}, shape=ellipse];\n    {place} -- {own};", label(lines));
        }
    }
    // What packets of the bridge's pods are routed to.
    let routed = |device: &&DeviceView<'_>| device.peers.iter().any(|peer| !peer.networks.is_empty());
    for bridge in devices.iter().filter(|device| device.role == RoleView::Bridge) {
        for device in devices.iter().filter(|device| device.role > RoleView::PodVeth).filter(routed) {
            let (bridge, device) = (id(name, bridge.name), id(name, device.name));
            let _ = writeln!(text, "    {bridge} -- {device} [style=dotted, label=\"routed\"];");
        }
    }
    for pod in other_pods {
        let lines = [pod.name.clone(), list(&pod.addresses), pod.why.to_owned()];
        let lines = lines.iter().filter(|line| !line.is_empty());
        let _ = writeln!(
            text,
            "    {} [label={}, shape=ellipse, style=dashed];",
            quoted(format!("pod/{}", pod.name)),
            label(lines)
        );
    }
    text.push_str("  }\n");
}

/// The lines from a device to other nodes. Two nodes whose devices of one name lead to each other have one line.
fn beyond(node: &NodeView<'_>, device: &DeviceView<'_>, nodes: &[NodeView<'_>], text: &mut String) {
    let own = id(node.node, device.name);
    for peer in &device.peers {
        let PeerView { node: other, address, gateway, networks } = peer;
        let far = other.and_then(|other| nodes.iter().find(|node| node.node == other));
        let far_device = far.and_then(|far| far.devices.iter().find(|far| far.role == device.role));
        let leads_back =
            far_device.is_some_and(|far| far.peers.iter().any(|peer| peer.node == Some(node.node)));
        if leads_back && far.is_some_and(|far| far.node < node.node) {
            continue;
        }
        let whom = address.or(*gateway).map_or_else(String::new, |address| address.to_string());
        let lines = [whom.clone(), list(networks)];
        let lines: Vec<_> = lines.iter().filter(|line| !line.is_empty()).collect();
        let target = match (far, far_device) {
            (Some(far), Some(far_device)) => id(far.node, far_device.name),
            _ => quoted(format!("beyond/{}", other.map_or(whom, str::to_owned))),
        };
        let _ = writeln!(text, "  {own} -- {target} [style=dashed, label={}];", label(lines));
    }
    for missing in &device.missing_peers {
        let target = quoted(format!("beyond/{missing}"));
        let note = quoted(format!("no entry for {missing}"));
        let _ = writeln!(text, "  {own} -- {target} [style=dotted, color=red, fontcolor=red, label={note}];");
    }
}
