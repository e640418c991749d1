//! Taking a cluster away, whole or not: by the account of what was started, then by what our namespaces hold.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::command::{quietly, words};
use super::process::Process;
use super::state::State;
use super::{cgroup, network};
use crate::run;
use crate::wait;

/// How long the end of processes may take, and what the kernel still does with what they held.
const GONE: Duration = Duration::from_secs(20);

/// Removes everything, and says so.
pub(super) fn down(state: &State) -> Result<()> {
    let namespaces = network::existing()?;
    if !state.exists() && namespaces.is_empty() {
        println!("there is no cluster");
        return Ok(());
    }
    run::watched("removing the cluster", |_| {
        end(state)?;
        end_strangers(&namespaces)?;
        for namespace in &namespaces {
            quietly(&mut words(&format!("ip netns del {namespace}")))?;
        }
        let mounts = mounts_below(state.directory())?;
        for mount in mounts.iter().rev() {
            quietly(&mut words(&format!("umount {}", mount.display())))?;
        }
        wait::until("the containers' cgroups are gone", GONE, cgroup::remove)?;
        if state.exists() {
            let directory = state.directory();
            fs::remove_dir_all(directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        Ok(())
    })
}

/// Ends what was started. Containers end with the first process of their node.
fn end(state: &State) -> Result<()> {
    let processes = state.processes()?;
    for (_, process) in &processes {
        process.kill()?;
    }
    wait::until("its processes have ended", GONE, || {
        let left: Vec<_> = processes
            .iter()
            .filter(|(_, process)| process.is_there())
            .map(|(name, _)| name.as_str())
            .collect();
        ensure!(left.is_empty(), "there are {}", left.join(", "));
        Ok(())
    })
}

/// Ends those who are in our networks although nothing of ours runs any more: tests that were killed leave some.
fn end_strangers(namespaces: &[String]) -> Result<()> {
    let inodes: BTreeSet<u64> = namespaces
        .iter()
        .filter_map(|name| Some(fs::metadata(Path::new("/run/netns").join(name)).ok()?.ino()))
        .collect();
    let about = "cannot look at the machine's processes";
    let mut strangers = Vec::new();
    for entry in fs::read_dir("/proc").context(about)? {
        let entry = entry.context(about)?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended by now.
        let Ok(network) = fs::metadata(entry.path().join("ns/net")) else { continue };
        if inodes.contains(&network.ino())
            && let Ok(process) = Process::of(pid)
        {
            strangers.push(process);
        }
    }
    strangers.iter().try_for_each(Process::kill)?;
    wait::until("nobody is in its networks", GONE, || {
        let left: Vec<_> = strangers.iter().filter(|process| process.is_there()).map(Process::pid).collect();
        ensure!(left.is_empty(), "there are processes {left:?}");
        Ok(())
    })
}

/// Mount points below a directory, each after those above it.
fn mounts_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read the machine's mounts")?;
    let places = mounts.lines().filter_map(|line| line.split_whitespace().nth(4)).map(PathBuf::from);
    let mut places: Vec<_> = places.filter(|place| place.starts_with(directory)).collect();
    places.sort_unstable();
    Ok(places)
}
