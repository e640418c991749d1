//! Cleans up after a killed process: its clsact filters, and the qdiscs that hold them, stay in the kernel.
//!
//! 1. Before a device gets a filter, its name is written to a file of its network namespace. The file stays locked
//!    while filters may exist; tracers that run at the same time share the lock.
//! 2. A tracer that ends normally removes its filters and the qdiscs it added. The last one also removes the file.
//! 3. A tracer that starts and finds a file that nobody has locked removes what a killed one left: filters with the
//!    names of our programs, and the qdiscs that the file lists.
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
    tc::{qdisc_add_clsact, qdisc_detach_program},
};
use nix::fcntl::{Flock, FlockArg};

use super::clsact;
use super::taps::TcProgram;
use super::tc::root_cause;
use crate::lock;
use crate::run_directory::{self, ROOT};

/// In the run directory: one file for each network namespace, named by its inode.
const DIRECTORY: &str = "namespaces";

/// How long another tracer may keep the file to itself: it does so while it attaches its filters.
const BUSY: Duration = Duration::from_secs(10);

/// Begins the line of a device that has, or may have, our filters.
const FILTERS: &str = "filters ";
/// Begins the line of a device whose clsact qdisc we added.
const QDISC: &str = "qdisc ";

/// Whether this process may have left something in the kernel that its end does not remove.
static OUTLIVES: AtomicBool = AtomicBool::new(false);

/// Whether this process must clean up before it exits. If not, the kernel removes everything with it.
#[must_use]
pub fn must_end_in_order() -> bool {
    OUTLIVES.load(Ordering::SeqCst)
}

/// The ledger of the network namespace that this process is in.
#[derive(Debug, Default)]
pub(super) struct Ledger(Option<Open>);

/// The open and locked file.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: Flock<File>,
    /// Whether no other tracer had it locked.
    alone: bool,
    /// Devices that may have our filters.
    filters: BTreeSet<String>,
    /// Devices whose clsact qdisc we added.
    qdiscs: BTreeSet<String>,
}

impl Ledger {
    /// Removes what a killed tracer left in this namespace. Returns a note for the user if there was anything.
    pub(super) fn remove_stale() -> Result<Option<String>> {
        let path = path()?;
        if !path.exists() {
            return Ok(None);
        }
        let open = Open::at(path)?;
        if !open.alone {
            return Ok(None);
        }
        let removed = open.clear();
        Ok((removed > 0).then(|| format!("removed {removed} tc filters left over from a killed podtrace")))
    }

    /// Records a device that is about to get a filter, and adds a clsact qdisc if it has none.
    pub(super) fn prepare(&mut self, device: &str) -> Result<()> {
        let open = match &mut self.0 {
            Some(open) => open,
            none => none.insert(Open::at(path()?)?),
        };
        if open.filters.contains(device) {
            return Ok(());
        }
        OUTLIVES.store(true, Ordering::SeqCst);
        open.append(FILTERS, device)?;
        open.filters.insert(device.to_owned());
        match qdisc_add_clsact(device) {
            Ok(()) => {
                open.append(QDISC, device)?;
                open.qdiscs.insert(device.to_owned());
                Ok(())
            }
            // Somebody else's: we use it and leave it in place.
            Err(error) if root_cause(&error).contains("File exists") => Ok(()),
            Err(error) => Err(anyhow!(error).context(format!("adding a clsact qdisc to {device}"))),
        }
    }

    /// Shares the lock of the file: other tracers may attach to the same devices from here on.
    pub(super) fn allow_others(&mut self) {
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
            open.clear();
        }
    }
}

impl Open {
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
            let (mut file, alone) = match locked {
                Ok(lock) => (lock, true),
                Err(file) => (lock::take(file, &path, lock::Kind::Shared, Some(BUSY))?, false),
            };
            // Its last user may have deleted the file before we had the lock.
            if !is_at(&file, &path) {
                continue;
            }
            let mut text = String::new();
            file.seek(SeekFrom::Start(0)).context("reading the ledger")?;
            file.read_to_string(&mut text).context("reading the ledger")?;
            let devices = |kind: &str| {
                text.lines().filter_map(|line| line.strip_prefix(kind)).map(str::to_owned).collect()
            };
            return Ok(Self { path, file, alone, filters: devices(FILTERS), qdiscs: devices(QDISC) });
        }
    }

    fn append(&mut self, kind: &str, device: &str) -> Result<()> {
        writeln!(self.file, "{kind}{device}").with_context(|| format!("writing {}", self.path.display()))
    }

    /// Removes the recorded filters and qdiscs, and the file. Returns how many filters there were.
    fn clear(self) -> u32 {
        let mut removed = 0;
        for device in &self.filters {
            for side in [TcAttachType::Ingress, TcAttachType::Egress] {
                for program in TcProgram::ALL {
                    // Usually there is none, or the device no longer exists.
                    removed += u32::from(qdisc_detach_program(device, side, program.name()).is_ok());
                }
            }
        }
        for device in &self.qdiscs {
            clsact::remove_if_empty(device);
        }
        // The file while it is locked; the directories if they are empty. What fails now is left to the next start.
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
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(file), Ok(there)) => (file.dev(), file.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}
