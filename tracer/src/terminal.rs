//! The terminal: taken for a live view, and given back whatever happens: by a guard, by a panic's hook, and where a second signal
//! ends the process at once.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

/// Whether the live view has the terminal.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Gives the terminal back when dropped.
#[derive(Debug)]
pub(crate) struct Taken;

impl Taken {
    /// Takes it: raw mode, and a screen of its own.
    pub(crate) fn take() -> Result<Self> {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // Before the message, so that it can be read.
            give_back();
            hook(info);
        }));
        enable_raw_mode().context("switching the terminal to raw mode")?;
        TAKEN.store(true, Ordering::SeqCst);
        let taken = Self;
        execute!(io::stdout(), EnterAlternateScreen, Hide).context("writing to the terminal")?;
        Ok(taken)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back();
    }
}

/// Whether nobody has given it back meanwhile.
pub(crate) fn is_taken() -> bool {
    TAKEN.load(Ordering::SeqCst)
}

/// Waits for input on stdin; whether there is any.
///
/// # Errors
///
/// If the terminal is gone: crossterm, asked for a key then, would read for ever.
pub(crate) fn has_input(within: Duration) -> io::Result<bool> {
    let stdin = io::stdin();
    let mut polled = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    let within = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
    match poll(&mut polled, within) {
        // A signal, such as that the window has another size.
        Err(Errno::EINTR) => return Ok(false),
        polled => polled?,
    };
    let events = polled[0].revents().unwrap_or(PollFlags::empty());
    if events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
        return Err(io::Error::new(io::ErrorKind::BrokenPipe, "the terminal is gone"));
    }
    Ok(events.contains(PollFlags::POLLIN))
}

/// Gives back no more than the terminal's mode, which writes nothing.
pub(crate) fn leave_raw_mode() {
    let _ = disable_raw_mode();
}

/// Gives the terminal back, if the live view has it. Errors are ignored: the terminal may be gone.
pub(crate) fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
        let _ = io::stdout().flush();
    }
}
