//! What a network namespace has: devices, routes, neighbours, forwarding entries and settings, as data.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

/// A network namespace, or a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::lab) struct Space {
    /// Values of files below `/proc/sys/net`, which are written before there is a device.
    pub(in crate::lab) settings: BTreeMap<String, i64>,
    /// Devices, in the order in which they are made.
    pub(in crate::lab) devices: Vec<Device>,
    /// Permanent entries of the neighbour table.
    pub(in crate::lab) neighbours: Vec<Neighbour>,
    /// Permanent entries of tunnels' forwarding tables.
    pub(in crate::lab) forwarding: Vec<Forwarding>,
    /// Routes, in the order in which they are added.
    pub(in crate::lab) routes: Vec<Route>,
}

/// A device that is up.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::lab) struct Device {
    pub(in crate::lab) name: String,
    pub(in crate::lab) kind: Kind,
    pub(in crate::lab) mtu: u32,
    /// Link-layer address; the kernel chooses one where there is none.
    #[serde(default, deserialize_with = "mac")]
    pub(in crate::lab) mac: Option<[u8; 6]>,
    #[serde(default)]
    pub(in crate::lab) addresses: Vec<IpNet>,
    /// Whether its addresses bring routes to their subnets.
    #[serde(default = "yes")]
    pub(in crate::lab) prefix_routes: bool,
    /// The bridge that it is a port of.
    #[serde(default)]
    pub(in crate::lab) master: Option<String>,
    /// Whether the bridge may send a packet back by the port that it came from.
    #[serde(default)]
    pub(in crate::lab) hairpin: bool,
    /// Values of files below `/proc/sys/net`, which are written once it is there.
    #[serde(default)]
    pub(in crate::lab) settings: BTreeMap<String, i64>,
}

/// What makes a device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::lab) enum Kind {
    /// One end of a pair.
    Veth,
    Bridge,
    Vxlan(Tunnel),
}

/// A VXLAN device, without learning.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::lab) struct Tunnel {
    pub(in crate::lab) vni: u32,
    /// UDP destination port.
    pub(in crate::lab) port: u16,
    /// Source address of its packets.
    pub(in crate::lab) local: IpAddr,
    /// Device that its packets leave by.
    pub(in crate::lab) over: String,
}

/// A neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::lab) struct Neighbour {
    pub(in crate::lab) address: IpAddr,
    #[serde(deserialize_with = "some_mac")]
    pub(in crate::lab) mac: [u8; 6],
    pub(in crate::lab) dev: String,
}

/// Where a tunnel sends frames for a link-layer address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::lab) struct Forwarding {
    #[serde(deserialize_with = "some_mac")]
    pub(in crate::lab) mac: [u8; 6],
    /// The other end of the tunnel.
    pub(in crate::lab) to: IpAddr,
    pub(in crate::lab) dev: String,
}

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(in crate::lab) struct Route {
    pub(in crate::lab) to: IpNet,
    #[serde(default)]
    pub(in crate::lab) via: Option<IpAddr>,
    #[serde(default)]
    pub(in crate::lab) dev: Option<String>,
    /// Preferred source address.
    #[serde(default)]
    pub(in crate::lab) source: Option<IpAddr>,
    /// Whether the gateway counts as on the link though no route leads to it.
    #[serde(default)]
    pub(in crate::lab) onlink: bool,
    /// Whether the destination is on the link.
    #[serde(default)]
    pub(in crate::lab) scope_link: bool,
    /// Whether packets for the destination are dropped.
    #[serde(default)]
    pub(in crate::lab) blackhole: bool,
    /// Who added it, as the kernel numbers them.
    #[serde(default)]
    pub(in crate::lab) protocol: Option<u8>,
}

impl Space {
    /// Adds what another part has.
    pub(in crate::lab) fn extend(&mut self, other: Self) {
        let Self { settings, devices, neighbours, forwarding, routes } = other;
        self.settings.extend(settings);
        self.devices.extend(devices);
        self.neighbours.extend(neighbours);
        self.forwarding.extend(forwarding);
        self.routes.extend(routes);
    }
}

impl Device {
    /// A veth without addresses or a bridge.
    pub(in crate::lab) fn veth(name: &str, mtu: u32) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Veth,
            mtu,
            mac: None,
            addresses: Vec::new(),
            prefix_routes: true,
            master: None,
            hairpin: false,
            settings: BTreeMap::new(),
        }
    }
}

fn yes() -> bool {
    true
}

fn some_mac<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 6], D::Error> {
    let text = String::deserialize(deserializer)?;
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().and_then(|part| u8::from_str_radix(part, 16).ok());
        *byte = part.ok_or_else(|| de::Error::custom(format!("`{text}` is no link-layer address")))?;
    }
    Ok(mac)
}

fn mac<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 6]>, D::Error> {
    some_mac(deserializer).map(Some)
}
