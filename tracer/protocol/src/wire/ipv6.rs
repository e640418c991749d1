//! IPv6 and its extension headers (RFC 8200).

use std::net::Ipv6Addr;

use tracer_common::wire::{extension_length, is_extension, protocol, v6_fragment};

use super::{Fragment, field};

/// An IPv6 packet.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6View<'a> {
    header: &'a [u8; 40],
    payload: &'a [u8],
}

impl<'a> Ipv6View<'a> {
    /// Length of the header, without extension headers.
    pub const HEADER: usize = 40;

    /// A packet whose header is complete.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (header, payload) = bytes.split_first_chunk()?;
        (header[0] >> 4 == 6).then_some(Self { header, payload })
    }

    /// Bytes after the header, extension headers included; 0 in packets beyond 64 KiB.
    #[must_use]
    pub fn payload_length(&self) -> u16 {
        u16::from_be_bytes(field::<4, _, _>(self.header))
    }

    /// Type of the header that follows.
    #[must_use]
    pub fn next_header(&self) -> u8 {
        self.header[6]
    }

    /// Hop limit.
    #[must_use]
    pub fn hop_limit(&self) -> u8 {
        self.header[7]
    }

    /// Source address.
    #[must_use]
    pub fn source(&self) -> Ipv6Addr {
        field::<8, 16, _>(self.header).into()
    }

    /// Destination address.
    #[must_use]
    pub fn destination(&self) -> Ipv6Addr {
        field::<24, 16, _>(self.header).into()
    }

    /// What follows the header, extension headers included.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// An IPv6 extension header.
#[derive(Clone, Copy, Debug)]
pub struct ExtensionView<'a> {
    kind: u8,
    /// No extension header is shorter.
    header: &'a [u8; 8],
    length: usize,
}

impl<'a> ExtensionView<'a> {
    /// The extension header of this type that begins here; `None` if the type is of no extension header, or if the
    /// capture ends within its first eight bytes.
    #[must_use]
    pub fn new(kind: u8, bytes: &'a [u8]) -> Option<Self> {
        let header: &[u8; 8] = bytes.first_chunk()?;
        let length = match kind {
            protocol::FRAGMENT => 8,
            _ if is_extension(kind) => usize::try_from(extension_length(header[1])).ok()?,
            _ => return None,
        };
        Some(Self { kind, header, length })
    }

    /// Type of the header that follows.
    #[must_use]
    pub fn next_header(&self) -> u8 {
        self.header[0]
    }

    /// Its own length in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Identification and place of the piece, if this is a fragment header.
    #[must_use]
    pub fn fragment(&self) -> Option<(u32, Fragment)> {
        let field = u16::from_be_bytes(field::<2, _, _>(self.header));
        let fragment =
            Fragment { offset: u32::from(field & v6_fragment::OFFSET), more: field & v6_fragment::MORE != 0 };
        (self.kind == protocol::FRAGMENT)
            .then(|| (u32::from_be_bytes(self::field::<4, _, _>(self.header)), fragment))
    }
}
