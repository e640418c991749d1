//! Finds network namespaces, and the processes in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Netns;
use super::root::roots;

/// Directories of names made by container runtimes and `ip netns`. containerd and CRI-O use `/var/run`, which is `/run`
/// nearly everywhere.
const NAMED: [&str; 3] = ["run/netns", "var/run/netns", "run/docker/netns"];

/// The network namespaces found on this machine.
#[derive(Debug, Default)]
pub struct Found {
    /// Each namespace once, with a name as its path if it has one.
    pub namespaces: Vec<Place>,
    /// Paths that could not be read, and why.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Where a network namespace can be opened. It holds none open: a node may have more than a process may open files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    path: PathBuf,
    inode: u32,
}

impl Place {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Inode number, which identifies the namespace.
    #[must_use]
    pub fn inode(&self) -> u32 {
        self.inode
    }

    /// Opens the namespace; `None` if it has gone, or another one is there now.
    ///
    /// # Errors
    /// If it is there and cannot be opened.
    pub fn open(&self) -> std::io::Result<Option<Netns>> {
        match Netns::try_open(&self.path) {
            Err(error) if gone(&error) => Ok(None),
            opened => Ok(opened?.filter(|netns| netns.inode() == self.inode)),
        }
    }
}

/// Every network namespace that has a name or a process.
#[must_use]
pub fn candidates() -> Found {
    let mut by_inode = BTreeMap::new();
    let mut unreadable = Vec::new();
    let roots = roots();
    let named = roots.iter().flat_map(|root| NAMED.map(|directory| root.join(directory)));
    let named = named.flat_map(|directory| entries(&directory));
    // Names first: the path of a process becomes invalid when the process ends.
    let processes = pids().into_iter().map(process_path);
    for path in named.chain(processes) {
        // Hundreds of processes may share a namespace: open it once.
        if fs::metadata(&path)
            .ok()
            .and_then(|meta| u32::try_from(meta.ino()).ok())
            .is_some_and(|inode| by_inode.contains_key(&inode))
        {
            continue;
        }
        match Netns::try_open(&path) {
            Ok(Some(netns)) => {
                let place = Place { path, inode: netns.inode() };
                by_inode.entry(place.inode).or_insert(place);
            }
            // A file without a namespace, or a process that has ended: both are normal.
            Ok(None) => {}
            Err(error) if gone(&error) => {}
            Err(error) => unreadable.push((path, error.to_string())),
        }
    }
    Found { namespaces: by_inode.into_values().collect(), unreadable }
}

/// Processes other than this one in one of these network namespaces.
#[must_use]
pub fn processes_in(inodes: &BTreeSet<u32>) -> Vec<u32> {
    let lives_there = |pid: &u32| {
        fs::metadata(process_path(*pid))
            .ok()
            .and_then(|meta| u32::try_from(meta.ino()).ok())
            .is_some_and(|inode| inodes.contains(&inode))
    };
    pids().into_iter().filter(|&pid| pid != std::process::id()).filter(lives_there).collect()
}

fn gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(nix::Error::ESRCH as i32)
}

fn process_path(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn pids() -> Vec<u32> {
    entries(Path::new("/proc")).iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_namespace_is_found_once() {
        let own = Netns::here().unwrap().inode();
        assert_eq!(candidates().namespaces.iter().filter(|netns| netns.inode() == own).count(), 1);
    }

    #[test]
    fn a_process_never_finds_itself() {
        let own = BTreeSet::from([Netns::here().unwrap().inode()]);
        assert!(!processes_in(&own).contains(&std::process::id()));
        assert!(processes_in(&BTreeSet::from([0])).is_empty());
    }
}
