//! The networks that a lab can have, each a description in a file beside this one.
//!
//! A [`Description`] is of one node as seen by itself: what there is once, for each other node, and for each pod. Its
//! strings have variables ([`fill`]); filled in, its parts are a namespace's [`Space`].

mod fill;
mod space;

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

pub(super) use self::fill::Variables;
pub(super) use self::space::{Device, Forwarding, Kind, Neighbour, Route, Space, Tunnel};

/// A network: the number of its entry in [`ALL`], by default the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network(usize);

/// A network's name and its description.
struct Entry {
    name: &'static str,
    text: &'static str,
}

/// All networks, the default one first.
const ALL: [Entry; 7] = [
    Entry { name: "flannel-vxlan", text: include_str!("flannel-vxlan.yaml") },
    Entry { name: "flannel-host-gw", text: include_str!("flannel-host-gw.yaml") },
    Entry { name: "flannel-dual-stack", text: include_str!("flannel-dual-stack.yaml") },
    Entry { name: "flannel-ipv6", text: include_str!("flannel-ipv6.yaml") },
    Entry { name: "calico-bgp", text: include_str!("calico-bgp.yaml") },
    Entry { name: "calico-vxlan", text: include_str!("calico-vxlan.yaml") },
    Entry { name: "kindnet", text: include_str!("kindnet.yaml") },
];

/// What the wiring of a node and its pods is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    /// What it is, in a phrase.
    pub(super) about: String,
    /// The documentation or source that it follows, with the version.
    pub(super) follows: Vec<String>,
    /// Versions of IP; Services have addresses of the first one.
    pub(super) families: Vec<Family>,
    /// Whose rules translate what pods send to the world outside.
    pub(super) masquerade: Masquerade,
    /// What a node has once: a [`Space`].
    #[serde(default = "nothing")]
    pub(super) node: Value,
    /// What it has for each other node: a [`Space`].
    #[serde(default = "nothing")]
    pub(super) peer: Value,
    /// What it has for each of its pods.
    pub(super) pod: PodWiring,
}

/// The wiring of a pod.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PodWiring {
    /// The node's end of the veth pair: a [`Device`].
    pub(super) veth: Value,
    /// Routes on the node: a list of [`Route`].
    #[serde(default = "no_entries")]
    pub(super) routes: Value,
    /// The pod's namespace, with the other end as `eth0`: a [`Space`].
    pub(super) inside: Value,
}

fn nothing() -> Value {
    Value::Object(serde_json::Map::new())
}

fn no_entries() -> Value {
    Value::Array(Vec::new())
}

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// The rules that give packets to the world outside the node's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Masquerade {
    /// flanneld's.
    Flannel,
    /// Felix's, with address ranges in place of IP sets where iptables is used.
    Calico,
    /// kindnetd's.
    Kindnet,
}

impl Masquerade {
    /// Its rules for `nft -f`, with variables.
    pub(super) fn nft(self) -> &'static str {
        match self {
            Self::Flannel => include_str!("masquerade/flannel.nft"),
            Self::Calico => include_str!("masquerade/calico.nft"),
            Self::Kindnet => include_str!("masquerade/kindnet.nft"),
        }
    }

    /// Its chains and rules in the nat table as `iptables-restore` takes them, with variables.
    pub(super) fn iptables(self) -> &'static str {
        match self {
            Self::Flannel => include_str!("masquerade/flannel.iptables"),
            Self::Calico => include_str!("masquerade/calico.iptables"),
            Self::Kindnet => include_str!("masquerade/kindnet.iptables"),
        }
    }
}

impl Network {
    /// All of them, the default one first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..ALL.len()).map(Self)
    }

    /// Its name, such as `calico-vxlan`.
    #[must_use]
    pub fn name(self) -> &'static str {
        ALL[self.0].name
    }

    /// Its description.
    ///
    /// # Errors
    ///
    /// None in practice: every description is read by a test.
    pub(super) fn description(self) -> Result<Description> {
        let Entry { name, text } = &ALL[self.0];
        serde_saphyr::from_str(text).with_context(|| format!("the description of the network {name}"))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || ALL.iter().map(|entry| entry.name);
        let found = names().position(|name| name == text);
        found.map(Self).ok_or_else(|| format!("use one of {}", names().collect::<Vec<_>>().join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_description_can_be_read_and_cites_what_it_follows() {
        for network in Network::all() {
            let description = network.description().unwrap();
            assert!(!description.about.is_empty() && !description.families.is_empty(), "{network}");
            assert!(!description.follows.is_empty(), "{network}");
        }
    }

    #[test]
    fn names_are_read_back_and_others_are_listed() {
        for network in Network::all() {
            assert_eq!(network.name().parse(), Ok(network));
        }
        assert_eq!(Network::default().name(), "flannel-vxlan");
        let error = "flannel-ipip".parse::<Network>().unwrap_err();
        assert!(error.contains("flannel-vxlan, flannel-host-gw, "), "{error}");
    }
}
