//! The agent's two streams: frames in on stdin, frames out on stdout.

use std::io::{self, BufReader, BufWriter, Stdout, Write as _};
use std::os::fd::AsFd as _;

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;

use crate::probe::needs_cleanup_before_exit;
use podtrace_protocol::codec::{read_raw, write_raw};
use podtrace_protocol::frame::{FromAgent, ToAgent};

/// Frames that wait until they are taken. A tracer sends few; one that sends more waits itself.
const WAITING: usize = 64;

/// The agent's output. Nothing else may write to stdout.
pub(super) struct Output(BufWriter<Stdout>);

impl Output {
    pub(super) fn stdout() -> Self {
        Self(BufWriter::with_capacity(1 << 16, io::stdout()))
    }

    pub(super) fn send(&mut self, frame: &FromAgent) -> Result<()> {
        write_raw(&mut self.0, &frame.to_raw())?;
        self.0.flush()?;
        Ok(())
    }
}

/// Input by a thread of its own: stdin may be a pipe, a file or a terminal, and only a thread reads them all. It waits while
/// [`WAITING`] frames are not taken.
pub(super) fn input() -> mpsc::Receiver<io::Result<ToAgent>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        let mut stdin = BufReader::new(io::stdin());
        loop {
            let frame = match read_raw(&mut stdin) {
                Ok(None) => {
                    if reader_is_gone() && !needs_cleanup_before_exit() {
                        // The tracer was killed: nobody waits for a goodbye, and what the main thread is busy
                        // with may take long. The kernel detaches what this process holds.
                        std::process::exit(0);
                    }
                    return;
                }
                Ok(Some(raw)) => ToAgent::from_raw(&raw),
                Err(error) => Err(error),
            };
            let failed = frame.is_err();
            if sender.blocking_send(frame).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Whether nobody reads this process's output any more.
fn reader_is_gone() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    // A pipe without a reader is in error, whatever is asked for.
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}
