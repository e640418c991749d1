//! A socket that nobody reads from.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};
use socket2::{Domain, Socket, Type};

/// Holds a port with as little room for datagrams as the kernel allows, until it is ended.
pub(super) fn listen(port: u16) -> Result<()> {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.thread_block().context("waiting for SIGTERM")?;
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).context("opening a socket")?;
    socket.set_recv_buffer_size(1).context("asking for little room")?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into()).context("taking the port")?;
    println!("ready");
    ends.wait().context("waiting for SIGTERM")?;
    Ok(())
}
