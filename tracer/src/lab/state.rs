//! A lab's directory in `/run/podtrace`: its lock, and the inventory that says that it is complete.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::fcntl::{Flock, FlockArg};

use super::rules::RuleSet;
use podtrace_protocol::inventory::Inventory;

const ROOT: &str = "/run/podtrace";

/// Where a lab's state is.
pub(super) fn directory(lab: &str) -> PathBuf {
    Path::new(ROOT).join(lab)
}

/// Where a lab's inventory is.
pub(super) fn inventory_path(lab: &str) -> PathBuf {
    directory(lab).join("cluster.yaml")
}

fn rules_path(lab: &str) -> PathBuf {
    directory(lab).join("rules")
}

/// Which rules the nodes of a lab have; `None` if that is not known.
pub(super) fn read_rules(lab: &str) -> Option<RuleSet> {
    fs::read_to_string(rules_path(lab)).ok()?.trim().parse().ok()
}

/// The right to change a lab, which one process has at a time; given back when dropped.
#[derive(Debug)]
pub(super) struct Lock {
    lab: String,
    _file: Flock<File>,
}

impl Lock {
    /// Waits until no other process has it.
    pub(super) fn take(lab: &str) -> Result<Self> {
        let directory = directory(lab);
        loop {
            match Self::attempt(lab, &directory) {
                Ok(Some(lock)) => return Ok(lock),
                // The holder before us removed the directory, and the file that we hold is nobody's.
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot lock the lab's state in {}", directory.display()));
                }
            }
        }
    }

    fn attempt(lab: &str, directory: &Path) -> io::Result<Option<Self>> {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
        let path = directory.join("lock");
        let file = File::options().write(true).create(true).truncate(false).open(&path)?;
        let inode = file.metadata()?.ino();
        let file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| io::Error::from(error))?;
        let is_current = fs::metadata(&path)?.ino() == inode;
        Ok(is_current.then(|| Self { lab: lab.to_owned(), _file: file }))
    }

    /// Writes the inventory, whole or not at all.
    pub(super) fn write_inventory(&self, inventory: &Inventory) -> Result<()> {
        let path = inventory_path(&self.lab);
        let draft = path.with_extension("yaml.new");
        let yaml = serde_saphyr::to_string(inventory).context("cannot write the lab's inventory as YAML")?;
        let write = || {
            let mut file = File::create(&draft)?;
            file.write_all(b"# Written by `podtrace lab up`; removed by `podtrace lab down`.\n")?;
            file.write_all(yaml.as_bytes())?;
            fs::rename(&draft, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes which rules the nodes have.
    pub(super) fn write_rules(&self, rules: RuleSet) -> Result<()> {
        let path = rules_path(&self.lab);
        fs::write(&path, format!("{rules}\n")).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The inventory as it is on disk; `None` if there is none that can be read.
    pub(super) fn read_inventory(&self) -> Option<Inventory> {
        read_inventory(&self.lab)
    }

    /// Withdraws the inventory, so that no one takes the lab for complete.
    pub(super) fn remove_inventory(&self) -> Result<()> {
        let path = inventory_path(&self.lab);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Removes the directory, and the one around it if it was the last.
    pub(super) fn remove_directory(self) -> Result<()> {
        let directory = directory(&self.lab);
        match fs::remove_dir_all(&directory) {
            // With the lock's file gone, the next in line may have begun already.
            Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => {
                return Err(error).with_context(|| format!("cannot remove {}", directory.display()));
            }
            _ => {}
        }
        // Other labs may be in it.
        let _ = fs::remove_dir(ROOT);
        Ok(())
    }
}

/// A lab's inventory; `None` if there is none that can be read.
pub(super) fn read_inventory(lab: &str) -> Option<Inventory> {
    serde_saphyr::from_str(&fs::read_to_string(inventory_path(lab)).ok()?).ok()
}
