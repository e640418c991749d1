//! How urgent a thread is to the kernel's scheduler.

use nix::libc;
use tracing::debug;

/// The nice value of a thread that can wait.
const NICE: libc::c_int = 5;

/// Has the scheduler prefer the traffic that is traced, and the agents, to this thread and those that it starts: where all
/// CPUs are busy, paths are shown later. A thread that is as nice already stays so.
pub fn yield_to_traffic() {
    // SAFETY: calls without pointers, about this thread.
    let (before, failed) = unsafe {
        let before = libc::getpriority(libc::PRIO_PROCESS, 0);
        (before, before < NICE && libc::setpriority(libc::PRIO_PROCESS, 0, NICE) != 0)
    };
    if failed {
        debug!("the nice value stays {before}");
    }
}
