//! Removes a lab: first the processes in its namespaces, then the namespaces.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::listen;
use super::plan::Plan;
use crate::netns::{self, Netns, named_path};

/// Time limit for killed processes to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time between two checks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    /// Network namespaces.
    pub(super) namespaces: usize,
    /// Processes in them.
    pub(super) killed: usize,
}

/// Removes every existing namespace of the plan. If one cannot be removed, the others still are.
pub(super) fn remove(plan: &Plan) -> Result<Removed> {
    // Never the caller's own namespace: podtrace may run in a shell inside the lab. And if one of our names were mounted
    // over the machine's namespace, this would end every process.
    let own = Netns::here()?.inode();
    let inodes: BTreeSet<_> = plan
        .namespaces()
        .filter_map(|name| Netns::open(named_path(name)).ok())
        .map(|netns| netns.inode())
        .filter(|inode| *inode != own)
        .collect();
    let killed = end_processes(&inodes);
    let mut namespaces = 0;
    let mut failed = Vec::new();
    for name in plan.namespaces() {
        match netns::delete(name) {
            Ok(was_there) => namespaces += usize::from(was_there),
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(Removed { namespaces, killed: killed? })
}

/// Kills the processes in the namespaces: a process keeps its namespace alive even without a name.
fn end_processes(inodes: &BTreeSet<u32>) -> Result<usize> {
    let mut killed = BTreeSet::new();
    if inodes.is_empty() {
        return Ok(0);
    }
    let began = Instant::now();
    loop {
        // Check again after each round: a process may have forked before it died.
        let living = netns::processes_in(inodes);
        if living.is_empty() {
            return Ok(killed.len());
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "processes {living:?} in the lab's network namespaces do not end although they were killed"
        );
        for pid in living {
            // Empty if the process has ended by now.
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let raw = i32::try_from(pid).with_context(|| format!("{pid} is not a process"))?;
            match kill(Pid::from_raw(raw), Signal::SIGKILL) {
                // The lab's own servers are not counted.
                Ok(()) if listen::is_server(&arguments) => {}
                Ok(()) => {
                    killed.insert(pid);
                }
                Err(nix::Error::ESRCH) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot kill process {pid} in the lab"));
                }
            }
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
