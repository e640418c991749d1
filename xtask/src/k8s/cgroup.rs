//! The cgroups of a cluster: all containers of a node are in one group, in every hierarchy that there is.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The name of ours.
pub(super) const CGROUP: &str = "podtrace-k8s";

/// Where hierarchies are, or where the one is.
const TOP: &str = "/sys/fs/cgroup";

/// What a directory has that is a group.
const MARK: &str = "cgroup.procs";

/// Makes the group of a node. The kubelet wants it to be there.
pub(super) fn make(node: &str) -> Result<()> {
    for hierarchy in hierarchies(Path::new(TOP)) {
        let group = hierarchy.join(CGROUP).join(node);
        fs::create_dir_all(&group).with_context(|| format!("cannot create {}", group.display()))?;
    }
    Ok(())
}

/// Removes the groups of all nodes, in which nothing runs any more.
pub(super) fn remove() -> Result<()> {
    let groups = hierarchies(Path::new(TOP)).into_iter().map(|hierarchy| hierarchy.join(CGROUP));
    groups.filter(|group| group.is_dir()).try_for_each(|group| remove_group(&group))
}

fn remove_group(group: &Path) -> Result<()> {
    directories(group).iter().try_for_each(|inner| remove_group(inner))?;
    fs::remove_dir(group).with_context(|| format!("cannot remove {}", group.display()))
}

/// The roots of the hierarchies: the top itself, directories in it, or both.
fn hierarchies(top: &Path) -> Vec<PathBuf> {
    if top.join(MARK).exists() {
        return vec![top.to_owned()];
    }
    directories(top).into_iter().filter(|directory| directory.join(MARK).exists()).collect()
}

/// The directories in a directory; none if it cannot be read.
fn directories(of: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_one_or_many() {
        let top = tempfile::tempdir().unwrap();
        for name in ["cpu", "memory"] {
            fs::create_dir(top.path().join(name)).unwrap();
            fs::write(top.path().join(name).join(MARK), "").unwrap();
        }
        fs::create_dir(top.path().join("other")).unwrap();
        let mut many = hierarchies(top.path());
        many.sort_unstable();
        assert_eq!(many, ["cpu", "memory"].map(|name| top.path().join(name)));
        fs::write(top.path().join(MARK), "").unwrap();
        assert_eq!(hierarchies(top.path()), [top.path()]);
    }
}
