//! The node's root directory, also for a process in a container.

use std::fs;
use std::path::{Path, PathBuf};

/// The root directory of process 1.
const OF_THE_NODE: &str = "/proc/1/root";

/// Root directories to search for the node's files, our own first. In a container with the node's processes (`hostPID`),
/// process 1 gives access to the node's files without a mount.
pub(super) fn roots() -> Vec<PathBuf> {
    let mut roots = vec![PathBuf::from("/")];
    roots.extend(other_root());
    roots
}

/// The node's root directory.
#[must_use]
pub fn node_root() -> PathBuf {
    other_root().unwrap_or_else(|| PathBuf::from("/"))
}

fn other_root() -> Option<PathBuf> {
    // Without root neither the link nor the files are readable.
    let mounts = |process: &str| fs::read_link(Path::new("/proc").join(process).join("ns/mnt")).ok();
    (mounts("1")? != mounts("self")?).then(|| PathBuf::from(OF_THE_NODE))
}

/// Whether this thread is in the network namespace of process 1, which the node's files about networks refer to.
#[must_use]
pub fn in_first_netns() -> bool {
    let namespace = |process: &str| fs::read_link(Path::new("/proc").join(process).join("ns/net")).ok();
    namespace("1").is_some_and(|first| Some(first) == namespace("thread-self"))
}
