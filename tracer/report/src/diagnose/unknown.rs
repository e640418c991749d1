//! Addresses that a pod has and the cluster does not know: a filter by the pod's name does not match what it sends from there.

use podtrace_protocol::topology::{DeviceKind, is_link_local};

use super::facts::Facts;
use super::words::quoted;

/// What to say of a pod of which no packet was seen, for each such address.
pub(super) fn addresses(pod: &str, facts: &Facts) -> Vec<String> {
    let Some(place) = facts.pod(pod) else { return Vec::new() };
    let of_device = |(device, address): (&str, std::net::IpAddr)| {
        let pod = quoted(pod);
        format!(
            "{pod} also has {address} on {}, an address that is not its own in the cluster: a filter by \
             its name does not match packets from there. In {pod}: `ip addr`",
            quoted(device)
        )
    };
    let all = place.namespace.devices.iter().flat_map(|device| {
        // The kernel's own loopback addresses leave by no device.
        let is_own =
            |address: &std::net::IpAddr| device.kind == DeviceKind::Loopback && address.is_loopback();
        let addresses = device.addresses.iter().map(ipnet::IpNet::addr);
        let unknown = addresses.filter(move |address| !is_own(address) && !is_link_local(*address));
        unknown.map(|address| (device.name.as_str(), address))
    });
    all.filter(|(_, address)| facts.owner(*address) != Some(pod)).map(of_device).collect()
}

#[cfg(test)]
mod tests {
    use podtrace_path::Context;
    use podtrace_protocol::frame::FromAgent;
    use podtrace_protocol::inventory::Inventory;
    use podtrace_protocol::topology::samples as topologies;

    use super::*;

    #[test]
    fn an_address_that_the_cluster_does_not_know_is_named() {
        let pod = r#"{"name": "pod1", "node": "node1", "ips": ["10.42.0.10"]}"#;
        let inventory = Inventory { pods: vec![serde_json::from_str(pod).unwrap()], ..Inventory::default() };
        let context = Context { nodes: vec!["node1".to_owned()], inventory, ..Context::default() };
        let said = |address: Option<&str>| {
            let mut node = topologies::lab();
            let eth0 = node.namespaces[1].devices.iter_mut().find(|device| device.name == "eth0").unwrap();
            eth0.addresses.extend(address.map(|address| address.parse::<ipnet::IpNet>().unwrap()));
            let mut facts = Facts::new(&context);
            facts.learn(0, &FromAgent::Topology(node));
            addresses("default/pod1", &facts)
        };
        assert_eq!(said(None), [] as [&str; 0]);
        assert_eq!(said(Some("fe80::1/64")), [] as [&str; 0]);
        let other = said(Some("10.99.0.1/32"));
        assert!(
            other[0].starts_with("default/pod1 also has 10.99.0.1 on eth0, an address that is"),
            "{other:?}"
        );
    }
}
