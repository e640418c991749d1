//! Exchanges of two datagrams: one server that answers, and one client that asks again once it has its answer.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// Bytes of a datagram.
const SIZE: usize = 64;

/// Time after which a datagram counts as lost.
const LOST: Duration = Duration::from_millis(500);

/// Answers each datagram, for ever.
pub(crate) fn answer(address: &str) -> Result<()> {
    let socket = UdpSocket::bind(address).with_context(|| format!("listening at {address}"))?;
    let mut datagram = [0; 2 * SIZE];
    loop {
        let (size, from) = socket.recv_from(&mut datagram).context("receiving")?;
        // A client that has gone gets nothing.
        let _ = socket.send_to(&datagram[..size], from);
    }
}

/// Asks for so many seconds, and prints the exchanges per second.
pub(crate) fn ask(address: &str, seconds: u64) -> Result<()> {
    let to: SocketAddr = address.parse().with_context(|| format!("{address} is no address"))?;
    let socket = UdpSocket::bind("0.0.0.0:0").context("making a socket")?;
    socket.connect(to).with_context(|| format!("asking {to}"))?;
    socket.set_read_timeout(Some(LOST)).context("limiting how long to wait")?;
    let mut answer = [0; 2 * SIZE];
    let begun = Instant::now();
    let (mut exchanges, mut number) = (0_u64, 0_u64);
    while begun.elapsed() < Duration::from_secs(seconds) {
        number += 1;
        let mut question = [0; SIZE];
        question[..8].copy_from_slice(&number.to_le_bytes());
        socket.send(&question).with_context(|| format!("asking {to}"))?;
        // A late answer to an earlier question is passed over.
        while let Ok(size) = socket.recv(&mut answer) {
            if size == SIZE && answer[..SIZE] == question {
                exchanges += 1;
                break;
            }
        }
    }
    ensure!(exchanges > 0, "{to} does not answer");
    println!("{}", exchanges as f64 / begun.elapsed().as_secs_f64());
    Ok(())
}
