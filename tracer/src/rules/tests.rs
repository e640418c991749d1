//! Questions to rule sets as kube-proxy, flannel, portmap and people write them: dumps of loaded rules, in `samples`.

use super::*;

const NODE: &str = "192.168.56.11";

fn iptables_rules() -> Rules {
    let tables = iptables::parse(include_str!("samples/kube-proxy.iptables"), Family::Ip);
    Rules { tables, local: vec![address(NODE), address("10.42.0.1")], gaps: Vec::new() }
}

fn nft_rules(text: &str) -> Rules {
    let tables = nft::parse(text).expect("a listing").tables;
    Rules { tables, local: vec![address(NODE), address("10.42.0.1")], gaps: Vec::new() }
}

fn kube_proxy_nft() -> Rules {
    nft_rules(include_str!("samples/kube-proxy.nft.json"))
}

fn guard() -> Rules {
    nft_rules(include_str!("samples/guard.nft.json"))
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
    Translation { end, before, after, in_device: None, out_device: None, mark: None }
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

#[test]
fn a_cluster_ip_is_attributed_to_its_service_and_endpoint() {
    let finder = Finder::new(iptables_rules());
    let question = destination("tcp 10.42.0.10:40000 10.43.0.10:80", "tcp 10.42.0.10:40000 10.42.1.10:8080");
    let attribution = finder.translated(&question).expect("a rule");
    assert_eq!(
        attribution,
        Attribution {
            kind: Kind::Dnat,
            framework: Some(Framework::Iptables),
            family: Some(Family::Ip),
            table: Some("nat".to_owned()),
            hook: Some(Hook::Prerouting),
            chains: ["KUBE-SERVICES", "KUBE-SVC-LOLE4ISW44XBNF3G", "KUBE-SEP-5UKXEYUPHJSB3XBR"]
                .map(ToOwned::to_owned)
                .to_vec(),
            rule: Some("-p tcp -m tcp -j DNAT --to-destination 10.42.1.10:8080".to_owned()),
            handle: None,
            comment: Some("default/web:http".to_owned()),
            service: Some("default/web".to_owned()),
            port: Some("http".to_owned()),
            endpoints: Some(3),
            candidates: 1,
            certain: true,
        }
    );
    assert_eq!(
        attribution.to_string(),
        "iptables nat: KUBE-SERVICES → KUBE-SVC-LOLE4ISW44XBNF3G → KUBE-SEP-5UKXEYUPHJSB3XBR (default/web:http)"
    );
}

#[test]
fn destinations_in_iptables() {
    let finder = Finder::new(iptables_rules());
    let unknown_device = translation(
        End::Destination,
        "tcp 192.168.56.11:40000 10.43.0.10:80",
        "tcp 192.168.56.11:40000 10.42.0.11:8080",
    );
    for (question, expected) in [
        // From the node itself, or from elsewhere: the rule is the same.
        (
            unknown_device,
            "iptables nat: KUBE-SERVICES → KUBE-SVC-LOLE4ISW44XBNF3G → KUBE-SEP-3JQ6FVMXNOWTA2ZE (default/web:http)",
        ),
        (
            destination("udp 10.42.0.10:5353 10.43.0.20:53", "udp 10.42.0.10:5353 10.42.0.12:53"),
            "iptables nat: KUBE-SERVICES → KUBE-SVC-TCOU7JCQXEZGVUNU → KUBE-SEP-DNSMZ4Q2WVO6BJPL (kube-system/dns)",
        ),
        (
            destination("tcp 172.16.0.9:40000 192.168.56.11:30080", "tcp 172.16.0.9:40000 10.42.1.11:8080"),
            "iptables nat: KUBE-SERVICES → KUBE-NODEPORTS → KUBE-EXT-LOLE4ISW44XBNF3G → KUBE-SVC-LOLE4ISW44XBNF3G → \
             KUBE-SEP-QZBH5ZRN6GCNRPTY (default/web:http)",
        ),
        // externalTrafficPolicy: Local
        (
            destination("tcp 172.16.0.9:40000 192.168.56.11:30081", "tcp 172.16.0.9:40000 10.42.0.13:9090"),
            "iptables nat: KUBE-SERVICES → KUBE-NODEPORTS → KUBE-EXT-TAZ5YJ4QKHB7TQ5D → KUBE-SVL-TAZ5YJ4QKHB7TQ5D → \
             KUBE-SEP-LOCAL7TK3VXFZQAE (default/near)",
        ),
        // … from a pod: the Service's own endpoints, on any node.
        (
            destination("tcp 10.42.0.10:40000 192.168.56.11:30081", "tcp 10.42.0.10:40000 10.42.1.13:9090"),
            "iptables nat: KUBE-SERVICES → KUBE-NODEPORTS → KUBE-EXT-TAZ5YJ4QKHB7TQ5D → KUBE-SVC-TAZ5YJ4QKHB7TQ5D → \
             KUBE-SEP-REMOTE5WQ2HBVNYT (default/near)",
        ),
        (
            destination("tcp 172.16.0.9:40000 192.168.56.11:8088", "tcp 172.16.0.9:40000 10.42.0.10:80"),
            "iptables nat: CNI-HOSTPORT-DNAT → CNI-DN-a55f8d1f3a7e0e1c6ab24",
        ),
        // Nothing makes this of that.
        (destination("tcp 10.42.0.10:40000 10.43.0.10:80", "tcp 10.42.0.10:40000 10.42.9.9:8080"), "nothing"),
        (
            destination("tcp 10.42.0.10:40000 10.43.0.99:80", "tcp 10.42.0.10:40000 10.42.1.10:8080"),
            "nothing",
        ),
        (
            destination("udp 10.42.0.10:40000 10.43.0.10:80", "udp 10.42.0.10:40000 10.42.1.10:8080"),
            "nothing",
        ),
    ] {
        assert_eq!(told(finder.translated(&question)), expected, "{question:?}");
    }
}

#[test]
fn sources_in_iptables() {
    let finder = Finder::new(iptables_rules());
    let pod_to_world = source("tcp 10.42.0.10:40000 172.16.0.9:80", "tcp 192.168.56.11:40000 172.16.0.9:80");
    let world_to_pod =
        source("tcp 172.16.0.9:40000 10.42.1.10:8080", "tcp 192.168.56.11:1025 10.42.1.10:8080");
    let hairpin = source("tcp 10.42.0.11:40000 10.42.0.11:8080", "tcp 10.42.0.1:40000 10.42.0.11:8080");
    let kube = "iptables nat: KUBE-POSTROUTING (“kubernetes service traffic requiring SNAT”)";
    let flannel = "iptables nat: FLANNEL-POSTRTG (“flanneld masq”)";
    for (question, expected) in [
        (Translation { mark: Some(0), ..pod_to_world }, flannel),
        (Translation { mark: Some(0x4000), ..world_to_pod }, kube),
        (Translation { mark: Some(0x4000), ..hairpin }, kube),
        (Translation { mark: Some(0), ..hairpin }, "nothing"),
        // Whether it is marked is not known: kube-proxy, portmap, or flannel.
        (pod_to_world, "iptables nat (one of 3 rules)"),
        (Translation { mark: Some(0x2000), ..pod_to_world }, "iptables nat: CNI-HOSTPORT-MASQ"),
        (
            Translation {
                mark: Some(0),
                ..source("udp 10.77.0.5:40000 172.16.0.9:80", "udp 192.168.56.11:40000 172.16.0.9:80")
            },
            "iptables nat: CNI-a55f8d1f3a7e0e1c6ab24b8c (“name: \"bridgenet\" id: \"a55f8d1f\"”)",
        ),
        // Not one of the node's addresses: no masquerading.
        (source("tcp 10.42.0.10:40000 172.16.0.9:80", "tcp 10.9.9.9:40000 172.16.0.9:80"), "nothing"),
    ] {
        assert_eq!(told(finder.translated(&question)), expected, "{question:?}");
    }
}

#[test]
fn kube_proxys_nftables() {
    let finder = Finder::new(kube_proxy_nft());
    for (question, expected) in [
        (
            destination("tcp 10.42.0.10:40000 10.43.0.10:80", "tcp 10.42.0.10:40000 10.42.1.10:8080"),
            "nft ip kube-proxy: services → service-K7WQ2ZPB-default/web/tcp/http → \
             endpoint-WQ6RPPVU-default/web/tcp/http__10.42.1.10/8080 (handle 57, default/web:http)",
        ),
        (
            destination("tcp 172.16.0.9:40000 192.168.56.11:30080", "tcp 172.16.0.9:40000 10.42.0.11:8080"),
            "nft ip kube-proxy: services → external-K7WQ2ZPB-default/web/tcp/http → \
             service-K7WQ2ZPB-default/web/tcp/http → endpoint-2FNTLRFF-default/web/tcp/http__10.42.0.11/8080 \
             (handle 55, default/web:http)",
        ),
        (
            destination("udp 10.42.0.10:40000 10.43.0.20:53", "udp 10.42.0.10:40000 10.42.0.12:53"),
            "nft ip kube-proxy: services → service-DNSX4H2A-kube-system/dns/udp/ → \
             endpoint-HJ5UOKQA-kube-system/dns/udp/__10.42.0.12/53 (handle 64, kube-system/dns)",
        ),
        (
            source("tcp 10.42.0.11:40000 10.42.0.11:8080", "tcp 10.42.0.1:40000 10.42.0.11:8080"),
            "nft ip kube-proxy: masquerading (handle 48)",
        ),
        (
            Translation {
                mark: Some(0),
                ..source("tcp 10.42.0.11:40000 10.42.0.11:8080", "tcp 10.42.0.1:40000 10.42.0.11:8080")
            },
            "nothing",
        ),
    ] {
        assert_eq!(told(finder.translated(&question)), expected, "{question:?}");
    }
    let question = destination("tcp 10.42.0.10:40000 10.43.0.10:80", "tcp 10.42.0.10:40000 10.42.1.10:8080");
    let attribution = finder.translated(&question).expect("a rule");
    assert_eq!(attribution.endpoints, Some(3));
    assert_eq!(attribution.rule.as_deref(), Some("meta l4proto tcp dnat to 10.42.1.10:8080"));
}

#[test]
fn translations_of_ones_own_nftables() {
    let finder = Finder::new(guard());
    for (question, expected) in [
        (
            destination("tcp 172.16.0.9:40000 192.168.56.11:8088", "tcp 172.16.0.9:40000 10.42.0.10:80"),
            (
                "nft inet guard: nat (handle 18)",
                "fib daddr type local meta l4proto tcp th dport 8088 dnat to 10.42.0.10:80",
            ),
        ),
        (
            destination("tcp 10.42.0.10:40000 172.16.0.9:9999", "tcp 10.42.0.10:40000 192.168.56.11:80"),
            ("nft inet guard: nat (handle 19)", "meta l4proto tcp th dport 9999 redirect to :80"),
        ),
        (
            destination("tcp 10.42.0.10:40000 10.9.0.1:22", "tcp 10.42.0.10:40000 10.42.0.25:22"),
            ("nft inet guard: nat (handle 20)", "ip daddr 10.9.0.1 dnat to 10.42.0.20-10.42.0.29"),
        ),
        (
            source("icmp 10.42.0.10 172.16.0.9", "icmp 192.168.56.11 172.16.0.9"),
            (
                "nft inet guard: post (handle 21)",
                "ip saddr 10.42.0.0/16 oifname \"eth0\" ip daddr != 10.42.0.0/16 masquerade",
            ),
        ),
        (
            source("tcp 10.50.0.10:40000 172.16.0.9:80", "tcp 192.168.56.11:1500 172.16.0.9:80"),
            (
                "nft inet guard: post (handle 22)",
                "ip saddr 10.50.0.0/16 meta l4proto tcp snat to 192.168.56.11:1024-2048",
            ),
        ),
    ] {
        let attribution = finder.translated(&question).expect("a rule");
        assert_eq!(
            (attribution.to_string().as_str(), attribution.rule.as_deref()),
            (expected.0, Some(expected.1))
        );
    }
}

#[test]
fn drops_of_iptables() {
    let finder = Finder::new(iptables_rules());
    let ssh = loss(Hook::Forward, "tcp 10.42.0.66:40000 172.16.0.9:22");
    for (question, expected) in [
        (ssh, "iptables filter: FORWARD (“no ssh from \"pod66\"”)"),
        // Another port: flannel lets it pass. It cannot have been a rule of these.
        (loss(Hook::Forward, "tcp 10.42.0.66:40000 172.16.0.9:23"), "nothing"),
        (loss(Hook::Forward, "udp 172.16.0.9:1 172.16.0.8:1"), "iptables filter: FORWARD (policy)"),
        (
            Loss { state: Some("invalid"), ..loss(Hook::Forward, "tcp 10.42.0.10:1 10.42.1.10:1") },
            "iptables filter: KUBE-FORWARD",
        ),
        // With a state that is not known, it can have been either.
        (Loss { state: None, ..ssh }, "iptables filter (one of 2 rules)"),
        (
            loss(Hook::Forward, "tcp 10.42.0.10:40000 10.43.0.30:80"),
            "iptables filter: KUBE-SERVICES (default/empty:http)",
        ),
        (
            loss(Hook::Input, "tcp 172.16.0.9:40000 192.168.56.11:30099"),
            "iptables filter: KUBE-EXTERNAL-SERVICES (default/empty:http)",
        ),
        // `DNAT` is not known of a packet, and does not make the rule unlikely.
        (
            loss(Hook::Input, "tcp 172.16.0.9:40000 127.0.0.1:80"),
            "iptables filter: KUBE-FIREWALL (“block incoming localnet connections”)",
        ),
        (loss(Hook::Prerouting, "tcp 172.16.0.9:40000 127.0.0.1:80"), "nothing"),
    ] {
        assert_eq!(told(finder.dropped(&question)), expected, "{question:?}");
    }
}

#[test]
fn drops_of_nftables() {
    let finder = Finder::new(kube_proxy_nft());
    for (question, expected) in [
        (
            loss(Hook::Forward, "tcp 10.42.0.10:40000 10.43.0.30:80"),
            "nft ip kube-proxy: service-endpoints-check → reject-chain (handle 44, default/empty:http)",
        ),
        (
            loss(Hook::Forward, "tcp 10.42.0.10:40000 10.43.0.10:81"),
            "nft ip kube-proxy: cluster-ips-check (handle 40, “Reject traffic to invalid ports of ClusterIPs”)",
        ),
        (
            loss(Hook::Forward, "tcp 10.42.0.10:40000 10.43.0.77:81"),
            "nft ip kube-proxy: cluster-ips-check (handle 41, “Drop traffic to unallocated ClusterIPs”)",
        ),
        (
            loss(Hook::Input, "tcp 172.16.0.9:40000 192.168.56.11:30099"),
            "nft ip kube-proxy: nodeport-endpoints-check (handle 38, default/empty:http)",
        ),
    ] {
        assert_eq!(told(finder.dropped(&question)), expected, "{question:?}");
    }

    let finder = Finder::new(guard());
    for (question, expected) in [
        (
            loss(Hook::Forward, "icmp 10.42.9.7 172.16.0.9"),
            "nft inet guard: forward (handle 8, “blocked by hand”)",
        ),
        (
            loss(Hook::Forward, "icmp 10.42.0.14 172.16.0.9"),
            "nft inet guard: forward (handle 8, “blocked by hand”)",
        ),
        (loss(Hook::Forward, "icmp 10.42.0.16 172.16.0.9"), "nothing"),
        (
            Loss { state: Some("invalid"), ..loss(Hook::Forward, "icmp 10.42.0.16 10.42.1.10") },
            "nft inet guard: forward (handle 7)",
        ),
        (loss(Hook::Forward, "tcp 10.42.0.10:1 10.42.1.10:8001"), "nft inet guard: forward (handle 10)"),
        // Neither the sources that were seen lately nor the rate are known.
        (
            Loss { in_device: Some("eth0"), ..loss(Hook::Forward, "icmp 10.42.0.16 10.42.1.10") },
            "nft inet guard: forward (handle 13)",
        ),
        (
            Loss { in_device: Some("eth0"), ..loss(Hook::Forward, "icmp 10.42.0.16 172.16.0.9") },
            "nft inet guard: forward (one of 2 rules)",
        ),
        // The bridge's own table, or any.
        (
            Loss { bridge: Some(true), ..loss(Hook::Forward, "icmp 10.42.0.10 10.42.0.13") },
            "nft bridge filter: forward (handle 3)",
        ),
        (Loss { bridge: None, ..loss(Hook::Forward, "icmp 10.42.9.1 10.42.0.13") }, "nft (one of 2 rules)"),
    ] {
        assert_eq!(told(finder.dropped(&question)), expected, "{question:?}");
    }
}

#[test]
fn a_rule_set_with_a_gap_makes_nothing_certain() {
    let question = destination("tcp 10.42.0.10:40000 10.43.0.10:80", "tcp 10.42.0.10:40000 10.42.1.10:8080");
    for (family, certain) in [(None, false), (Some(Family::Ip), false), (Some(Family::Ip6), true)] {
        let gaps = vec![Gap { family, text: "x".to_owned() }];
        let finder = Finder::new(Rules { gaps, ..iptables_rules() });
        let attribution = finder.translated(&question).expect("a rule");
        assert_eq!(attribution.certain, certain, "{attribution}");
        assert_eq!(attribution.to_string().contains("not all rules are known"), !certain, "{attribution}");
    }
}

#[test]
fn rules_that_iptables_made_are_known_as_foreign() {
    let listing = nft::parse(include_str!("samples/iptables-nft.nft.json")).expect("a listing");
    assert_eq!(listing.foreign, [(Family::Ip, "filter".to_owned()), (Family::Ip, "nat".to_owned())]);
    assert_eq!(nft::parse(include_str!("samples/guard.nft.json")).expect("a listing").foreign, []);
}

#[test]
fn what_nft_of_tomorrow_says_costs_one_condition() {
    let text = r#"{"nftables": [{"metainfo": {}}, {"table": {"family": "inet", "name": "t", "handle": 1}},
        {"chain": {"family": "inet", "table": "t", "name": "c", "type": "filter", "hook": "forward", "prio": 0, "policy": "accept"}},
        {"rule": {"family": "inet", "table": "t", "chain": "c", "handle": 3, "expr": [{"telepathy": {"of": "sender"}}, {"drop": null}]}},
        {"novelty": {"family": "inet", "table": "t", "name": "n"}}, 7]}"#;
    let finder = Finder::new(nft_rules(text));
    assert_eq!(
        told(finder.dropped(&loss(Hook::Forward, "icmp 10.0.0.1 10.0.0.2"))),
        "nft inet t: c (handle 3)"
    );
    for broken in ["", "{", "[]", "{}", "{\"nftables\": 1}", "{\"nftables\": []} x"] {
        assert!(nft::parse(broken).is_err(), "{broken}");
    }
}

#[test]
fn all_of_it_travels() {
    for rules in [iptables_rules(), kube_proxy_nft(), guard()] {
        let json = serde_json::to_string(&rules).expect("JSON");
        assert_eq!(serde_json::from_str::<Rules>(&json).expect("rules"), rules);
    }
}

#[test]
fn hostile_names_do_not_steer_a_terminal() {
    let text = "*filter\n:FORWARD ACCEPT [0:0]\n:A\u{1b}[2J - [0:0]\n-A FORWARD -j A\u{1b}[2J\n\
                -A A\u{1b}[2J -m comment --comment \"x\u{202e}y\" -j DROP\nCOMMIT\n";
    let finder = Finder::new(Rules { tables: iptables::parse(text, Family::Ip), ..Rules::default() });
    let told = told(finder.dropped(&loss(Hook::Forward, "icmp 10.0.0.1 10.0.0.2")));
    assert_eq!(told, "iptables filter: A\\u{1b}[2J (“x\\u{202e}y”)");
}

#[test]
fn chains_that_call_each_other_come_to_an_end() {
    let mut text = "*filter\n:FORWARD ACCEPT [0:0]\n".to_owned();
    for n in 0..40 {
        text += &format!(":C{n} - [0:0]\n");
    }
    text += "-A FORWARD -m u32 --u32 z -j DROP\n-A FORWARD -j C0\n";
    for n in 0..40 {
        // Twice each: two to the power of forty ways.
        let next = (n + 1) % 40;
        text += &format!("-A C{n} -m u32 --u32 x -j C{next}\n-A C{n} -m u32 --u32 y -j C{next}\n");
    }
    text += "COMMIT\n";
    let finder = Finder::new(Rules { tables: iptables::parse(&text, Family::Ip), ..Rules::default() });
    let attribution = finder.dropped(&loss(Hook::Forward, "icmp 10.0.0.1 10.0.0.2")).expect("a rule");
    assert!(!attribution.certain, "{attribution}");
}
