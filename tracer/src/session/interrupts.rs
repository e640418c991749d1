//! Ctrl-C, SIGTERM and SIGHUP: the first asks the trace to end, the second ends it at once.
//!
//! A SIGHUP that is ignored when podtrace starts stays so: `nohup` asks for that.
//!
//! A task of its own listens, so that a second Ctrl-C counts whatever the trace is busy with: if the trace has not ended
//! by itself shortly after, the process exits. Agents end with their input, and pods made for agents by themselves.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::terminal;

/// How long after the second one the trace may take to end in order.
const IN_ORDER: Duration = Duration::from_millis(600);

/// How long the message about that may take to be written.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Exit status of what SIGINT ended, as shells have it.
const INTERRUPTED: i32 = 130;

/// Listens from [`Interrupts::listen`] on, until dropped.
pub(super) struct Interrupts {
    received: mpsc::UnboundedReceiver<()>,
    task: AbortHandle,
}

impl Interrupts {
    pub(super) fn listen() -> Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt()).context("waiting for Ctrl-C")?;
        let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
        let mut hangup = match is_hangup_ignored() {
            true => None,
            false => Some(signal(SignalKind::hangup()).context("waiting for SIGHUP")?),
        };
        let (sender, received) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            for is_first in [true, false] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    // The shell and the kernel may both send one.
                    () = received_from(&mut hangup), if is_first => {}
                }
                // The trace may be over by now.
                let _ = sender.send(());
                if !is_first {
                    sleep(IN_ORDER).await;
                    // If nobody reads stderr, writing to it waits: a thread does.
                    let message =
                        spawn_blocking(|| warn!("ended at once: what was not written yet is missing"));
                    let _ = timeout(LAST_WORDS, message).await;
                    // No destructor runs.
                    terminal::give_back();
                    std::process::exit(INTERRUPTED);
                }
            }
        });
        Ok(Self { received, task: task.abort_handle() })
    }

    /// The next one. Cancelling this loses nothing.
    pub(super) async fn next(&mut self) {
        if self.received.recv().await.is_none() {
            // The task panicked.
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the next one while `work` is done; `None` if it comes first.
    pub(super) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.next() => None,
        }
    }
}

async fn received_from(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether SIGHUP is ignored, by the mask in /proc/self/status.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 != 0)
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.task.abort();
    }
}
