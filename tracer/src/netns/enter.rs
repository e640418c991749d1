//! Opens a network namespace and runs work inside it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use rtnetlink::Handle;

/// An open network namespace. It exists at least as long as this handle.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: PathBuf,
    inode: u32,
}

impl Netns {
    /// Opens the namespace at `path`, such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// If it does not exist, cannot be read, or is not a namespace (a name whose namespace was deleted is a plain file).
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        Self::try_open(&path)
            .with_context(|| format!("cannot open the network namespace {}", path.display()))?
            .with_context(|| format!("{} is not a network namespace", path.display()))
    }

    /// Opens the namespace at `path`; `None` if the file is not a namespace.
    pub(super) fn try_open(path: &Path) -> io::Result<Option<Self>> {
        // Opening must not block if there is something else, such as a FIFO.
        let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
        if fstatfs(&file)?.filesystem_type() != NSFS_MAGIC {
            return Ok(None);
        }
        // Namespaces have 32-bit inode numbers, and eBPF programs report them as such.
        let Ok(inode) = u32::try_from(file.metadata()?.ino()) else { return Ok(None) };
        Ok(Some(Self { file, path: path.to_owned(), inode }))
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// If /proc is not mounted.
    pub fn here() -> Result<Self> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// Inode number, which identifies the namespace.
    #[must_use]
    pub fn inode(&self) -> u32 {
        self.inode
    }

    /// The path by which it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` inside in a new thread, and waits for it.
    ///
    /// # Errors
    ///
    /// If the namespace cannot be entered, or the error of `work`.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_a_thread(|| {
            self.enter()?;
            work()
        })
    }

    /// Runs `work` inside in a new thread, with a netlink socket of this namespace.
    ///
    /// # Errors
    ///
    /// If the namespace cannot be entered or the socket not be opened, or the error of `work`.
    pub fn netlink<T: Send>(&self, work: impl AsyncFnOnce(Handle) -> Result<T> + Send) -> Result<T> {
        self.run(|| block_on_netlink(work))
    }

    /// Moves the calling thread into the namespace. There is no way back, so this is only for a thread that then ends or
    /// executes another program.
    ///
    /// # Errors
    ///
    /// If the namespace cannot be entered.
    pub fn enter(&self) -> Result<()> {
        match setns(&self.file, CloneFlags::CLONE_NEWNET) {
            Ok(()) => Ok(()),
            Err(nix::Error::EPERM) => {
                bail!("cannot enter the network namespace {}: run podtrace as root", self.path.display())
            }
            Err(error) => Err(error)
                .with_context(|| format!("cannot enter the network namespace {}", self.path.display())),
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Runs `work` inside the network namespace at `path` in a new thread, and waits for it.
///
/// # Errors
///
/// If the namespace does not exist or cannot be entered, or the error of `work`.
pub fn run_in<T: Send>(path: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    Netns::open(path)?.run(work)
}

/// Runs `work` in a new thread, with a netlink socket of the caller's namespace.
///
/// # Errors
///
/// If the socket cannot be opened, or the error of `work`.
pub fn netlink_here<T: Send>(work: impl AsyncFnOnce(Handle) -> Result<T> + Send) -> Result<T> {
    on_a_thread(|| block_on_netlink(work))
}

/// Runs `work` in a new thread. It starts in the namespace of the calling thread.
pub(super) fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .context("cannot start a thread to enter a network namespace")?;
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `work` with a netlink socket on this thread. A socket belongs to the namespace in which it is opened, so socket and
/// runtime have to be on the thread that has entered it.
fn block_on_netlink<T>(work: impl AsyncFnOnce(Handle) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime for netlink")?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().context("cannot open a netlink socket")?;
        let connection = tokio::spawn(connection);
        let outcome = work(handle).await;
        connection.abort();
        outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_knows_its_own_namespace() {
        let process = std::fs::metadata("/proc/self/ns/net").unwrap().ino();
        assert_eq!(u64::from(Netns::here().unwrap().inode()), process);
    }

    #[test]
    fn other_files_are_errors() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Netns::open(file.path()).unwrap_err();
        assert!(error.to_string().ends_with("is not a network namespace"), "{error}");
        let error = Netns::open("/nonexistent/netns").unwrap_err();
        assert_eq!(error.to_string(), "cannot open the network namespace /nonexistent/netns");
    }

    #[test]
    fn a_panic_in_a_namespace_is_the_callers_panic() {
        let outcome = std::panic::catch_unwind(|| on_a_thread::<()>(|| panic!("inside")));
        assert!(outcome.is_err());
    }
}
