//! Values of options of `iptables-save`: addresses, ports, marks.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::{Field, Marking, Match, Nat, Range};
use crate::protocol;

/// The condition of an option with this value; `None` if it is not understood.
pub(super) fn condition(option: &str, value: &str) -> Option<Match> {
    let is = |field, range| Some(Match::Is(field, vec![range]));
    let list = |field, each: fn(&str) -> Option<Range>| {
        Some(Match::Is(field, value.split(',').map(each).collect::<Option<_>>()?))
    };
    let word = |value: &str| Some(Range::Word(value.to_ascii_lowercase()));
    match option {
        "-s" => is(Field::Source, net(value)?),
        "-d" => is(Field::Destination, net(value)?),
        "-i" => is(Field::InDevice, device(value)),
        "-o" => is(Field::OutDevice, device(value)),
        "-p" => is(
            Field::Protocol,
            if value == "all" { Range::Any } else { Range::number(protocol::number(value)?) },
        ),
        "--sport" | "--sports" => list(Field::SourcePort, port_range),
        "--dport" | "--dports" => list(Field::DestinationPort, port_range),
        "--mark" => is(Field::Mark, bits(value)?),
        "--src-type" => list(Field::SourceType, word),
        "--dst-type" => list(Field::DestinationType, word),
        "--ctstate" | "--state" => list(Field::State, |state| {
            // A trace does not know whether the connection is translated.
            Some(match state {
                "DNAT" | "SNAT" => Range::Other(state.to_owned()),
                state => Range::Word(state.to_ascii_lowercase()),
            })
        }),
        "--src-range" => is(Field::Source, address_range(value)?),
        "--dst-range" => is(Field::Destination, address_range(value)?),
        _ => None,
    }
}

fn net(value: &str) -> Option<Range> {
    if let Ok(net) = value.parse::<IpNet>() {
        return Some(Range::Net(net.trunc()));
    }
    if let Ok(address) = value.parse() {
        return Some(Range::address(address));
    }
    // A mask that is no prefix is not understood.
    let (address, mask) = value.split_once('/')?;
    let net = IpNet::with_netmask(address.parse().ok()?, mask.parse().ok()?).ok()?;
    Some(Range::Net(net.trunc()))
}

/// `eth+` is every device whose name starts with `eth`.
fn device(value: &str) -> Range {
    Range::Word(match value.strip_suffix('+') {
        Some(beginning) => format!("{beginning}*"),
        None => value.to_owned(),
    })
}

/// `80` or `8000:8080`
fn port_range(value: &str) -> Option<Range> {
    let (first, last) = value.split_once(':').unwrap_or((value, value));
    let port =
        |text: &str, otherwise| if text.is_empty() { Some(otherwise) } else { text.parse::<u16>().ok() };
    Some(Range::Numbers(port(first, 0)?.into(), port(last, u16::MAX)?.into()))
}

fn address_range(value: &str) -> Option<Range> {
    let (first, last) = value.split_once('-').unwrap_or((value, value));
    Some(Range::Addresses(first.parse().ok()?, last.parse().ok()?))
}

/// `0x4000` or `0x4000/0x4000`
fn bits(value: &str) -> Option<Range> {
    let (bits, mask) = masked(value)?;
    Some(Range::Bits(mask, bits))
}

fn masked(value: &str) -> Option<(u32, u32)> {
    let (bits, mask) = value.split_once('/').map_or((value, None), |(bits, mask)| (bits, Some(mask)));
    Some((number(bits)?, mask.map_or(Some(u32::MAX), number)?))
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

pub(super) fn marking(option: &str, value: &str) -> Option<Marking> {
    let (bits, mask) = masked(value)?;
    Some(match option {
        // The mask's bits are cleared, then the value's toggled.
        "--set-xmark" => Marking { keep: !mask, toggle: bits },
        "--set-mark" => Marking { keep: !(mask | bits), toggle: bits },
        "--or-mark" => Marking { keep: !bits, toggle: bits },
        "--and-mark" => Marking { keep: bits, toggle: 0 },
        "--xor-mark" => Marking { keep: u32::MAX, toggle: bits },
        _ => return None,
    })
}

/// `10.42.1.10:8080`, `10.0.0.1-10.0.0.9:1024-2048`, `:80`, `[fd00::1]:80`, `fd00::1`
pub(super) fn nat(value: &str) -> Option<Nat> {
    let (addresses, ports_text) = if let Ok(address) = value.parse::<IpAddr>() {
        return Some(Nat { addresses: Some((address, address)), ports: None });
    } else if value.starts_with('[') {
        match value.rsplit_once("]:") {
            Some((addresses, ports)) => (addresses, Some(ports)),
            None => (value, None),
        }
    } else if value.matches(':').count() > 1 {
        (value, None)
    } else {
        value.split_once(':').map_or((value, None), |(addresses, ports)| (addresses, Some(ports)))
    };
    let address = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let addresses = match addresses.split_once('-').unwrap_or((addresses, addresses)) {
        ("", _) => None,
        (first, last) => Some((address(first)?, address(last)?)),
    };
    let ports = match ports_text {
        Some(text) => Some(ports(text)?),
        None => None,
    };
    (addresses.is_some() || ports.is_some()).then_some(Nat { addresses, ports })
}

/// `80`, `1024-2048`. With `/80`, the port of the packet from which they are counted, any of them is possible.
pub(super) fn ports(text: &str) -> Option<(u16, u16)> {
    let (range, _) = text.split_once('/').unwrap_or((text, ""));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    Some((first.parse().ok().filter(|port| *port != 0)?, last.parse().ok()?))
}
