//! VXLAN (RFC 7348).

use tracer_common::wire::vxlan;

use super::field;

/// A VXLAN packet.
#[derive(Clone, Copy, Debug)]
pub struct VxlanView<'a> {
    header: &'a [u8; 8],
    frame: &'a [u8],
}

impl<'a> VxlanView<'a> {
    /// A packet whose header is complete and holds a network identifier. Without that flag it is no VXLAN.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (header, frame) = bytes.split_first_chunk()?;
        (header[0] & vxlan::HAS_VNI != 0).then_some(Self { header, frame })
    }

    /// VXLAN network identifier, 24 bits.
    #[must_use]
    pub fn vni(&self) -> u32 {
        let [a, b, c] = field::<4, _, _>(self.header);
        u32::from_be_bytes([0, a, b, c])
    }

    /// The Ethernet frame inside.
    #[must_use]
    pub fn frame(&self) -> &'a [u8] {
        self.frame
    }
}
