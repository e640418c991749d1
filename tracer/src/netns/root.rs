//! The node's files, also for a process that has its own.

use std::fs;
use std::path::{Path, PathBuf};

/// The first process's root directory.
const OF_THE_NODE: &str = "/proc/1/root";

/// Root directories to look for the node's files in, our own first: in a container that sees the node's processes,
/// the first of these has the node's files, which no mount has to lend us then.
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
    // Unreadable without root, and then the files are, too.
    let mounts = |process: &str| fs::read_link(Path::new("/proc").join(process).join("ns/mnt")).ok();
    (mounts("1")? != mounts("self")?).then(|| PathBuf::from(OF_THE_NODE))
}

/// Whether this thread is in the network namespace that the node's first process is in: what the node's files say of
/// networks is said of that one.
#[must_use]
pub fn in_first_netns() -> bool {
    let namespace = |process: &str| fs::read_link(Path::new("/proc").join(process).join("ns/net")).ok();
    namespace("1").is_some_and(|first| Some(first) == namespace("thread-self"))
}
