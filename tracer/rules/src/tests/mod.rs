//! Questions about rule sets of kube-proxy, flannel, portmap and people: listings of loaded rules, in `samples`.

mod drops;
mod listings;
mod translations;

use super::*;

const NODE: &str = "192.168.56.11";

fn iptables_rules() -> Rules {
    let tables = iptables::parse(include_str!("../samples/kube-proxy.iptables"), Family::Ip);
    Rules { tables, local: vec![address(NODE), address("10.42.0.1")], ..Rules::default() }
}

fn nft_rules(text: &str) -> Rules {
    let tables = nft::parse(text).expect("a listing").tables;
    Rules { tables, local: vec![address(NODE), address("10.42.0.1")], ..Rules::default() }
}

fn kube_proxy_nft() -> Rules {
    nft_rules(include_str!("../samples/kube-proxy.nft.json"))
}

fn guard() -> Rules {
    nft_rules(include_str!("../samples/guard.nft.json"))
}

fn address(text: &str) -> std::net::IpAddr {
    text.parse().expect("an address")
}

/// `tcp 10.42.0.10:40000 10.43.0.10:80`
fn packet(text: &str) -> Packet {
    let [protocol, source, destination] = text.split(' ').collect::<Vec<_>>()[..] else { panic!("{text}") };
    let end = |text: &str| match text.parse() {
        Ok(address) => (address, None),
        Err(_) => {
            let socket: std::net::SocketAddr = text.parse().expect("an address and a port");
            (socket.ip(), Some(socket.port()))
        }
    };
    let ((source, source_port), (destination, destination_port)) = (end(source), end(destination));
    let protocol = match protocol {
        "tcp" => 6,
        "udp" => 17,
        "icmp" => 1,
        other => panic!("{other}"),
    };
    Packet { source, destination, protocol, source_port, destination_port }
}

fn translation<'a>(end: End, before: &str, after: &str) -> Translation<'a> {
    let (before, after) = (packet(before), packet(after));
    Translation { before, after, ..Translation::of(end) }
}

fn destination<'a>(before: &str, after: &str) -> Translation<'a> {
    Translation { in_device: Some("cni0"), ..translation(End::Destination, before, after) }
}

fn source<'a>(before: &str, after: &str) -> Translation<'a> {
    Translation { out_device: Some("eth0"), ..translation(End::Source, before, after) }
}

fn loss<'a>(hook: Hook, text: &str) -> Loss<'a> {
    let packet = packet(text);
    let bridge = Some(false);
    Loss {
        hook,
        bridge,
        packet,
        in_device: Some("cni0"),
        out_device: Some("eth0"),
        mark: Some(0),
        state: Some("new"),
    }
}

fn told(attribution: Option<Attribution>) -> String {
    attribution.map_or_else(|| "nothing".to_owned(), |attribution| attribution.to_string())
}
