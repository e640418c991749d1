//! Packets with a source address that is not the sender's.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

/// Port of the lab's tunnels, and its network identifier.
const VXLAN_PORT: u16 = 8472;
const VNI: u8 = 1;

const ICMP: u8 = 1;
const UDP: u8 = 17;

/// Sends a datagram.
pub(super) fn datagram(src: Ipv4Addr, to: SocketAddrV4, ttl: u8) -> Result<()> {
    send(&ip(src, *to.ip(), UDP, ttl, &udp(to.port(), b"forged")), *to.ip())
}

/// Sends an ICMP port unreachable about a datagram of the receiver's.
pub(super) fn unreachable(src: Ipv4Addr, to: Ipv4Addr, about: SocketAddrV4) -> Result<()> {
    let mut message = vec![3, 3, 0, 0, 0, 0, 0, 0];
    message.extend(ip(to, *about.ip(), UDP, 64, &udp(about.port(), b"forged")));
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    send(&ip(src, to, ICMP, 64, &message), to)
}

/// Sends a tunnel packet to a node, with a datagram inside.
pub(super) fn tunnel(node: Ipv4Addr, mac: [u8; 6], src: Ipv4Addr, to: SocketAddrV4) -> Result<()> {
    let mut payload = vec![8, 0, 0, 0, 0, 0, VNI, 0];
    payload.extend(mac);
    payload.extend([2, 0, 0, 0, 0, 9, 8, 0]);
    payload.extend(ip(src, *to.ip(), UDP, 64, &udp(to.port(), b"forged")));
    // The kernel puts the sender's own address where there is none.
    send(&ip(Ipv4Addr::UNSPECIFIED, node, UDP, 64, &udp(VXLAN_PORT, &payload)), node)
}

fn send(packet: &[u8], to: Ipv4Addr) -> Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255)))?;
    socket.set_header_included_v4(true).context("asking for a header of our own")?;
    socket.send_to(packet, &SocketAddrV4::new(to, 0).into()).with_context(|| format!("sending to {to}"))?;
    println!("sent 1");
    Ok(())
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    // Without a checksum.
    let mut datagram: Vec<u8> = [4000, port, length, 0].into_iter().flat_map(u16::to_be_bytes).collect();
    datagram.extend(payload);
    datagram
}

fn ip(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = vec![0x45, 0, length[0], length[1], 0x12, 0x34, 0, 0, ttl, protocol, 0, 0];
    packet.extend(src.octets());
    packet.extend(dst.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(0)
}
