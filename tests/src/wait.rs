//! Waits for a condition, with a deadline.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Time between two checks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Environment variable with a factor for every deadline, for emulated CPUs.
pub const PATIENCE: &str = "PODTRACE_TEST_PATIENCE";

/// The factor where none is given. A deadline only ends a test that hangs: it must never decide on a machine that is busy.
const DEFAULT_FACTOR: u32 = 6;

static FACTOR: LazyLock<u32> = LazyLock::new(|| {
    std::env::var(PATIENCE).ok().and_then(|factor| factor.parse().ok()).unwrap_or(DEFAULT_FACTOR)
});

/// Waits until `look` returns something.
///
/// # Errors
///
/// If it fails, or returns nothing before the deadline; `what` is what was waited for.
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let within = within * *FACTOR;
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("waited {:.1} s in vain until {what}", within.as_secs_f64());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Lets time pass, where a test needs a moment and there is no condition to wait for.
pub fn moment(duration: Duration) {
    std::thread::sleep(duration);
}
