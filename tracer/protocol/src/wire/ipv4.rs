//! IPv4 (RFC 791).

use std::net::Ipv4Addr;

use tracer_common::wire::v4_fragment;

use super::{Fragment, field};

/// An IPv4 packet.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4View<'a> {
    header: &'a [u8; 20],
    bytes: &'a [u8],
}

impl<'a> Ipv4View<'a> {
    /// A packet whose header is complete but for its options.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let view = Self { header: bytes.first_chunk()?, bytes };
        (view.version() == 4 && view.header_length() >= view.header.len()).then_some(view)
    }

    fn version(&self) -> u8 {
        self.header[0] >> 4
    }

    /// Length of the header in bytes, options included.
    #[must_use]
    pub fn header_length(&self) -> usize {
        usize::from(self.header[0] & 0xf) * 4
    }

    /// Length of header and payload in bytes; 0 in packets beyond 64 KiB.
    #[must_use]
    pub fn total_length(&self) -> u16 {
        u16::from_be_bytes(field::<2, _, _>(self.header))
    }

    /// Identification.
    #[must_use]
    pub fn identification(&self) -> u16 {
        u16::from_be_bytes(field::<4, _, _>(self.header))
    }

    /// Which piece of a fragmented packet it is; `None` for a whole one.
    #[must_use]
    pub fn fragment(&self) -> Option<Fragment> {
        let field = u16::from_be_bytes(field::<6, _, _>(self.header));
        Fragment { offset: u32::from(field & v4_fragment::OFFSET) * 8, more: field & v4_fragment::MORE != 0 }
            .of_several()
    }

    /// Time to live.
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.header[8]
    }

    /// Protocol of the payload.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.header[9]
    }

    /// Source address.
    #[must_use]
    pub fn source(&self) -> Ipv4Addr {
        field::<12, 4, _>(self.header).into()
    }

    /// Destination address.
    #[must_use]
    pub fn destination(&self) -> Ipv4Addr {
        field::<16, 4, _>(self.header).into()
    }

    /// What follows the header; nothing if the capture ends within the options.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(self.header_length()..).unwrap_or_default()
    }
}
