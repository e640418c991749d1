//! What a pod does between the agents that are started in it.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often it looks whether it is still needed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Sleeps; if there is a limit, until no agent has been here for so long. An agent that was started in this pod runs
/// this very file, which nothing else does.
pub fn idle(limit: Option<Duration>) {
    let mut needed = Instant::now();
    while limit.is_none_or(|limit| needed.elapsed() < limit) {
        std::thread::sleep(limit.map_or(LOOK_EVERY, |limit| limit.min(LOOK_EVERY)));
        if limit.is_some() && others_run() {
            needed = Instant::now();
        }
    }
}

/// Whether another process executes the file that this one does.
fn others_run() -> bool {
    let Ok(own) = fs::metadata("/proc/self/exe") else { return false };
    let same = |other: &Metadata| (other.dev(), other.ino()) == (own.dev(), own.ino());
    let is_other = |process: &Path| {
        let number = process.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
        number.is_some_and(|number| number != std::process::id())
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files = processes.filter(|process| is_other(process)).map(|process: PathBuf| process.join("exe"));
    files.any(|file| fs::metadata(file).is_ok_and(|other| same(&other)))
}
