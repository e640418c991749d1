//! UDP (RFC 768).

use super::field;

/// A UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct UdpView<'a> {
    header: &'a [u8; 8],
    payload: &'a [u8],
}

impl<'a> UdpView<'a> {
    /// Length of the header.
    pub const HEADER: usize = 8;

    /// A datagram whose header is complete.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (header, payload) = bytes.split_first_chunk()?;
        Some(Self { header, payload })
    }

    /// Source port.
    #[must_use]
    pub fn source_port(&self) -> u16 {
        u16::from_be_bytes(field::<0, _, _>(self.header))
    }

    /// Destination port.
    #[must_use]
    pub fn destination_port(&self) -> u16 {
        u16::from_be_bytes(field::<2, _, _>(self.header))
    }

    /// Length of header and payload in bytes.
    #[must_use]
    pub fn length(&self) -> u16 {
        u16::from_be_bytes(field::<4, _, _>(self.header))
    }

    /// What follows the header.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}
