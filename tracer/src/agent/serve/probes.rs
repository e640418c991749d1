//! The probes that an agent sends at the same time.

use podtrace_protocol::frame::{FromAgent, Probe};
use podtrace_protocol::topology::Topology;
use tokio::sync::mpsc;

use crate::agent::traffic;

/// Maximum number of probes at a time: each takes two threads.
const MAX_RUNNING: usize = 16;

/// Probes that are being sent.
pub(super) struct Probes {
    running: usize,
    /// Unbounded is safe: each probe sends one frame, and at most [`MAX_RUNNING`] run.
    done: mpsc::UnboundedSender<FromAgent>,
    results: mpsc::UnboundedReceiver<FromAgent>,
}

impl Probes {
    pub(super) fn new() -> Self {
        let (done, results) = mpsc::unbounded_channel();
        Self { running: 0, done, results }
    }

    /// Starts a probe. Returns the answer if it is refused.
    pub(super) fn start(&mut self, probe: &Probe, topology: &Topology) -> Option<FromAgent> {
        if self.running >= MAX_RUNNING {
            let error = Some(format!("{MAX_RUNNING} probes are running already"));
            return Some(FromAgent::Probed { sent: 0, error });
        }
        self.running += 1;
        traffic::send(probe, topology, self.done.clone());
        None
    }

    /// Waits for the end of a probe. Cancel-safe.
    pub(super) async fn next(&mut self) -> FromAgent {
        match self.results.recv().await {
            Some(frame) => {
                self.running -= 1;
                frame
            }
            // Not reached: this holds a sender.
            None => std::future::pending().await,
        }
    }
}
