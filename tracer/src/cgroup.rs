//! The memory limit of this process's cgroup.

use std::fs;
use std::path::{Path, PathBuf};

use podtrace_path::{DEFAULT_MEMORY, LEAST_MEMORY};

/// Where cgroups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// How much of the limit an engine may take: the report, the recording and the buffers need some as well.
const SHARE: u64 = 4;

/// The ceiling for a trace's packets and flows: a share of the cgroup's memory limit, or the default without one.
pub(crate) fn memory_for_trace() -> u64 {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    ceiling(limits(&own).filter_map(|file| read_limit(&file)).min())
}

fn ceiling(limit: Option<u64>) -> u64 {
    limit.map_or(DEFAULT_MEMORY, |limit| (limit / SHARE).max(LEAST_MEMORY))
}

/// The files that hold the limits of a process with this `/proc/PID/cgroup`: those of its cgroup and all above it.
fn limits(cgroups: &str) -> impl Iterator<Item = PathBuf> {
    cgroups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let (mount, file) = match controllers {
            "" => (PathBuf::from(MOUNT), "memory.max"),
            _ => (Path::new(MOUNT).join("memory"), "memory.limit_in_bytes"),
        };
        let is_memory = controllers.is_empty() || controllers.split(',').any(|name| name == "memory");
        let own = Path::new(path).components().filter(|part| matches!(part, std::path::Component::Normal(_)));
        let own: PathBuf = own.collect();
        let above: Vec<_> = own.ancestors().map(|of| mount.join(of).join(file)).collect();
        above.into_iter().filter(move |_| is_memory)
    })
}

/// The limit in a file; `None` if there is none. Version 1 has a number near the largest for that.
fn read_limit(file: &Path) -> Option<u64> {
    let limit = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    (limit < 1 << 50).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_looked_for_in_the_cgroup_and_above() {
        let files: Vec<_> = limits("0::/kubepods/pod1/../x\n").collect();
        assert_eq!(files[0], Path::new("/sys/fs/cgroup/kubepods/pod1/x/memory.max"));
        assert_eq!(files.last().map(PathBuf::as_path), Some(Path::new("/sys/fs/cgroup/memory.max")));
        let files: Vec<_> = limits("4:cpu:/a\n7:memory:/b\n").collect();
        assert_eq!(files[0], Path::new("/sys/fs/cgroup/memory/b/memory.limit_in_bytes"));
        assert_eq!(files.len(), 2);
    }

    #[test]
    fn a_trace_takes_a_quarter_of_the_limit() {
        assert_eq!(ceiling(None), DEFAULT_MEMORY);
        assert_eq!(ceiling(Some(400_000_000)), 100_000_000);
        assert_eq!(ceiling(Some(1_000)), LEAST_MEMORY);
    }
}
