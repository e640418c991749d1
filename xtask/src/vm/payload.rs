//! What a guest is given: podtrace and its test programs, linked statically, and the files they read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::cpio::Cpio;
use super::pair;
use crate::toolchain::Toolchain;
use crate::{musl, tools, workspace};
use anyhow::{Context as _, Result, ensure};

/// Where podtrace is in the guest.
pub(super) const PODTRACE: &str = "/bin/podtrace";

/// Test programs that run in guests. The others need no kernel.
pub(super) const SUITES: [&str; 2] = ["scenarios", "behaviour"];

/// Those of them that have something to show on every kernel.
pub(super) const COMPACT: [&str; 1] = ["scenarios"];

/// What the tests read at run time, below `tests/`.
const DATA: [&str; 3] = ["scenarios", "faults", "instructions.yaml"];

/// Programs of this machine that tests use. The guest's init removes busybox's applets of these names, which can less;
/// tests whose programs are not here are skipped in the guest as they would be on this machine.
const TOOLS: [&str; 24] = [
    "ip",
    "bridge",
    "nft",
    "iptables",
    "iptables-restore",
    "iptables-nft-restore",
    "iptables-nft-save",
    "iptables-save",
    "ip6tables",
    "ip6tables-save",
    "ip6tables-restore",
    "ip6tables-nft-save",
    "tc",
    "ss",
    "nstat",
    "conntrack",
    "ping",
    "sysctl",
    "tcpdump",
    "iperf3",
    "nc",
    "nc.openbsd",
    "setpriv",
    "chrt",
];

/// A test program that was compiled.
pub(super) struct Suite {
    pub(super) name: String,
    /// Where it is, in the guest as on this machine.
    pub(super) path: PathBuf,
}

/// What a guest is given.
pub(super) struct Payload {
    pub(super) archive: Vec<u8>,
    pub(super) suites: Vec<Suite>,
    /// All programs that were compiled, by name, where they are on this machine.
    pub(super) programs: BTreeMap<String, PathBuf>,
}

impl Payload {
    /// Compiles podtrace and these test suites.
    pub(super) fn build(toolchain: &Toolchain, wanted: &[String]) -> Result<Self> {
        let programs = musl::programs(toolchain, wanted)?;
        let mut archive = Cpio::default();
        for tools::File { at, from } in tools::files(&TOOLS)? {
            let content = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            archive.file(&at, 0o755, &content)?;
        }
        let mut suites = Vec::new();
        for (name, path) in &programs {
            if name == pair::SUITE {
                continue;
            }
            let content = musl::stripped(path)?;
            if name == "podtrace" {
                archive.file(Path::new(PODTRACE), 0o755, &content)?;
                continue;
            }
            // Tests know their other programs and their data by the paths they were compiled with.
            archive.file(path, 0o755, &content)?;
            if wanted.contains(name) {
                suites.push(Suite { name: name.clone(), path: path.clone() });
            }
        }
        for data in DATA {
            add(&mut archive, &workspace::root().join("tests").join(data))?;
        }
        let in_guests = wanted.iter().filter(|name| *name != pair::SUITE).count();
        ensure!(suites.len() == in_guests, "cargo has not compiled all tests for the guests");
        // In the order they were asked for.
        suites.sort_by_key(|suite: &Suite| wanted.iter().position(|name| *name == suite.name));
        Ok(Self { archive: archive.finish()?, suites, programs })
    }

    /// Where a program is on this machine, and but for podtrace in the guest.
    pub(super) fn program(&self, name: &str) -> Result<&Path> {
        let path = self.programs.get(name).map(PathBuf::as_path);
        path.with_context(|| format!("cargo has not compiled {name} for the guests"))
    }
}

/// Adds a file, or all below a directory, at the same paths as here.
fn add(archive: &mut Cpio, path: &Path) -> Result<()> {
    let about = || format!("cannot read {}", path.display());
    if !path.is_dir() {
        return archive.file(path, 0o644, &fs::read(path).with_context(about)?);
    }
    let mut entries: Vec<_> =
        fs::read_dir(path).and_then(Iterator::collect::<Result<_, _>>).with_context(about)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    entries.iter().try_for_each(|entry| add(archive, &entry.path()))
}
