//! A TCP connection that moves bytes one way.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use nix::libc;

/// Sends so many bytes, waits until the other end has closed, and says how many segments were sent twice.
pub(super) fn send(to: SocketAddrV4, bytes: usize) -> Result<()> {
    let mut stream = TcpStream::connect(to).with_context(|| format!("connecting to {to}"))?;
    let block = vec![0x70; 1 << 16];
    let mut left = bytes;
    while left > 0 {
        let part = left.min(block.len());
        stream.write_all(&block[..part]).context("sending")?;
        left -= part;
    }
    stream.shutdown(Shutdown::Write).context("closing")?;
    stream.read_to_end(&mut Vec::new()).context("waiting for the other end")?;
    println!("sent {bytes}, retransmitted {}", retransmitted(&stream)?);
    Ok(())
}

/// Receives what one connection brings.
pub(super) fn receive(port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).context("listening")?;
    println!("ready");
    let (mut stream, _) = listener.accept().context("accepting")?;
    let mut buffer = vec![0; 1 << 16];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer).context("receiving")? {
            0 => break,
            length => received += length,
        }
    }
    println!("received {received}");
    Ok(())
}

fn retransmitted(stream: &TcpStream) -> Result<u32> {
    // SAFETY: all zeros is a valid value of this struct of integers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&info))?;
    // SAFETY: the kernel writes at most `length` bytes to `info`.
    let status = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if status != 0 {
        return Err(std::io::Error::last_os_error()).context("asking for TCP_INFO");
    }
    Ok(info.tcpi_total_retrans)
}
