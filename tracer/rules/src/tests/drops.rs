//! Which rule dropped a packet.

use super::*;

#[test]
fn drops_of_iptables() {
    let finder = Finder::new(iptables_rules());
    let ssh = loss(Hook::Forward, "tcp 10.42.0.66:40000 172.16.0.9:22");
    for (question, expected) in [
        (ssh, "iptables filter: FORWARD (“no ssh from \"pod66\"”)"),
        // Another port, which flannel accepts: no rule of these can have dropped it.
        (loss(Hook::Forward, "tcp 10.42.0.66:40000 172.16.0.9:23"), "nothing"),
        (loss(Hook::Forward, "udp 172.16.0.9:1 172.16.0.8:1"), "iptables filter: FORWARD (policy)"),
        (
            Loss { state: Some("invalid"), ..loss(Hook::Forward, "tcp 10.42.0.10:1 10.42.1.10:1") },
            "iptables filter: KUBE-FORWARD",
        ),
        // With an unknown state, both are possible.
        (Loss { state: None, ..ssh }, "iptables filter (one of 2 rules)"),
        (
            loss(Hook::Forward, "tcp 10.42.0.10:40000 10.43.0.30:80"),
            "iptables filter: KUBE-SERVICES (default/empty:http)",
        ),
        (
            loss(Hook::Input, "tcp 172.16.0.9:40000 192.168.56.11:30099"),
            "iptables filter: KUBE-EXTERNAL-SERVICES (default/empty:http)",
        ),
        // `DNAT` is an unknown state, which does not rule out the rule.
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
        // nft does not list that this rule is for IPv6, so the policy is possible as well.
        (
            Loss { in_device: Some("eth0"), ..loss(Hook::Forward, "tcp 10.42.0.16:1 172.16.0.9:22") },
            "nft inet guard: forward (one of 3 rules)",
        ),
        // Neither the recent sources nor the rate are known.
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

/// One rule each, as nft lists it: its text, and whether it can have dropped a packet from 10.0.0.1 to port 80.
#[test]
fn nftables_rules_have_their_text() {
    let text = include_str!("../samples/words.nft.json");
    let table = nft::parse(text).expect("a listing").tables.remove(0);
    let texts: Vec<_> =
        table.chains.iter().flat_map(|chain| &chain.rules).map(|rule| rule.text.as_str()).collect();
    assert_eq!(texts.join("\n"), include_str!("../samples/words.txt").trim_end());
    for (rule, expected) in [
        ("ct state != new drop", "nothing"),
        ("ct status dnat drop", "nft inet words: f (handle 3)"),
        ("meta l4proto tcp th dport 1024-65535 drop", "nothing"),
        ("meta l4proto tcp th dport != 1-1023 drop", "nothing"),
        (
            "meta l4proto tcp ip saddr . th dport { 10.0.0.1 . 80, 10.0.0.2 . 81-90 } drop",
            "nft inet words: f (handle 3)",
        ),
        ("ip daddr vmap { 10.0.0.1 : drop, 10.1.0.0/16 : jump x }", "nothing"),
        ("ip6 saddr != fd00::/64 drop", "nothing"),
        ("limit rate over 5/second drop", "nft inet words: f (handle 3)"),
    ] {
        let found = table.chains.iter().flat_map(|chain| &chain.rules).find(|known| known.text == rule);
        let only = Rule { handle: Some(3), ..found.unwrap_or_else(|| panic!("no rule {rule}")).clone() };
        let base = Base { hook: Hook::Forward, nat: false, priority: 0, drops: false };
        let chain = Chain { name: "f".to_owned(), base: Some(base), devices: Vec::new(), rules: vec![only] };
        let tables = vec![Table { chains: vec![chain], ..table.clone() }];
        let finder = Finder::new(Rules { tables, ..Rules::default() });
        let question = loss(Hook::Forward, "tcp 10.0.0.1:80 10.2.0.2:80");
        assert_eq!(told(finder.dropped(&question)), expected, "{rule}");
    }
}

#[test]
fn an_unknown_statement_costs_one_condition() {
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
fn hostile_names_are_escaped() {
    let text = "*filter\n:FORWARD ACCEPT [0:0]\n:A\u{1b}[2J - [0:0]\n-A FORWARD -j A\u{1b}[2J\n\
                -A A\u{1b}[2J -m comment --comment \"x\u{202e}y\" -j DROP\nCOMMIT\n";
    let finder = Finder::new(Rules { tables: iptables::parse(text, Family::Ip), ..Rules::default() });
    let told = told(finder.dropped(&loss(Hook::Forward, "icmp 10.0.0.1 10.0.0.2")));
    assert_eq!(told, "iptables filter: A\\u{1b}[2J (“x\\u{202e}y”)");
}

#[test]
fn recursive_chains_end() {
    let mut text = "*filter\n:FORWARD ACCEPT [0:0]\n".to_owned();
    for n in 0..40 {
        text += &format!(":C{n} - [0:0]\n");
    }
    text += "-A FORWARD -m u32 --u32 z -j DROP\n-A FORWARD -j C0\n";
    for n in 0..40 {
        // Each calls the next one twice: two to the power of forty paths.
        let next = (n + 1) % 40;
        text += &format!("-A C{n} -m u32 --u32 x -j C{next}\n-A C{n} -m u32 --u32 y -j C{next}\n");
    }
    text += "COMMIT\n";
    let finder = Finder::new(Rules { tables: iptables::parse(&text, Family::Ip), ..Rules::default() });
    let attribution = finder.dropped(&loss(Hook::Forward, "icmp 10.0.0.1 10.0.0.2")).expect("a rule");
    assert!(!attribution.certain, "{attribution}");
}

#[test]
fn a_chain_of_a_device_drops_at_that_device_only() {
    let text = r#"{"nftables": [{"table": {"family": "netdev", "name": "guard", "handle": 1}},
        {"chain": {"family": "netdev", "table": "guard", "name": "in", "handle": 1, "type": "filter", "hook": "ingress", "prio": 0, "policy": "accept", "dev": "veth1"}},
        {"chain": {"family": "netdev", "table": "guard", "name": "out", "handle": 3, "type": "filter", "hook": "egress", "prio": 0, "policy": "accept", "dev": ["veth2", "veth3"]}},
        {"rule": {"family": "netdev", "table": "guard", "chain": "in", "handle": 2, "expr": [{"drop": null}]}},
        {"rule": {"family": "netdev", "table": "guard", "chain": "out", "handle": 4, "expr": [{"drop": null}]}}]}"#;
    let finder = Finder::new(nft_rules(text));
    let packet = "icmp 10.0.0.1 10.0.0.2";
    for (hook, device, expected) in [
        (Hook::Ingress, "veth1", "nft netdev guard: in (handle 2)"),
        (Hook::Ingress, "veth2", "nothing"),
        (Hook::Egress, "veth3", "nft netdev guard: out (handle 4)"),
        (Hook::Egress, "veth1", "nothing"),
    ] {
        let at = |of: Hook| (hook == of).then_some(device);
        let question =
            Loss { in_device: at(Hook::Ingress), out_device: at(Hook::Egress), ..loss(hook, packet) };
        assert_eq!(told(finder.dropped(&question)), expected, "{hook:?} {device}");
    }
    assert_eq!(told(finder.dropped(&loss(Hook::Forward, packet))), "nothing");
}

#[test]
fn what_a_rule_sends_on_is_known_only_where_it_matches() {
    let text = "*nat\n:PREROUTING ACCEPT [0:0]\n:CNI-DN - [0:0]\n\
                -A PREROUTING -d 192.168.56.12/32 -p tcp -m tcp --dport 9000 -j CNI-DN\n\
                -A CNI-DN -p tcp -m tcp --dport 9000 -j DNAT --to-destination 10.42.1.99:8080\n\
                -A PREROUTING -p tcp -m tcp --dport 9001 -j DNAT --to-destination 192.168.56.12:80\n\
                -A PREROUTING -p tcp -m statistic --mode random --probability 0.5 --dport 9002 -j DNAT \
                --to-destination 10.42.1.99:80\nCOMMIT\n";
    let rules = Rules {
        tables: iptables::parse(text, Family::Ip),
        local: vec!["192.168.56.12".parse().expect("an address")],
        ..Rules::default()
    };
    let finder = Finder::new(rules);
    for (port, expected) in [(9000, true), (9001, false), (9002, false), (9003, false)] {
        let packet = loss(Hook::Prerouting, &format!("tcp 10.42.0.10:40000 192.168.56.12:{port}")).packet;
        assert_eq!(finder.sends_on(packet), expected, "{port}");
    }
}

#[test]
fn a_mark_is_unknown_once_a_rule_may_have_returned_with_another() {
    // Whether `quota` matches cannot be known: the packet returns with mark 1, or with the mark it came with.
    let text = "*filter\n:FORWARD ACCEPT [0:0]\n:MARKER - [0:0]\n-A FORWARD -j MARKER\n\
         -A FORWARD -m mark --mark 0x1 -j DROP\n-A MARKER -j MARK --set-xmark 0x1/0xffffffff\n\
         -A MARKER -m quota --quota 10 -j RETURN\n-A MARKER -j MARK --set-xmark 0x0/0xffffffff\nCOMMIT\n";
    let finder = Finder::new(Rules { tables: iptables::parse(text, Family::Ip), ..Rules::default() });
    let dropped = finder.dropped(&loss(Hook::Forward, "tcp 10.42.0.10:1 10.42.1.10:1"));
    assert_eq!(told(dropped), "iptables filter: FORWARD");
}

/// What a listing of iptables certainly drops of a packet that nobody sent.
fn certainly(listing: &str, question: &Loss<'_>) -> String {
    let tables = iptables::parse(listing, Family::Ip);
    told(Finder::new(Rules { tables, ..Rules::default() }).drops(question))
}

#[test]
fn what_a_rule_drops_is_certain_only_if_it_asks_for_nothing_unknown() {
    let filter = |rules: &str| format!("*filter\n:FORWARD ACCEPT [0:0]\n:MINE - [0:0]\n{rules}COMMIT\n");
    let pod = loss(Hook::Forward, "tcp 10.42.0.10:40000 10.42.1.10:8080");
    let unknown = Loss { packet: Packet { source_port: None, destination_port: None, ..pod.packet }, ..pod };
    for (rules, expected) in [
        ("-A FORWARD -s 10.42.0.0/16 -j DROP\n", "iptables filter: FORWARD"),
        ("-A FORWARD -s 10.42.0.0/16 -j MINE\n-A MINE -p tcp -j REJECT\n", "iptables filter: MINE"),
        ("-A FORWARD -p tcp -m tcp --dport 22 -j DROP\n", "nothing"),
        ("-A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT\n-A FORWARD -j DROP\n", "nothing"),
        ("-A FORWARD -p udp -j ACCEPT\n-A FORWARD -j DROP\n", "iptables filter: FORWARD"),
        ("-A FORWARD -m limit --limit 1/sec -j DROP\n", "nothing"),
    ] {
        assert_eq!(certainly(&filter(rules), &unknown), expected, "{rules}");
    }
    let closed = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -d 10.43.0.0/16 -j ACCEPT\nCOMMIT\n";
    assert_eq!(certainly(closed, &unknown), "iptables filter: FORWARD (policy)");
}

#[test]
fn what_a_rule_masquerades_is_certain_only_if_it_asks_for_nothing_unknown() {
    let packet = Packet {
        source_port: None,
        destination_port: None,
        ..loss(Hook::Forward, "tcp 10.42.0.10:1 10.42.1.10:1").packet
    };
    for (rule, expected) in [
        ("-s 10.42.0.0/24 -j MASQUERADE", "iptables nat: POSTROUTING"),
        ("-s 10.42.0.0/24 ! -d 10.42.0.0/16 -j MASQUERADE", "nothing"),
        ("-s 10.42.0.0/24 -p tcp -m tcp --dport 443 -j MASQUERADE", "nothing"),
        ("-s 10.42.0.0/24 -o eth0 -j MASQUERADE", "nothing"),
        ("-m mark --mark 0x4000/0x4000 -j MASQUERADE", "nothing"),
    ] {
        let listing = format!("*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING {rule}\nCOMMIT\n");
        let tables = iptables::parse(&listing, Family::Ip);
        let finder = Finder::new(Rules { tables, ..Rules::default() });
        assert_eq!(told(finder.hides(packet, "flannel.1")), expected, "{rule}");
    }
}
