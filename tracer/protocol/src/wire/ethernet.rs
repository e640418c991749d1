//! Ethernet, with VLAN tags.

use super::field;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Tag protocol identifiers: 802.1Q, 802.1ad, and what was used before it.
const VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const TAG: usize = 4;

/// An Ethernet frame.
#[derive(Clone, Copy, Debug)]
pub struct EthernetView<'a> {
    addresses: &'a [u8; 12],
    /// From the type field behind the last VLAN tag on.
    rest: &'a [u8],
}

impl<'a> EthernetView<'a> {
    /// A frame whose header is complete, VLAN tags included.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (addresses, mut rest) = bytes.split_first_chunk()?;
        while VLAN.contains(&u16::from_be_bytes(*rest.first_chunk()?)) {
            rest = rest.get(TAG..)?;
        }
        Some(Self { addresses, rest })
    }

    /// Destination address.
    #[must_use]
    pub fn destination(&self) -> [u8; 6] {
        field::<0, _, _>(self.addresses)
    }

    /// Source address.
    #[must_use]
    pub fn source(&self) -> [u8; 6] {
        field::<6, _, _>(self.addresses)
    }

    /// EtherType of the payload.
    #[must_use]
    pub fn ether_type(&self) -> u16 {
        self.rest.first_chunk().map_or(0, |kind| u16::from_be_bytes(*kind))
    }

    /// Whether an IP packet is in it.
    #[must_use]
    pub fn is_ip(&self) -> bool {
        matches!(self.ether_type(), IPV4 | IPV6)
    }

    /// What follows the header.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.rest.get(2..).unwrap_or_default()
    }
}
