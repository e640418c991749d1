//! What outlives a process that is killed: clsact filters, and the qdiscs they sit on.
//!
//! Each device is entered here before a filter is put on it. The next tracer in the same network namespace finds
//! the ledger of one that is gone, and removes the filters (recognised by their programs' names) and the qdiscs
//! (if the ledger says that they were ours). Where tcx is used, there is no ledger at all.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, anyhow};
use aya::programs::{
    TcAttachType,
    tc::{qdisc_add_clsact, qdisc_detach_program},
};
use nix::fcntl::{Flock, FlockArg};

use super::attach::{TC_PROGRAMS, root_cause};
use super::clsact;

/// One file for each network namespace, named by its inode.
const DIRECTORY: &str = "/run/podtrace/namespaces";

/// Begins the line of a device that has, or may have, filters of ours.
const FILTERS: &str = "filters ";
/// Begins the line of a device whose clsact qdisc is ours.
const QDISC: &str = "qdisc ";

/// Whether this process has put anything in place that its own end does not remove.
static OUTLIVES: AtomicBool = AtomicBool::new(false);

/// Whether this process has to end in order; otherwise the kernel takes everything away with it.
#[must_use]
pub fn must_end_in_order() -> bool {
    OUTLIVES.load(Ordering::SeqCst)
}

/// The ledger of the network namespace that this process is in.
#[derive(Debug, Default)]
pub(super) struct Ledger(Option<Open>);

/// Locked for as long as filters entered in it may be alive: shared by tracers that run at the same time.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: Flock<File>,
    /// Whether no other tracer had it open.
    alone: bool,
    filters: BTreeSet<String>,
    qdiscs: BTreeSet<String>,
}

impl Ledger {
    /// Removes what a tracer that is gone left in this namespace; tells how many filters that were.
    pub(super) fn sweep() -> Result<Option<String>> {
        let path = path()?;
        if !path.exists() {
            return Ok(None);
        }
        let open = Open::at(path)?;
        if !open.alone {
            return Ok(None);
        }
        let removed = open.clear();
        Ok((removed > 0)
            .then(|| format!("removed {removed} tc filters that a killed podtrace had left behind")))
    }

    /// Enters a device that gets a filter, and sees to its clsact qdisc.
    pub(super) fn prepare(&mut self, device: &str) -> Result<()> {
        let open = match &mut self.0 {
            Some(open) => open,
            none => none.insert(Open::at(path()?)?),
        };
        if open.filters.contains(device) {
            return Ok(());
        }
        OUTLIVES.store(true, Ordering::SeqCst);
        open.enter(FILTERS, device)?;
        open.filters.insert(device.to_owned());
        match qdisc_add_clsact(device) {
            Ok(()) => {
                open.enter(QDISC, device)?;
                open.qdiscs.insert(device.to_owned());
                Ok(())
            }
            // Somebody else's: used, and left in place.
            Err(error) if root_cause(&error).contains("File exists") => Ok(()),
            Err(error) => Err(anyhow!(error).context(format!("adding a clsact qdisc to {device}"))),
        }
    }

    /// From here on other tracers may run beside this one.
    pub(super) fn share(&mut self) {
        if let Some(open) = &self.0 {
            // Staying alone only keeps a second tracer waiting: no reason to stop.
            let _ = open.file.relock(FlockArg::LockShared);
        }
    }

    /// This tracer's filters are gone. Another one that is still running keeps what they share.
    pub(super) fn close(self) {
        if let Some(open) = self.0
            && open.file.relock(FlockArg::LockExclusiveNonblock).is_ok()
        {
            open.clear();
        }
    }
}

impl Open {
    fn at(path: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(DIRECTORY)
            .with_context(|| format!("creating {DIRECTORY} (podtrace needs root)"))?;
        loop {
            let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
            let file = file.with_context(|| format!("opening {}", path.display()))?;
            let (mut file, alone) = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => (lock, true),
                Err((file, _)) => {
                    let lock = Flock::lock(file, FlockArg::LockShared).map_err(|(_, error)| {
                        anyhow!(error).context(format!("locking {}", path.display()))
                    })?;
                    (lock, false)
                }
            };
            // Its last user may have removed it meanwhile.
            if !is_at(&file, &path) {
                continue;
            }
            let mut text = String::new();
            file.seek(SeekFrom::Start(0)).context("reading the ledger")?;
            file.read_to_string(&mut text).context("reading the ledger")?;
            let entered = |kind: &str| {
                text.lines().filter_map(|line| line.strip_prefix(kind)).map(str::to_owned).collect()
            };
            return Ok(Self { path, file, alone, filters: entered(FILTERS), qdiscs: entered(QDISC) });
        }
    }

    fn enter(&mut self, kind: &str, device: &str) -> Result<()> {
        writeln!(self.file, "{kind}{device}").with_context(|| format!("writing {}", self.path.display()))
    }

    /// Removes everything entered, and the ledger. Returns how many programs' filters were found.
    fn clear(self) -> u32 {
        let mut removed = 0;
        for device in &self.filters {
            for side in [TcAttachType::Ingress, TcAttachType::Egress] {
                for program in TC_PROGRAMS {
                    // Not found is the usual case, and so is a device that is gone.
                    removed += u32::from(qdisc_detach_program(device, side, program).is_ok());
                }
            }
        }
        for device in &self.qdiscs {
            clsact::remove_if_empty(device);
        }
        // The file while it is locked; the directories if they are empty. What cannot go now goes next time.
        let _ = std::fs::remove_file(&self.path);
        for directory in Path::new(DIRECTORY).ancestors().take(2) {
            let _ = std::fs::remove_dir(directory);
        }
        removed
    }
}

fn path() -> Result<PathBuf> {
    let inode = std::fs::metadata("/proc/self/ns/net").context("reading /proc/self/ns/net")?.ino();
    Ok(Path::new(DIRECTORY).join(inode.to_string()))
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(file), Ok(there)) => (file.dev(), file.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}
