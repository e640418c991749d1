//! Headers beyond plain IPv4, and captures that hold anything.

use etherparse::PacketBuilder;

use super::{Fragment, Reading, parse};
use crate::Protocol;
use crate::finish::label::label;

const ETHERNET: Reading<'_> =
    Reading { ethernet: true, length: None, segmented: false, vxlan_ports: &[8472] };

const FD1: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const FD2: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

#[test]
fn vlan_tags_are_skipped() {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .double_vlan(5.try_into().unwrap(), 6.try_into().unwrap())
        .ipv4([1, 2, 3, 4], [5, 6, 7, 8], 64)
        .udp(53, 54)
        .write(&mut bytes, b"0123456789")
        .unwrap();
    let packet = parse(&bytes, ETHERNET).unwrap().packet;
    assert_eq!((packet.ports(), packet.payload), (Some((53, 54)), 10));
    assert_eq!(label(&packet, 0), "datagram 10 B");
}

#[test]
fn ipv6_echo_and_its_extension_headers() {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv6(FD1, FD2, 64)
        .icmpv6_echo_request(9, 3)
        .write(&mut bytes, &[1; 20])
        .unwrap();
    let packet = parse(&bytes, ETHERNET).unwrap().packet;
    assert_eq!((packet.proto(), label(&packet, 0).as_str()), (Protocol::Icmpv6, "echo request id 9 seq 3"));
    assert_eq!((packet.length, packet.payload), (68, 20));

    // The same behind hop-by-hop options and a fragment header.
    let mut extended = bytes[..54].to_vec();
    extended[14 + 6] = 0;
    extended[14 + 5] += 16;
    extended.extend_from_slice(&[44, 0, 1, 4, 0, 0, 0, 0]);
    extended.extend_from_slice(&[58, 0, 0, 1, 0, 0, 1, 7]);
    extended.extend_from_slice(&bytes[54..]);
    let packet = parse(&extended, ETHERNET).unwrap().packet;
    assert_eq!((packet.id, packet.fragment), (263, Some(Fragment { offset: 0, more: true })));
    assert_eq!((packet.echo(), packet.payload), (Some(true), 20));
}

#[test]
fn a_cut_anywhere_is_no_panic_and_keeps_the_addresses() {
    let inner = {
        let mut bytes = vec![8, 0, 0, 0, 0, 0, 1, 0];
        PacketBuilder::ethernet2([1; 6], [2; 6])
            .ipv4([10, 42, 0, 10], [10, 42, 1, 10], 64)
            .tcp(1, 2, 3, 4)
            .syn()
            .write(&mut bytes, &[])
            .unwrap();
        bytes
    };
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv6(FD1, FD2, 64)
        .udp(51_234, 8472)
        .write(&mut bytes, &inner)
        .unwrap();
    let whole = parse(&bytes, ETHERNET).unwrap();
    assert_eq!((whole.outer.unwrap().overhead, whole.outer.unwrap().vni), (70, 1));
    assert_eq!(label(&whole.packet, 0), "SYN");
    for cut in 0..bytes.len() {
        if let Some(headers) = parse(&bytes[..cut], ETHERNET) {
            let inside = headers.outer.is_some();
            assert_eq!(headers.packet.src.is_ipv4(), inside, "cut at {cut}");
            let _ = label(&headers.packet, 0);
        }
    }
}
