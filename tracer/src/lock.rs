//! Locks on files (`flock`), and who holds one.
//!
//! Any process that may open a file may lock it. So a lock that is not free at once is no silent wait: its holder is
//! named after a second.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Wait before the holder of a lock is named.
const SILENT: Duration = Duration::from_secs(1);
/// Time between two attempts.
const RETRY_EVERY: Duration = Duration::from_millis(5);

/// How a lock is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For one process alone.
    Exclusive,
    /// With other processes that share it.
    Shared,
}

/// Takes a lock at once. Returns the file if another process holds it.
///
/// # Errors
///
/// If the file cannot be locked at all, as on some network file systems.
pub fn try_take(file: File, kind: Kind) -> io::Result<Result<Flock<File>, File>> {
    let how = match kind {
        Kind::Exclusive => FlockArg::LockExclusiveNonblock,
        Kind::Shared => FlockArg::LockSharedNonblock,
    };
    match Flock::lock(file, how) {
        Ok(lock) => Ok(Ok(lock)),
        Err((file, Errno::EWOULDBLOCK)) => Ok(Err(file)),
        Err((_, error)) => Err(error.into()),
    }
}

/// Takes a lock within a time limit; `None` is no limit. After a second, names its holder on stderr.
///
/// # Errors
///
/// If the file cannot be locked, or is not free in time.
pub fn take(mut file: File, path: &Path, kind: Kind, limit: Option<Duration>) -> Result<Flock<File>> {
    let began = Instant::now();
    let mut named = false;
    loop {
        file = match try_take(file, kind)? {
            Ok(lock) => return Ok(lock),
            Err(file) => file,
        };
        let waited = began.elapsed();
        if limit.is_some_and(|limit| waited >= limit) {
            bail!("{} is locked by {}", path.display(), holder(&file));
        }
        if waited >= SILENT && !named {
            named = true;
            let holder = podtrace_escape::escape(&holder(&file)).into_owned();
            anstream::eprintln!("waiting for {}, which is locked by {holder}", path.display());
        }
        std::thread::sleep(RETRY_EVERY);
    }
}

/// The process that holds a lock on a file, in words.
#[must_use]
pub fn holder(file: &File) -> String {
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let Some(process) = file.metadata().ok().and_then(|file| holding(&locks, file.ino(), file.dev())) else {
        // Locks of processes in other PID namespaces are not listed.
        return "another process".to_owned();
    };
    match std::fs::read_to_string(format!("/proc/{process}/comm")) {
        Ok(name) => format!("process {process} ({})", name.trim_end()),
        Err(_) => format!("process {process}"),
    }
}

/// The process in a line of `/proc/locks` such as `3: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`. The device is compared
/// only as far as it decides between files of one number: some file systems show another one there.
fn holding(locks: &str, inode: u64, device: u64) -> Option<u32> {
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let own = format!("{major:02x}:{minor:02x}");
    let candidates = || {
        locks.lines().filter_map(|line| {
            // A waiting process has an arrow between number and kind.
            let mut words = line.split_ascii_whitespace().skip(1);
            if words.next()? != "FLOCK" {
                return None;
            }
            let (process, place) = (words.nth(2)?, words.next()?);
            let (device, number) = place.rsplit_once(':')?;
            (number.parse() == Ok(inode)).then_some((process.parse().ok()?, device))
        })
    };
    let exact = candidates().find(|(_, device)| *device == own);
    exact.or_else(|| candidates().next()).map(|(process, _)| process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_in_the_kernels_list() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 fd:01:5678 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 8 fd:02:5678 0 EOF\n\
                     3: FLOCK  ADVISORY  READ 9 fd:01:5678 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 10 fd:01:5678 0 EOF\n\
                     4: FLOCK\n";
        let device = |minor| nix::sys::stat::makedev(0xfd, minor);
        assert_eq!(holding(locks, 5678, device(1)), Some(9));
        assert_eq!(holding(locks, 5678, device(2)), Some(8));
        assert_eq!(holding(locks, 5678, device(3)), Some(8), "a file system with a device of its own");
        assert_eq!(holding(locks, 5679, device(1)), None);
    }

    #[test]
    fn a_lock_that_is_held_names_its_holder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::open(file.path()).unwrap();
        let held = take(open(), file.path(), Kind::Shared, None).unwrap();
        let shared = take(open(), file.path(), Kind::Shared, None).unwrap();
        drop(shared);
        let error = take(open(), file.path(), Kind::Exclusive, Some(Duration::ZERO)).unwrap_err().to_string();
        assert!(error.contains(&format!("is locked by process {} (", std::process::id())), "{error}");
        drop(held);
        take(open(), file.path(), Kind::Exclusive, Some(Duration::ZERO)).unwrap();
    }
}
