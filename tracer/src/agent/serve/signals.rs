//! SIGTERM and SIGINT, listened for from the start: an agent that is ended while it attaches must clean up too.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from [`Signals::listen`] on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("waiting for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("waiting for SIGINT")?,
        })
    }

    /// Waits for SIGTERM. SIGINT is ignored: a Ctrl-C on the terminal may reach agents too, and only the tracer decides
    /// what it means.
    pub(super) async fn terminated(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => {}
            }
        }
    }
}
