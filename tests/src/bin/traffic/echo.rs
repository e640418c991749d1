//! Echo requests as fast as they are answered.

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

/// Requests under way at most: what sockets and rings hold, with room to spare.
const WINDOW: u16 = 32;

/// How long the last answers are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

const HEADER: usize = 8;
/// Types of a request and its reply.
const ICMP: [u8; 2] = [8, 0];
const ICMPV6: [u8; 2] = [128, 129];

/// Sends `count` requests of `size` bytes of payload and takes their answers; one missing is an error.
pub(super) fn exchange(to: IpAddr, count: u16, size: usize) -> Result<()> {
    let (domain, protocol, kinds) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, ICMP),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, ICMPV6),
    };
    let [request_kind, reply_kind] = kinds;
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).context("opening a raw socket")?;
    socket.set_read_timeout(Some(PATIENCE)).context("setting a time limit")?;
    // It receives all ICMP of the pod; a kernel that clones for it must not find it full.
    socket.set_recv_buffer_size(4 << 20).context("asking for room")?;
    let identifier = u16::try_from(std::process::id() & 0xffff)?.to_be_bytes();
    let destination = SocketAddr::new(to, 0).into();
    let mut answered = vec![false; usize::from(count)];
    let (mut sent, mut received) = (0, 0);
    while received < count {
        while sent < count && sent - received < WINDOW {
            socket
                .send_to(&request(request_kind, identifier, sent, size), &destination)
                .with_context(|| format!("sending to {to}"))?;
            sent += 1;
        }
        match receive(&socket, to.is_ipv4(), reply_kind, identifier) {
            Ok(Some(number)) => {
                let answered = answered.get_mut(usize::from(number)).context("an answer to nothing")?;
                ensure!(!*answered, "request {number} was answered twice");
                *answered = true;
                received += 1;
            }
            Ok(None) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => return Err(error).context("receiving"),
        }
    }
    println!("sent {sent}, received {received}");
    ensure!(received == count, "{} of {count} requests were not answered", count - received);
    Ok(())
}

fn request(kind: u8, identifier: [u8; 2], number: u16, size: usize) -> Vec<u8> {
    let mut packet = vec![kind, 0, 0, 0];
    packet.extend(identifier);
    packet.extend(number.to_be_bytes());
    packet.resize(HEADER + size, 0x70);
    // The kernel computes ICMPv6's, which covers addresses too.
    let checksum = checksum(&packet);
    packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// The number of an answer of ours; `None` for any other packet.
fn receive(
    socket: &Socket,
    with_header: bool,
    kind: u8,
    identifier: [u8; 2],
) -> std::io::Result<Option<u16>> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 256];
    let length = socket.recv(&mut buffer)?;
    // SAFETY: the kernel has written these.
    let packet: Vec<u8> = buffer[..length].iter().map(|byte| unsafe { byte.assume_init() }).collect();
    // Only IPv4's raw sockets hand over the IP header.
    let header = packet.first().filter(|_| with_header).map_or(0, |first| usize::from(first & 15) * 4);
    Ok(match &packet[header.min(length)..] {
        [reply, _, _, _, a, b, c, d, ..] if *reply == kind && [*a, *b] == identifier => {
            Some(u16::from_be_bytes([*c, *d]))
        }
        _ => None,
    })
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let pairs = bytes.chunks(2).map(|pair| [pair[0], pair.get(1).copied().unwrap_or(0)]);
    let mut sum: u32 = pairs.map(|pair| u32::from(u16::from_be_bytes(pair))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}
