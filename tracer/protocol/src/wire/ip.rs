//! An IP packet of either version, its extension headers skipped.

use std::net::IpAddr;

use tracer_common::wire::protocol;

use super::{EthernetView, ExtensionView, IcmpView, Ipv4View, Ipv6View, UdpView, VxlanView};

/// What an IP header says, and where its payload is.
#[derive(Clone, Copy, Debug)]
pub struct Ip<'a> {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Identification; 0 for IPv6 without a fragment header.
    pub id: u32,
    /// Which piece of a fragmented packet it is; `None` for a whole one.
    pub fragment: Option<Fragment>,
    /// Length of headers and payload as sent, in bytes; 0 in packets beyond 64 KiB.
    pub length: u32,
    /// Length of the headers in bytes.
    pub header: usize,
    /// What was captured of it, from the header on.
    pub bytes: &'a [u8],
}

/// A piece of a fragmented packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// In bytes.
    pub offset: u32,
    /// Whether more pieces follow.
    pub more: bool,
}

impl Fragment {
    /// `None` if it is all of its packet.
    pub(super) fn of_several(self) -> Option<Self> {
        (self.offset > 0 || self.more).then_some(self)
    }
}

impl<'a> Ip<'a> {
    /// The packet that begins here.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Ipv4View::new(bytes).map(|view| Self::of_v4(view, bytes)),
            6 => Ipv6View::new(bytes).map(|view| Self::of_v6(view, bytes)),
            _ => None,
        }
    }

    /// The packet in this Ethernet frame.
    #[must_use]
    pub fn in_frame(bytes: &'a [u8]) -> Option<Self> {
        let frame = EthernetView::new(bytes).filter(EthernetView::is_ip)?;
        Self::new(frame.payload())
    }

    fn of_v4(view: Ipv4View<'a>, bytes: &'a [u8]) -> Self {
        Self {
            src: view.source().into(),
            dst: view.destination().into(),
            protocol: view.protocol(),
            id: u32::from(view.identification()),
            fragment: view.fragment(),
            length: u32::from(view.total_length()),
            header: view.header_length(),
            bytes,
        }
    }

    fn of_v6(view: Ipv6View<'a>, bytes: &'a [u8]) -> Self {
        let length = match u32::from(view.payload_length()) {
            0 => 0,
            payload => payload.saturating_add(40),
        };
        let mut ip = Self {
            src: view.source().into(),
            dst: view.destination().into(),
            protocol: view.next_header(),
            id: 0,
            fragment: None,
            length,
            header: Ipv6View::HEADER,
            bytes,
        };
        // Each extension header is at least 8 bytes, so the capture bounds the loop.
        while let Some(extension) = ExtensionView::new(ip.protocol, ip.body()) {
            if let Some((id, fragment)) = extension.fragment() {
                (ip.id, ip.fragment) = (id, fragment.of_several());
            }
            ip.protocol = extension.next_header();
            ip.header += extension.length();
            if !ip.has_transport() {
                break;
            }
        }
        ip
    }

    /// What was captured of the payload.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(self.header..).unwrap_or_default()
    }

    /// Whether a transport header follows: not in a fragment that is not the first.
    #[must_use]
    pub fn has_transport(&self) -> bool {
        self.fragment.is_none_or(|fragment| fragment.offset == 0)
    }

    /// Source and destination port, even if the capture ends behind them.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        if !self.has_transport() || !protocol::has_ports(self.protocol) {
            return None;
        }
        let [a, b, c, d] = *self.body().first_chunk()?;
        Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }

    /// The packet that this ICMP error is about; `None` if it is no ICMP error.
    #[must_use]
    pub fn quoted(&self) -> Option<Self> {
        if !self.has_transport() || !protocol::is_icmp(self.protocol) {
            return None;
        }
        Self::new(IcmpView::new(self.protocol, self.body())?.quoted()?)
    }

    /// The VXLAN packet in this datagram to one of these ports.
    #[must_use]
    pub fn vxlan(&self, ports: &[u16]) -> Option<(UdpView<'a>, VxlanView<'a>)> {
        if self.protocol != protocol::UDP || self.fragment.is_some() {
            return None;
        }
        let udp = UdpView::new(self.body())?;
        if !ports.contains(&udp.destination_port()) {
            return None;
        }
        Some((udp, VxlanView::new(udp.payload())?))
    }

    /// The packet inside this one, if it is a tunnel's: VXLAN to one of these ports.
    #[must_use]
    pub fn inner(&self, vxlan_ports: &[u16]) -> Option<Self> {
        let (_, vxlan) = self.vxlan(vxlan_ports)?;
        Self::in_frame(vxlan.frame())
    }
}
