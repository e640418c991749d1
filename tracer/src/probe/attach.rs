//! Attaching taps: tcx where the kernel has it (6.6), else a filter on a clsact qdisc.
//!
//! A tcx link dies with the process that holds it. A clsact filter does not, so its traces are kept in a ledger
//! under /run: what a killed tracer left in this namespace is recognised by its programs' names and removed by
//! the next one, and the qdisc too if the ledger says that it was ours.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use aya::programs::{
    LinkOrder, SchedClassifier, TcAttachType,
    tc::{NlOptions, TcAttachOptions, qdisc_add_clsact, qdisc_detach_program},
};
use nix::fcntl::{Flock, FlockArg};

use super::taps::{Tap, TapSide};

/// Names of the tc programs, by which their filters are recognised.
pub(super) const TC_PROGRAMS: [&str; 3] = ["podtrace_entry", "podtrace_ingress", "podtrace_egress"];

/// Which way of attaching tc programs is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcMode {
    /// tcx, falling back to clsact.
    #[default]
    Auto,
    /// Only tcx.
    Tcx,
    /// Only clsact.
    Clsact,
}

impl TcMode {
    /// From the environment variable `PODTRACE_TC`: `tcx` or `clsact`, else automatic.
    #[must_use]
    pub fn from_env() -> Self {
        match std::env::var("PODTRACE_TC").as_deref() {
            Ok("tcx") => Self::Tcx,
            Ok("clsact") => Self::Clsact,
            _ => Self::Auto,
        }
    }
}

/// How one tap was attached.
pub(super) struct Attachment {
    pub(super) how: &'static str,
    pub(super) note: Option<String>,
}

/// Attaches one tap.
pub(super) fn attach(
    program: &mut SchedClassifier,
    tap: &Tap,
    mode: TcMode,
    ledger: &mut Ledger,
) -> Result<Attachment> {
    let mut note = None;
    if mode != TcMode::Clsact {
        // First in line: a program before ours could end the chain, and its packets would be missing.
        let options = TcAttachOptions::TcxOrder(LinkOrder::first());
        match program.attach_with_options(&tap.device, attach_type(tap.side), options) {
            Ok(_) => return Ok(Attachment { how: "tcx", note: None }),
            Err(error) if mode == TcMode::Tcx => {
                return Err(anyhow!(error).context(format!("attaching a tcx program to {}", tap.device)));
            }
            Err(error) => note = Some(format!("tcx (Linux 6.6) refused: {}", root_cause(&error))),
        }
    }
    ledger.ensure_clsact(&tap.device)?;
    let options = TcAttachOptions::Netlink(NlOptions { priority: 1, ..NlOptions::default() });
    program
        .attach_with_options(&tap.device, attach_type(tap.side), options)
        .with_context(|| format!("attaching a tc filter to {} {}", tap.device, tap.side.point()))?;
    Ok(Attachment { how: "clsact", note })
}

fn attach_type(side: TapSide) -> TcAttachType {
    match side {
        TapSide::Ingress => TcAttachType::Ingress,
        TapSide::Egress => TcAttachType::Egress,
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// What outlives a process in this network namespace, on file. Held for as long as the tracer runs: a second
/// tracer in the same namespace shares it and then sweeps nothing, since the filters are a living one's.
#[derive(Debug)]
pub struct Ledger {
    file: Flock<File>,
    qdiscs: BTreeSet<String>,
    /// Whether another tracer held the ledger when this one opened it.
    shared: bool,
}

/// Removes what a killed tracer left in this network namespace, and opens the ledger for this one. The second
/// value tells what was removed.
///
/// # Errors
///
/// If the ledger cannot be opened.
pub fn sweep(devices: &[String]) -> Result<(Ledger, Option<String>)> {
    let mut ledger = Ledger::open()?;
    let mut removed = 0;
    if !ledger.shared {
        for device in devices {
            for (side, program) in [TcAttachType::Ingress, TcAttachType::Egress]
                .iter()
                .flat_map(|s| TC_PROGRAMS.map(|p| (*s, p)))
            {
                // Not found is the healthy case, and so is a device without a clsact qdisc.
                removed += u32::from(qdisc_detach_program(device, side, program).is_ok());
            }
        }
        ledger.remove_qdiscs();
    }
    let told =
        (removed > 0).then(|| format!("removed {removed} tc filters that a killed podtrace had left behind"));
    Ok((ledger, told))
}

impl Ledger {
    fn open() -> Result<Self> {
        let directory = PathBuf::from("/run/podtrace/namespaces");
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("creating {} (podtrace needs root)", directory.display()))?;
        let path = directory.join(format!("{}.ledger", own_netns()?));
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        let (mut file, shared) = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => (lock, false),
            Err((file, _)) => {
                let lock = Flock::lock(file, FlockArg::LockShared)
                    .map_err(|(_, error)| anyhow!(error).context(format!("locking {}", path.display())))?;
                (lock, true)
            }
        };
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).context("reading the ledger")?;
        file.read_to_string(&mut text).context("reading the ledger")?;
        Ok(Self { file, qdiscs: text.lines().map(str::to_owned).collect(), shared })
    }

    /// From here on other tracers may run beside this one.
    pub(super) fn share(&mut self) {
        // Staying exclusive only keeps a second tracer waiting, so a failure is no reason to stop.
        let _ = self.file.relock(FlockArg::LockShared);
    }

    fn ensure_clsact(&mut self, device: &str) -> Result<()> {
        if self.qdiscs.contains(device) {
            return Ok(());
        }
        match qdisc_add_clsact(device) {
            Ok(()) => {
                writeln!(self.file, "{device}").context("writing the ledger")?;
                self.qdiscs.insert(device.to_owned());
                Ok(())
            }
            // Somebody else's: used, and left in place.
            Err(error) if root_cause(&error).contains("File exists") => Ok(()),
            Err(error) => Err(anyhow!(error).context(format!("adding a clsact qdisc to {device}"))),
        }
    }

    /// Removes the qdiscs that were ours, unless a filter still sits on them.
    pub(super) fn remove_qdiscs(&mut self) {
        if self.qdiscs.is_empty() {
            return;
        }
        for device in std::mem::take(&mut self.qdiscs) {
            super::clsact::remove_if_empty(&device);
        }
        // What could not be removed holds somebody's filter: theirs now.
        let _ = self.file.set_len(0);
    }

    /// The tracer ends: another one that is still running keeps what it shares.
    pub(super) fn close(mut self) {
        if self.file.relock(FlockArg::LockExclusiveNonblock).is_ok() {
            self.remove_qdiscs();
        }
    }
}

/// Inode of the namespace this process is in.
pub(super) fn own_netns() -> Result<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let inode = std::fs::metadata("/proc/self/ns/net").context("reading /proc/self/ns/net")?.ino();
    u32::try_from(inode).context("the namespace's inode number does not fit 32 bits")
}
