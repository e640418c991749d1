//! Rule sets as iptables and nft would list them, asked about a translation and a drop.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use podtrace_rules::{End, Family, Finder, Hook, Loss, Packet, Rules, Translation, iptables, nft};

/// A packet to this end, by TCP.
fn packet(destination: [u8; 4], port: u16) -> Packet {
    Packet {
        source: IpAddr::V4(Ipv4Addr::new(10, 42, 0, 10)),
        destination: IpAddr::V4(destination.into()),
        protocol: 6,
        source_port: Some(40000),
        destination_port: Some(port),
    }
}

fuzz_target!(|text: &str| {
    let mut tables = iptables::parse(text, Family::Ip);
    if let Ok(listing) = nft::parse(text) {
        tables.extend(listing.tables);
    }
    let rules = Rules { tables, ..Rules::default() };
    let Ok(json) = serde_json::to_string(&rules) else { panic!("rules that cannot be sent") };
    assert_eq!(serde_json::from_str(&json).ok().as_ref(), Some(&rules));
    let finder = Finder::new(rules);
    let question = Translation {
        before: packet([10, 43, 0, 10], 80),
        after: packet([10, 42, 1, 10], 8080),
        ..Translation::of(End::Destination)
    };
    let dropped = Loss { packet: packet([10, 42, 1, 10], 8080), ..Loss::at(Hook::Forward) };
    for attribution in [finder.translated(&question), finder.dropped(&dropped)].into_iter().flatten() {
        let told = attribution.to_string();
        assert!(!told.contains(char::is_control), "{told:?}");
    }
});
