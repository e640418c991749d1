//! Datagrams of several processes that leave at the same moments, from the same port, by several processors.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::clock_gettime;
use nix::unistd::Pid;

/// From one moment to the next; they are counted by the clock that all namespaces share.
const STEP: Duration = Duration::from_millis(10);

/// How long before a moment it is waited for without sleeping.
const AWAKE: Duration = Duration::from_millis(1);

/// Ports are taken by turns from here on.
const FIRST_PORT: u16 = 20_000;
const PORTS: u128 = 20_000;

/// Sends a datagram at each of so many moments, by this processor.
pub(super) fn send(to: SocketAddrV4, count: u32, processor: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &only)
        .with_context(|| format!("keeping to processor {processor}, for which there have to be several"))?;
    println!("ready: a datagram every {STEP:?}");
    for _ in 0..count {
        let step = now()?.as_nanos() / STEP.as_nanos() + 1;
        let moment = Duration::from_nanos(u64::try_from(step * STEP.as_nanos())?);
        let port = FIRST_PORT + u16::try_from(step % PORTS)?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))
            .with_context(|| format!("opening a socket at port {port}"))?;
        socket.connect(to).with_context(|| format!("looking for a way to {to}"))?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::empty())?;
        timer.set(Expiration::OneShot((moment - AWAKE).into()), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        timer.wait()?;
        while now()? < moment {
            std::hint::spin_loop();
        }
        socket.send(&[0x70; 32]).with_context(|| format!("sending to {to}"))?;
    }
    println!("sent {count}");
    Ok(())
}

fn now() -> Result<Duration> {
    Ok(clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?.into())
}
