//! Identifies the node of a cluster that is this machine.

use std::net::IpAddr;

/// The properties that identify this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its hostname.
    pub hostname: String,
    /// The addresses of the current network namespace.
    pub addresses: Vec<IpAddr>,
    /// The kernel's random identifier since it booted; empty if unknown.
    pub boot_id: String,
}

impl Machine {
    /// This machine. What cannot be read stays empty.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub fn here() -> Self {
        let hostname = nix::sys::utsname::uname()
            .map(|uname| uname.nodename().to_string_lossy().into_owned())
            .unwrap_or_default();
        let addresses = nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
        });
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { hostname, addresses: addresses.collect(), boot_id: boot_id.trim().to_owned() }
    }

    /// Whether a node is this machine. Nodes that share a kernel differ in their addresses; machines that have the same
    /// private address differ in their boot identifiers.
    pub(super) fn is(&self, name: &str, addresses: &[IpAddr], boot_id: &str) -> bool {
        let Self { hostname, addresses: own, boot_id: boot } = self;
        let other_boot = !boot.is_empty() && !boot_id.is_empty() && boot != boot_id;
        let ours = if addresses.is_empty() {
            // A kubelet converts the hostname to lower case.
            hostname.to_ascii_lowercase() == name
        } else {
            addresses.iter().any(|address| own.contains(address))
        };
        ours && !other_boot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_identified_by_address_and_boot() {
        let machine = Machine {
            hostname: "Box".to_owned(),
            addresses: vec!["127.0.0.1".parse().unwrap(), "192.168.1.11".parse().unwrap()],
            boot_id: "b1".to_owned(),
        };
        for (what, name, addresses, boot_id, here) in [
            ("itself", "box", &["192.168.1.11"][..], "b1", true),
            ("by another name", "node1", &["192.168.1.11", "fd00::1"], "b1", true),
            ("another machine with the same private address", "box", &["192.168.1.11"], "b2", false),
            ("another node on the same kernel", "box2", &["172.18.0.2"], "b1", false),
            ("its name alone, with other addresses", "box", &["10.0.0.1"], "b1", false),
            ("a node without an address", "box", &[], "", true),
            ("another without an address", "other", &[], "", false),
            ("a node without a boot identifier", "box", &["192.168.1.11"], "", true),
        ] {
            let addresses: Vec<_> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(machine.is(name, &addresses, boot_id), here, "{what}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_a_loopback_address_and_a_boot() {
        let machine = Machine::here();
        assert!(machine.addresses.iter().any(IpAddr::is_loopback), "{machine:?}");
        assert!(!machine.boot_id.is_empty());
    }
}
