//! Packet headers: the one place that takes captured bytes apart.
//!
//! Each protocol has a file with a *view*: a borrowed slice that holds a complete header, checked once, with one method
//! for each field. No view can panic, whatever the bytes: a capture is cut short and may hold anything. [`parse`] goes
//! through the views and returns what the path engine keeps of a packet; [`Ip`] serves who asks for headers alone.
//!
//! What the eBPF programs must read alike (protocol numbers, which ICMP types are errors, …) stands in
//! [`tracer_common::wire`].

mod ethernet;
mod icmp;
mod ip;
mod ipv4;
mod ipv6;
mod packet;
mod sctp;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;
mod vxlan;

pub use tracer_common::wire::{icmp as icmp_type, icmpv6 as icmpv6_type, protocol, tcp_flag};

pub use ethernet::EthernetView;
pub use icmp::IcmpView;
pub use ip::{Fragment, Ip};
pub use ipv4::Ipv4View;
pub use ipv6::{ExtensionView, Ipv6View};
pub use packet::{Content, Encapsulation, Headers, Packet, Quoted, Reading, Transport, parse};
pub use sctp::SctpView;
pub use tcp::TcpView;
pub use udp::UdpView;
pub use vxlan::VxlanView;

/// `N` bytes of a header from byte `AT` on; that they are within the header is checked when compiling.
fn field<const AT: usize, const N: usize, const LEN: usize>(header: &[u8; LEN]) -> [u8; N] {
    const { assert!(AT + N <= LEN, "the field ends within the header") };
    std::array::from_fn(|index| header[AT + index])
}
