//! Cleans up after a killed process: its clsact filters, and the qdiscs that hold them, stay in the kernel.
//!
//! 1. Before a device gets a filter, its name is written to a file of its network namespace. The file stays locked
//!    while filters may exist; tracers that run at the same time share the lock.
//! 2. A tracer that ends normally removes its filters. The last one also removes the qdiscs that any of them added, and
//!    the file.
//! 3. A tracer that starts and finds a file that nobody has locked removes what a killed one left: filters with the
//!    names of our programs, and the qdiscs that the file lists.
//!
//! The file has one line for each thing to remove: `filters NAME` for a device that has, or may have, our filters, and
//! `qdisc NAME` for a device whose clsact qdisc we added. A device is known by its name, not its index: one that is
//! created again under its old name needs no new line, and gets what removes the old one's.
//!
//! Limits: a tracer that is killed between adding a qdisc and recording it leaves that qdisc behind, empty. A device that is
//! renamed keeps its filters.
//!
//! With tcx there is nothing to clean up and no file.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use aya::programs::{
    TcAttachType,
    tc::{TcError, qdisc_add_clsact, qdisc_detach_program},
};
use nix::fcntl::{Flock, FlockArg};
use nix::libc;

use super::clsact;
use super::taps::TcProgram;
use crate::lock;
use crate::run_directory::{self, ROOT};

/// In the run directory: one file for each network namespace, named by its inode.
const DIRECTORY: &str = "namespaces";

/// How long another tracer may keep the file to itself: it does so while it attaches its filters.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Begins the line of a device that has, or may have, our filters.
const FILTERS: &str = "filters ";
/// Begins the line of a device whose clsact qdisc we added.
const QDISC: &str = "qdisc ";

/// Devices that a file lists.
#[derive(Debug, Default, PartialEq, Eq)]
struct Devices {
    /// Those that may have our filters.
    filters: BTreeSet<String>,
    /// Those whose clsact qdisc we added.
    qdiscs: BTreeSet<String>,
}

impl Devices {
    fn parse(text: &str) -> Self {
        let devices =
            |kind: &str| text.lines().filter_map(|line| line.strip_prefix(kind)).map(str::to_owned).collect();
        Self { filters: devices(FILTERS), qdiscs: devices(QDISC) }
    }
}

/// Whether this process may have left something in the kernel that its end does not remove.
static NEEDS_CLEANUP: AtomicBool = AtomicBool::new(false);

/// Whether this process must clean up before it exits. If not, the kernel removes everything with it.
#[must_use]
pub fn needs_cleanup_before_exit() -> bool {
    NEEDS_CLEANUP.load(Ordering::SeqCst)
}

/// The ledger of the network namespace that this process is in.
#[derive(Debug, Default)]
pub(super) struct Ledger(Option<LockedFile>);

/// The open and locked file.
#[derive(Debug)]
struct LockedFile {
    path: PathBuf,
    file: Flock<File>,
    /// Whether we hold the lock exclusively: no other tracer uses this namespace.
    has_exclusive_lock: bool,
    /// What was listed when it was opened, and what we added. Tracers that share the lock may have added more.
    recorded: Devices,
}

impl Ledger {
    /// Removes what a killed tracer left in this namespace. Returns a note for the user if there was anything.
    pub(super) fn remove_stale() -> Result<Option<String>> {
        let path = path()?;
        if !path.exists() {
            return Ok(None);
        }
        let open = LockedFile::at(path)?;
        if !open.has_exclusive_lock {
            return Ok(None);
        }
        let removed = open.remove_recorded();
        Ok((removed > 0).then(|| format!("removed {removed} tc filters left over from a killed podtrace")))
    }

    /// Records a device that is about to get a filter, and adds a clsact qdisc if it has none.
    pub(super) fn record_and_add_qdisc(&mut self, device: &str) -> Result<()> {
        let open = match &mut self.0 {
            Some(open) => open,
            none => none.insert(LockedFile::at(path()?)?),
        };
        NEEDS_CLEANUP.store(true, Ordering::SeqCst);
        if !open.recorded.filters.contains(device) {
            open.append(FILTERS, device)?;
            open.recorded.filters.insert(device.to_owned());
        }
        // Also if the name is recorded: it may be a new device of that name, without a qdisc.
        match qdisc_add_clsact(device) {
            Ok(()) if open.recorded.qdiscs.contains(device) => Ok(()),
            Ok(()) => {
                open.append(QDISC, device)?;
                open.recorded.qdiscs.insert(device.to_owned());
                Ok(())
            }
            // Ours, or somebody else's, which we use and leave in place.
            Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            Err(error) => Err(anyhow!(error).context(format!("adding a clsact qdisc to {device}"))),
        }
    }

    /// Shares the lock of the file: other tracers may attach to the same devices from here on.
    pub(super) fn downgrade_lock(&mut self) {
        if let Some(open) = &self.0 {
            // If this fails, a second tracer has to wait: no reason to end this one.
            let _ = open.file.relock(FlockArg::LockShared);
        }
    }

    /// Cleans up, unless another tracer still uses the same qdiscs. Call it after the filters are detached.
    pub(super) fn remove_all(self) {
        if let Some(open) = self.0
            && open.file.relock(FlockArg::LockExclusiveNonblock).is_ok()
        {
            open.remove_recorded();
        }
    }
}

impl LockedFile {
    fn at(path: PathBuf) -> Result<Self> {
        let failed = |action: &str| format!("{action} {}", path.display());
        loop {
            run_directory::prepare(DIRECTORY)?;
            let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
            let file = match file {
                // Its last user has removed the directory in between.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                file => file.with_context(|| failed("opening"))?,
            };
            let locked = lock::try_take(file, lock::Kind::Exclusive).with_context(|| failed("locking"))?;
            let (file, has_exclusive_lock) = match locked {
                Ok(lock) => (lock, true),
                Err(file) => (lock::take(file, &path, lock::Kind::Shared, Some(LOCK_TIMEOUT))?, false),
            };
            // Its last user may have deleted the file before we had the lock.
            if !path_is_same_file(&file, &path) {
                continue;
            }
            let mut opened = Self { path, file, has_exclusive_lock, recorded: Devices::default() };
            opened.recorded = opened.read_devices()?;
            return Ok(opened);
        }
    }

    fn read_devices(&mut self) -> Result<Devices> {
        let reading = || format!("reading {}", self.path.display());
        let mut text = String::new();
        self.file.seek(SeekFrom::Start(0)).with_context(reading)?;
        self.file.read_to_string(&mut text).with_context(reading)?;
        Ok(Devices::parse(&text))
    }

    fn append(&mut self, kind: &str, device: &str) -> Result<()> {
        writeln!(self.file, "{kind}{device}").with_context(|| format!("writing {}", self.path.display()))
    }

    /// Removes the recorded filters and qdiscs, and the file. Returns how many filters there were.
    fn remove_recorded(mut self) -> u32 {
        // Other tracers that shared the lock have added lines, and left their qdiscs to the last one.
        let devices = self.read_devices().unwrap_or_else(|_| std::mem::take(&mut self.recorded));
        let mut removed = 0;
        for device in &devices.filters {
            for side in [TcAttachType::Ingress, TcAttachType::Egress] {
                for program in TcProgram::ALL {
                    // Usually there is none, or the device no longer exists.
                    removed += u32::from(qdisc_detach_program(device, side, program.name()).is_ok());
                }
            }
        }
        for device in &devices.qdiscs {
            clsact::remove_if_empty(device);
        }
        // Deleted while still locked, so that no one opens a file that is about to go; the directories if they are empty.
        // What fails now is left to the next start.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_dir(Path::new(ROOT).join(DIRECTORY));
        let _ = std::fs::remove_dir(ROOT);
        removed
    }
}

fn path() -> Result<PathBuf> {
    let inode = std::fs::metadata("/proc/self/ns/net").context("reading /proc/self/ns/net")?.ino();
    Ok(Path::new(ROOT).join(DIRECTORY).join(inode.to_string()))
}

/// Whether the path still leads to this file.
fn path_is_same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(file), Ok(there)) => (file.dev(), file.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}
