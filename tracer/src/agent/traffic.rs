//! `--probe`: packets sent from inside a pod's network namespace, so that there is something to trace.

use std::io::{self, ErrorKind, Read as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;

use crate::netns;
use podtrace_protocol::frame::{FromAgent, Probe, ProbeKind};
use podtrace_protocol::topology::Topology;

/// How long a TCP connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an answer is waited for. A socket that is closed before it comes makes the kernel refuse it, which the trace of
/// a sound server should not show.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of an answer that are listened to.
const ANSWER: u64 = 64 << 10;

/// What probes carry, so that a reader of packets knows where they come from.
const PAYLOAD: &[u8; 56] = b"podtrace probe podtrace probe podtrace probe podtrace pr";

/// Sends a probe from a thread of its own and reports when it is done.
pub(super) fn send(probe: &Probe, topology: &Topology, done: mpsc::UnboundedSender<FromAgent>) {
    let namespace = topology.namespaces.iter().find(|namespace| namespace.pod.as_deref() == Some(&probe.pod));
    let path = namespace.map(|namespace| PathBuf::from(&namespace.path));
    let probe = probe.clone();
    std::thread::spawn(move || {
        let mut sent = 0;
        let result = match path {
            None => Err(anyhow::anyhow!("the network namespace of {} was not found on its node", probe.pod)),
            Some(path) => netns::run_in(&path, || exchanges(&probe, &mut sent)),
        };
        let error = result.err().map(|error| format!("{error:#}"));
        // The agent may be ending: nobody is left to tell.
        let _ = done.send(FromAgent::Probed { sent, error });
    });
}

fn exchanges(probe: &Probe, sent: &mut u32) -> Result<()> {
    let identifier = u16::try_from(std::process::id() & 0xffff).unwrap_or_default();
    for number in 1..=probe.count {
        match probe.kind {
            ProbeKind::Icmp => echo(probe.destination, identifier, u16::try_from(number & 0xffff)?)?,
            ProbeKind::Tcp(port) => connect((probe.destination, port).into())?,
            ProbeKind::Udp(port) => datagram((probe.destination, port).into())?,
        }
        *sent = number;
        if number < probe.count {
            std::thread::sleep(Duration::from_millis(probe.interval_ms));
        }
    }
    Ok(())
}

fn echo(to: IpAddr, identifier: u16, sequence: u16) -> Result<()> {
    // A raw socket: ping sockets depend on net.ipv4.ping_group_range, which excludes root by default.
    let (domain, protocol, kind) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol)).context("opening a raw ICMP socket")?;
    let mut packet = vec![kind, 0, 0, 0];
    packet.extend(identifier.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(PAYLOAD);
    if to.is_ipv4() {
        let checksum = checksum(&packet);
        packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    let sent = socket.send_to(&packet, &SocketAddr::from((to, 0)).into());
    tell(sent, "sending an ICMP echo request", to)
}

fn connect(to: SocketAddr) -> Result<()> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))
        .context("opening a socket")?;
    match socket.connect_timeout(&to.into(), CONNECT_TIMEOUT) {
        // A refusal or silence is what the trace is there to show.
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::TimedOut) => Ok(()),
        other => tell(other, "connecting", to).map(|()| hear_out(&socket.into())),
    }
}

/// Ends this side of a connection, and lets the other say what it has to say and end its own.
fn hear_out(stream: &TcpStream) {
    let end = Instant::now() + ANSWER_TIMEOUT;
    // Whatever goes wrong from here on, the connection is over.
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = stream.take(ANSWER);
    let mut heard = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // No time is none to be set.
        if stream.set_read_timeout(Some(left)).is_err() || !answer.read(&mut heard).is_ok_and(|read| read > 0)
        {
            return;
        }
    }
}

fn datagram(to: SocketAddr) -> Result<()> {
    let socket =
        Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP)).context("opening a socket")?;
    // Connected, for it to hear of errors too.
    tell(socket.connect(&to.into()), "finding a route", to)?;
    tell(socket.send(PAYLOAD), "sending a datagram", to)?;
    // A refusal or silence is what the trace is there to show.
    let _ = socket.set_read_timeout(Some(ANSWER_TIMEOUT)).and_then(|()| (&socket).read(&mut [0; 1]));
    Ok(())
}

fn tell<T>(result: io::Result<T>, what: &str, to: impl std::fmt::Display) -> Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => bail!("{what} to {to}: {error}"),
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_with_its_checksum_sums_to_zero() {
        let mut packet = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1, 0xff];
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(&packet), 0);
    }
}
