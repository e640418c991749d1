//! Which rule translated a packet.

use super::*;

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
        // The same rule for packets from the node itself and from elsewhere.
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
        // No rule can have made this change.
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
        // With an unknown mark: kube-proxy, portmap or flannel.
        (pod_to_world, "iptables nat (one of 3 rules)"),
        (Translation { mark: Some(0x2000), ..pod_to_world }, "iptables nat: CNI-HOSTPORT-MASQ"),
        (
            Translation {
                mark: Some(0),
                ..source("udp 10.77.0.5:40000 172.16.0.9:80", "udp 192.168.56.11:40000 172.16.0.9:80")
            },
            "iptables nat: CNI-a55f8d1f3a7e0e1c6ab24b8c (“name: \"bridgenet\" id: \"a55f8d1f\"”)",
        ),
        // Not an address of the node: no masquerading.
        (source("tcp 10.42.0.10:40000 172.16.0.9:80", "tcp 10.9.9.9:40000 172.16.0.9:80"), "nothing"),
    ] {
        assert_eq!(told(finder.translated(&question)), expected, "{question:?}");
    }
}

#[test]
fn destinations_in_ip6tables() {
    let mut rules = iptables_rules();
    rules.tables.extend(iptables::parse(include_str!("../samples/kube-proxy.ip6tables"), Family::Ip6));
    let finder = Finder::new(rules);
    let question = destination(
        "tcp [fd00:42::9]:40000 [fd00:43::10]:80",
        "tcp [fd00:42::9]:40000 [fd00:42:0:1::10]:8080",
    );
    assert_eq!(
        told(finder.translated(&question)),
        "ip6tables nat: KUBE-SERVICES → KUBE-SVC-4OARLUDTQO2XGPCK → KUBE-SEP-JR5T7DUAL2WNXM4F (default/six:http)"
    );
    let question = Loss { bridge: None, ..loss(Hook::Forward, "tcp [fd00:42::9]:1 [fd00:43::10]:80") };
    assert_eq!(told(finder.dropped(&question)), "nothing", "IPv4's rules see no packet of IPv6");
}

/// Without hooks in the network stack, nothing observes the mark by which kube-proxy masquerades.
#[test]
fn an_unobserved_mark_follows_from_the_packet_that_entered() {
    let entered = |text: &str, mark| Some(Entered { packet: packet(text), mark });
    let hairpin = Translation {
        in_device: Some("cni0"),
        entered: entered("tcp 10.42.0.11:40000 10.43.0.10:80", Some(0)),
        ..source("tcp 10.42.0.11:40000 10.42.0.11:8080", "tcp 10.42.0.1:40000 10.42.0.11:8080")
    };
    let node_port = Translation {
        in_device: Some("eth0"),
        entered: entered("tcp 172.16.0.9:40000 192.168.56.11:30080", Some(0)),
        ..source("tcp 172.16.0.9:40000 10.42.1.10:8080", "tcp 192.168.56.11:40000 10.42.1.10:8080")
    };
    let to_world = Translation {
        in_device: Some("cni0"),
        entered: entered("tcp 10.42.0.10:40000 172.16.0.9:80", Some(0)),
        ..source("tcp 10.42.0.10:40000 172.16.0.9:80", "tcp 192.168.56.11:40000 172.16.0.9:80")
    };
    // Of portmap: from the pod's own network, and so marked.
    let host_port = Translation {
        in_device: Some("cni0"),
        entered: entered("tcp 10.42.0.10:40000 192.168.56.11:8088", Some(0)),
        ..source("tcp 10.42.0.10:40000 10.42.0.10:80", "tcp 10.42.0.1:40000 10.42.0.10:80")
    };
    let kube = "iptables nat: KUBE-POSTROUTING (“kubernetes service traffic requiring SNAT”)";
    let finder = Finder::new(iptables_rules());
    for (question, expected) in [
        (hairpin, kube),
        (node_port, kube),
        (to_world, "iptables nat: FLANNEL-POSTRTG (“flanneld masq”)"),
        (host_port, "iptables nat: CNI-HOSTPORT-MASQ"),
        // It may also come from the node itself; the same rules apply.
        (Translation { in_device: None, ..node_port }, kube),
        // An unknown mark stays unknown.
        (
            Translation { entered: entered("tcp 10.42.0.10:40000 172.16.0.9:80", None), ..to_world },
            "iptables nat (one of 3 rules)",
        ),
        // A pod's packet to a Service is not marked: nothing translates its source.
        (
            Translation {
                in_device: Some("cni0"),
                entered: entered("tcp 10.42.0.10:40000 10.43.0.10:80", Some(0)),
                ..source("tcp 10.42.0.10:40000 10.42.1.10:8080", "tcp 192.168.56.11:40000 10.42.1.10:8080")
            },
            "nothing",
        ),
    ] {
        assert_eq!(told(finder.translated(&question)), expected, "{question:?}");
    }
    let finder = Finder::new(kube_proxy_nft());
    for question in [hairpin, node_port] {
        assert_eq!(
            told(finder.translated(&question)),
            "nft ip kube-proxy: masquerading (handle 48)",
            "{question:?}"
        );
    }
    assert_eq!(told(finder.translated(&to_world)), "nothing");
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
fn translations_by_custom_nftables_rules() {
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
fn with_a_gap_no_attribution_is_certain() {
    let question = destination("tcp 10.42.0.10:40000 10.43.0.10:80", "tcp 10.42.0.10:40000 10.42.1.10:8080");
    for (family, certain) in [(None, false), (Some(Family::Ip), false), (Some(Family::Ip6), true)] {
        let gaps = vec![Gap { family, text: "x".to_owned() }];
        let finder = Finder::new(Rules { gaps, ..iptables_rules() });
        let attribution = finder.translated(&question).expect("a rule");
        assert_eq!(attribution.certain, certain, "{attribution}");
        assert_eq!(attribution.to_string().contains("not all rules are known"), !certain, "{attribution}");
    }
}
