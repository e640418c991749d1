//! Draws each node as a tree of its devices, with bridge ports and tunnel peers as branches.

use std::net::IpAddr;

use ipnet::IpNet;

use super::view::{DeviceView, NodeView, PeerView, PodView, RoleView, VxlanView};
use crate::output::phrase::{BAD, CHANGED, DIM, DOUBT, LOUD, NAME, PLAIN, Phrase, WIRE};

/// Space between two columns.
const GAP: usize = 2;

/// Draws all nodes.
pub(super) fn draw(nodes: &[NodeView<'_>], width: usize) -> String {
    let mut out = String::new();
    for (index, node) in nodes.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        heading(node).write_line(0, &mut out);
        let mut rows = Vec::new();
        let items = items(node);
        branch(&items, "", &mut rows);
        write(&rows, width, &mut out);
    }
    out
}

fn heading(node: &NodeView<'_>) -> Phrase {
    let mut heading = Phrase::new().with(NAME, node.node);
    if !node.addresses.is_empty() {
        heading.append(PLAIN, list(node.addresses.iter().map(ToString::to_string)));
    }
    if let Some(cni) = node.cni {
        heading.append(DIM, cni.to_string());
    }
    if let Some(error) = node.error {
        heading.append(LOUD, " UNREACHABLE ");
        heading.append(BAD, error);
    }
    heading
}

/// An entry of the tree: three columns, a note, and the entries below it.
#[derive(Default)]
struct Item {
    columns: [Phrase; 3],
    note: Phrase,
    below: Vec<Item>,
    /// Whether it is reached through a tunnel; drawn with a double line.
    tunnelled: bool,
}

fn items(node: &NodeView<'_>) -> Vec<Item> {
    let mut items: Vec<_> = node
        .devices
        .iter()
        // Ports are drawn below their bridge.
        .filter(|device| bridge(node, device).is_none())
        .map(|device| item(node, device))
        .collect();
    items.extend(node.other_pods.iter().map(|pod| Item {
        columns: [
            Phrase::new().with(NAME, &pod.name),
            Phrase::new().with(DIM, "pod"),
            Phrase::new().with(PLAIN, list(pod.addresses.iter().map(ToString::to_string))),
        ],
        note: Phrase::new().with(DOUBT, pod.why),
        ..Item::default()
    }));
    // A warning about a pod is shown with the pod itself.
    let drawn = |warning: &&String| !node.other_pods.iter().any(|pod| warning.contains(&*pod.name));
    items.extend(node.warnings.iter().filter(drawn).map(|warning| Item {
        columns: [Phrase::new().with(DOUBT, "?"), Phrase::new(), Phrase::new()],
        note: Phrase::new().with(DOUBT, warning),
        ..Item::default()
    }));
    items
}

fn bridge<'a>(node: &'a NodeView<'a>, port: &DeviceView<'_>) -> Option<&'a DeviceView<'a>> {
    node.devices.iter().find(|device| Some(device.name) == port.bridge)
}

fn item(node: &NodeView<'_>, device: &DeviceView<'_>) -> Item {
    let name = match device.role {
        RoleView::Bridge | RoleView::PodVeth => PLAIN,
        RoleView::Tunnel => CHANGED,
        RoleView::Uplink => WIRE,
        RoleView::Other => DIM,
    };
    let ports = node.devices.iter().filter(|port| port.bridge == Some(device.name));
    let peers = device.peers.iter().map(|peer| peer_item(device, peer));
    let missing = device.missing_peers.iter().map(|missing| Item {
        columns: [Phrase::new().with(NAME, missing), Phrase::new(), Phrase::new()],
        note: Phrase::new().with(DOUBT, "the tunnel has no FDB entry for this node"),
        ..Item::default()
    });
    let addresses = device.pod.as_ref().map_or(device.addresses, |pod| pod.addresses);
    Item {
        columns: [
            Phrase::new().with(name, device.name),
            device_type(device),
            Phrase::new().with(PLAIN, list(global(addresses).map(ToString::to_string))),
        ],
        note: note(device),
        below: ports.map(|port| item(node, port)).chain(peers).chain(missing).collect(),
        ..Item::default()
    }
}

/// Addresses without link-local ones, which are of no use on other nodes.
fn global(addresses: &[IpNet]) -> impl Iterator<Item = &IpNet> {
    addresses.iter().filter(|address| match address.addr() {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    })
}

fn device_type(device: &DeviceView<'_>) -> Phrase {
    let phrase = Phrase::new();
    match (&device.vxlan, &device.pod) {
        (Some(VxlanView { vni, port, .. }), _) => {
            phrase.with(PLAIN, format!("vxlan vni {vni}")).with(DIM, format!(" udp {port}"))
        }
        (None, Some(PodView { device: inside, .. })) => phrase.with(DIM, "veth ─── ").with(PLAIN, *inside),
        (None, None) => match device.role {
            RoleView::Uplink => phrase.with(PLAIN, "uplink").with(DIM, format!(" ({})", device.kind)),
            RoleView::Tunnel => phrase.with(PLAIN, "tunnel").with(DIM, format!(" ({})", device.kind)),
            _ => phrase.with(DIM, device.kind),
        },
    }
}

fn note(device: &DeviceView<'_>) -> Phrase {
    let mut note = Phrase::new();
    if !device.up {
        note.append(BAD, "DOWN");
    }
    if let Some(pod) = &device.pod {
        note.append(NAME, pod.name);
        return note;
    }
    note.append(DIM, format!("mtu {}", device.mtu));
    if let Some(VxlanView { local, through, .. }) = &device.vxlan {
        match (local, through) {
            (Some(local), Some(through)) => note.append(DIM, format!("sends from {local} over {through}")),
            (Some(local), None) => note.append(DIM, format!("sends from {local}")),
            (None, Some(through)) => note.append(DIM, format!("sends over {through}")),
            (None, None) => {}
        }
    }
    match (device.role, device.other_end_unknown) {
        (RoleView::PodVeth, true) => note.append(DOUBT, "? unknown pod"),
        (_, true) => note.append(DIM, "peer is not on this node"),
        (_, false) => {}
    }
    note
}

/// A node or router reached through a tunnel or uplink, and the networks routed there.
fn peer_item(device: &DeviceView<'_>, peer: &PeerView<'_>) -> Item {
    let PeerView { node, address, gateway, networks } = peer;
    let name = match (node, address, gateway) {
        (Some(node), ..) => Phrase::new().with(NAME, *node),
        (None, Some(_), _) => Phrase::new().with(DOUBT, "? unknown"),
        (None, None, _) if device.role == RoleView::Tunnel => Phrase::new().with(DOUBT, "? unknown"),
        (None, None, Some(_)) => Phrase::new().with(PLAIN, "router"),
        (None, None, None) => Phrase::new().with(PLAIN, "on the link"),
    };
    let far = address.or(*gateway);
    let reached = match (device.role, address, gateway) {
        (RoleView::Tunnel, None, _) => Phrase::new().with(DOUBT, "no FDB entry"),
        (RoleView::Tunnel, ..) => Phrase::new().with(DIM, "tunnel peer"),
        (_, Some(_), Some(gateway)) => Phrase::new().with(DIM, format!("via {gateway}")),
        (_, Some(_), None) => Phrase::new().with(DIM, "on the link"),
        (_, None, _) => Phrase::new(),
    };
    let mut note = Phrase::new();
    if !networks.is_empty() {
        note.push(DIM, "for ");
        note.push(PLAIN, list(networks.iter().map(network)));
    }
    if node.is_none() && address.is_some() {
        note.append(DOUBT, "no node in the inventory has this address");
    }
    let far = Phrase::new().with(PLAIN, far.map_or_else(String::new, |far| far.to_string()));
    Item {
        columns: [name, reached, far],
        note,
        tunnelled: device.role == RoleView::Tunnel && address.is_some(),
        ..Item::default()
    }
}

fn network(network: &IpNet) -> String {
    if network.prefix_len() == 0 { "everything else".to_owned() } else { network.to_string() }
}

fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

/// A line of the tree.
struct Row<'a> {
    guide: String,
    /// The guide for the row's second line, if its note needs one.
    on: String,
    item: &'a Item,
}

fn branch<'a>(items: &'a [Item], guide: &str, rows: &mut Vec<Row<'a>>) {
    for (index, item) in items.iter().enumerate() {
        let last = index + 1 == items.len();
        let turn = match (last, item.tunnelled) {
            (false, false) => "├─ ",
            (true, false) => "└─ ",
            (false, true) => "╞═ ",
            (true, true) => "╘═ ",
        };
        let on = if last { "   " } else { "│  " };
        let on = format!("{guide}{on}");
        let below = if item.below.is_empty() { on.clone() } else { format!("{on}│") };
        rows.push(Row { guide: format!("{guide}{turn}"), on: below, item });
        branch(&item.below, &on, rows);
    }
}

/// Writes rows with their columns aligned. Where a row is wider than the terminal, its note goes to
/// a line of its own.
fn write(rows: &[Row<'_>], width: usize, out: &mut String) {
    let first = |row: &Row<'_>| row.guide.chars().count() + row.item.columns[0].width();
    let widths: [usize; 3] = std::array::from_fn(|column| {
        let width = |row: &Row<'_>| if column == 0 { first(row) } else { row.item.columns[column].width() };
        rows.iter().map(width).max().unwrap_or(0)
    });
    let notes_at: usize = widths.iter().map(|width| width + GAP).sum();
    for row in rows {
        let mut line = Phrase::new().with(DIM, &row.guide);
        for (column, cell) in row.item.columns.iter().enumerate() {
            let used = if column == 0 { first(row) } else { cell.width() };
            line.join(cell.clone());
            line.push(PLAIN, " ".repeat(widths[column] - used + GAP));
        }
        let note = &row.item.note;
        if notes_at + note.width() <= width || note.is_empty() {
            line.join(note.clone());
            line.write_trimmed(out);
        } else {
            line.write_trimmed(out);
            let mut line =
                Phrase::new().with(DIM, format!("{:<indent$}", row.on, indent = row.on.chars().count() + 3));
            line.join(note.clone());
            line.write_trimmed(out);
        }
    }
}
