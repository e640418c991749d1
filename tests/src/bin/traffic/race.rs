//! Datagrams of two pods that overtake each other on their node.

use std::env;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use podtrace::agent::conntrack;
use podtrace::netns::Netns;
use podtrace_tests::lab::netns_path;

/// Ports of the datagrams that race; the others' are below.
const RACING: u16 = 20_000;
const ALONE: u16 = 10_000;

/// How much later than the slow pod's datagram the quick one's leaves at first. From try to try it is doubled, for
/// what the node takes depends on the machine.
const LATER: Duration = Duration::from_micros(50);
const DOUBLINGS: u32 = 11;

/// Sends a number of datagrams from the slow pod; with each, one from the quick pod by another processor and from the
/// same port, until this node could not enter a connection into its table. For a process of the node.
pub(super) fn run(slow: &str, quick: &str, to: SocketAddrV4, count: u16) -> Result<()> {
    let lab = env::var("PODTRACE_LAB").context("finding the lab by PODTRACE_LAB")?;
    let pod = |name: &str| Netns::open(netns_path(&lab, name));
    let (slow, quick) = (pod(slow)?, pod(quick)?);
    keep_to_processor(0)?;
    let before = not_entered()?;
    let mut tries = 0;
    for number in 0..count {
        if not_entered()? > before {
            send(&socket(&slow, ALONE + number, to)?)?;
            continue;
        }
        let (slow, quick) = (socket(&slow, RACING + number, to)?, socket(&quick, RACING + number, to)?);
        let together = Barrier::new(2);
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                let kept = keep_to_processor(1);
                together.wait();
                kept?;
                send(&slow)
            });
            together.wait();
            let at = Instant::now() + LATER * 2_u32.pow(tries % DOUBLINGS);
            while Instant::now() < at {
                std::hint::spin_loop();
            }
            send(&quick)?;
            other.join().map_err(|_| anyhow!("the slow pod's sender panicked"))?
        })?;
        tries += 1;
    }
    ensure!(not_entered()? > before, "no datagram overtook another in {tries} tries");
    println!("overtaken in {tries} tries");
    Ok(())
}

/// A socket of the pod, which stays one wherever it is used.
fn socket(pod: &Netns, port: u16, to: SocketAddrV4) -> Result<UdpSocket> {
    pod.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))
            .with_context(|| format!("opening a socket at port {port}"))?;
        socket.connect(to).with_context(|| format!("looking for a way to {to}"))?;
        Ok(socket)
    })
}

fn send(socket: &UdpSocket) -> Result<()> {
    socket.send(&[0x70; 32]).context("sending a datagram")?;
    Ok(())
}

fn keep_to_processor(number: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(number)?;
    sched_setaffinity(Pid::from_raw(0), &only)
        .with_context(|| format!("keeping to processor {number}, for which there have to be two"))
}

/// How many connections this node could not enter into its table, for another had taken their place.
fn not_entered() -> Result<u64> {
    let counters = conntrack::read().context("reading what connection tracking counts here")?;
    Ok(counters.insert_failed)
}
