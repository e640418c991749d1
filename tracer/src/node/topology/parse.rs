//! Converts netlink messages to values: pure functions, without a socket.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    BridgePortState, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVxlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType, RouteVia,
};

use podtrace_protocol::topology::state::NeighbourState as NudState;
use podtrace_protocol::topology::{Device, DeviceKind, Port, PortState, Route, Vxlan};

/// A device as one namespace shows it, before its peer is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// The device, without addresses, tunnel remotes and peer.
    pub(crate) device: Device,
    /// Index of the underlying device; for a veth, of its other end, in that end's namespace.
    pub(crate) link: Option<u32>,
    /// This namespace's identifier for the namespace of `link`; `None` if it is the same.
    pub(crate) link_netns_id: Option<i32>,
}

/// An entry of the neighbour table, or of a device's forwarding table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// Index of the device.
    pub(crate) device: u32,
    /// In the neighbour table: the address. In a tunnel's forwarding table: the remote tunnel endpoint.
    pub(crate) address: Option<IpAddr>,
    /// Link-layer address.
    pub(crate) mac: Option<[u8; 6]>,
    /// State of the resolution.
    pub(crate) state: NudState,
}

/// Parses a device.
pub(crate) fn link(message: &LinkMessage) -> Link {
    let header = &message.header;
    let mut device = Device {
        index: header.index,
        ethernet: header.link_layer_type == LinkLayerType::Ether,
        up: header.flags.contains(LinkFlags::Up),
        ..Device::default()
    };
    if header.link_layer_type == LinkLayerType::Loopback {
        device.kind = DeviceKind::Loopback;
    }
    let mut read = Link { device, link: None, link_netns_id: None };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => read.device.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => read.device.mtu = *mtu,
            LinkAttribute::Address(address) if !read.is_loopback() => read.device.mac = mac(address),
            LinkAttribute::Controller(index) if *index != 0 => read.device.master = Some(*index),
            LinkAttribute::Link(index) if *index != 0 => read.link = Some(*index),
            LinkAttribute::LinkNetNsId(id) => read.link_netns_id = Some(*id),
            LinkAttribute::Carrier(carrier) => read.device.carrier = Some(*carrier != 0),
            LinkAttribute::Xdp(attached) => read.device.xdp = xdp(attached),
            LinkAttribute::LinkInfo(infos) => link_info(infos, &mut read),
            _ => {}
        }
    }
    read
}

impl Link {
    fn is_loopback(&self) -> bool {
        self.device.kind == DeviceKind::Loopback
    }
}

fn link_info(infos: &[LinkInfo], read: &mut Link) {
    for info in infos {
        match info {
            LinkInfo::Kind(kind) => {
                read.device.kind = match kind {
                    InfoKind::Veth => DeviceKind::Veth,
                    InfoKind::Bridge => DeviceKind::Bridge,
                    // The settings are in the attribute that follows.
                    InfoKind::Vxlan => DeviceKind::Vxlan(Vxlan::default()),
                    other => DeviceKind::Other(other.to_string()),
                };
            }
            LinkInfo::Data(InfoData::Vxlan(settings)) => {
                read.device.kind = DeviceKind::Vxlan(vxlan(settings));
            }
            LinkInfo::PortData(InfoPortData::BridgePort(settings)) => read.device.port = Some(port(settings)),
            _ => {}
        }
    }
}

fn vxlan(settings: &[InfoVxlan]) -> Vxlan {
    let mut vxlan = Vxlan::default();
    for setting in settings {
        match setting {
            InfoVxlan::Id(vni) => vxlan.vni = *vni,
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::Link(index) if *index != 0 => vxlan.underlay = Some(*index),
            InfoVxlan::Local(address) if !address.is_unspecified() => vxlan.local = Some((*address).into()),
            InfoVxlan::Local6(address) if !address.is_unspecified() => vxlan.local = Some((*address).into()),
            _ => {}
        }
    }
    vxlan
}

fn port(settings: &[InfoBridgePort]) -> Port {
    let mut port = Port { state: PortState::Disabled, hairpin: false, isolated: false };
    for setting in settings {
        match setting {
            InfoBridgePort::State(state) => port.state = port_state(*state),
            InfoBridgePort::HairpinMode(on) => port.hairpin = *on,
            InfoBridgePort::Isolated(on) => port.isolated = *on,
            _ => {}
        }
    }
    port
}

fn port_state(state: BridgePortState) -> PortState {
    match state {
        BridgePortState::Listening => PortState::Listening,
        BridgePortState::Learning => PortState::Learning,
        BridgePortState::Forwarding => PortState::Forwarding,
        BridgePortState::Blocking => PortState::Blocking,
        _ => PortState::Disabled,
    }
}

/// Identifier of the attached program.
fn xdp(attached: &[LinkXdp]) -> Option<u32> {
    attached.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id)
            if *id != 0 =>
        {
            Some(*id)
        }
        _ => None,
    })
}

/// Parses an address, with the index of its device.
pub(crate) fn address(message: &AddressMessage) -> Option<(u32, IpNet)> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    // On a point-to-point device "address" is the other end's and "local" is ours. Other IPv6 addresses have no "local".
    let ip = find(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    })
    .or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    })?;
    Some((message.header.index, IpNet::new(ip, message.header.prefix_len).ok()?))
}

/// Parses a unicast route of the main table: one result per next hop, none for other routes.
pub(crate) fn routes(message: &RouteMessage) -> Vec<Route> {
    let header = &message.header;
    let table = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        })
        .unwrap_or(u32::from(header.table));
    let is_cached = header.flags.contains(RouteFlags::Cloned);
    if header.kind != RouteType::Unicast || table != u32::from(RouteHeader::RT_TABLE_MAIN) || is_cached {
        return Vec::new();
    }
    let mut destination = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return Vec::new(),
    };
    let mut metric = 0;
    let mut hops = vec![next_hop(&message.attributes, None)];
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => destination = (*ip).into(),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => destination = (*ip).into(),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::MultiPath(several) => {
                hops =
                    several.iter().map(|hop| next_hop(&hop.attributes, Some(hop.interface_index))).collect();
            }
            _ => {}
        }
    }
    let Ok(destination) = IpNet::new(destination, header.destination_prefix_length) else {
        return Vec::new();
    };
    hops.into_iter()
        .filter_map(|(gateway, device)| Some(Route { destination, gateway, device: device?, metric }))
        .collect()
}

fn next_hop(attributes: &[RouteAttribute], device: Option<u32>) -> (Option<IpAddr>, Option<u32>) {
    let mut hop = (None, device);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => hop.0 = Some((*ip).into()),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => hop.0 = Some((*ip).into()),
            // An IPv4 route through an IPv6 gateway.
            RouteAttribute::Via(RouteVia::Inet(ip)) => hop.0 = Some((*ip).into()),
            RouteAttribute::Via(RouteVia::Inet6(ip)) => hop.0 = Some((*ip).into()),
            RouteAttribute::Oif(index) => hop.1 = Some(*index),
            _ => {}
        }
    }
    hop
}

/// Parses an entry of the neighbour table or of a forwarding table.
pub(crate) fn neighbour(message: &NeighbourMessage) -> Neighbour {
    let mut read = Neighbour {
        device: message.header.ifindex,
        address: None,
        mac: None,
        state: nud_state(message.header.state),
    };
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(destination) => read.address = neighbour_address(destination),
            NeighbourAttribute::LinkLayerAddress(address) => read.mac = mac(address),
            _ => {}
        }
    }
    read
}

fn nud_state(state: NeighbourState) -> NudState {
    match state {
        NeighbourState::Incomplete => NudState::Incomplete,
        NeighbourState::Failed => NudState::Failed,
        NeighbourState::Permanent => NudState::Permanent,
        NeighbourState::Noarp => NudState::NoArp,
        _ => NudState::Learned,
    }
}

fn neighbour_address(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(ip) => Some((*ip).into()),
        NeighbourAddress::Inet6(ip) => Some((*ip).into()),
        // In a forwarding table the message's family is "bridge", and only the length shows the IP version.
        NeighbourAddress::Other(bytes) => <[u8; 4]>::try_from(bytes.as_slice())
            .map(IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from))
            .ok(),
        _ => None,
    }
}

/// Parses the answer to a request for a namespace's identifier.
pub(crate) fn namespace_id(message: &NsidMessage) -> Option<i32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(id) if *id >= 0 => Some(*id),
        _ => None,
    })
}

fn mac(bytes: &[u8]) -> Option<[u8; 6]> {
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::LinkHeader;
    use rtnetlink::packet_route::route::RouteNextHop;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn link_message(attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header = LinkHeader {
            index: 7,
            link_layer_type: LinkLayerType::Ether,
            flags: LinkFlags::Up,
            ..LinkHeader::default()
        };
        message.attributes = attributes;
        message
    }

    #[test]
    fn a_veth_that_is_a_bridges_port() {
        let read = link(&link_message(vec![
            LinkAttribute::IfName("veth1a2b".into()),
            LinkAttribute::Mtu(1450),
            LinkAttribute::Address(MAC.to_vec()),
            LinkAttribute::Controller(3),
            LinkAttribute::Link(2),
            LinkAttribute::LinkNetNsId(0),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::PortData(InfoPortData::BridgePort(vec![
                    InfoBridgePort::State(BridgePortState::Forwarding),
                    InfoBridgePort::HairpinMode(true),
                ])),
            ]),
        ]));
        let device = Device {
            index: 7,
            name: "veth1a2b".into(),
            kind: DeviceKind::Veth,
            ethernet: true,
            up: true,
            mtu: 1450,
            mac: Some(MAC),
            master: Some(3),
            port: Some(Port { state: PortState::Forwarding, hairpin: true, isolated: false }),
            ..Device::default()
        };
        assert_eq!(read, Link { device, link: Some(2), link_netns_id: Some(0) });
    }

    #[test]
    fn kinds_of_device() {
        let kind_of = |info| link(&link_message(vec![LinkAttribute::LinkInfo(info)])).device.kind;
        assert_eq!(link(&link_message(vec![])).device.kind, DeviceKind::Physical);
        assert_eq!(kind_of(vec![LinkInfo::Kind(InfoKind::Bridge)]), DeviceKind::Bridge);
        assert_eq!(kind_of(vec![LinkInfo::Kind(InfoKind::Wireguard)]), DeviceKind::Other("wireguard".into()));
        let tunnel = Vxlan {
            vni: 1,
            port: 8472,
            local: Some([192, 168, 56, 11].into()),
            underlay: Some(2),
            remotes: vec![],
        };
        let settings = vec![
            InfoVxlan::Id(1),
            InfoVxlan::Link(2),
            InfoVxlan::Local([192, 168, 56, 11].into()),
            InfoVxlan::Port(8472),
        ];
        let info = vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(settings))];
        assert_eq!(kind_of(info), DeviceKind::Vxlan(tunnel));

        let mut loopback = link_message(vec![LinkAttribute::Address(vec![0; 6])]);
        loopback.header.link_layer_type = LinkLayerType::Loopback;
        let device = link(&loopback).device;
        assert_eq!((device.kind, device.mac, device.ethernet), (DeviceKind::Loopback, None, false));
    }

    #[test]
    fn the_local_address_counts_where_there_are_two() {
        let mut message = AddressMessage::default();
        message.header.index = 4;
        message.header.prefix_len = 32;
        message.attributes = vec![AddressAttribute::Address([10, 0, 0, 2].into())];
        assert_eq!(address(&message), Some((4, "10.0.0.2/32".parse().unwrap())));
        message.attributes.push(AddressAttribute::Local([10, 0, 0, 1].into()));
        assert_eq!(address(&message), Some((4, "10.0.0.1/32".parse().unwrap())));
        message.header.prefix_len = 33;
        assert_eq!(address(&message), None);
    }

    fn route_message(length: u8, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: AddressFamily::Inet,
            destination_prefix_length: length,
            table: RouteHeader::RT_TABLE_MAIN,
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        message.attributes = attributes;
        message
    }

    fn route(destination: &str, gateway: Option<&str>, device: u32, metric: u32) -> Route {
        Route {
            destination: destination.parse().unwrap(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            device,
            metric,
        }
    }

    #[test]
    fn routes_of_the_main_table() {
        let gateway = RouteAttribute::Gateway(RouteAddress::Inet([192, 168, 56, 1].into()));
        let message =
            route_message(0, vec![gateway.clone(), RouteAttribute::Oif(2), RouteAttribute::Priority(100)]);
        assert_eq!(routes(&message), [route("0.0.0.0/0", Some("192.168.56.1"), 2, 100)]);

        let destination = RouteAttribute::Destination(RouteAddress::Inet([10, 42, 0, 0].into()));
        let message = route_message(24, vec![destination, RouteAttribute::Oif(3)]);
        assert_eq!(routes(&message), [route("10.42.0.0/24", None, 3, 0)]);

        let via = RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap()));
        let message = route_message(0, vec![via, RouteAttribute::Oif(2)]);
        assert_eq!(routes(&message), [route("0.0.0.0/0", Some("fe80::1"), 2, 0)]);

        let mut message = route_message(0, vec![RouteAttribute::Oif(2)]);
        message.header.address_family = AddressFamily::Inet6;
        assert_eq!(routes(&message), [route("::/0", None, 2, 0)]);
    }

    #[test]
    fn each_of_several_next_hops_is_a_route() {
        let hop = |index, gateway: [u8; 4]| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = index;
            hop.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway.into()))];
            hop
        };
        let hops = vec![hop(2, [192, 168, 56, 1]), hop(5, [192, 168, 57, 1])];
        let message = route_message(0, vec![RouteAttribute::MultiPath(hops)]);
        assert_eq!(
            routes(&message),
            [route("0.0.0.0/0", Some("192.168.56.1"), 2, 0), route("0.0.0.0/0", Some("192.168.57.1"), 5, 0)]
        );
    }

    #[test]
    fn routes_that_are_not_the_main_tables_unicast_are_left_out() {
        let plain = || route_message(0, vec![RouteAttribute::Oif(2)]);
        let mut other_table = plain();
        other_table.attributes.push(RouteAttribute::Table(1000));
        let mut local = plain();
        local.header.kind = RouteType::Local;
        let mut cached = plain();
        cached.header.flags = RouteFlags::Cloned;
        let mut mpls = plain();
        mpls.header.address_family = AddressFamily::Mpls;
        for message in [other_table, local, cached, mpls, route_message(0, vec![])] {
            assert_eq!(routes(&message), [], "{message:?}");
        }
    }

    #[test]
    fn forwarding_entries_carry_addresses_of_either_family() {
        let entry = |destination: Vec<u8>| {
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Bridge;
            message.header.ifindex = 4;
            message.header.state = NeighbourState::Permanent;
            message.attributes = vec![
                NeighbourAttribute::LinkLayerAddress(MAC.to_vec()),
                NeighbourAttribute::Destination(NeighbourAddress::Other(destination)),
            ];
            neighbour(&message)
        };
        let expected = |address| Neighbour { device: 4, address, mac: Some(MAC), state: NudState::Permanent };
        assert_eq!(entry(vec![192, 168, 56, 12]), expected(Some([192, 168, 56, 12].into())));
        assert_eq!(entry([0xfd; 16].to_vec()), expected(Some([0xfd; 16].into())));
        assert_eq!(entry(vec![1, 2, 3]), expected(None));
    }

    #[test]
    fn a_namespace_without_a_number_has_none() {
        let asked = |id| {
            let mut message = NsidMessage::default();
            message.attributes = vec![NsidAttribute::Id(id)];
            namespace_id(&message)
        };
        assert_eq!((asked(0), asked(3), asked(-1)), (Some(0), Some(3), None));
    }
}
