//! Advice for a packet that vanished: what may drop it between the point where it was last seen and the next one.

use super::fitting;
use super::words::quoted;
use podtrace_path::{Action, End, Evidence, Hop, Outer, Path, Verdict};

/// Size near a full frame, from which an MTU problem becomes likely.
const LARGE: u32 = 1_300;

/// What to check for a packet that vanished; `None` for any other verdict, or if it was never observed.
#[must_use]
pub fn advice_for_vanished(path: &Path) -> Option<String> {
    if path.verdict != Verdict::Vanished {
        return None;
    }
    let hop = path.hops.iter().rev().find(|hop| hop.evidence == Evidence::Observed)?;
    let node = quoted(&hop.node);
    let device = hop.device.as_deref().map_or_else(|| "DEVICE".to_owned(), quoted);
    let dst = hop.tuple.dst;
    let text = match hop.action {
        Action::NodeEgress => on_the_wire(hop, &device, path),
        Action::Encapsulate => tunnel_entry(hop, &node, &device),
        Action::NodeIngress => arrived(hop, &node, &device),
        Action::PodEgress | Action::Bridge => format!(
            "{node} dropped it after {device}, and the kernel reported no reason; or the next hop for {dst} was not \
             resolved. On {node}: `bridge -d link`, `bridge fdb show`, `ip neigh`, and with br_netfilter the FORWARD \
             rules: `iptables-save -c`"
        ),
        Action::Route | Action::Decapsulate | Action::Nat => format!(
            "{node} did not forward it after {device}: a missing route, a FORWARD rule, the reverse path filter, or \
             an unresolved next hop. On {node}: `ip route get {dst}`, `iptables-save -c`, \
             `sysctl net.ipv4.ip_forward`, `ip neigh`, `nstat -az | grep -i drop`"
        ),
        Action::Queue => format!(
            "it is still queued at {device}, or was discarded there. On {node}: `tc -s qdisc show dev {device}`"
        ),
        Action::PodIngress => format!(
            "the pod received it but did not accept it: check the pod's own firewall and addresses. In {}: \
             `ip addr`, `iptables-save -c`",
            who(&path.to)
        ),
        Action::LocalIn | Action::LocalOut => format!(
            "it is to or from {node} itself. On {node}: check the INPUT and OUTPUT rules, `iptables-save -c`"
        ),
        Action::Drop => return None,
    };
    Some(if dst.is_ipv6() { fitting::for_ipv6(&text) } else { text })
}

fn on_the_wire(hop: &Hop, device: &str, path: &Path) -> String {
    let node = quoted(&hop.node);
    // In a loop it leaves the node that it is for.
    let far = match &path.to.node {
        Some(node) if *node != hop.node => quoted(node),
        _ => hop.outer.as_ref().map_or_else(|| "the other node".to_owned(), |outer| outer.dst.to_string()),
    };
    if let (Some(service), true) = (&path.to.service, path.to.ip == hop.tuple.dst && hop.outer.is_none()) {
        return format!(
            "{} is the address of Service {}, and nothing on {node} translated this packet: the Service's rules are \
             missing there, or were bypassed. On {node}: `nft list ruleset` or `iptables-save -t nat`",
            hop.tuple.dst,
            quoted(service)
        );
    }
    let mtu = |overhead: u32| {
        let on_wire = hop.bytes.saturating_add(overhead);
        if path.bytes < LARGE || hop.packets > 1 {
            String::new()
        } else {
            format!("; or a path MTU below {on_wire} bytes: compare the MTU of every device on it")
        }
    };
    let Some(outer) = &hop.outer else {
        return format!(
            "it left {node} at {device} without a tunnel, for {dst}: the network between the nodes must route that \
             address to {far} and let it pass (cloud routes, source/destination check, security groups){}. On {far}: \
             `tcpdump -ni any host {dst}`",
            mtu(0),
            dst = hop.tuple.dst
        );
    };
    let Outer { kind, dst, dport, overhead, .. } = outer;
    let (blocked, filter) = match dport {
        Some(port) => (format!("UDP port {port}"), format!("udp port {port}")),
        None => (format!("{kind} packets"), format!("host {}", outer.src)),
    };
    format!(
        "it left {node} in {kind} for {dst} and was not seen on {far}. Possible: a firewall or security group between the \
         nodes that blocks {blocked}, an uplink of {far} that is down, a tunnel of {far} with another port, or an address \
         that is no longer {far}'s (`bridge fdb show` on {node}){}. On {far}: `tcpdump -ni any {filter}`, `ip -d link`",
        mtu(*overhead)
    )
}

fn tunnel_entry(hop: &Hop, node: &str, device: &str) -> String {
    let peer = hop.outer.as_ref().map(|outer| outer.dst.to_string());
    let route = peer.map_or_else(|| "ip route".to_owned(), |peer| format!("ip route get {peer}"));
    format!(
        "it entered {device} but nothing left {node}: the tunnel has no peer for it, or the encapsulated packet was \
         blocked. On {node}: `ip neigh show dev {device}`, `bridge fdb show dev {device}`, `{route}`, and the \
         OUTPUT rules: `iptables-save -c`"
    )
}

fn arrived(hop: &Hop, node: &str, device: &str) -> String {
    match &hop.outer {
        Some(Outer { kind, vni, dport, .. }) => {
            let port = dport.map_or_else(String::new, |port| format!(" for UDP port {port}"));
            let vni = vni.map_or_else(String::new, |vni| format!(", id {vni}"));
            format!(
                "the {kind} packet arrived at {device} on {node} but was not decapsulated: an INPUT rule{port}, or no \
                 matching {kind} device{vni}. On {node}: `ip -d link show type {kind}`, `iptables-save -c`, \
                 `nstat -az | grep -i err`"
            )
        }
        None => format!(
            "it arrived at {device} on {node} and got no further: a FORWARD or INPUT rule, the reverse path filter, or \
             no route. On {node}: `ip route get {}`, `iptables-save -c`, `sysctl net.ipv4.conf.all.rp_filter`",
            hop.tuple.dst
        ),
    }
}

fn who(end: &End) -> String {
    end.pod.as_deref().map_or_else(|| end.ip.to_string(), quoted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    /// The cross-node ping, seen last at this hop.
    fn lost_after(hop: usize) -> Path {
        let mut path = samples::cross_node_request();
        path.verdict = Verdict::Vanished;
        path.hops.truncate(hop + 1);
        path
    }

    #[test]
    fn what_lies_behind_the_last_hop_is_named() {
        for (hop, parts) in [
            (0, &["dropped it after veth1a2b", "bridge fdb show"][..]),
            (1, &["node1 did not forward it after cni0", "ip route get 10.42.1.10"]),
            (2, &["bridge fdb show dev flannel.1", "ip route get 192.168.56.12"]),
            (3, &["not seen on node2", "blocks UDP port 8472", "tcpdump -ni any udp port 8472"]),
            (4, &["INPUT rule for UDP port 8472", "matching vxlan device, id 1"]),
            (5, &["node2 did not forward it after flannel.1"]),
            (7, &["In default/pod3"]),
        ] {
            let advice = advice_for_vanished(&lost_after(hop)).unwrap();
            for part in parts {
                assert!(advice.contains(part), "{part:?} after hop {hop}: {advice}");
            }
            assert!(!advice.contains("  "), "{advice}");
        }
    }

    #[test]
    fn only_large_packets_raise_the_question_of_the_mtu() {
        let mut path = lost_after(3);
        assert!(!advice_for_vanished(&path).unwrap().contains("MTU"));
        (path.bytes, path.hops[3].bytes) = (1_450, 1_450);
        assert!(advice_for_vanished(&path).unwrap().contains("below 1500 bytes"));
        path.hops[3].outer = None;
        assert!(advice_for_vanished(&path).unwrap().contains("below 1450 bytes"));
    }

    #[test]
    fn what_did_not_vanish_needs_none() {
        assert_eq!(advice_for_vanished(&samples::cross_node_request()), None);
        let mut path = lost_after(0);
        path.hops.clear();
        assert_eq!(advice_for_vanished(&path), None);
    }
}
