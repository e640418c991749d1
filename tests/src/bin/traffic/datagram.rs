//! Datagrams: sent, asked with, received.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

/// Room for datagrams that wait to be received, in bytes of the kernel's memory: a small one takes about a kilobyte.
const SINK_BUFFER: usize = 16 << 20;

/// How long an answer may take: longer than a neighbour is looked for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends datagrams, whether or not anybody wants them. They begin with their number if it fits.
pub(super) fn send(to: SocketAddr, count: u32, size: usize) -> Result<()> {
    // Not connected: the kernel then leaves IPv4's identification at 0, as there are to be no fragments.
    let socket = UdpSocket::bind(any_port(to)).context("opening a socket")?;
    for number in 0..count {
        let mut content = vec![0x70; size];
        if let Some(head) = content.first_chunk_mut() {
            *head = number.to_be_bytes();
        }
        socket.send_to(&content, to).with_context(|| format!("sending to {to}"))?;
    }
    println!("sent {count}");
    Ok(())
}

/// Receives so many datagrams.
pub(super) fn receive(at: SocketAddr, count: u32) -> Result<()> {
    let socket = UdpSocket::bind(at).context("opening a socket")?;
    // Room for all of them: the sender may have its CPU to itself.
    setsockopt(&socket, RcvBufForce, &SINK_BUFFER).context("making room for datagrams")?;
    println!("ready");
    let mut buffer = vec![0; 1 << 16];
    for _ in 0..count {
        socket.recv(&mut buffer).context("receiving")?;
    }
    println!("received {count}");
    Ok(())
}

/// Sends a datagram from each of so many sockets, one after the other, and waits for its answer.
pub(super) fn ask(to: SocketAddr, flows: u32) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    for number in 0..flows {
        let socket = UdpSocket::bind(any_port(to)).context("opening a socket")?;
        socket.connect(to).with_context(|| format!("connecting to {to}"))?;
        socket.set_read_timeout(Some(PATIENCE)).context("setting how long to wait")?;
        socket.send(&number.to_be_bytes()).with_context(|| format!("sending to {to}"))?;
        socket.recv(&mut buffer).with_context(|| format!("waiting for answer {number} of {to}"))?;
    }
    println!("answered {flows}");
    Ok(())
}

/// Any port of any address of the peer's family.
fn any_port(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}
