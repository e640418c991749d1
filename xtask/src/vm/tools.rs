//! Programs of this machine that tests use, with the shared libraries they need. Tests whose programs are not here
//! are skipped in the guest as they would be on this machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::cpio::Cpio;
use crate::run;

/// What is taken along. The guest's init removes busybox's applets of these names, which can less.
pub(super) const TOOLS: [&str; 8] = ["ip", "bridge", "nft", "tc", "tcpdump", "iperf3", "nc", "setpriv"];

/// Where they are in the guest.
const DIRECTORY: &str = "/usr/bin";

/// Adds those that are here, and their libraries.
pub(super) fn add(archive: &mut Cpio) -> Result<()> {
    let mut libraries = BTreeSet::new();
    for tool in TOOLS {
        let Some(path) = run::find_program(tool) else { continue };
        archive.file(&Path::new(DIRECTORY).join(tool), 0o755, &read(&path)?)?;
        let listed = run::ask(Command::new("ldd").arg(&path)).unwrap_or_default();
        libraries.extend(needed(&listed));
    }
    for library in libraries {
        archive.file(&library, 0o755, &read(&library)?)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The files in the output of `ldd`: `NAME => PATH (ADDRESS)`, and the loader as `PATH (ADDRESS)`.
fn needed(ldd: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let place = line.rsplit_once("=>").map_or(line, |(_, place)| place);
        let path = place.split_whitespace().next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    ldd.lines().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_ldd() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ff15b64f000)\n\tlibmnl.so.0 => /lib/x86_64-linux-gnu/libmnl.so.0 (0x7f)\n\
                   \tlibgone.so => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x00007ff15b651000)\n";
        let expected =
            ["/lib/x86_64-linux-gnu/libmnl.so.0", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(needed(ldd), expected);
        assert!(needed("\tnot a dynamic executable\n").is_empty());
    }
}
