//! Whole listings: large ones, garbled ones, and their encoding.

use super::*;

#[test]
fn tables_made_by_iptables_are_recognised() {
    let listing = nft::parse(include_str!("../samples/iptables-nft.nft.json")).expect("a listing");
    assert_eq!(listing.foreign, [(Family::Ip, "filter".to_owned()), (Family::Ip, "nat".to_owned())]);
    assert_eq!(nft::parse(include_str!("../samples/guard.nft.json")).expect("a listing").foreign, []);
}

#[test]
fn rules_survive_encoding() {
    for rules in [iptables_rules(), kube_proxy_nft(), guard()] {
        let json = serde_json::to_string(&rules).expect("JSON");
        assert_eq!(serde_json::from_str::<Rules>(&json).expect("rules"), rules);
    }
}

/// kube-proxy's rules for many Services of three endpoints each.
fn many_services(services: usize) -> Rules {
    use std::fmt::Write as _;

    let mut chains = String::new();
    let mut rules = String::new();
    for s in 0..services {
        let service = format!("10.43.{}.{}", s / 256, s % 256);
        let asked = format!(
            "-d {service}/32 -p tcp -m comment --comment \"default/web{s}:http cluster IP\" -m tcp --dport 80"
        );
        let _ = writeln!(chains, ":KUBE-SVC-{s:016} - [0:0]");
        let _ = writeln!(rules, "-A KUBE-SERVICES {asked} -j KUBE-SVC-{s:016}");
        let _ = writeln!(rules, "-A KUBE-SVC-{s:016} ! -s 10.42.0.0/16 {asked} -j KUBE-MARK-MASQ");
        for e in 0..3 {
            let endpoint = format!("10.42.{}.{}", s / 64, s % 64 * 4 + e);
            let comment = format!("-m comment --comment \"default/web{s}:http\"");
            let _ = writeln!(chains, ":KUBE-SEP-{s:015}{e} - [0:0]");
            let _ = writeln!(
                rules,
                "-A KUBE-SVC-{s:016} -m statistic --mode random --probability 0.5 -j KUBE-SEP-{s:015}{e}"
            );
            let _ = writeln!(rules, "-A KUBE-SEP-{s:015}{e} -s {endpoint}/32 {comment} -j KUBE-MARK-MASQ");
            let _ = writeln!(
                rules,
                "-A KUBE-SEP-{s:015}{e} -p tcp {comment} -m tcp -j DNAT --to-destination {endpoint}:8080"
            );
        }
    }
    let text = format!(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n{chains}\
         -A PREROUTING -j KUBE-SERVICES\n-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n{rules}COMMIT\n"
    );
    Rules { tables: iptables::parse(&text, Family::Ip), ..Rules::default() }
}

#[test]
fn one_of_many_services_is_found_without_guessing() {
    let whole = many_services(1000);
    let first = destination("tcp 10.42.0.99:40000 10.43.0.0:80", "tcp 10.42.0.99:40000 10.42.0.2:8080");
    let last = destination("tcp 10.42.0.99:40000 10.43.3.231:80", "tcp 10.42.0.99:40000 10.42.15.158:8080");
    let finder = Finder::new(whole.clone());
    assert_eq!(
        told(finder.translated(&first)),
        "iptables nat: KUBE-SERVICES → KUBE-SVC-0000000000000000 → KUBE-SEP-0000000000000002 (default/web0:http)"
    );
    assert_eq!(
        told(finder.translated(&last)),
        "iptables nat: KUBE-SERVICES → KUBE-SVC-0000000000000999 → KUBE-SEP-0000000000009992 (default/web999:http)"
    );
    let size = serde_json::to_string(&whole).expect("JSON").len();
    let finder = Finder::new(keep(whole, size / 2));
    assert_eq!(
        told(finder.translated(&first)),
        "iptables nat: KUBE-SERVICES → KUBE-SVC-0000000000000000 → KUBE-SEP-0000000000000002 (default/web0:http, not all \
         rules are known)"
    );
    assert_eq!(told(finder.translated(&last)), "nothing");
}

/// Any input is parsed to its end, and questions about it do not panic.
#[test]
fn truncated_and_garbled_listings_do_no_harm() {
    let question = destination("tcp 10.42.0.10:40000 10.43.0.10:80", "tcp 10.42.0.10:40000 10.42.1.10:8080");
    let lost = loss(Hook::Forward, "tcp 10.42.0.10:40000 10.42.1.10:8080");
    let ask = |tables: Vec<Table>| {
        let finder = Finder::new(keep(Rules { tables, ..Rules::default() }, BUDGET));
        for attribution in [finder.translated(&question), finder.dropped(&lost)].into_iter().flatten() {
            assert!(!attribution.to_string().contains(char::is_control), "{attribution}");
        }
    };
    let samples = [
        include_str!("../samples/kube-proxy.iptables"),
        include_str!("../samples/guard.nft.json"),
        include_str!("../samples/words.nft.json"),
    ];
    // A fixed seed: a failure can be repeated.
    let mut chance: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut below = |limit: usize| {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        usize::try_from(chance % limit as u64).expect("less than a length")
    };
    for sample in samples {
        for _ in 0..100 {
            let mut garbled = sample.to_owned();
            for _ in 0..below(8) {
                let from = below(garbled.len() - 40);
                let piece = garbled[from..from + below(40)].to_owned();
                let at = below(garbled.len() - 40);
                garbled.replace_range(at..at + below(40), &piece);
            }
            ask(iptables::parse(&garbled, Family::Ip));
            ask(iptables::parse(&garbled[..below(garbled.len())], Family::Ip));
            // A moved piece mostly breaks the JSON; a moved object does not.
            let mut objects: Vec<_> = sample.lines().collect();
            let from = below(objects.len());
            let to = below(objects.len());
            objects.swap(from, to);
            for text in [garbled, objects.join("\n")] {
                if let Ok(listing) = nft::parse(&text) {
                    ask(listing.tables);
                }
            }
        }
    }
}
