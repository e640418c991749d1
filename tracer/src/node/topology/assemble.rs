//! Joins the tables of several namespaces into one graph: addresses to devices, remote endpoints to tunnels, veth to veth.

use std::net::IpAddr;

use super::dump::Dump;
use super::parse::Link;
use super::state;
use podtrace_protocol::frame::PodAddresses;
use podtrace_protocol::topology::{DeviceKind, Namespace, Peer, State, Topology};

/// The node's own namespace.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Inode number.
    pub(super) inode: u32,
    /// Path of a file by which it can be entered.
    pub(super) path: String,
    /// Its tables.
    pub(super) dump: Dump,
}

/// A namespace that may be a pod's.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// Inode number.
    pub(super) inode: u32,
    /// Path of a file by which it can be entered.
    pub(super) path: String,
    /// The node's identifier for it.
    pub(super) id: i32,
    /// Its tables.
    pub(super) dump: Dump,
}

/// Joins the node and those candidates that belong to its pods: they have a pod's address, and one end of a veth pair whose
/// other end is in the node's namespace.
pub(super) fn assemble(node: &Node, candidates: &[Candidate], pods: &[PodAddresses]) -> Topology {
    let mut own = namespace(node.inode, &node.path, &node.dump);
    let mut namespaces = Vec::new();
    let connected = candidates.iter().map(|candidate| (candidate, pairs(&node.dump, candidate)));
    let connected: Vec<_> = connected.filter(|(_, pairs)| !pairs.is_empty()).collect();
    let owners = owners(connected.iter().map(|(candidate, _)| *candidate), pods);
    for ((candidate, pairs), pod) in connected.into_iter().zip(owners) {
        let Some(pod) = pod else { continue };
        let mut theirs = namespace(candidate.inode, &candidate.path, &candidate.dump);
        theirs.pod = Some(pod.pod.clone());
        for (host, inside) in pairs {
            connect(&mut own, host, candidate.inode, inside);
            connect(&mut theirs, inside, node.inode, host);
        }
        namespaces.push(theirs);
    }
    namespaces.insert(0, own);
    Topology { namespaces, cni: None }
}

/// Whose each candidate is. One that has the addresses of several pods is that one's which no other candidate can be: an
/// address may be held twice.
fn owners<'a, 'p>(
    candidates: impl Iterator<Item = &'a Candidate>,
    pods: &'p [PodAddresses],
) -> Vec<Option<&'p PodAddresses>> {
    let fitting: Vec<Vec<&PodAddresses>> = candidates
        .map(|candidate| pods.iter().filter(|pod| holds_any(&candidate.dump, &pod.ips)).collect())
        .collect();
    let mut owners: Vec<Option<&PodAddresses>> = vec![None; fitting.len()];
    loop {
        let only = |at: usize| {
            let mut free = fitting[at].iter().copied().filter(|pod| !owners.contains(&Some(*pod)));
            free.next().filter(|_| free.next().is_none())
        };
        let undecided = (0..fitting.len()).filter(|at| owners[*at].is_none());
        let Some((at, pod)) = undecided.filter_map(|at| Some((at, only(at)?))).next() else { break };
        owners[at] = Some(pod);
    }
    // Two that have one pod's address and no other: one of them may be what is left of the pod before.
    owners.iter().zip(&fitting).map(|(owner, fitting)| owner.or(fitting.first().copied())).collect()
}

/// Whether a device has any of these addresses. The loopback device does not count: a pod may put any address there, and
/// would be taken for the pod that has it.
fn holds_any(dump: &Dump, ips: &[IpAddr]) -> bool {
    let is_loopback = |index: u32| {
        let device = dump.links.iter().map(|link| &link.device).find(|device| device.index == index);
        device.is_some_and(|device| device.kind == DeviceKind::Loopback)
    };
    dump.addresses.iter().any(|(device, network)| ips.contains(&network.addr()) && !is_loopback(*device))
}

/// Indices, on the node and in the pod, of the veth pairs between the two.
///
/// Indices alone are ambiguous: on a machine with several nodes, each has a device 3 whose peer is a device 2. The node's
/// identifier for the peer's namespace distinguishes them.
fn pairs(node: &Dump, candidate: &Candidate) -> Vec<(u32, u32)> {
    let inside = |index| candidate.dump.links.iter().find(|link| link.device.index == index && is_veth(link));
    node.links
        .iter()
        .filter(|host| is_veth(host) && host.link_netns_id == Some(candidate.id))
        .filter_map(|host| {
            let inside = inside(host.link?)?;
            (inside.link == Some(host.device.index)).then_some((host.device.index, inside.device.index))
        })
        .collect()
}

fn is_veth(link: &Link) -> bool {
    link.device.kind == DeviceKind::Veth
}

fn connect(namespace: &mut Namespace, device: u32, netns: u32, index: u32) {
    if let Some(device) = namespace.devices.iter_mut().find(|known| known.index == device) {
        device.peer = Some(Peer { netns: Some(netns), index });
    }
}

/// One namespace by itself. A veth's peer is in the same namespace, or in one that is not known yet.
fn namespace(inode: u32, path: &str, dump: &Dump) -> Namespace {
    let devices = dump.links.iter().map(|link| {
        let mut device = link.device.clone();
        let index = device.index;
        let own_addresses = dump.addresses.iter().filter(|(holder, _)| *holder == index);
        device.addresses = own_addresses.map(|(_, address)| *address).collect();
        if is_veth(link) {
            let netns = link.link_netns_id.is_none().then_some(inode);
            device.peer = link.link.map(|index| Peer { netns, index });
        }
        if let DeviceKind::Vxlan(vxlan) = &mut device.kind {
            vxlan.remotes = remotes(dump, index);
        }
        device
    });
    Namespace {
        inode,
        path: path.to_owned(),
        pod: None,
        devices: devices.collect(),
        routes: dump.routes.clone(),
        state: State {
            neighbours: dump.neighbours.iter().filter_map(state::neighbour).collect(),
            forwarding: dump.forwarding.iter().filter_map(state::forwarding).collect(),
            refusing: dump.refusing.clone(),
            policy: dump.policy.clone(),
            sysctls: dump.sysctls.clone(),
        },
    }
}

/// Remote tunnel endpoints, without duplicates and multicast groups.
fn remotes(dump: &Dump, device: u32) -> Vec<IpAddr> {
    let mut remotes: Vec<_> = dump
        .forwarding
        .iter()
        .filter(|entry| entry.device == device)
        .filter_map(|entry| entry.address)
        .filter(|address| !address.is_unspecified() && !address.is_multicast())
        .collect();
    remotes.sort_unstable();
    remotes.dedup();
    remotes
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::super::parse::Neighbour;
    use super::*;
    use podtrace_protocol::topology::state::NeighbourState;
    use podtrace_protocol::topology::{Device, Vxlan};

    fn link(index: u32, name: &str, kind: DeviceKind, peer: Option<(u32, i32)>) -> Link {
        let device = Device {
            index,
            name: name.into(),
            kind,
            ethernet: true,
            up: true,
            mtu: 1450,
            ..Device::default()
        };
        Link { device, link: peer.map(|peer| peer.0), link_netns_id: peer.map(|peer| peer.1) }
    }

    fn address(device: u32, text: &str) -> (u32, IpNet) {
        (device, text.parse().unwrap())
    }

    fn pod(name: &str, ip: &str) -> PodAddresses {
        PodAddresses { pod: format!("default/{name}"), ips: vec![ip.parse().unwrap()] }
    }

    fn node() -> Node {
        let vxlan = DeviceKind::Vxlan(Vxlan { vni: 1, ..Vxlan::default() });
        let entry = |device, address: [u8; 4]| Neighbour {
            device,
            address: Some(address.into()),
            mac: None,
            state: NeighbourState::Permanent,
        };
        Node {
            inode: 100,
            path: "/proc/self/ns/net".into(),
            dump: Dump {
                links: vec![
                    link(2, "eth0", DeviceKind::Veth, Some((5, 0))),
                    link(4, "flannel.1", vxlan, None),
                    link(5, "veth1", DeviceKind::Veth, Some((2, 1))),
                    link(6, "veth2", DeviceKind::Veth, Some((2, 2))),
                ],
                addresses: vec![address(2, "192.168.56.11/24"), address(4, "10.42.0.0/32")],
                forwarding: vec![
                    entry(4, [192, 168, 56, 12]),
                    entry(4, [192, 168, 56, 12]),
                    entry(4, [224, 0, 0, 1]),
                    entry(3, [1, 1, 1, 1]),
                ],
                ..Dump::default()
            },
        }
    }

    fn candidate(inode: u32, id: i32, peer: u32, ip: &str) -> Candidate {
        Candidate {
            inode,
            path: format!("/run/netns/{inode}"),
            id,
            dump: Dump {
                links: vec![
                    link(1, "lo", DeviceKind::Loopback, None),
                    link(2, "eth0", DeviceKind::Veth, Some((peer, 0))),
                ],
                addresses: vec![address(2, ip)],
                ..Dump::default()
            },
        }
    }

    fn peer(topology: &Topology, namespace: usize, name: &str) -> Option<Peer> {
        topology.namespaces[namespace].devices.iter().find(|device| device.name == name).unwrap().peer
    }

    #[test]
    fn veths_find_their_other_ends() {
        let candidates = [candidate(101, 1, 5, "10.42.0.10/24"), candidate(102, 2, 6, "10.42.0.11/24")];
        let pods = [pod("pod1", "10.42.0.10"), pod("pod2", "10.42.0.11")];
        let topology = assemble(&node(), &candidates, &pods);
        let inodes: Vec<_> = topology.namespaces.iter().map(|ns| (ns.inode, ns.pod.as_deref())).collect();
        assert_eq!(inodes, [(100, None), (101, Some("default/pod1")), (102, Some("default/pod2"))]);
        assert_eq!(peer(&topology, 0, "veth1"), Some(Peer { netns: Some(101), index: 2 }));
        assert_eq!(peer(&topology, 0, "veth2"), Some(Peer { netns: Some(102), index: 2 }));
        assert_eq!(peer(&topology, 1, "eth0"), Some(Peer { netns: Some(100), index: 5 }));
        // The uplink of such a node is a veth as well, into a namespace that is not part of the topology.
        assert_eq!(peer(&topology, 0, "eth0"), Some(Peer { netns: None, index: 5 }));
    }

    #[test]
    fn a_namespace_with_the_addresses_of_two_pods_is_the_one_that_is_left() {
        let mut both = candidate(101, 1, 5, "10.42.0.10/24");
        both.dump.addresses.push(address(2, "10.42.0.11/24"));
        let pods = [pod("pod1", "10.42.0.10"), pod("pod2", "10.42.0.11")];
        for (candidates, expected) in [
            (vec![both.clone(), candidate(102, 2, 6, "10.42.0.10/24")], ["default/pod2", "default/pod1"]),
            (vec![candidate(102, 2, 6, "10.42.0.11/24"), both.clone()], ["default/pod2", "default/pod1"]),
        ] {
            let topology = assemble(&node(), &candidates, &pods);
            let named: Vec<_> = topology.namespaces.iter().filter_map(|ns| ns.pod.as_deref()).collect();
            assert_eq!(named, expected);
        }
    }

    #[test]
    fn an_address_on_lo_names_no_pod() {
        let mut thief = candidate(102, 2, 6, "10.42.0.11/24");
        thief.dump.addresses.insert(0, address(1, "10.42.0.10/32"));
        let pods = [pod("pod1", "10.42.0.10"), pod("pod2", "10.42.0.11")];
        let topology = assemble(&node(), &[thief, candidate(101, 1, 5, "10.42.0.10/24")], &pods);
        let names: Vec<_> = topology.namespaces.iter().map(|ns| (ns.inode, ns.pod.as_deref())).collect();
        assert_eq!(names, [(100, None), (102, Some("default/pod2")), (101, Some("default/pod1"))]);
    }

    #[test]
    fn equal_indices_on_another_node_do_not_match() {
        // Another lab on this machine: same address, same indices, but another identifier.
        let foreign = candidate(201, 7, 5, "10.42.0.10/24");
        let topology = assemble(&node(), &[foreign], &[pod("pod1", "10.42.0.10")]);
        assert_eq!(topology.namespaces.len(), 1);
        assert_eq!(peer(&topology, 0, "veth1"), Some(Peer { netns: None, index: 2 }));
    }

    #[test]
    fn a_namespace_without_a_pods_address_is_left_out() {
        let topology =
            assemble(&node(), &[candidate(101, 1, 5, "10.42.0.10/24")], &[pod("pod9", "10.42.0.99")]);
        assert_eq!(topology.namespaces.len(), 1);
    }

    #[test]
    fn remote_endpoints_have_no_duplicates_and_no_groups() {
        let topology = assemble(&node(), &[], &[]);
        let DeviceKind::Vxlan(vxlan) = &topology.namespaces[0].devices[1].kind else { panic!("a tunnel") };
        assert_eq!(vxlan.remotes, [IpAddr::from([192, 168, 56, 12])]);
        let addresses = &topology.namespaces[0].devices[1].addresses;
        assert_eq!(*addresses, ["10.42.0.0/32".parse::<IpNet>().unwrap()]);
    }

    #[test]
    fn a_pair_within_one_namespace_knows_where_it_is() {
        let mut node = node();
        node.dump.links = vec![link(8, "left", DeviceKind::Veth, None)];
        node.dump.links[0].link = Some(9);
        let topology = assemble(&node, &[], &[]);
        assert_eq!(peer(&topology, 0, "left"), Some(Peer { netns: Some(100), index: 9 }));
    }
}
