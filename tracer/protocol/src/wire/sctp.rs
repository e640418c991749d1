//! SCTP (RFC 9260).

use super::field;

/// An SCTP packet.
#[derive(Clone, Copy, Debug)]
pub struct SctpView<'a> {
    header: &'a [u8; 12],
}

impl<'a> SctpView<'a> {
    /// Length of the header before the chunks.
    pub const HEADER: usize = 12;

    /// A packet whose common header is complete.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.first_chunk().map(|header| Self { header })
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

    /// Verification tag.
    #[must_use]
    pub fn verification_tag(&self) -> u32 {
        u32::from_be_bytes(field::<4, _, _>(self.header))
    }
}
