//! Waiting for what another process does.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Waits until `look` succeeds; its last error is reported when the time is over.
pub(crate) fn until(what: &str, within: Duration, mut look: impl FnMut() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + within;
    loop {
        match look() {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                bail!("waited {} s in vain until {what}: {error:#}", within.as_secs());
            }
            Err(_) => std::thread::sleep(LOOK_AGAIN),
        }
    }
}
