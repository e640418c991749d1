//! A lab with IPv6 beside IPv4.

use anyhow::{Context as _, Result};

use crate::lab::Lab;

/// IPv6 addresses of the lab's pods, once it has two stacks, as `ip` writes them.
pub const POD1_V6: &str = "fd00:42::10";
/// See [`POD1_V6`].
pub const POD2_V6: &str = "fd00:42::11";
/// See [`POD1_V6`].
pub const POD3_V6: &str = "fd00:42:1::10";
/// See [`POD1_V6`].
pub const POD4_V6: &str = "fd00:42:1::11";

/// Networks of the nodes' pods.
const NETS: [&str; 2] = ["fd00:42::", "fd00:42:1::"];

/// Gives a lab IPv6 beside IPv4, with a tunnel as flannel makes it for dual stack, and says so in its inventory.
///
/// Addresses are valid at once: a node does not ask for neighbours from a link-local address that may be a duplicate.
///
/// # Errors
///
/// If a command fails, or the inventory cannot be written.
pub fn two_stacks(lab: &Lab) -> Result<()> {
    for (number, other) in [(1, 2), (2, 1)] {
        let (mine_net, others_net) = (NETS[number - 1], NETS[other - 1]);
        let script = format!(
            "set -e
            for on in all default eth0 cni0; do
                echo 0 > /proc/sys/net/ipv6/conf/$on/accept_dad
                echo 0 > /proc/sys/net/ipv6/conf/$on/disable_ipv6
            done
            echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
            ip addr add fd00:56::1{number}/64 dev eth0 nodad
            ip addr add {mine_net}1/64 dev cni0 nodad
            ip link add flannel-v6.1 address 0a:58:fd:00:00:0{number} type vxlan id 1 \
                local fd00:56::1{number} dev eth0 dstport 8472 nolearning
            ip addr add {mine_net}/128 dev flannel-v6.1 nodad
            ip link set flannel-v6.1 up
            ip neigh replace {others_net} lladdr 0a:58:fd:00:00:0{other} dev flannel-v6.1 nud permanent
            bridge fdb append 0a:58:fd:00:00:0{other} dev flannel-v6.1 dst fd00:56::1{other}
            ip -6 route add {others_net}/64 via {others_net} dev flannel-v6.1 onlink"
        );
        lab.exec(&format!("node{number}"), ["sh", "-c", &script])?;
    }
    for (pod, node, host) in [("pod1", 0, 10), ("pod2", 0, 11), ("pod3", 1, 10), ("pod4", 1, 11)] {
        let net = NETS[node];
        let script = format!(
            "set -e
            for on in all eth0; do echo 0 > /proc/sys/net/ipv6/conf/$on/accept_dad; done
            echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6
            ip addr add {net}{host}/64 dev eth0 nodad
            ip -6 route add default via {net}1"
        );
        lab.exec(pod, ["sh", "-c", &script])?;
    }
    let path = lab.inventory();
    let mut inventory = std::fs::read_to_string(&path).context("reading the lab's inventory")?;
    for (v4, v6) in [
        ("10.42.0.10", POD1_V6),
        ("10.42.0.11", POD2_V6),
        ("10.42.1.10", POD3_V6),
        ("10.42.1.11", POD4_V6),
        ("192.168.56.11", "fd00:56::11"),
        ("192.168.56.12", "fd00:56::12"),
    ] {
        let with = format!("- \"{v4}\"\n  - \"{v6}\"");
        inventory = inventory.replace(&format!("- \"{v4}\""), &with);
    }
    std::fs::write(&path, inventory).context("writing the lab's inventory")
}
