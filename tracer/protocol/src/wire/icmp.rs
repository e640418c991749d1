//! ICMP (RFC 792) and ICMPv6 (RFC 4443), which have one layout.

use tracer_common::wire::is_icmp_error;

use super::field;

/// An ICMP or ICMPv6 message.
#[derive(Clone, Copy, Debug)]
pub struct IcmpView<'a> {
    protocol: u8,
    header: &'a [u8; 8],
    payload: &'a [u8],
}

impl<'a> IcmpView<'a> {
    /// Length of the header.
    pub const HEADER: usize = 8;

    /// A message of this IP protocol (ICMP or ICMPv6) whose header is complete.
    #[must_use]
    pub fn new(protocol: u8, bytes: &'a [u8]) -> Option<Self> {
        let (header, payload) = bytes.split_first_chunk()?;
        Some(Self { protocol, header, payload })
    }

    /// Type.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.header[0]
    }

    /// Code.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.header[1]
    }

    /// The four bytes after the checksum: identifier and sequence number of an echo.
    #[must_use]
    pub fn rest(&self) -> u32 {
        u32::from_be_bytes(field::<4, _, _>(self.header))
    }

    /// The packet that this error is about; `None` if this is no error. The quote may be cut short.
    #[must_use]
    pub fn quoted(&self) -> Option<&'a [u8]> {
        is_icmp_error(self.protocol, self.kind()).then_some(self.payload)
    }
}
