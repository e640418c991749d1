//! Names of packets: `echo request id 7 seq 1`, `SYN-ACK`, `datagram 12 B`.

use std::fmt::Write as _;

use podtrace_protocol::wire::{Packet, Transport, protocol, tcp_flag as tcp};

/// The packet's label. `relative` is its sequence number counted from the first one seen of its stream.
pub(crate) fn label(packet: &Packet, relative: u64) -> String {
    if let Some(fragment) = packet.fragment
        && fragment.offset > 0
    {
        return format!("fragment at {}", fragment.offset);
    }
    let mut label = match &packet.transport {
        Transport::Tcp { flags, .. } => segment(*flags, packet.payload, relative),
        Transport::Udp { .. } => format!("datagram {} B", packet.payload),
        Transport::Sctp { .. } => format!("chunks {} B", packet.payload),
        Transport::Icmp { kind, code, rest, .. } if packet.protocol == protocol::ICMP => {
            icmp(*kind, *code, *rest)
        }
        Transport::Icmp { kind, code, rest, .. } => icmpv6(*kind, *code, *rest),
        Transport::None => format!("protocol {} {} B", packet.protocol, packet.payload),
    };
    if packet.fragment.is_some() {
        label.push_str(", first fragment");
    }
    label
}

fn segment(flags: u8, payload: u32, relative: u64) -> String {
    let names =
        [(tcp::SYN, "SYN"), (tcp::FIN, "FIN"), (tcp::RST, "RST"), (tcp::PSH, "PSH"), (tcp::ACK, "ACK")];
    let mut label = String::new();
    for (bit, name) in names {
        if flags & bit != 0 {
            if !label.is_empty() {
                label.push('-');
            }
            label.push_str(name);
        }
    }
    if label.is_empty() {
        label.push_str("no flags");
    }
    if payload > 0 {
        let _ = write!(label, " {payload} B seq {relative}");
    }
    label
}

fn echo(name: &str, rest: u32) -> String {
    format!("echo {name} id {} seq {}", rest >> 16, rest & 0xffff)
}

fn icmp(kind: u8, code: u8, rest: u32) -> String {
    match (kind, code) {
        (8, _) => echo("request", rest),
        (0, _) => echo("reply", rest),
        (3, 4) => format!("fragmentation needed, MTU {}", rest & 0xffff),
        (3, _) => {
            let reason = match code {
                0 => "network",
                1 => "host",
                2 => "protocol",
                3 => "port",
                5 => "source route failed",
                6 | 7 => "unknown destination",
                9 | 10 | 13 => "administratively prohibited",
                _ => return format!("destination unreachable: code {code}"),
            };
            format!("destination unreachable: {reason}")
        }
        (5, _) => "redirect".to_owned(),
        (11, 0) => "time exceeded in transit".to_owned(),
        (11, _) => "time exceeded in reassembly".to_owned(),
        (12, _) => "parameter problem".to_owned(),
        _ => format!("icmp type {kind} code {code}"),
    }
}

fn icmpv6(kind: u8, code: u8, rest: u32) -> String {
    match (kind, code) {
        (128, _) => echo("request", rest),
        (129, _) => echo("reply", rest),
        (1, _) => {
            let reason = match code {
                0 => "no route",
                1 => "administratively prohibited",
                2 => "beyond scope of source",
                3 => "address",
                4 => "port",
                5 | 6 => "rejected",
                _ => return format!("destination unreachable: code {code}"),
            };
            format!("destination unreachable: {reason}")
        }
        (2, _) => format!("packet too big, MTU {rest}"),
        (3, 0) => "hop limit exceeded in transit".to_owned(),
        (3, _) => "time exceeded in reassembly".to_owned(),
        (4, _) => "parameter problem".to_owned(),
        (133, _) => "router solicitation".to_owned(),
        (134, _) => "router advertisement".to_owned(),
        (135, _) => "neighbour solicitation".to_owned(),
        (136, _) => "neighbour advertisement".to_owned(),
        _ => format!("icmpv6 type {kind} code {code}"),
    }
}

/// An ICMP error in a few words: `port unreachable`, `host unreachable`, `time exceeded in transit`.
pub(crate) fn icmp_error(packet: &Packet) -> String {
    let label = label(packet, 0);
    match label.strip_prefix("destination unreachable: ") {
        Some(what @ ("network" | "host" | "protocol" | "port" | "address")) => format!("{what} unreachable"),
        Some(what) => format!("unreachable, {what}"),
        None => label,
    }
}
