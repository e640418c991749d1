//! The kernel's limit of tracked connections, which holds for all namespaces: lowered by one test at a time.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};

const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
/// Who has lowered it, and what it was.
const NOTE: &str = "/run/podtrace-tests-conntrack-max";

static ALONE: Mutex<()> = Mutex::new(());

/// A lowered limit. Dropping it puts the limit back.
pub struct Limit {
    was: String,
    _alone: MutexGuard<'static, ()>,
}

impl Limit {
    /// Has the kernel track no more connections than that in any namespace, once no other test does so.
    ///
    /// # Errors
    ///
    /// If the kernel does not accept it.
    pub fn set(connections: u32) -> Result<Self> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let was = fs::read_to_string(MAX).with_context(|| format!("reading {MAX}"))?.trim().to_owned();
        fs::write(NOTE, format!("{} {was}", std::process::id()))
            .with_context(|| format!("writing {NOTE}"))?;
        let limit = Self { was, _alone: alone };
        write(&connections.to_string())?;
        Ok(limit)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Err(error) = restore(&self.was) {
            eprintln!("the limit of tracked connections was {} and is not any more: {error:#}", self.was);
        }
    }
}

/// Puts back the limit that a killed test run has lowered.
///
/// # Errors
///
/// If it cannot be put back.
pub fn sweep() -> Result<()> {
    let Ok(note) = fs::read_to_string(NOTE) else { return Ok(()) };
    match note.split_once(' ') {
        Some((owner, was)) if !Path::new("/proc").join(owner).exists() => restore(was),
        _ => Ok(()),
    }
}

fn restore(was: &str) -> Result<()> {
    write(was)?;
    fs::remove_file(NOTE).with_context(|| format!("removing {NOTE}"))
}

fn write(connections: &str) -> Result<()> {
    fs::write(MAX, connections).with_context(|| format!("writing {connections} to {MAX}"))
}
