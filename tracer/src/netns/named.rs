//! Named network namespaces as `ip netns` has them: one file each in `/run/netns`.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::enter::on_a_thread;

const DIRECTORY: &str = "/run/netns";

/// Path of a named namespace.
#[must_use]
pub fn named_path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Creates a named namespace, like `ip netns add`.
///
/// # Errors
///
/// If the name exists already, or this process is not allowed to create namespaces.
pub fn create(name: &str) -> Result<()> {
    let path = named_path(name);
    prepare_directory().with_context(|| format!("cannot prepare {DIRECTORY} for network namespaces"))?;
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o000)
        .open(&path)
        .with_context(|| format!("cannot create the network namespace {}", path.display()))?;
    let made = on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    });
    if made.is_err() {
        // The error to report is that of creating it.
        let _ = fs::remove_file(&path);
    }
    made.with_context(|| format!("cannot create the network namespace {}", path.display()))
}

/// Deletes a name, and with it the namespace unless a process is still in it. Returns whether the name existed. Also deletes
/// a plain file left by an interrupted creation.
///
/// # Errors
///
/// If it exists and cannot be deleted.
pub fn delete(name: &str) -> Result<bool> {
    let path = named_path(name);
    let failed = || format!("cannot delete the network namespace {}", path.display());
    loop {
        match umount2(&path, MntFlags::MNT_DETACH) {
            // There may be several mounts on top of each other.
            Ok(()) => {}
            // No more mounts.
            Err(nix::Error::EINVAL | nix::Error::ENOENT) => break,
            Err(error) => return Err(error).with_context(failed),
        }
    }
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(failed),
    }
}

/// Makes `/run/netns` a shared mount, exactly as `ip netns` does. Otherwise the mount of the next `ip netns add` would cover
/// ours, and nobody could unmount them any more.
fn prepare_directory() -> Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(DIRECTORY) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    // The lock that `ip netns` takes for the same purpose.
    let _lock = lock(&File::open(DIRECTORY)?)?;
    let share =
        || mount(None::<&str>, DIRECTORY, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    match share() {
        Ok(()) => Ok(()),
        Err(nix::Error::EINVAL) => {
            mount(
                Some(DIRECTORY),
                DIRECTORY,
                None::<&str>,
                MsFlags::MS_BIND | MsFlags::MS_REC,
                None::<&str>,
            )?;
            Ok(share()?)
        }
        Err(nix::Error::EPERM) => bail!("not allowed to mount: run podtrace as root"),
        Err(error) => Err(error.into()),
    }
}

fn lock(directory: &File) -> io::Result<Flock<File>> {
    Flock::lock(directory.try_clone()?, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
}
