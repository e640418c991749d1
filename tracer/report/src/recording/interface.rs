//! Interfaces of a recording: one for each hook point of each device of each node, named `NODE/DEVICE POINT`, and before
//! them one without packets: editcap and its like rewrite only files whose first block is an interface.

use std::collections::HashMap;

use tracer_common::{Event, flag};

use super::block::{InterfaceFacts, Way};
use podtrace_escape::escape;
use podtrace_path::Point;
use podtrace_protocol::frame::Hello;
use podtrace_protocol::hook::Hook;
use podtrace_protocol::topology::{Device, DeviceKind, Namespace, Topology};

/// Where a packet was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    node: usize,
    netns: u32,
    device: u32,
    hook: u16,
}

/// An interface in the file.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    pub(super) facts: InterfaceFacts,
    pub(super) packets: u64,
}

/// What is known about a node.
#[derive(Clone, Debug, Default)]
struct Node {
    name: String,
    os: Option<String>,
    topology: Topology,
}

impl Node {
    fn device(&self, netns: u32, index: u32) -> Option<&Device> {
        let namespace = self.topology.namespaces.iter().find(|namespace| namespace.inode == netns)?;
        namespace.devices.iter().find(|device| device.index == index)
    }
}

/// All interfaces of the file.
#[derive(Debug)]
pub(super) struct Interfaces {
    nodes: Vec<Node>,
    snaplen: u32,
    numbers: HashMap<Key, u32>,
    all: Vec<Interface>,
}

impl Interfaces {
    pub(super) fn new(names: &[String], snaplen: u32) -> Self {
        let nodes = names.iter().map(|name| Node { name: name.clone(), ..Node::default() }).collect();
        let mut interfaces = Self { nodes, snaplen, numbers: HashMap::new(), all: Vec::new() };
        interfaces.begin();
        interfaces
    }

    /// Starts a file: it has the interface without packets.
    fn begin(&mut self) {
        let facts = InterfaceFacts {
            name: "podtrace".to_owned(),
            description: "podtrace's own blocks, no packets".to_owned(),
            snaplen: self.snaplen,
            os: None,
        };
        self.numbers.clear();
        self.all = vec![Interface { facts, packets: 0 }];
    }

    /// Adds a node.
    pub(super) fn add(&mut self, name: &str) {
        self.nodes.push(Node { name: name.to_owned(), ..Node::default() });
    }

    pub(super) fn hello(&mut self, node: usize, hello: &Hello) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.os = Some(format!("Linux {}", escape(&hello.kernel)));
        }
    }

    pub(super) fn learn(&mut self, node: usize, topology: &Topology) {
        let Some(node) = self.nodes.get_mut(node) else { return };
        let before = std::mem::replace(&mut node.topology, topology.clone());
        // Keep devices that are gone: their packets may not be written yet.
        for former in before.namespaces {
            let known = node.topology.namespaces.iter_mut().find(|known| known.inode == former.inode);
            match known {
                Some(known) => {
                    let gone = |device: &Device| known.device(device.index).is_none();
                    let gone: Vec<_> = former.devices.into_iter().filter(gone).collect();
                    known.devices.extend(gone);
                }
                None => node.topology.namespaces.push(former),
            }
        }
    }

    /// All of them, in the order of their numbers.
    pub(super) fn all(&self) -> &[Interface] {
        &self.all
    }

    /// Starts a new part, where no interface is described yet.
    pub(super) fn forget(&mut self) {
        self.begin();
    }

    /// Whether a record's bytes begin with an Ethernet header.
    pub(super) fn has_ethernet(&self, node: usize, event: &Event) -> bool {
        let device = self.nodes.get(node).and_then(|node| node.device(event.netns, event.ifindex));
        event.flags & flag::FROM_NETWORK == 0 && device.is_none_or(|device| device.ethernet)
    }

    /// Counts a packet at its interface. Also returns the interface's description if it is new.
    pub(super) fn count(&mut self, node: usize, event: &Event) -> (u32, Option<&InterfaceFacts>) {
        let key = Key { node, netns: event.netns, device: event.ifindex, hook: event.hook };
        if let Some(number) = self.numbers.get(&key) {
            if let Some(interface) = self.all.get_mut(*number as usize) {
                interface.packets += 1;
            }
            return (*number, None);
        }
        let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.numbers.insert(key, number);
        let facts = self.facts(key);
        self.all.push(Interface { facts, packets: 1 });
        (number, self.all.last().map(|interface| &interface.facts))
    }

    fn facts(&self, key: Key) -> InterfaceFacts {
        let function = || Hook::of(key.hook).map(|hook| hook.function.to_owned());
        let point = Point::of_hook(key.hook).map(|point| point.to_string()).or_else(function);
        let point = point.unwrap_or_else(|| format!("hook {}", key.hook));
        let node = self.nodes.get(key.node);
        let name = node.map_or("?", |node| &node.name);
        let namespaces = || node.into_iter().flat_map(|node| &node.topology.namespaces);
        let namespace = namespaces().find(|namespace| namespace.inode == key.netns);
        let device = namespace
            .and_then(|namespace| namespace.devices.iter().find(|device| device.index == key.device));
        let pod = namespace.and_then(|namespace| namespace.pod.as_deref());
        let place = match (pod, device) {
            (Some(pod), Some(device)) => format!("{name}/{pod}/{} ", device.name),
            (None, Some(device)) => format!("{name}/{} ", device.name),
            (_, None) if key.device != 0 => format!("{name}/if{} ", key.device),
            (Some(pod), None) => format!("{name}/{pod} "),
            (None, None) => format!("{name} "),
        };
        let device =
            device.map_or_else(|| "unknown device".to_owned(), |device| describe(device, namespaces()));
        let home = pod.map_or_else(|| format!("on {name}"), |pod| format!("in {pod} on {name}"));
        InterfaceFacts {
            name: escape(&format!("{place}{point}")).into_owned(),
            description: escape(&format!("{device} {home}, packets seen at {point}")).into_owned(),
            snaplen: self.snaplen,
            os: node.and_then(|node| node.os.clone()),
        }
    }
}

fn describe<'a>(device: &Device, mut namespaces: impl Iterator<Item = &'a Namespace>) -> String {
    let name = &device.name;
    match &device.kind {
        DeviceKind::Loopback => format!("loopback {name}"),
        DeviceKind::Bridge => format!("bridge {name}"),
        DeviceKind::Vxlan(vxlan) => format!("VXLAN {name} (VNI {}, UDP port {})", vxlan.vni, vxlan.port),
        DeviceKind::Physical => format!("device {name}"),
        DeviceKind::Other(kind) => format!("{kind} {name}"),
        DeviceKind::Veth => {
            let peer = device.peer.and_then(|peer| {
                namespaces.find(|namespace| Some(namespace.inode) == peer.netns)?.pod.as_deref()
            });
            peer.map_or_else(|| format!("veth {name}"), |pod| format!("veth {name} to {pod}"))
        }
    }
}

/// Direction of a packet at its device.
pub(super) fn way(event: &Event) -> Way {
    match Point::of_hook(event.hook) {
        Some(Point::TcIngress) => Way::In,
        Some(Point::TcEgress) => Way::Out,
        _ => Way::Unknown,
    }
}
