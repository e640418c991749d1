//! What `$dst.ip` and the like stand for in a lab.

use anyhow::{Context as _, Result};

use super::data::Ways;

/// A pod of the lab: these never change.
struct Pod {
    name: &'static str,
    ip: &'static str,
    ipv6: &'static str,
    mac: &'static str,
    veth: &'static str,
    node: &'static Node,
    /// The other pod on its node.
    twin: &'static str,
}

struct Node {
    name: &'static str,
    v4: Addresses,
    v6: Addresses,
}

/// What a node has of one version of IP.
struct Addresses {
    /// Its own address.
    ip: &'static str,
    /// Link-layer address of its tunnel.
    mac: &'static str,
    net: &'static str,
    /// Address of its bridge.
    gateway: &'static str,
    /// Address of its tunnel.
    tunnel: &'static str,
}

const NODE1: Node = Node {
    name: "node1",
    v4: Addresses {
        ip: "192.168.56.11",
        mac: "0a:58:0a:2a:00:00",
        net: "10.42.0.0/24",
        gateway: "10.42.0.1",
        tunnel: "10.42.0.0",
    },
    v6: Addresses {
        ip: "fd00:56::11",
        mac: "0a:58:fd:00:00:01",
        net: "fd00:42::/64",
        gateway: "fd00:42::1",
        tunnel: "fd00:42::",
    },
};
const NODE2: Node = Node {
    name: "node2",
    v4: Addresses {
        ip: "192.168.56.12",
        mac: "0a:58:0a:2a:01:00",
        net: "10.42.1.0/24",
        gateway: "10.42.1.1",
        tunnel: "10.42.1.0",
    },
    v6: Addresses {
        ip: "fd00:56::12",
        mac: "0a:58:fd:00:00:02",
        net: "fd00:42:1::/64",
        gateway: "fd00:42:1::1",
        tunnel: "fd00:42:1::",
    },
};

const PODS: [Pod; 4] = [
    Pod {
        name: "pod1",
        ip: "10.42.0.10",
        ipv6: "fd00:42::10",
        mac: "0a:58:0a:2a:00:0a",
        veth: "veth63febee9",
        node: &NODE1,
        twin: "pod2",
    },
    Pod {
        name: "pod2",
        ip: "10.42.0.11",
        ipv6: "fd00:42::11",
        mac: "0a:58:0a:2a:00:0b",
        veth: "veth60feba30",
        node: &NODE1,
        twin: "pod1",
    },
    Pod {
        name: "pod3",
        ip: "10.42.1.10",
        ipv6: "fd00:42:1::10",
        mac: "0a:58:0a:2a:01:0a",
        veth: "veth61febbc3",
        node: &NODE2,
        twin: "pod4",
    },
    Pod {
        name: "pod4",
        ip: "10.42.1.11",
        ipv6: "fd00:42:1::11",
        mac: "0a:58:0a:2a:01:0b",
        veth: "veth66fec3a2",
        node: &NODE2,
        twin: "pod3",
    },
];

/// Port of the web server in every pod but pod1.
pub const WEB: u16 = 8080;

/// Port of the UDP server in every pod but pod1.
pub const DNS: u16 = 5353;

/// What stands for what.
#[derive(Debug)]
pub struct Names(Vec<(String, String)>);

impl Names {
    /// The names of a variant.
    ///
    /// # Errors
    ///
    /// If there is no such pod.
    pub fn of(ways: &Ways) -> Result<Self> {
        let mut names = Vec::new();
        let mut add = |name: &str, pod: &str| -> Result<()> {
            let pod = pod_named(pod)?;
            names.push((format!("${name}"), pod.name.to_owned()));
            let own = if ways.ipv6 { &pod.node.v6 } else { &pod.node.v4 };
            for (part, value) in [
                ("ip", if ways.ipv6 { pod.ipv6 } else { pod.ip }),
                ("mac", pod.mac),
                ("veth", pod.veth),
                ("node", pod.node.name),
                ("node.ip", own.ip),
                ("node.mac", own.mac),
                ("net", own.net),
                ("gateway", own.gateway),
                ("tunnel", own.tunnel),
            ] {
                names.push((format!("${name}.{part}"), value.to_owned()));
            }
            Ok(())
        };
        add("src", &ways.src)?;
        add("dst", &ways.dst)?;
        add("src-twin", pod_named(&ways.src)?.twin)?;
        add("dst-twin", pod_named(&ways.dst)?.twin)?;
        add("client", ways.client())?;
        add("server", ways.server())?;
        let (port, number) = match ways.protocol.as_str() {
            "tcp" => (WEB, "6"),
            "udp" => (DNS, "17"),
            _ if ways.ipv6 => (0, "58"),
            _ => (0, "1"),
        };
        let in_rules = if ways.ipv6 && port == 0 { "ipv6-icmp" } else { &ways.protocol };
        names.push(("$proto".to_owned(), in_rules.to_owned()));
        names.push(("$protocol-number".to_owned(), number.to_owned()));
        names.push(("$port".to_owned(), port.to_string()));
        // The longest first: `$dst` must not be found in `$dst.ip`.
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Ok(Self(names))
    }

    /// The text with every name replaced.
    #[must_use]
    pub fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name.as_str(), value))
    }
}

/// Address of a pod in a variant.
///
/// # Errors
///
/// If there is no such pod.
pub fn address_of(ways: &Ways, pod: &str) -> Result<String> {
    let pod = pod_named(pod)?;
    Ok(if ways.ipv6 { pod.ipv6 } else { pod.ip }.to_owned())
}

fn pod_named(name: &str) -> Result<&'static Pod> {
    PODS.iter().find(|pod| pod.name == name).with_context(|| format!("the lab has no pod `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_the_longest_first() {
        let ways = Ways {
            src: "pod1".to_owned(),
            dst: "pod3".to_owned(),
            protocol: "tcp".to_owned(),
            reply: true,
            cold: false,
            during: false,
            ipv6: false,
        };
        let names = Names::of(&ways).unwrap();
        assert_eq!(
            names.fill("$dst $dst.node $dst.node.ip $dst-twin.ip $client $protocol-number $port"),
            "pod3 node2 192.168.56.12 10.42.1.11 pod3 6 8080"
        );
    }
}
