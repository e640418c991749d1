//! A lab's directory in `/run/podtrace`: its lock, and the inventory, which exists if the lab is complete.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::fcntl::Flock;

use super::network::Network;
use super::rules::RuleSet;
use crate::lock;
use crate::run_directory::{self, ROOT};
use podtrace_protocol::inventory::Inventory;

/// Path of a lab's directory.
pub(super) fn directory(lab: &str) -> PathBuf {
    Path::new(ROOT).join(lab)
}

/// Path of a lab's inventory.
pub(super) fn inventory_path(lab: &str) -> PathBuf {
    directory(lab).join("cluster.yaml")
}

fn rules_path(lab: &str) -> PathBuf {
    directory(lab).join("rules")
}

fn network_path(lab: &str) -> PathBuf {
    directory(lab).join("network")
}

/// The network of a lab; `None` if unknown.
pub(super) fn read_network(lab: &str) -> Option<Network> {
    fs::read_to_string(network_path(lab)).ok()?.trim().parse().ok()
}

/// The kind of a lab's rules; `None` if unknown.
pub(super) fn read_rules(lab: &str) -> Option<RuleSet> {
    fs::read_to_string(rules_path(lab)).ok()?.trim().parse().ok()
}

/// The exclusive right to change a lab, until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    lab: String,
    _file: Flock<File>,
}

impl Lock {
    /// Waits until no other process holds it, and names the one that does.
    pub(super) fn take(lab: &str) -> Result<Self> {
        let directory = directory(lab);
        loop {
            run_directory::prepare(lab)?;
            let lock = Self::attempt(lab, &directory)
                .with_context(|| format!("cannot lock the lab's state in {}", directory.display()))?;
            if let Some(lock) = lock {
                return Ok(lock);
            }
        }
    }

    /// Takes the lock; `None` if the previous holder removed the directory meanwhile, so that the locked file is deleted.
    fn attempt(lab: &str, directory: &Path) -> Result<Option<Self>> {
        let path = directory.join("lock");
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = match options.open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let inode = file.metadata()?.ino();
        let file = lock::take(file, &path, lock::Kind::Exclusive, None)?;
        let is_current = fs::metadata(&path).is_ok_and(|current| current.ino() == inode);
        Ok(is_current.then(|| Self { lab: lab.to_owned(), _file: file }))
    }

    /// Writes the inventory atomically.
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

    /// Writes the network and the kind of the rules.
    pub(super) fn write_kinds(&self, network: Network, rules: RuleSet) -> Result<()> {
        for (path, kind) in
            [(network_path(&self.lab), network.to_string()), (rules_path(&self.lab), rules.to_string())]
        {
            fs::write(&path, format!("{kind}\n"))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// Reads the inventory; `None` if it does not exist or is not valid.
    pub(super) fn read_inventory(&self) -> Option<Inventory> {
        read_inventory(&self.lab)
    }

    /// Deletes the inventory: from now on the lab counts as incomplete.
    pub(super) fn remove_inventory(&self) -> Result<()> {
        let path = inventory_path(&self.lab);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Deletes the directory, and its parent if that is empty.
    pub(super) fn remove_directory(self) -> Result<()> {
        let directory = directory(&self.lab);
        match fs::remove_dir_all(&directory) {
            // Without the lock file, another process may have started to use the directory already.
            Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => {
                return Err(error).with_context(|| format!("cannot remove {}", directory.display()));
            }
            _ => {}
        }
        // It may contain other labs.
        let _ = fs::remove_dir(ROOT);
        Ok(())
    }
}

/// Reads a lab's inventory; `None` if it does not exist or is not valid.
pub(super) fn read_inventory(lab: &str) -> Option<Inventory> {
    serde_saphyr::from_str(&fs::read_to_string(inventory_path(lab)).ok()?).ok()
}
