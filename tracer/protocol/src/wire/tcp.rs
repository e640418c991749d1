//! TCP (RFC 9293).

use super::field;

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct TcpView<'a> {
    header: &'a [u8; 20],
    bytes: &'a [u8],
}

impl<'a> TcpView<'a> {
    /// A segment whose header is complete but for its options.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let view = Self { header: bytes.first_chunk()?, bytes };
        (view.header_length() >= view.header.len()).then_some(view)
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

    /// Sequence number of the first byte.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        u32::from_be_bytes(field::<4, _, _>(self.header))
    }

    /// Acknowledgment number.
    #[must_use]
    pub fn acknowledgment(&self) -> u32 {
        u32::from_be_bytes(field::<8, _, _>(self.header))
    }

    /// Length of the header in bytes, options included.
    #[must_use]
    pub fn header_length(&self) -> usize {
        usize::from(self.header[12] >> 4) * 4
    }

    /// Bits of [`tcp_flag`](super::tcp_flag).
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.header[13]
    }

    /// The options; `None` if the capture ends within them.
    #[must_use]
    pub fn options(&self) -> Option<&'a [u8]> {
        self.bytes.get(self.header.len()..self.header_length())
    }
}
