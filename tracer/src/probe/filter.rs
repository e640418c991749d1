//! The user's filter as the eBPF programs read it: constants, and the contents of two maps.
//!
//! Addresses do not fit into constants. The programs look up a packet's source and destination in the map of
//! addresses and get the sides ([`side`]) that the address is on; ports of nodes work the same way.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;

use podtrace_protocol::frame::{FilterSpec, Side};
use podtrace_protocol::topology::{DeviceKind, Namespace};
use tracer_common::{Address, Filter, PORTS, VXLAN_PORTS, filter_flag, side};

/// The constants of the filter, and a warning if the node needs more than they can hold.
pub(super) fn constants(filter: &FilterSpec, node: &Namespace) -> (Filter, Option<String>) {
    let FilterSpec { from, to, protocol, one_way, sample: _, stats: _ } = filter;
    let has_node_ports = !(from.node_ports.is_empty() && to.node_ports.is_empty());
    let flags = [
        (from.addresses.is_empty(), filter_flag::FROM_ANY),
        (to.addresses.is_empty(), filter_flag::TO_ANY),
        (*one_way, filter_flag::ONE_WAY),
        (has_node_ports, filter_flag::NODE_PORTS),
    ];
    let known = vxlan_ports(node);
    let warning = (known.len() > VXLAN_PORTS).then(|| {
        let (inside, not) = known.split_at(VXLAN_PORTS);
        format!("VXLAN devices use more than {VXLAN_PORTS} UDP ports; podtrace looks into {inside:?}, not into {not:?}")
    });
    let mut vxlan_ports = [0; VXLAN_PORTS];
    vxlan_ports.iter_mut().zip(known).for_each(|(port, known)| *port = known);
    let constants = Filter {
        flags: flags.iter().filter(|(set, _)| *set).fold(0, |flags, (_, flag)| flags | flag),
        protocol: protocol.map_or(0, u32::from),
        from_ports: ports(from),
        to_ports: ports(to),
        vxlan_ports,
    };
    (constants, warning)
}

/// UDP ports of the node's VXLAN devices, ascending.
fn vxlan_ports(node: &Namespace) -> Vec<u16> {
    let mut ports: Vec<u16> = node
        .devices
        .iter()
        .filter_map(|device| match &device.kind {
            DeviceKind::Vxlan(vxlan) => Some(vxlan.port),
            _ => None,
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The ports of a side, followed by zeros. More than fit means no restriction: user space then filters by port.
fn ports(side: &Side) -> [u16; PORTS] {
    let mut ports = [0; PORTS];
    if let Some(to_fill) = ports.get_mut(..side.ports.len()) {
        to_fill.copy_from_slice(&side.ports);
    }
    ports
}

/// Packets are traced whose hash, of 32 bits, is below this; 0 for all.
pub(super) fn sample(filter: &FilterSpec) -> u32 {
    match filter.sample.map(NonZeroU32::get) {
        None | Some(1) => 0,
        Some(one_in) => ((1_u64 << 32) / u64::from(one_in)) as u32,
    }
}

/// The addresses of both sides, with the bits of [`side`] for each.
pub(super) fn addresses(filter: &FilterSpec) -> BTreeMap<Address, u32> {
    let mut sides = BTreeMap::<Address, u32>::new();
    for (end, side) in [(&filter.from, side::FROM), (&filter.to, side::TO)] {
        for address in &end.addresses {
            *sides.entry(mapped(*address)).or_default() |= side;
        }
    }
    sides
}

/// Ports at which nodes' own addresses belong to a side: protocol in the upper half, port in the lower.
pub(super) fn node_ports(filter: &FilterSpec) -> BTreeMap<u32, u32> {
    let mut sides = BTreeMap::<u32, u32>::new();
    for (end, side) in [(&filter.from, side::FROM), (&filter.to, side::TO)] {
        for (protocol, port) in &end.node_ports {
            *sides.entry(u32::from(*protocol) << 16 | u32::from(*port)).or_default() |= side;
        }
    }
    sides
}

/// IPv4 addresses are mapped into IPv6, as the eBPF programs map them.
pub(super) fn mapped(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
    .octets()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podtrace_protocol::topology::{Device, Vxlan};

    #[test]
    fn ipv4_addresses_are_mapped_as_the_kernel_programs_map_them() {
        let v4 = mapped("10.42.0.10".parse().unwrap());
        assert_eq!(v4, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 42, 0, 10]);
        let v6: std::net::Ipv6Addr = "fd00::1".parse().unwrap();
        assert_eq!(mapped(v6.into()), v6.octets());
    }

    #[test]
    fn an_address_on_both_sides_has_both_bits() {
        let end = Side { addresses: vec!["10.42.0.10".parse().unwrap()], ..Side::default() };
        let filter = FilterSpec { from: end.clone(), to: end, ..FilterSpec::default() };
        assert_eq!(addresses(&filter).into_values().collect::<Vec<_>>(), [side::FROM | side::TO]);
    }

    #[test]
    fn every_port_of_a_vxlan_device_is_looked_into_as_far_as_there_is_room() {
        let tunnel = |port: &u16| Device {
            index: u32::from(*port),
            name: format!("vxlan{port}"),
            kind: DeviceKind::Vxlan(Vxlan { port: *port, ..Vxlan::default() }),
            ethernet: true,
            up: true,
            mtu: 1450,
            ..Device::default()
        };
        let node =
            |ports: &[u16]| Namespace { devices: ports.iter().map(tunnel).collect(), ..Namespace::default() };
        let (filter, warning) = constants(&FilterSpec::default(), &node(&[8472, 4789, 8472]));
        assert_eq!((filter.vxlan_ports, warning), ([4789, 8472, 0, 0], None));
        let (filter, warning) = constants(&FilterSpec::default(), &node(&[8472, 1, 2, 3, 4]));
        assert_eq!(filter.vxlan_ports, [1, 2, 3, 4]);
        assert!(warning.unwrap().contains("not into [8472]"));
    }

    #[test]
    fn a_sample_is_a_share_of_all_hashes() {
        let below = |one_in| sample(&FilterSpec { sample: NonZeroU32::new(one_in), ..FilterSpec::default() });
        assert_eq!((below(0), below(1)), (0, 0), "all");
        assert_eq!((below(2), below(100), below(u32::MAX)), (1 << 31, 42_949_672, 1));
    }

    #[test]
    fn more_ports_than_fit_do_not_restrict() {
        let side = |count| Side { ports: (1..=count).collect(), ..Side::default() };
        assert_eq!(ports(&side(2)), [1, 2, 0, 0]);
        assert_eq!(ports(&side(5)), [0; PORTS]);
    }
}
