//! Addresses that two pods claim.

use podtrace_protocol::topology::Topology;

/// A warning for each address that more than one pod of a node has.
pub(super) fn warnings(topology: &Topology) -> Vec<String> {
    let claim = |(address, holders): (_, Vec<(&str, &podtrace_protocol::topology::Device)>)| {
        let holders: Vec<_> =
            holders.iter().map(|(pod, device)| format!("{pod} (at {})", device.name)).collect();
        format!("{address} is held twice: {}; names go by the pods' veths", holders.join(", "))
    };
    topology.held_twice().into_iter().map(claim).collect()
}

#[cfg(test)]
mod tests {
    use podtrace_protocol::topology::{Device, DeviceKind, Namespace, Peer};

    use super::*;

    fn pod(name: &str, devices: &[(&str, &str, bool)]) -> Namespace {
        let device = |(name, address, is_veth): &(&str, &str, bool)| Device {
            index: 1,
            name: (*name).to_owned(),
            kind: if *is_veth { DeviceKind::Veth } else { DeviceKind::Loopback },
            ethernet: true,
            up: true,
            mtu: 1500,
            peer: is_veth.then_some(Peer { netns: None, index: 7 }),
            addresses: vec![address.parse().unwrap()],
            ..Device::default()
        };
        Namespace {
            pod: Some(name.to_owned()),
            devices: devices.iter().map(device).collect(),
            ..Namespace::default()
        }
    }

    #[test]
    fn an_address_that_two_pods_have_is_reported_with_its_devices() {
        let namespaces = vec![
            pod("default/pod1", &[("lo", "127.0.0.1/8", false), ("eth0", "10.42.0.10/24", true)]),
            pod("default/pod2", &[("lo", "127.0.0.1/8", false), ("eth0", "10.42.0.11/24", true)]),
            pod("default/thief", &[("lo", "10.42.0.10/32", false), ("docker0", "172.17.0.1/16", false)]),
            pod("default/other", &[("docker0", "172.17.0.1/16", false)]),
        ];
        assert_eq!(
            warnings(&Topology { namespaces, cni: None }),
            [
                "10.42.0.10 is held twice: default/pod1 (at eth0), default/thief (at lo); names go by the pods' veths"
            ]
        );
    }
}
