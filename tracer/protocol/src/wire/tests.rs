//! Headers beyond plain IPv4, captures that hold anything, and the facts that eBPF programs share.

use etherparse::PacketBuilder;

use super::{Encapsulation, Fragment, Headers, Ip, Reading, Transport, parse};

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
    assert!(matches!(packet.transport, Transport::Icmp { kind: 128, rest: 0x0009_0003, .. }));
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

/// A TCP segment in VXLAN over IPv6.
fn tunnelled() -> Vec<u8> {
    let mut inner = vec![8, 0, 0, 0, 0, 0, 1, 0];
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4([10, 42, 0, 10], [10, 42, 1, 10], 64)
        .tcp(1, 2, 3, 4)
        .syn()
        .write(&mut inner, &[])
        .unwrap();
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv6(FD1, FD2, 64)
        .udp(51_234, 8472)
        .write(&mut bytes, &inner)
        .unwrap();
    bytes
}

#[test]
fn a_cut_anywhere_is_no_panic_and_keeps_the_addresses() {
    let bytes = tunnelled();
    let Headers { packet, outer } = parse(&bytes, ETHERNET).unwrap();
    let Encapsulation { overhead, vni, .. } = outer.unwrap();
    assert_eq!((overhead, vni), (70, 1));
    assert!(matches!(packet.transport, Transport::Tcp { flags: super::tcp_flag::SYN, .. }));
    for cut in 0..bytes.len() {
        if let Some(headers) = parse(&bytes[..cut], ETHERNET) {
            assert_eq!(headers.packet.src.is_ipv4(), headers.outer.is_some(), "cut at {cut}");
        }
    }
}

#[test]
fn vxlan_without_its_flag_is_a_datagram() {
    let mut bytes = tunnelled();
    bytes[14 + 40 + 8] = 0;
    let Headers { packet, outer } = parse(&bytes, ETHERNET).unwrap();
    assert_eq!((outer, packet.ports()), (None, Some((51_234, 8472))));
    assert!(Ip::in_frame(&bytes).unwrap().inner(&[8472]).is_none());
}

#[test]
fn user_space_reads_errors_and_extension_headers_as_kernel_programs_do() {
    use tracer_common::wire::{extension_length, is_extension, is_icmp_error};

    /// RFC 792 and what connection tracking takes for errors; RFC 4443, section 2.1.
    const V4_ERRORS: [u8; 5] = [3, 4, 5, 11, 12];
    for kind in 0..=u8::MAX {
        assert_eq!(is_icmp_error(1, kind), V4_ERRORS.contains(&kind), "ICMP type {kind}");
        assert_eq!(is_icmp_error(58, kind), kind < 128, "ICMPv6 type {kind}");
        assert!(!is_icmp_error(17, kind));
        for (protocol, addresses) in [(1, [0x45, 20]), (58, [0x60, 40])] {
            let [first, header] = addresses;
            let packet = |protocol: u8, body: &[u8]| {
                let mut bytes = vec![0; usize::from(header)];
                bytes[0] = first;
                bytes[if first == 0x45 { 9 } else { 6 }] = protocol;
                bytes.extend_from_slice(body);
                bytes
            };
            let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
            message.extend(packet(17, &[0, 1, 0, 2, 0, 8, 0, 0]));
            let bytes = packet(protocol, &message);
            let ip = Ip::new(&bytes).unwrap();
            assert_eq!(ip.quoted().is_some(), is_icmp_error(protocol, kind), "{protocol} {kind}");
            let parsed = parse(&bytes, Reading { ethernet: false, ..ETHERNET }).unwrap().packet;
            assert_eq!(parsed.quoted().is_some(), is_icmp_error(protocol, kind), "{protocol} {kind}");
        }
        let mut bytes = vec![0; 40];
        bytes[0] = 0x60;
        bytes[6] = kind;
        // The extension header says that nothing follows (59), and that it is as short as can be.
        bytes.extend_from_slice(&[59, 0, 0, 0, 0, 0, 0, 0]);
        let ip = Ip::new(&bytes).unwrap();
        let length = (kind == 44 || is_extension(kind)).then_some(extension_length(0));
        let skipped = length.map(|length| (59, 40 + usize::try_from(length).unwrap()));
        assert_eq!((ip.protocol, ip.header), skipped.unwrap_or((kind, 40)), "extension header {kind}");
    }
}
