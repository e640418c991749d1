//! A datagram whose checksum is wrong.

use std::net::SocketAddrV4;

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, Socket, Type};

/// Neither 0, which means that there is none, nor what it would have to be.
const WRONG: u16 = 0xbad1;

/// Sends one.
pub(super) fn datagram(to: SocketAddrV4) -> Result<()> {
    // Of a raw socket's packets the kernel makes the IP header and nothing else.
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)).context("opening a raw socket")?;
    let payload = [0x70_u8; 32];
    let length = u16::try_from(8 + payload.len())?;
    let mut packet = Vec::new();
    for word in [4000, to.port(), length, WRONG] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend(payload);
    socket.send_to(&packet, &to.into()).with_context(|| format!("sending to {to}"))?;
    println!("sent 1");
    Ok(())
}
