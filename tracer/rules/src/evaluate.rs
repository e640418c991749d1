//! Whether a packet matches a rule, in three values: yes, no, or unknown (`None`).
//!
//! A condition is unknown if it depends on what a trace does not know (chance, limits, unknown fields of the packet), or
//! could not be read. A rule with an unknown condition still does not match if another one does not.

use std::net::IpAddr;

use super::model::{Element, Elements, Field, Match, Range, Set};
use super::question::Packet;

/// ICMP and ICMPv6, which have no ports.
const PORTLESS: [u8; 2] = [1, 58];

/// What is known of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) packet: Packet,
    pub(super) in_device: Option<&'a str>,
    pub(super) out_device: Option<&'a str>,
    pub(super) mark: Option<u32>,
    pub(super) state: Option<&'a str>,
    /// The node's own addresses; empty if unknown.
    pub(super) local: &'a [IpAddr],
}

/// The value of a field.
enum Value<'a> {
    Address(IpAddr),
    Number(u32),
    Word(&'a str),
    /// The packet has no such field.
    Absent,
}

impl Known<'_> {
    /// Whether the packet matches all conditions.
    pub(super) fn matches(&self, matches: &[Match], sets: &[Set]) -> Option<bool> {
        every(matches.iter().map(|matched| self.holds(matched, sets)))
    }

    fn holds(&self, matched: &Match, sets: &[Set]) -> Option<bool> {
        match matched {
            Match::Is(field, ranges) => any(ranges.iter().map(|range| self.within(field, range))),
            Match::In(fields, elements) => {
                let elements = listed(elements, sets)?;
                any(elements.iter().map(|element| self.element(fields, element)))
            }
            // A negated address never matches a packet of the other IP version.
            Match::Not(contrary) if self.is_of_other_version(contrary) => Some(false),
            Match::Not(contrary) => self.holds(contrary, sets).map(|holds| !holds),
            Match::Other(_) => None,
        }
    }

    fn is_of_other_version(&self, matched: &Match) -> bool {
        let v4 = self.packet.source.is_ipv4();
        let Match::Is(Field::Source | Field::Destination, ranges) = matched else { return false };
        ranges.iter().all(|range| match range {
            Range::Net(net) => net.addr().is_ipv4() != v4,
            Range::Addresses(first, _) => first.is_ipv4() != v4,
            _ => false,
        })
    }

    /// Whether the fields match the key of an element.
    pub(super) fn element(&self, fields: &[Field], element: &Element) -> Option<bool> {
        every(fields.iter().zip(&element.key).map(|(field, range)| self.within(field, range)))
    }

    fn within(&self, field: &Field, range: &Range) -> Option<bool> {
        if matches!(range, Range::Any) {
            return Some(true);
        }
        let value = match self.value(field)? {
            Value::Absent => return Some(false),
            value => value,
        };
        match (range, value) {
            (Range::Net(net), Value::Address(address)) => Some(net.contains(&address)),
            (Range::Addresses(first, last), Value::Address(address)) => {
                // `IpAddr` orders IPv4 before IPv6, so no address is between two of the other version.
                Some((first..=last).contains(&&address))
            }
            (Range::Numbers(first, last), Value::Number(number)) => Some((first..=last).contains(&&number)),
            (Range::Bits(mask, bits), Value::Number(number)) => Some(number & mask == *bits),
            (Range::Word(wanted), Value::Word(word)) => Some(match wanted.strip_suffix('*') {
                Some(beginning) => word.starts_with(beginning),
                None => wanted == word,
            }),
            _ => None,
        }
    }

    fn value(&self, field: &Field) -> Option<Value<'_>> {
        let packet = &self.packet;
        let port = |port: Option<u16>| match port {
            Some(port) => Some(Value::Number(port.into())),
            None => PORTLESS.contains(&packet.protocol).then_some(Value::Absent),
        };
        match field {
            Field::Source => Some(Value::Address(packet.source)),
            Field::Destination => Some(Value::Address(packet.destination)),
            Field::Protocol => Some(Value::Number(packet.protocol.into())),
            Field::SourcePort => port(packet.source_port),
            Field::DestinationPort => port(packet.destination_port),
            Field::InDevice => self.in_device.map(Value::Word),
            Field::OutDevice => self.out_device.map(Value::Word),
            Field::Mark => self.mark.map(Value::Number),
            Field::SourceType => self.kind(packet.source),
            Field::DestinationType => self.kind(packet.destination),
            Field::State => self.state.map(Value::Word),
            Field::Version => Some(Value::Word(if packet.source.is_ipv4() { "ipv4" } else { "ipv6" })),
            Field::Other(_) => None,
        }
    }

    /// The address type as `addrtype` and `fib` name it. A broadcast address counts as unicast: it is not known here.
    fn kind(&self, address: IpAddr) -> Option<Value<'_>> {
        let local = is_local(self.local, address)?;
        Some(Value::Word(if local {
            "local"
        } else if address.is_multicast() {
            "multicast"
        } else {
            "unicast"
        }))
    }
}

/// Whether an address is one of the node's own. `local` is empty if these are unknown.
pub(super) fn is_local(local: &[IpAddr], address: IpAddr) -> Option<bool> {
    if address.is_loopback() || local.contains(&address) {
        return Some(true);
    }
    (!local.is_empty()).then_some(false)
}

/// The elements; `None` if the set is missing, or the kernel changes it.
pub(super) fn listed<'a>(elements: &'a Elements, sets: &'a [Set]) -> Option<&'a [Element]> {
    match elements {
        Elements::These(elements) => Some(elements),
        Elements::Named(name) => {
            let set = sets.iter().find(|set| set.name == *name)?;
            (!set.dynamic).then_some(&set.elements)
        }
    }
}

fn every(parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut all = Some(true);
    for part in parts {
        match part {
            Some(true) => {}
            Some(false) => return Some(false),
            None => all = None,
        }
    }
    all
}

fn any(parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut none = Some(false);
    for part in parts {
        match part {
            Some(false) => {}
            Some(true) => return Some(true),
            None => none = None,
        }
    }
    none
}
