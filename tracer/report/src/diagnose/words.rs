//! Names as commands and readers take them.

use std::net::IpAddr;

pub(crate) use podtrace_escape::shell_word as quoted;
use podtrace_path::Protocol;

/// Name of a protocol as commands know it.
pub(crate) fn protocol(protocol: Protocol) -> String {
    match protocol {
        Protocol::Tcp => "tcp".to_owned(),
        Protocol::Udp => "udp".to_owned(),
        Protocol::Icmp => "icmp".to_owned(),
        Protocol::Icmpv6 => "icmp6".to_owned(),
        Protocol::Sctp => "sctp".to_owned(),
        Protocol::Other(number) => format!("proto {number}"),
    }
}

/// The `ip` command for addresses of this version.
pub(crate) fn ip(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip -6" }
}

/// A link-layer address as `ip link` writes it.
pub(crate) fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

/// Path of a sysctl as `sysctl` takes it for any name: with slashes, since names of devices may hold dots.
pub(crate) fn sysctl(path: &str) -> String {
    quoted(&format!("net/{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_with_a_dot_in_its_name_keeps_it() {
        assert_eq!(sysctl("ipv4/conf/flannel.1/forwarding"), "net/ipv4/conf/flannel.1/forwarding");
        assert_eq!(mac([0x0a, 0x58, 10, 42, 1, 10]), "0a:58:0a:2a:01:0a");
    }
}
