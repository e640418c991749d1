//! Names of IP protocols in packet filters.

const NAMES: [(&str, u8); 14] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipencap", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("comp", 108),
    ("sctp", 132),
    ("udplite", 136),
];

/// The number of a protocol, given by name or number.
pub(super) fn number(name: &str) -> Option<u32> {
    let known = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| u32::from(*number));
    known.or_else(|| name.parse::<u8>().ok().map(u32::from))
}

/// The name of a protocol, if it is in the table.
pub(super) fn name(number: u32) -> Option<&'static str> {
    NAMES.iter().find(|(_, known)| u32::from(*known) == number).map(|(name, _)| *name)
}
