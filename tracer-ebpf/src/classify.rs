//! Is this packet of interest? Decided before anything is written.

use tracer_common::{
    Filter, PORTS, VXLAN_PORTS, filter_flag, flag, side,
    wire::{ETHERNET_HEADER, ICMP_HEADER, UDP_HEADER, protocol, vxlan},
};

use crate::{
    conntrack,
    globals::{ADDRESSES, FILTER, FRAGMENTS, Fingerprint, FragmentKey, NODE_PORTS, member},
    header::{self, Header, Plain},
    reader::Reader,
};

/// UDP header, VXLAN header and inner Ethernet header.
const VXLAN_AND_BELOW: u32 = UDP_HEADER + vxlan::HEADER + ETHERNET_HEADER;

/// What the filter says of a packet.
pub(crate) struct Class {
    /// Whether its headers match.
    pub(crate) matches: bool,
    /// Whether it goes from the filter's `to` to its `from`; only known of those that match.
    pub(crate) is_back: bool,
    /// What there is to say of that, as event flags.
    pub(crate) flags: u16,
    /// What tells it from others, inside any tunnel.
    pub(crate) packet: Plain,
}

/// How a packet matches.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Match(u32);

impl Match {
    const NO: Self = Self(0);
    /// Only if a node's address in it stands for another one.
    const VIA: Self = Self(1);
    /// From `from` to `to`.
    const FORTH: Self = Self(2);
    /// From `to` to `from`.
    const BACK: Self = Self(3);

    /// Whether its own headers match.
    #[inline(always)]
    fn is_sure(self) -> bool {
        self.0 >= 2
    }

    /// Of the packet that quotes the one that matches so.
    #[inline(always)]
    fn of_error(self) -> Self {
        if self.is_sure() { Self(self.0 ^ 1) } else { self }
    }

    /// By the value that a translated connection's packet has in the map.
    #[inline(always)]
    fn of_translated(self, way: Option<u32>) -> Self {
        match way {
            Some(1) => Self::FORTH,
            Some(_) => Self::BACK,
            None => self,
        }
    }

    /// VERIFIER: lets it forget by which of its many ways it was decided.
    #[inline(always)]
    fn veiled(self, unknown: u32) -> Self {
        Self(header::veiled(self.0, unknown))
    }
}

/// Reads a packet's headers, the inner ones of VXLAN where there are, and applies the filter. `None` for what is
/// no IP packet.
#[inline(always)]
pub(crate) fn classify<R: Reader>(reader: &R) -> Option<Class> {
    let filter = FILTER.load();
    let header = innermost(reader)?;
    let packet = header.plain();
    let mut matches = wanted(&filter, &header, reader).veiled(packet.unknown);
    if !matches.is_sure() {
        matches = matches.of_translated(conntrack::translated(&header, reader));
    }
    matches = matches.veiled(packet.unknown);
    if matches == Match::NO && packet.is_icmp_error(reader) {
        // The error is about a packet of interest: it tells how that one's path ended.
        let quoted = packet.transport + ICMP_HEADER;
        if let Some(quoted) = Header::read(reader, quoted) {
            matches = wanted(&filter, &quoted, reader).veiled(packet.unknown);
            if !matches.is_sure() {
                matches = matches.of_translated(conntrack::quoted_translated(&quoted, reader));
            }
            matches = matches.of_error().veiled(packet.unknown);
        }
    }
    let flags = if matches == Match::VIA { flag::VIA } else { 0 };
    let flags = header::veiled(u32::from(flags), packet.unknown) as u16;
    Some(Class { matches: matches != Match::NO, is_back: matches == Match::BACK, flags, packet })
}

/// A packet's headers, the inner ones of VXLAN where there are.
#[inline(always)]
pub(crate) fn innermost<R: Reader>(reader: &R) -> Option<Header> {
    let vxlan_ports = member!(FILTER: Filter, vxlan_ports);
    let header = Header::read(reader, 0)?;
    if vxlan_ports[0] != 0
        && header.protocol == protocol::UDP
        && is_one_of(&vxlan_ports, header.ports(reader).1)
        && is_vxlan(header.transport, reader)
    {
        return Header::read(reader, header.transport + VXLAN_AND_BELOW);
    }
    Some(header)
}

/// Whether a packet to this port may be VXLAN. VERIFIER: without a branch for each port.
#[inline(always)]
fn is_one_of(ports: &[u16; VXLAN_PORTS], port: u16) -> bool {
    let [a, b, c, d] = *ports;
    let differs = |known: u16| u64::from(known ^ port);
    port != 0 && differs(a) * differs(b) * differs(c) * differs(d) == 0
}

/// Whether there is a VXLAN header behind the UDP header at `transport`: its flag says so.
#[inline(always)]
fn is_vxlan<R: Reader>(transport: u32, reader: &R) -> bool {
    let flags: Option<u8> = reader.load(transport + UDP_HEADER);
    flags.is_some_and(|flags| flags & vxlan::HAS_VNI != 0)
}

/// The fingerprint of the packet, the inner one of VXLAN where there is one, and whether there is. The quick way,
/// for hooks that know their packet: headers that take a search are left to the taps.
#[inline(always)]
pub(crate) fn fingerprint<R: Reader>(reader: &R) -> Option<(Fingerprint, bool)> {
    let outer = Plain::read(reader, 0)?;
    let vxlan_ports = member!(FILTER: Filter, vxlan_ports);
    if vxlan_ports[0] != 0
        && outer.udp_destination(reader).is_some_and(|port| is_one_of(&vxlan_ports, port))
        && is_vxlan(outer.transport, reader)
    {
        let inner = Plain::read(reader, outer.transport + VXLAN_AND_BELOW)?;
        return Some((inner.fingerprint(reader), true));
    }
    Some((outer.fingerprint(reader), false))
}

#[inline(always)]
fn wanted<R: Reader>(filter: &Filter, header: &Header, reader: &R) -> Match {
    if filter.protocol != 0 && filter.protocol != u32::from(header.protocol) {
        return Match::NO;
    }
    let any = side_if(filter.flags & filter_flag::FROM_ANY != 0, side::FROM)
        | side_if(filter.flags & filter_flag::TO_ANY != 0, side::TO);
    let both = side::FROM | side::TO;
    let mut src = any;
    let mut dst = any;
    let mut via = false;
    if any != both {
        let unknown = header.unknown();
        let known_src = header::veiled(sides(&header.src), unknown);
        src |= known_src & both;
        if src == 0 && known_src == 0 {
            return Match::NO;
        }
        let known_dst = header::veiled(sides(&header.dst), unknown);
        dst |= known_dst & both;
        // A node's address may stand for one end's, if the other end's own is there.
        let one_way = filter.flags & filter_flag::ONE_WAY != 0;
        if filter.flags & filter_flag::NODE_PORTS != 0 && (known_src | known_dst) & side::VIA != 0 {
            let (sport, dport) = header.ports(reader);
            if known_src & side::VIA != 0 {
                src |= node_port(header.protocol, sport);
            }
            if known_dst & side::VIA != 0 {
                dst |= node_port(header.protocol, dport);
            }
        }
        via = (known_src & side::VIA != 0 && known_dst & side::TO != 0)
            || (known_dst & side::VIA != 0 && known_src & side::TO != 0 && !one_way);
    }
    let forth = src & side::FROM != 0 && dst & side::TO != 0;
    let back = filter.flags & filter_flag::ONE_WAY == 0 && src & side::TO != 0 && dst & side::FROM != 0;
    let wanted = if filter.from_ports[0] == 0 && filter.to_ports[0] == 0 {
        forth || back
    } else {
        (forth || back) && ports_wanted(filter, header, reader, forth, back)
    };
    if wanted {
        if forth { Match::FORTH } else { Match::BACK }
    } else if via {
        Match::VIA
    } else {
        Match::NO
    }
}

#[inline(always)]
fn ports_wanted<R: Reader>(filter: &Filter, header: &Header, reader: &R, forth: bool, back: bool) -> bool {
    let key = FragmentKey {
        src: header.src,
        dst: header.dst,
        ip_id: header.ip_id,
        protocol: u32::from(header.protocol),
    };
    if header.fragment.is_later() {
        return FRAGMENTS.get_ptr(&key).is_some();
    }
    let fits = |from: u16, to: u16| is_among(&filter.from_ports, from) && is_among(&filter.to_ports, to);
    let (sport, dport) = header.ports(reader);
    let wanted = (forth && fits(sport, dport)) || (back && fits(dport, sport));
    if wanted && header.fragment.is_first() {
        // Should this fail, later fragments are missed; LRU maps make room instead of failing.
        let _ = FRAGMENTS.insert(&key, 1, 0);
    }
    wanted
}

#[inline(always)]
fn side_if(condition: bool, side: u32) -> u32 {
    if condition { side } else { 0 }
}

#[inline(always)]
fn is_among(ports: &[u16; PORTS], port: u16) -> bool {
    let [a, b, c, d] = *ports;
    a == 0 || a == port || (port != 0 && (b == port || c == port || d == port))
}

#[inline(always)]
fn node_port(protocol: u8, port: u16) -> u32 {
    let key = (u32::from(protocol) << 16) | u32::from(port);
    // SAFETY: as below.
    unsafe { NODE_PORTS.get(key) }.map_or(0, |sides| *sides)
}

#[inline(always)]
fn sides(address: &tracer_common::Address) -> u32 {
    // SAFETY: an entry that is removed meanwhile may be another address's by the time that it is read: of a packet or two
    // at that moment it is not certain anyway whether they are of interest.
    unsafe { ADDRESSES.get(address) }.map_or(0, |sides| *sides)
}
